package gateway_test

import (
	"strings"
	"testing"

	"gatepost/internal/flow"
	"gatepost/internal/gateway"
	"gatepost/internal/mail"
	"gatepost/internal/scan"
)

// stripFlow strips the part whose path the message names.
func stripFlow() gateway.Content {
	block := flow.Defaults("filters")
	block.Key = "filters"
	block.Filters = []flow.FilterRule{{Name: "no programs", Then: []flow.FilterAction{{Verb: flow.VerbStrip}}}}
	return gateway.Content{Flows: map[string]gateway.Flow{"inbound": {
		Decide: &flow.Flow{Name: "inbound", Blocks: []flow.Block{block}},
		Blocks: []scan.Block{{Key: "filters", Use: "filters", Module: scripted(func(in *scan.Input) ([]mail.Finding, error) {
			var all []mail.Finding
			for path := range strings.FieldsSeq(in.Header.Get("X-Strip")) {
				all = append(all, mail.Finding{Module: "filters", Symbol: "no programs", Result: mail.Match, Part: path, Reason: "a program"})
			}
			return all, nil
		})}},
	}}}
}

const twoParts = `Subject: two
MIME-Version: 1.0
X-Strip: PATHS
Content-Type: multipart/mixed; boundary=b

--b
Content-Type: text/plain

keep me
--b
Content-Type: application/octet-stream; name="evil.exe"
Content-Disposition: attachment; filename="evil.exe"

drop me
--b
Content-Type: message/rfc822

Subject: inner
Content-Type: multipart/mixed; boundary=i

--i
Content-Type: text/plain

inner text
--i
Content-Type: application/octet-stream; name="inner.exe"

inner program
--i--
--b--
`

func TestStrippedAttachmentIsReplacedByANoticeAndKept(t *testing.T) {
	tests := []struct {
		name, paths string
		gone, stay  []string
	}{
		{"an attachment", "1.2", []string{"drop me"}, []string{"keep me", "inner program", "evil.exe"}},
		{"one inside of a message", "1.3.1.2", []string{"inner program"}, []string{"keep me", "drop me", "inner text"}},
		{"a part and one in it", "1.3 1.3.1.2", []string{"inner program", "inner text"}, []string{"keep me", "drop me"}},
		{"two", "1.2 1.1", []string{"drop me", "keep me"}, []string{"inner program"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, rigOptions{content: stripFlow()})
			came := crlf(strings.Replace(twoParts, "PATHS", tt.paths, 1))
			got := r.accept(r.envelope("ada@out.example", "bob@in.example"), came)
			kept, out := false, ""
			for i, item := range got.items {
				if item.Transport == gateway.QuarantineTransport {
					v := item.Recipients[0].Verdict
					kept = item.Edits == nil && readAll(t, got.m.Body) == came && v.Rule == "no programs" && v.Threat == mail.ThreatFilter
				} else {
					out = r.deliveredItem(got, i)
				}
			}
			if !kept {
				t.Errorf("the message as it came is not on its way to the quarantine: %+v", got.items)
			}
			for _, s := range tt.gone {
				if strings.Contains(out, s) {
					t.Errorf("%q is still there:\n%s", s, out)
				}
			}
			for _, s := range append(tt.stay, "removed by the mail gateway", "no programs") {
				if !strings.Contains(out, s) {
					t.Errorf("%q is missing:\n%s", s, out)
				}
			}
			if opens, closes := strings.Count(out, "\r\n--b\r\n"), strings.Count(out, "\r\n--b--\r\n"); opens != 3 || closes != 1 {
				t.Errorf("the structure broke (%d, %d):\n%s", opens, closes, out)
			}
		})
	}
}

func TestMessageThatIsTheAttachmentBecomesTheNotice(t *testing.T) {
	r := newRig(t, rigOptions{content: stripFlow()})
	got := r.accept(r.envelope("ada@out.example", "bob@in.example"), crlf(`Subject: only
X-Strip: 1
MIME-Version: 1.0
Content-Type: application/octet-stream;
 name="evil.exe"
Content-Transfer-Encoding: base64

ZHJvcCBtZQ==
`))
	for i, item := range got.items {
		if item.Transport == gateway.QuarantineTransport {
			continue
		}
		out := r.deliveredItem(got, i)
		if strings.Contains(out, "ZHJvcC") || strings.Contains(out, "octet-stream") || strings.Count(out, "Content-Type:") != 1 {
			t.Errorf("delivered\n%s", out)
		}
		if !strings.Contains(out, "Subject: only\r\n") || !strings.Contains(out, "evil.exe") {
			t.Errorf("subject or notice missing:\n%s", out)
		}
	}
}

// Without an empty line the notice would become a part of the header section.
func TestNoticeStandsBehindAnEmptyLine(t *testing.T) {
	for _, came := range []string{"X-Strip: 1\r\n", "X-Strip: 1", "X-Strip: 1\r\nContent-Type: text/html", "X-Strip: 1\r\n\r\n", "X-Strip: 1\r\n\r\nbody"} {
		r := newRig(t, rigOptions{content: stripFlow()})
		got := r.accept(r.envelope("ada@out.example", "bob@in.example"), came)
		for i, item := range got.items {
			if item.Transport == gateway.QuarantineTransport {
				continue
			}
			out := r.deliveredItem(got, i)
			header, text, ok := strings.Cut(out, "\r\n\r\n")
			if !ok || !strings.HasPrefix(strings.TrimLeft(text, "\r\n"), "An attachment was removed") || strings.Count(header, "Content-Type") != 1 {
				t.Errorf("%q became\n%s", came, out)
			}
		}
	}
}
