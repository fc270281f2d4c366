package config

import "fmt"

// Severity tells problems that prevent a start from those that don't.
type Severity uint8

// The severities.
const (
	Error Severity = iota
	Warning
)

// Problem is one thing that is wrong in a configuration, written for the
// administrator who has to put it right.
type Problem struct {
	Severity Severity
	// Rule is the short, stable name of what was violated: "unknown-key".
	Rule string
	// File is the configuration file, or a file that it names.
	File string
	// Line and Column count from 1, Column in characters; a Line of 0 concerns
	// the file as a whole.
	Line, Column int
	// Path is the key: `listener.inbound.tls`.
	Path string
	// Message says what is wrong, Hint what to do; Hint may be empty.
	Message string
	Hint    string
}

// String is the problem on one line: "file:line:column: path: what is wrong;
// hint", with "warning: " before the path of a warning.
func (p Problem) String() string {
	s := p.File
	if p.Line > 0 {
		s += fmt.Sprintf(":%d:%d", p.Line, p.Column)
	}
	s += ": "
	if p.Severity == Warning {
		s += "warning: "
	}
	if p.Path != "" {
		s += p.Path + ": "
	}
	s += p.Message
	if p.Hint != "" {
		s += "; " + p.Hint
	}
	return s
}

// HasErrors reports whether one of the problems prevents a start.
func HasErrors(problems []Problem) bool {
	for _, p := range problems {
		if p.Severity == Error {
			return true
		}
	}
	return false
}
