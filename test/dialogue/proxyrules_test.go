package dialogue

import (
	"crypto/tls"
	"fmt"
	"strings"
	"testing"

	"gatepost/test/gatepost"
	"gatepost/test/peer"
	"gatepost/test/sink"
	"gatepost/test/wire"
)

// heard is everything that an upstream was sent, but for greetings.
func heard(s *sink.Sink) string {
	var b strings.Builder
	for _, raw := range s.Wire() {
		b.WriteString(raw)
	}
	return b.String()
}

// unheard fails the test for each of the texts that the upstream was sent.
func unheard(t *testing.T, what string, s *sink.Sink, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if all := heard(s); strings.Contains(all, text) {
			t.Errorf("%s: the upstream heard %q:\n%.2000q", what, text, all)
		}
	}
}

// passes sends a message for the recipient, which must arrive.
func passes(t *testing.T, s *sink.Sink, c *wire.Conn, to string) {
	t.Helper()
	before := len(s.Mails())
	if r, err := c.Deliver("ada@out.example", []string{to}, []byte("Subject: after\r\n\r\nx\r\n")); err != nil || r.Code != 250 {
		t.Fatalf("the next message: %v, %v", r, err)
	}
	mails := s.Mails()[before:]
	if len(mails) != 1 || len(mails[0].To) != 1 || !strings.Contains(string(mails[0].Data), "\r\nSubject: after\r\n") {
		t.Errorf("the next message came as %+v", mails)
	}
}

// TLS-01, TLS-04, TLS-06: what was said before TLS is forgotten, by the upstream too.
func TestNothingCrossesIntoTLS(t *testing.T) {
	t.Parallel()
	l := &upstreamLogins{asked: make(map[int]string), in: make(map[int]string)}
	s := next(t, sink.Options{Extensions: []string{"8BITMIME", "AUTH PLAIN LOGIN"}, Script: l.script})
	g, _ := through(t, s, gatepost.Settings{Listener: "auth_upstream = \"live\""})
	insecure := &tls.Config{InsecureSkipVerify: true}

	c := g.Hello("")
	r, err := c.Cmd("EHLO client.example")
	if err != nil || r.Has("AUTH") {
		t.Errorf("AUTH in clear text: %v, %v", r, err)
	}
	if r, err := c.Cmd("AUTH PLAIN %s", b64("\x00joe\x00open sesame")); err != nil || r.Code != 538 && r.Code != 530 {
		t.Errorf("AUTH in clear text: %v, %v", r, err)
	}
	say(t, c, "MAIL FROM:<early@out.example>", "250", "RCPT TO:<early@live.example>", "250")
	if r, err := c.StartTLS(insecure); err != nil || r.Code != 220 {
		t.Fatalf("%v, %v", r, err)
	}
	say(t, c, "DATA", "503", "RCPT TO:<late@live.example>", "503", "MAIL FROM:<late@out.example>", "503", "EHLO client.example", "250",
		"DATA", "503", "RCPT TO:<late@live.example>", "503", "STARTTLS", "50")
	passes(t, s, c, "bob@live.example")
	unheard(t, "before EHLO", s, "AUTH", "late@")
	if n := strings.Count(heard(s), "\r\nDATA\r\n"); n != 1 {
		t.Errorf("%d times DATA", n)
	}

	// In one segment with STARTTLS.
	d := g.Hello("")
	if err := d.Send("STARTTLS\r\nEHLO injected.example\r\nMAIL FROM:<injected@out.example>\r\nRCPT TO:<injected@live.example>\r\n"); err != nil {
		t.Fatal(err)
	}
	if r, err := d.Reply(); err == nil && r.Code == 220 {
		tc := tls.Client(d.Conn, insecure)
		if tc.Handshake() == nil {
			if r, err := wire.Over(tc).Cmd("RCPT TO:<injected@live.example>"); err == nil && r.Code != 503 {
				t.Errorf("after an injection: %v", r)
			}
		}
	}
	unheard(t, "behind STARTTLS", s, "injected")
}

