package filter

import (
	"testing"

	"gatepost/internal/scan"
	"gatepost/internal/scan/scantest"
)

func TestContract(t *testing.T) {
	scantest.Contract(t, scantest.Subject{Use: moduleName, New: func(t testing.TB) scan.Module {
		var filters []*Filter
		for _, w := range []when{
			{"size_over": int64(0)},
			{"attachment_name": []any{`\.exe$`, `(a|b)*\.zip$`, "."}},
			{"attachment_type": "application/*"},
			{"encrypted": true},
			{"macro": true},
			{"ambiguous": true},
			{"attachments_over": int64(1)},
			{"header.From": ".", "recipient": "@there.example"},
			{"header.DKIM-Signature": "b="},
			{"subject": "(a|b)*c"},
			{"body": []any{"word", `(\w+\s?)+$`}},
			{"url": "."},
			{"not": when{"body": "nothing of the kind"}},
			{"any": []any{when{"subject": "x"}, when{"finding": "spf:pass"}}},
		} {
			filters = append(filters, compile(t, w))
		}
		strips := func(s *Spec) { s.Strip = true }
		filters = append(filters, compile(t, when{"attachment_name": "."}, strips), compile(t, when{"attachment_type": "*"}, strips))
		return New(filters)
	}})
}
