package script_test

import (
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"gatepost/internal/flow"
	"gatepost/internal/mail"
	"gatepost/internal/script"
)

// FuzzScript compiles and runs whatever a script may be, within small limits. It
// may fail in any way but these: panic, hang, or say what must not be said.
func FuzzScript(f *testing.F) {
	for _, lines := range greedy {
		f.Add("def recipient(s):\n    "+strings.ReplaceAll(lines, "\n", "\n    ")+"\n", "helo")
	}
	f.Add(fifteenLines, "mx.example")
	f.Add("def recipient(s):\n    reject(s.helo)\n", "550 \r\n")
	f.Add("def content(s):\n    add_header('X-' + s.helo, s.helo)\n", "a: b\r\nc")
	f.Fuzz(func(t *testing.T, source, helo string) {
		p, err := script.Compile(script.Config{Name: "f.star", Source: source, Limits: script.Limits{Steps: 20_000, Memory: 4 << 20, Time: 200 * time.Millisecond}})
		if err != nil {
			return
		}
		for _, stage := range p.Stages() {
			in := visit(t, at(stage))
			in.Session.Helo = helo
			checkResult(t, p.Run(t.Context(), in))
		}
	})
}

var controls = regexp.MustCompile(`[\x00-\x1f\x7f]`)

// checkResult fails for what no script may bring about.
func checkResult(t *testing.T, r *script.Result) {
	t.Helper()
	if r.Text != "" {
		if err := flow.CheckReply(r.Text); err != nil {
			t.Errorf("reply %q: %v", r.Text, err)
		}
	}
	texts := append([]string{r.Reason, r.Edits.SubjectTag}, r.Log...)
	for _, f := range r.Findings {
		texts = append(texts, f.Reason, f.Symbol)
	}
	for _, s := range append(texts, r.Edits.Fields...) {
		if controls.MatchString(s) {
			t.Errorf("control characters in %q", s)
		}
	}
	for _, s := range r.Then() {
		if _, err := flow.ParseThen(s); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
}

// FuzzValues runs a script that does everything with what a client says.
func FuzzValues(f *testing.F) {
	f.Add("helo", "Subject: x\r\nX-A: b\r\n\r\ntext", "a@b.example")
	f.Add("\x00\r\n\xff", "Subject: =?utf-8?q?=00=0A?=\r\n\r\n", "\"\xff\"@x")
	f.Add("550 x", "From: \xff\r\n\r\n<a href=http://x>", "")
	p := compile(f, `
def content(s):
    m = s.message
    echo(s.helo, m.subject, m.author, m.author_domains, m.text, m.hidden, m.urls, m.files, m.parts, m.get_all("X-A"))
    score(1, m.subject)
    add_header("X-Subject", m.subject[:200])
    set_subject(s.helo[:20])
    for x in [s.helo, m.subject, m.text]:
        match(r"(\w+)\s*(\d+)?", x)
        findall(r"[a-z]+|\b", x)
        json_decode(x, default=None)
        http("https://h.example/{x}", x=x[:100], default=None)
    if s.helo < m.subject:
        reject(s.helo + m.subject)
    quarantine(m.text)
`, func(c *script.Config) { c.Lookups.HTTP = &asked{} })
	f.Fuzz(func(t *testing.T, helo, text, user string) {
		in := letter(t, text)
		in.Session = &mail.Session{Helo: helo, User: user, Client: netip.MustParseAddrPort("192.0.2.1:25")}
		r := p.Run(t.Context(), in)
		checkResult(t, r)
		if r.Failed != nil && !strings.Contains(r.Failed.Text, "bytes in front") && !strings.Contains(r.Failed.Text, "longer than") {
			t.Errorf("%+v", r.Failed)
		}
	})
}