// TLS-07: with a policy that the upstream does not meet no mail goes there, and nothing
// of it in clear text.
func TestTLSToTheUpstream(t *testing.T) {
	t.Parallel()
	good, other, twin := peer.NewCertificate(t, "sink.example"), peer.NewCertificate(t, "other.example"), peer.NewCertificate(t, "sink.example")
	expired := expiredCertificate(t, "sink.example")
	verify := func(c peer.Certificate) string {
		return fmt.Sprintf("tls = \"verify\"\ntls_name = \"sink.example\"\ntls_ca_file = %q", c.CertFile)
	}
	refuse := sink.Fail(sink.StartTLS, "454 4.7.0 no TLS today")
	tests := []struct {
		name, policy string
		cert         peer.Certificate
		script       sink.Script
		want         string // "TLS", "clear" or "none"
	}{
		{"require, not offered", `tls = "require"`, peer.Certificate{}, nil, "none"},
		{"require, refused", `tls = "require"`, good, refuse, "none"},
		{"require, any certificate", `tls = "require"`, other, nil, "TLS"},
		{"verify, not offered", verify(good), peer.Certificate{}, nil, "none"},
		{"verify, good", verify(good), good, nil, "TLS"},
		{"verify, not trusted", verify(good), twin, nil, "none"},
		{"verify, for another name", verify(other), other, nil, "none"},
		{"verify, expired", verify(expired), expired, nil, "none"},
		{"opportunistic, expired", `tls = "opportunistic"`, expired, nil, "TLS"},
		{"opportunistic, refused", `tls = "opportunistic"`, good, refuse, "clear"},
		{"off", `tls = "off"`, good, nil, "clear"},
	}
	var more strings.Builder
	var sinks []*sink.Sink
	for i, tt := range tests {
		o := sink.Options{Script: tt.script}
		if tt.cert.CertFile != "" {
			o.TLS = &tls.Config{Certificates: []tls.Certificate{tt.cert.TLS}}
		}
		sinks = append(sinks, next(t, o))
		more.WriteString(proxied(fmt.Sprintf("p%d", i), sinks[i].Addr, tt.policy))
	}
	g := behind(t, next(t, sink.Options{}), gatepost.Settings{More: more.String()})
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, s, to := g.Hello(""), sinks[i], fmt.Sprintf("bob@p%d.example", i)
			if tt.want == "none" {
				say(t, c, "MAIL FROM:<ada@out.example>", "250", "RCPT TO:<"+to+">", "451 4.4.1", "DATA", "554 5.5.1")
				unheard(t, tt.name, s, "MAIL", "RCPT", "DATA")
				return
			}
			passes(t, s, c, to)
			if m := s.Mails()[0]; m.TLS != (tt.want == "TLS") {
				t.Errorf("with TLS: %v", m.TLS)
			}
		})
	}
	noneQueued(t, g)
}

// LIM-01, LIM-03, LIM-06: a line that is none of ours comes to no upstream, and what it
// stands in the middle of goes on or ends as a whole.
func TestStrangeLinesStayHere(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{})
	g, _ := through(t, s, gatepost.Settings{Limits: "error_delay = \"1ms\""})
	for name, line := range map[string]string{
		"4 kB":              "RCPT TO:<odd@live.example> X=" + strings.Repeat("y", 4<<10),
		"1 MB":              "RCPT TO:<odd@live.example> X=" + strings.Repeat("y", 1<<20),
		"NUL":               "RCPT TO:<odd\x00@live.example>",
		"8 bits":            "RCPT TO:<odd\xfc@live.example>",
		"UTF-8":             "RCPT TO:<oddü@live.example>",
		"CR":                "RCPT TO:<bob@live.example>\rRCPT TO:<odd@live.example>",
		"LF":                "RCPT TO:<bob@live.example>\nRCPT TO:<odd@live.example>",
		"a parameter":       "RCPT TO:<odd@live.example> ODD=1",
		"CR in a parameter": "RCPT TO:<odd@live.example> ORCPT=rfc822;x+0D+0ARCPT",
	} {
		c := g.Hello("")
		say(t, c, "MAIL FROM:<ada@out.example>", "250", "RCPT TO:<first@live.example>", "250")
		if err := c.Send(line + "\r\n"); err == nil {
			if r, err := c.Reply(); err == nil && r.Code/100 != 5 {
				t.Errorf("%s: %v", name, r)
			}
		}
		c.Close()
	}
	c := g.Hello("")
	say(t, c, "MAIL FROM:<ada@out.example>", "250", "RCPT TO:<junk@live.example>", "250")
	for i := 0; ; i++ {
		r, err := c.Cmd("JUNK %d", i)
		if err != nil || i > 30 {
			t.Fatalf("after %d: %v, %v", i, r, err)
		}
		if r.Code == 421 {
			break
		}
	}
	unheard(t, "strange lines", s, "odd", "ODD", "JUNK", "yyyy", "DATA")
	passes(t, s, g.Hello(""), "bob@live.example")
}

