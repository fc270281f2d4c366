package dkim

import (
	"context"
	"strings"
	"testing"
)

// zone answers from memory, as dns.Resolver does.
type zone map[string][]string

type zoneError struct {
	error
	notFound bool
}

func (e zoneError) NotFound() bool { return e.notFound }

func (z zone) TXT(_ context.Context, name string) ([]string, error) {
	texts, ok := z[name]
	switch {
	case !ok:
		return nil, zoneError{context.Canceled, true}
	case texts == nil:
		return nil, zoneError{context.DeadlineExceeded, false}
	}
	return texts, nil
}

func verify(t testing.TB, z zone, msg string) *Verification {
	t.Helper()
	return verifyWith(t, VerifierConfig{Resolver: z}, msg)
}

func verifyWith(t testing.TB, cfg VerifierConfig, msg string) *Verification {
	t.Helper()
	v, err := NewVerifier(cfg).Verify(t.Context(), Input{Body: body{strings.NewReader(msg)}})
	if err != nil {
		t.Fatal(err)
	}
	return v
}
