package rewrite

import (
	"fmt"

	"gatepost/internal/mail"
)

// Step is something that happened to an address, for those who ask why.
type Step struct {
	// Stage is what happened: "canonical", "virtual", …
	Stage string `json:"stage"`
	// Address is what was looked at.
	Address string `json:"address"`
	// Table is where the entry stands, with the line where there are lines; Pattern
	// is what in it matched.
	Table   string `json:"table,omitempty"`
	Pattern string `json:"pattern,omitempty"`
	// Result is what came of it.
	Result []string `json:"result,omitempty"`
	// Text says it in words where there is more to say.
	Text string `json:"text,omitempty"`
}

// Trace collects steps. A nil Trace collects none.
type Trace struct{ Steps []Step }

// Add takes a step down.
func (t *Trace) Add(s Step) {
	if t != nil {
		t.Steps = append(t.Steps, s)
	}
}

func (t *Trace) add(stage Stage, a mail.Address, e entry, results []string) {
	if t != nil {
		t.Add(Step{Stage: string(stage), Address: a.String(), Table: e.table, Pattern: e.pattern, Result: results})
	}
}

// texts are the addresses as text.
func texts(all []mail.Address) []string {
	out := make([]string, len(all))
	for i := range all {
		out[i] = all[i].String()
	}
	return out
}

// tableError names the entry that makes an error.
type tableError struct {
	at  entry
	err error
}

func (e *tableError) Error() string {
	return fmt.Sprintf("%s: %q: %v", e.at.table, e.at.pattern, e.err)
}

func (e *tableError) Unwrap() error { return e.err }