// LIM-04, LIM-05: limits are ours, and what is within them goes on.
func TestLimitsOfWhatIsPassedThrough(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{})
	g, _ := through(t, s, gatepost.Settings{Limits: "max_recipients = 100\nmax_hops = 10\nmax_message_size = \"64KiB\"\nmax_header_size = \"64KiB\"\nerror_delay = \"1ms\""})
	c := g.Hello("")
	say(t, c, "MAIL FROM:<ada@out.example>", "250")
	for i := range 100 {
		say(t, c, fmt.Sprintf("RCPT TO:<r%d@live.example>", i), "250")
	}
	say(t, c, "RCPT TO:<toomany@live.example>", "452 4.5.3", "DATA", "354")
	if err := c.Send("Subject: many\r\n\r\nx\r\n.\r\n"); err != nil {
		t.Fatal(err)
	}
	if r, err := c.Reply(); err != nil || r.Code != 250 {
		t.Fatalf("%v, %v", r, err)
	}
	if m := s.Mails(); len(m) != 1 || len(m[0].To) != 100 {
		t.Errorf("%d mails", len(m))
	}
	hops := strings.Repeat("received : from x\r\n\tby y; Thu, 1 Jan 2026 00:00:00 +0000\r\n", 11)
	for _, tt := range [][2]string{
		{hops + "Subject: loops\r\n\r\nx\r\n", "554 5.4.6"},
		{"Subject: large\r\n\r\n" + strings.Repeat(strings.Repeat("x", 70)+"\r\n", 1000), "552 5.3.4"},
		{"Subject: fine\r\n\r\n" + hops, "250"},
	} {
		r, err := c.Deliver("ada@out.example", []string{"bob@live.example"}, []byte(tt[0]))
		if err != nil || !strings.HasPrefix(r.String(), tt[1]) {
			t.Errorf("%.40q: %v, %v, want %s", tt[0], r, err, tt[1])
		}
	}
	unheard(t, "over the limits", s, "toomany", "Subject: loops", "Subject: large")
	if n := strings.Count(heard(s), "\r\nDATA\r\n"); n != 2 {
		t.Errorf("%d times DATA, want 2", n)
	}
	passes(t, s, c, "bob@live.example")
}

// BDT-01, BDT-02, BDT-03: chunks are data, whatever stands in them, and dot-stuffed for
// an upstream that takes no chunks.
func TestChunksThroughTheProxy(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{})
	g, _ := through(t, s, gatepost.Settings{Limits: "error_delay = \"1ms\"\nmax_message_size = \"1MiB\""})
	c := g.Hello("")
	send := func(raw string, want ...string) {
		t.Helper()
		say(t, c, "MAIL FROM:<ada@out.example>", "250", "RCPT TO:<bob@live.example>", "250")
		if err := c.Send(raw); err != nil {
			t.Fatal(err)
		}
		for _, w := range want {
			if r, err := c.Reply(); err != nil || !strings.HasPrefix(r.String(), w) {
				t.Fatalf("%q: %v, %v, want %s", raw, r, err, w)
			}
		}
		say(t, c, "NOOP", "250 2.0.0 OK")
	}
	send("BDAT 16\r\nSubject: dots\r\n\rBDAT 7\r\n\na\r\n.\r\nBDAT 4 LAST\r\n.b\r\n", "250", "250", "250")
	payload := "QUIT\r\nMAIL FROM:<evil@live.example>\r\n"
	send(fmt.Sprintf("BDAT %d LAST\r\nSubject: verbs\r\n\r\n%s", len(payload)+18, payload), "250")
	mails := s.Mails()
	if len(mails) != 2 || !strings.HasSuffix(string(mails[0].Data), "\r\nSubject: dots\r\n\r\na\r\n.\r\n.b\r\n") || !strings.HasSuffix(string(mails[1].Data), "\r\nSubject: verbs\r\n\r\n"+payload) {
		t.Fatalf("mails %+v", mails)
	}
	if !strings.Contains(heard(s), "\r\na\r\n..\r\n..b\r\n.\r\n") {
		t.Error("not stuffed on the wire")
	}
	for _, bad := range []string{"BDAT 99999999999999999999 LAST", "BDAT -1", "BDAT 0x10", "BDAT 10 LAST X", "BDAT 4294967296"} {
		d := g.Hello("")
		say(t, d, "MAIL FROM:<ada@out.example>", "250", "RCPT TO:<bob@live.example>", "250")
		if r, err := d.Cmd("%s", bad); err != nil || r.Code != 501 && r.Code != 552 {
			t.Errorf("%s: %v, %v", bad, r, err)
		}
		d.Close()
	}
	if n := strings.Count(heard(s), "\r\nDATA\r\n"); n != 2 {
		t.Errorf("%d times DATA, want 2", n)
	}
	passes(t, s, g.Hello(""), "bob@live.example")
}
