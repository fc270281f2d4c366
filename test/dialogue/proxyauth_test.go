package dialogue

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"gatepost/test/gatepost"
	"gatepost/test/sink"
)

// upstreamLogins is an upstream's side of AUTH: what clients say in each of its sessions.
type upstreamLogins struct {
	mu sync.Mutex
	// asked is what the next line of a session is an answer to; said are all such lines.
	asked map[int]string
	said  []string
	// in are the sessions in which somebody has logged in, as whom.
	in map[int]string
}

// right is the answer to a password.
func right(line string) bool { return line == base64.StdEncoding.EncodeToString([]byte("open sesame")) }

func (l *upstreamLogins) script(s sink.Step) sink.Reaction {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch at := l.asked[s.Session]; {
	case at == "name":
		l.said = append(l.said, s.Line)
		l.asked[s.Session] = "password"
		return sink.Reaction{Reply: "334 UGFzc3dvcmQ6"}
	case at != "":
		l.said = append(l.said, s.Line)
		delete(l.asked, s.Session)
		switch {
		case s.Line == "*":
			return sink.Reaction{Reply: "501 5.7.0 so be it"}
		case !right(s.Line):
			return sink.Reaction{Reply: "535-5.7.8 that is\r\n535 5.7.8 not the password here"}
		}
		l.in[s.Session] = "joe"
		return sink.Reaction{Reply: "235 2.7.0 welcome to the upstream"}
	case s.Stage == sink.Auth && strings.HasPrefix(s.Line, "AUTH LOGIN"):
		l.asked[s.Session] = "name"
		return sink.Reaction{Reply: "334 VXNlcm5hbWU6"}
	case s.Stage == sink.Auth:
		plain, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(s.Line, "AUTH PLAIN "))
		if err != nil || string(plain) != "\x00joe\x00open sesame" {
			return sink.Reaction{Reply: "535 5.7.8 no"}
		}
		l.in[s.Session] = "joe"
		return sink.Reaction{Reply: "235 2.7.0 welcome to the upstream"}
	case s.Stage == sink.RcptTo && strings.Contains(s.Line, "users-only") && l.in[s.Session] == "":
		return sink.Reaction{Reply: "550 5.7.1 users only"}
	}
	return sink.Reaction{}
}

// loginsThrough is a gateway whose clients log in at the server that mail for
// live.example is passed through to.
func loginsThrough(t *testing.T) (*gatepost.Instance, *sink.Sink, *upstreamLogins) {
	t.Helper()
	l := &upstreamLogins{asked: make(map[int]string), in: make(map[int]string)}
	s := next(t, sink.Options{Extensions: []string{"PIPELINING", "8BITMIME", "SIZE", "AUTH PLAIN LOGIN GSSAPI SCRAM-SHA-256-PLUS XOAUTH2"}, Script: l.script})
	g, _ := through(t, s, gatepost.Settings{Listener: "auth_upstream = \"live\"\nauth_without_tls = true\n", Limits: "error_delay = \"1ms\""})
	return g, s, l
}

// PXY-11: what is said in a login is the upstream's business, and nobody else's.
func TestLoginsPassToTheUpstream(t *testing.T) {
	t.Parallel()
	g, s, l := loginsThrough(t)
	c := g.Hello("")
	r, err := c.Cmd("EHLO client.example")
	if err != nil || !slices.Contains(r.Lines, "AUTH PLAIN LOGIN XOAUTH2") {
		t.Fatalf("EHLO says %q, %v", r.Lines, err)
	}
	say(t, c, "AUTH GSSAPI", "504 5.5.4")
	say(t, c, "AUTH LOGIN", "334 VXNlcm5hbWU6")
	say(t, c, "UkNQVA==", "334 UGFzc3dvcmQ6")
	r, err = c.Cmd("RCPT TO:<x@y>")
	same(t, "a line that looks like a command", r, err, 535, "5.7.8 that is", "5.7.8 not the password here")
	say(t, c, "AUTH LOGIN", "334")
	say(t, c, "am9l", "334")
	r, err = c.Cmd("*")
	same(t, "a client that gives up", r, err, 501, "5.7.0 so be it")
	say(t, c, "MAIL FROM:<joe@live.example>", "250")
	say(t, c, "RCPT TO:<users-only@live.example>", "550 5.7.1 users only")
	say(t, c, "RSET", "250")

	say(t, c, "AUTH LOGIN", "334")
	say(t, c, "am9l", "334")
	r, err = c.Cmd("b3BlbiBzZXNhbWU=")
	same(t, "the right password", r, err, 235, "2.7.0 welcome to the upstream")
	say(t, c, "AUTH LOGIN", "503 5.5.1")
	for range 2 {
		if r, err := c.Deliver("joe@live.example", []string{"users-only@live.example"}, []byte(crlf("Subject: x\n\nhello\n"))); err != nil || r.Code != 250 {
			t.Fatalf("%v, %v", r, err)
		}
	}
	mails := s.Mails()
	if len(mails) != 2 || mails[0].Session != mails[1].Session || l.in[mails[0].Session] != "joe" {
		t.Errorf("mails %+v, logged in %v", mails, l.in)
	}
	// Nobody else gets into that session, while it is open and after.
	for range 2 {
		d := g.Hello("")
		say(t, d, "MAIL FROM:<eve@out.example>", "250")
		say(t, d, "RCPT TO:<users-only@live.example>", "550 5.7.1 users only")
		d.Quit()
		c.Quit()
	}
	noSecrets(t, g)
}

func TestLoginWithAnInitialResponse(t *testing.T) {
	t.Parallel()
	g, s, _ := loginsThrough(t)
	c := g.Hello("")
	say(t, c, "AUTH PLAIN AGpvZQB3cm9uZw==", "535 5.7.8 no")
	say(t, c, "AUTH PLAIN "+base64.StdEncoding.EncodeToString([]byte("\x00joe\x00open sesame")), "235 2.7.0 welcome to the upstream")
	if r, err := c.Deliver("joe@live.example", []string{"users-only@live.example"}, []byte(crlf("Subject: x\n\nhello\n"))); err != nil || r.Code != 250 {
		t.Fatalf("%v, %v", r, err)
	}
	gatepost.Eventually(t, "the log says who has logged in", patience, func() bool {
		log := g.MailLog()
		return strings.Contains(log, "logged in") && strings.Contains(log, "user=joe")
	})
	// When the upstream ends the session, the mail of a user does not go as a stranger's.
	s.SetScript(sink.Fail(sink.MailFrom, "421 4.3.2 bye"))
	say(t, c, "MAIL FROM:<joe@live.example>", "250")
	say(t, c, "RCPT TO:<users-only@live.example>", "451")
	s.SetScript(nil)
	say(t, c, "RSET", "250")
	say(t, c, "MAIL FROM:<joe@live.example>", "250")
	say(t, c, "RCPT TO:<users-only@live.example>", "451 4.4.1")
	noSecrets(t, g)
}

// noSecrets fails the test where a log has something that was said in a login.
func noSecrets(t *testing.T, g *gatepost.Instance) {
	t.Helper()
	g.Stop() // now all is written
	for _, name := range []string{"mail.log", "smtp_proxy.log"} {
		text, err := os.ReadFile(filepath.Join(g.LogDir, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{"b3BlbiBzZXNhbWU", "open sesame", "AGpvZQ", "UkNQVA==", "RCPT TO:<x@y>"} {
			if strings.Contains(string(text), secret) {
				t.Errorf("%s has %q", name, secret)
			}
		}
	}
	if strings.Contains(g.Output(), "open sesame") {
		t.Error("the output has a password")
	}
}
