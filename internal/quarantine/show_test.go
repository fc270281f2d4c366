package quarantine

import (
	"fmt"
	"strings"
	"testing"

	"gatepost/internal/mail"
)

func TestShowTellsStructureHeaderAndText(t *testing.T) {
	b := newBench(t, openStore(t, "gw1"))
	body := "Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nX-Folded: a\r\n b\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n" +
		"--x\r\nContent-Type: text/html\r\n\r\n<p>in <b>HTML</b></p><script>alert(1)</script>\r\n" +
		"--x\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\nR3LDvMOfZSBhdXMgQmVybGluCgp6d2VpdGU=\r\n" +
		"--x\r\nContent-Type: application/pdf; name=\"invoice\u202efdp.exe\"\r\nContent-Disposition: attachment\r\n\r\nMZ\x90\x00\r\n--x--\r\n"
	d := b.show(b.hold(sample{body: body, rule: hostile}, "anna@example.com"))
	if d.Problem != "" || d.Size != int64(len(body)) {
		t.Errorf("%+v", d)
	}
	if got := fmt.Sprint(d.Headers[:2]); got != "[{Subject Grüße} {X-Folded a b}]" {
		t.Error(got)
	}
	if d.Text != "Grüße aus Berlin\n\nzweite\n" || d.TextCut {
		t.Errorf("%q", d.Text)
	}
	var parts []string
	for _, p := range d.Structure {
		parts = append(parts, p.Path+" "+p.Types[0]+" "+strings.Join(p.Names, ","))
	}
	if got := strings.Join(parts, "; "); got != `1 multipart/mixed ; 1.1 text/html ; 1.2 text/plain ; 1.3 application/pdf invoice\u202efdp.exe` {
		t.Error(got)
	}
	if v := d.Entries[0].Verdict; v == nil || strings.ContainsAny(v.Rule, "\r\n\x1b") {
		t.Errorf("%+v", v)
	}
}

func TestShowIsBounded(t *testing.T) {
	b := newBench(t, openStore(t, "gw1"))
	var body strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&body, "X-%d: %s\r\n", i, strings.Repeat("v", 600))
	}
	body.WriteString("\r\n")
	for range 5000 {
		body.WriteString(strings.Repeat("long line ", 90) + "\r\n")
	}
	d := b.show(b.hold(sample{body: body.String()}, "anna@example.com"))
	if len(d.Headers) != maxFields || len(d.Headers[0].Value) > maxValue {
		t.Errorf("%d fields", len(d.Headers))
	}
	if n := strings.Count(d.Text, "\n"); n != maxTextLines || !d.TextCut || len(d.Text) > maxTextLines*(maxTextLine+1) {
		t.Errorf("%d lines, %d bytes", n, len(d.Text))
	}
}

func TestStatsCountWhatIsHeld(t *testing.T) {
	b := newBench(t, openStore(t, "gw1"))
	b.hold(sample{}, "anna@example.com", "bob@example.com")
	virus := b.hold(sample{threat: mail.ThreatVirus}, "anna@example.com")
	released := b.hold(sample{threat: mail.ThreatVirus}, "anna@example.com")
	b.release(Request{IDs: []mail.ID{released}})
	s, err := b.q.Stats(t.Context())
	must(t, err)
	if s.Messages != 3 || s.Bytes != 3*int64(len(sampleText)) || s.Held[mail.ThreatSpam] != 2 || s.Held[mail.ThreatVirus] != 1 {
		t.Errorf("%+v (%s)", s, virus)
	}
}
