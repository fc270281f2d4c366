package weblookup

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
)

// Expect says which answers mean yes.
type Expect struct {
	// Status are the statuses of a yes; default 200.
	Status []int
	// Body is what its body is; white space around it does not count. "" takes any.
	Body string
	// Prefix takes every body that begins with Body.
	Prefix bool
}

// Check names what is wrong.
func (e Expect) Check() error {
	for _, s := range e.Status {
		if s < 200 || s > 599 {
			return fmt.Errorf("ok_status: %d is no status", s)
		}
	}
	if e.Prefix && e.Body == "" {
		return errors.New("ok_prefix: it needs ok_body")
	}
	return nil
}

// Met reports whether the answer means yes.
func (e Expect) Met(a Answer) bool {
	if !e.StatusMet(a.Status) {
		return false
	}
	got, want := bytes.TrimSpace(a.Body), bytes.TrimSpace([]byte(e.Body))
	if e.Prefix {
		return bytes.HasPrefix(got, want)
	}
	return len(want) == 0 || bytes.Equal(got, want)
}

// StatusMet reports whether the status is one of a yes, whatever the body.
func (e Expect) StatusMet(status int) bool {
	if len(e.Status) == 0 {
		return status == 200
	}
	return slices.Contains(e.Status, status)
}
