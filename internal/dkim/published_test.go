package dkim

import (
	"context"
	"errors"
	"strings"
	"testing"
)

func TestPublishedSaysWhetherReceiversFindTheKey(t *testing.T) {
	key, err := GenerateKey("ed25519")
	if err != nil {
		t.Fatal(err)
	}
	other, err := GenerateKey("ed25519")
	if err != nil {
		t.Fatal(err)
	}
	record, err := DNSRecord("s1", "example.com", key.Public())
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := DNSRecord("s1", "example.com", other.Public())
	if err != nil {
		t.Fatal(err)
	}
	down := errors.New("no answer")
	tests := []struct {
		name  string
		texts []string
		err   error
		want  error
		says  string
	}{
		{name: "the key", texts: []string{record.Value()}},
		{name: "the key beside a record of a wildcard", texts: []string{"v=spf1 -all", record.Value()}},
		{name: "another key", texts: []string{foreign.Value()}, want: ErrOtherKey},
		{name: "nothing", want: ErrNotPublished},
		{name: "testing", texts: []string{strings.Replace(record.Value(), "k=", "t=y; k=", 1)}, want: ErrTesting},
		{name: "revoked", texts: []string{"v=DKIM1; k=ed25519; p="}, want: errUnreadable, says: "revoked"},
		{name: "no answer", err: down, want: down},
	}
	for _, tt := range tests {
		r := answers{tt.texts, tt.err}
		err := Published(t.Context(), r, "s1", "example.com", key.Public())
		if !errors.Is(err, tt.want) || tt.want == nil && err != nil || tt.says != "" && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}

// answers has one answer to all questions.
type answers struct {
	texts []string
	err   error
}

// TXT implements Resolver.
func (a answers) TXT(context.Context, string) ([]string, error) { return a.texts, a.err }
