package filter

import (
	"strings"

	"gatepost/internal/scan"
)

// Spec is a [[filter]] as the configuration has it.
type Spec struct {
	Name string
	// Direction is "inbound", "outbound", "pop3" or "any"; "" is any.
	Direction string
	// When is the table of conditions as a TOML decoder gives it: strings, bools,
	// integers, lists ([]any or []string) and tables (map[string]any).
	When map[string]any
	// Strip says that the filter takes attachments out: it then needs a condition
	// that says which.
	Strip bool
	// Dir is what relative paths of file:PATH are relative to; "" is the working
	// directory.
	Dir string
}

// Filter is a compiled Spec. It is immutable.
type Filter struct {
	name      string
	direction scan.Direction // "" for any
	strip     bool
	all       group
}

// Name is the name of the filter, and the symbol of its findings.
func (f *Filter) Name() string { return f.name }

// Error is one mistake in a Spec.
type Error struct {
	// Key is the key of the configuration below [[filter]]: "when.not.sender",
	// "direction".
	Key string
	Err error
}

func (e *Error) Error() string { return e.Key + ": " + e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Errors are all mistakes in a Spec.
type Errors []*Error

func (e Errors) Error() string {
	texts := make([]string, len(e))
	for i := range e {
		texts[i] = e[i].Error()
	}
	return strings.Join(texts, "; ")
}
