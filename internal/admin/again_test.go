package admin

import (
	"fmt"
	"slices"
	"testing"

	"gatepost/internal/mail"
)

// TestFindingsAreCompared: what a check finds more than once, as two signatures of one
// domain, is neither new nor gone when nothing has changed.
func TestFindingsAreCompared(t *testing.T) {
	find := func(symbol, reason string, score float64) mail.Finding {
		return mail.Finding{Module: "authres", Symbol: symbol, Name: "out.example", Result: mail.Clean, Reason: reason, Score: score}
	}
	rsa, ed := find("dkim:pass", "selector rsa", -1), find("dkim:pass", "selector ed", -2)
	for _, c := range []struct {
		name      string
		then, now []mail.Finding
		want      []string
	}{
		{"the same twice is as before", []mail.Finding{rsa, rsa}, []mail.Finding{rsa, rsa}, []string{"selector rsa ", "selector rsa "}},
		{"two of one name are told apart", []mail.Finding{rsa, ed}, []mail.Finding{ed, rsa}, []string{"selector ed ", "selector rsa "}},
		{"one of two is gone", []mail.Finding{rsa, ed}, []mail.Finding{ed}, []string{"selector ed ", "selector rsa gone"}},
		{"one more is new", []mail.Finding{ed}, []mail.Finding{rsa, ed}, []string{"selector rsa new", "selector ed "}},
		{"another score is a change", []mail.Finding{rsa}, []mail.Finding{find("dkim:pass", "selector rsa", -3)}, []string{"selector rsa changed"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, f := range compareFindings(c.then, c.now) {
				got = append(got, fmt.Sprintf("%s %s", f.Reason, f.Change))
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
