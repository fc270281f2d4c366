package dns

import (
	"errors"
	"strings"
)

// Error is why a lookup has no answer. Exactly one of these holds: Temporary (try
// again), NXDomain (the name does not exist), NoData (it has no such record), or
// none of them: what the name has cannot be used.
type Error struct {
	// Name and Type are what was asked: "example.org", "MX".
	Name, Type string
	// Rcode is the answer's code, "SERVFAIL"; "" where no answer came.
	Rcode     string
	Temporary bool
	NXDomain  bool
	NoData    bool
	// Err is the cause, if there is more to say: a timeout, a refused connection.
	Err error
}

// Error is one line without the servers' own words.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("look up " + e.Type + " of " + e.Name + ": ")
	switch {
	case e.NXDomain:
		b.WriteString("name does not exist")
	case e.NoData:
		b.WriteString("no such record")
	case e.Rcode != "":
		b.WriteString("server answered " + e.Rcode)
	case e.Err == nil:
		b.WriteString("no answer")
	}
	if e.Err != nil {
		if e.NXDomain || e.NoData || e.Rcode != "" {
			b.WriteString(": ")
		}
		b.WriteString(e.Err.Error())
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// NotFound reports that the name or the record certainly does not exist.
func (e *Error) NotFound() bool { return e.NXDomain || e.NoData }

// IsTemporary reports that err is a lookup that may succeed later.
func IsTemporary(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Temporary
}

// IsNotFound reports that err says for certain that the name or the record does
// not exist.
func IsNotFound(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.NotFound()
}

// Causes that Error.Err may hold.
var (
	errBadName   = errors.New("not a domain name")
	errNoUsable  = errors.New("no usable record")
	errLoop      = errors.New("too many aliases")
	errMismatch  = errors.New("answer to another question")
	errLame      = errors.New("server does not look names up for us")
	errTruncated = errors.New("truncated over TCP")
)
