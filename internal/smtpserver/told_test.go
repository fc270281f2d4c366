package smtpserver

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"gatepost/internal/mail"
)

// loginAs is AUTH PLAIN in one line.
func loginAs(user, password string) string {
	return "AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00"+password))
}

// TestFindingsFollowTheTransaction tells when which hook knows of what others saw.
func TestFindingsFollowTheTransaction(t *testing.T) {
	for name, end := range map[string][]string{
		"with DATA": {"DATA", "Subject: x", "", "."},
		"with BDAT": {"BDAT 14 LAST", "Subject: x", ""},
	} {
		t.Run(name, func(t *testing.T) {
			x := startServer(t, Config{}, Options{})
			x.hooks.connect = mail.Decision{Findings: []mail.Finding{{Module: "test", Symbol: "connect", Result: mail.Match}}}
			c := x.dial()
			c.expect("220")
			c.send("HELO saw-helo")
			c.expect("250")
			// What was refused is no part of what follows.
			c.send("MAIL FROM:<bad-sender@out.example>")
			c.expect("550")
			c.send("MAIL FROM:<saw-mail@out.example>")
			c.expect("250")
			c.send("RCPT TO:<saw-helo@in.example>") // known already
			c.expect("250")
			c.send("RCPT TO:<bad-rcpt@in.example>")
			c.expect("550")
			c.send("RCPT TO:<saw-other@in.example>")
			c.expect("250")
			c.send("RCPT TO:<saw-other@other.example>")
			c.expect("250")
			if end[0] == "DATA" {
				c.send("DATA")
				c.expect("354")
				c.send(end[1:]...)
			} else {
				c.send(end...)
			}
			c.expect("250")
			c.send("MAIL FROM:<a@out.example>")
			c.expect("250")
			c.send("RCPT TO:<v@in.example>")
			c.expect("250")
			c.send("BDAT 3 LAST", "x")
			c.expect("250")
			c.quit()
			mails := x.stop()
			// What was seen of the one who was refused is part of it.
			const session, all = "connect helo", "connect helo mail rcpt other"
			for i, f := range x.hooks.atRcpt {
				if symbols(f) != session {
					t.Errorf("RCPT %d knew %q, want %q", i, symbols(f), session)
				}
			}
			for what, got := range map[string][][]mail.Finding{
				"DATA": x.hooks.atData, "Open": x.hooks.atOpen,
				"the envelope": {mails[0].env.Session.Findings, mails[1].env.Session.Findings},
			} {
				if len(got) != 2 || symbols(got[0]) != all || symbols(got[1]) != session {
					t.Errorf("%s knew %q and %q", what, symbols(got[0]), symbols(got[1]))
				}
			}
			if got := symbols(x.hooks.sessions[0].Findings); got != session {
				t.Errorf("the session ended with %q", got)
			}
		})
	}
}

// TestFindingsOfDataReachTheMessage, and are gone where DATA was refused.
func TestFindingsOfDataReachTheMessage(t *testing.T) {
	x := startServer(t, Config{}, Options{})
	c := x.dial().greet()
	for _, sender := range []string{"data-bad-late", "data-saw-late", "a"} {
		c.send("MAIL FROM:<"+sender+"@out.example>", "RCPT TO:<v@in.example>")
		c.expect("250", "250")
		if sender == "data-bad-late" {
			c.send("DATA")
			c.expect("554 5.7.1")
			continue
		}
		c.send("BDAT 3 LAST", "x")
		c.expect("250")
	}
	c.quit()
	mails := x.stop()
	if len(mails) != 2 || symbols(x.hooks.atOpen[0]) != "late" || symbols(mails[0].env.Session.Findings) != "late" || len(mails[1].env.Session.Findings) != 0 {
		t.Errorf("%+v", mails)
	}
}

// TestATransactionThatIsGivenUpLeavesNothing is RSET, EHLO and a second MAIL.
func TestATransactionThatIsGivenUpLeavesNothing(t *testing.T) {
	for _, reset := range []string{"RSET", "EHLO again.example"} {
		x := startServer(t, Config{}, Options{})
		c := x.dial().greet()
		c.send("MAIL FROM:<saw-mail@out.example>", "RCPT TO:<saw-rcpt@in.example>")
		c.expect("250", "250")
		c.send(reset)
		c.expect("250")
		c.send("MAIL FROM:<a@out.example>", "RCPT TO:<v@in.example>")
		c.expect("250", "250")
		c.send("BDAT 3 LAST", "x")
		c.expect("250")
		c.quit()
		if mails := x.stop(); len(mails) != 1 || len(mails[0].env.Session.Findings) != 0 {
			t.Errorf("%s: %+v", reset, mails)
		}
	}
}

// TestFindingsAreBounded: those of the session and of the transaction together.
func TestFindingsAreBounded(t *testing.T) {
	x := startServer(t, Config{}, Options{})
	x.hooks.connect = mail.Decision{Findings: []mail.Finding{{Module: "test", Symbol: "connect", Result: mail.Match}}}
	c := x.dial().greet()
	c.send("MAIL FROM:<a@out.example>")
	c.expect("250")
	for i := range maxFindings + 50 {
		c.send(fmt.Sprintf("RCPT TO:<saw-%d@in.example>", i))
		c.expect("250")
	}
	c.send("BDAT 3 LAST", "x")
	c.expect("250")
	c.quit()
	mails := x.stop()
	if f := mails[0].env.Session.Findings; len(f) != maxFindings || f[0].Symbol != "connect" || f[maxFindings-1].Symbol != fmt.Sprint(maxFindings-2) {
		t.Errorf("%d findings", len(f))
	}
	if got := addFindings(nil, make([]mail.Finding, 3)); len(got) != 1 {
		t.Errorf("one of three that are equal, not %d", len(got))
	}
}

// TestFindingsThatDifferInAnythingAreKept.
func TestFindingsThatDifferInAnythingAreKept(t *testing.T) {
	all := []mail.Finding{
		{Module: "m", Symbol: "s", Result: mail.Match},
		{Module: "n", Symbol: "s", Result: mail.Match},
		{Module: "m", Symbol: "t", Result: mail.Match},
		{Module: "m", Symbol: "s", Result: mail.Clean},
		{Module: "m", Symbol: "s", Result: mail.Match, Score: 1},
		{Module: "m", Symbol: "s", Result: mail.Match, Reason: "r"},
		{Module: "m", Symbol: "s", Result: mail.Match, Name: "x"},
		{Module: "m", Symbol: "s", Result: mail.Match, Recipients: []string{"a@in.example"}},
		{Module: "m", Symbol: "s", Result: mail.Match, Recipients: []string{"b@in.example"}},
		{Module: "m", Symbol: "s", Result: mail.Match, Properties: []mail.Property{{Name: "n", Value: "v"}}},
		{Module: "m", Symbol: "s", Result: mail.Match, Properties: []mail.Property{{Name: "n", Value: "w"}}},
	}
	if got := addFindings(nil, slices.Concat(all, all)); len(got) != len(all) {
		t.Errorf("%d of %d kept", len(got), len(all))
	}
}

// TestEachAnswerIsForOneRCPT: members of an alias have none of their own.
func TestEachAnswerIsForOneRCPT(t *testing.T) {
	x := startServer(t, Config{}, Options{})
	c := x.dial().greet()
	c.send("MAIL FROM:<a@out.example> PRDR", "RCPT TO:<team@in.example>", "RCPT TO:<reject@in.example>", "RCPT TO:<v@in.example>")
	c.expect("250", "250", "550", "250")
	c.send("BDAT 3 LAST", "x")
	c.expect("353", "250 2.1.5", "250 2.1.5", "250 2.0.0")
	c.quit()
	if mails := x.stop(); len(mails) != 1 || len(mails[0].env.Recipients) != 3 {
		t.Errorf("%+v", mails)
	}
}

// TestRefusalsAreTold: each command and message whose reply is a 5xx, once.
func TestRefusalsAreTold(t *testing.T) {
	auth := Config{Auth: []string{"PLAIN", "LOGIN"}, AuthWithoutTLS: true}
	encoded := base64.StdEncoding.EncodeToString
	for name, tt := range map[string]struct {
		config         Config
		send           string // a line and the start of its reply by turns, divided by |
		refused, login int
	}{
		"an unknown command":      {Config{}, "FOO|500", 1, 0},
		"no command at all":       {Config{}, "\x01|500", 1, 0},
		"a line that is too long": {Config{}, "NOOP " + strings.Repeat("x", 3000) + "|500", 1, 0},
		"a syntax error":          {Config{}, "MAIL FROM:a b|501", 1, 0},
		"out of order":            {Config{}, "RCPT TO:<v@in.example>|503", 1, 0},
		"sender and recipient": {Config{}, "MAIL FROM:<reject@out.example>|550|MAIL FROM:<a@out.example>|250|RCPT TO:<reject@in.example>|550|" +
			"RCPT TO:<defer@in.example>|451|RCPT TO:<v@in.example>|250", 2, 0},
		"DATA":              {Config{}, "MAIL FROM:<data-reject@out.example>|250|RCPT TO:<v@in.example>|250|DATA|554", 1, 0},
		"a message":         {Config{}, "MAIL FROM:<a@out.example>|250|RCPT TO:<v@in.example>|250|DATA|354|VIRUS\r\n.|554", 1, 0},
		"a chunk":           {Config{}, "BDAT 6 LAST\r\nQUIT|503", 1, 0},
		"what is too big":   {Config{MaxMessageSize: 10}, "MAIL FROM:<a@out.example>|250|RCPT TO:<v@in.example>|250|DATA|354|More than ten\r\n.|552", 1, 0},
		"XCLIENT":           {Config{}, "XCLIENT ADDR=192.0.2.9|550", 1, 0},
		"nothing wrong":     {Config{}, "NOOP|250|MAIL FROM:<defer@out.example>|451|VRFY a|252", 0, 0},
		"a wrong password":  {auth, loginAs("alice", "wrong") + "|535|" + loginAs("alice", "wrong") + "|535|" + loginAs("alice", "secret") + "|235", 2, 2},
		"LOGIN":             {auth, "AUTH LOGIN " + encoded([]byte("alice")) + "|334|" + encoded([]byte("wrong")) + "|535", 1, 1},
		"for somebody else": {auth, "AUTH PLAIN " + encoded([]byte("bob\x00alice\x00secret")) + "|535", 1, 1},
		"no name":           {auth, loginAs("", "secret") + "|535|" + loginAs("a\x1bb", "secret") + "|535", 2, 2},
		"nobody could tell": {auth, loginAs("down", "x") + "|454", 0, 0},
		"a login given up":  {auth, "AUTH LOGIN|334|*|501|AUTH PLAIN !|501|AUTH CRAM-MD5|504", 3, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := startServer(t, tt.config, Options{})
				c := x.dial().greet()
				words := strings.Split(tt.send, "|")
				for i := 0; i < len(words); i += 2 {
					c.send(words[i])
					c.expect(words[i+1])
				}
				c.conn.Close()
				synctest.Wait()
				x.stop()
				if got := x.hooks.counts; got["refused"] != tt.refused || got["login failed"] != tt.login {
					t.Errorf("told of %d refusals and %d logins, want %d and %d", got["refused"], got["login failed"], tt.refused, tt.login)
				}
				for _, s := range x.hooks.failed {
					if s.User != "" {
						t.Errorf("who fails to log in is not %q", s.User)
					}
				}
			})
		})
	}
}

// TestARefusingGreetingIsNoError of the client's: it has not said anything yet.
func TestARefusingGreetingIsNoError(t *testing.T) {
	x := startServer(t, Config{}, Options{})
	x.hooks.connect = mail.Decision{Act: mail.Reject}
	c := x.dial()
	c.expect("554")
	c.quit()
	x.stop()
	if n := x.hooks.counts["refused"]; n != 0 {
		t.Errorf("told of %d refusals", n)
	}
}

// TestHooksKnowWhoHasLoggedIn: name and senders are those that the login gave, in
// each envelope, until TLS begins.
func TestHooksKnowWhoHasLoggedIn(t *testing.T) {
	cert := testTLS(t)
	synctest.Test(t, func(t *testing.T) {
		x := startServer(t, Config{TLS: TLSStart, TLSConfig: cert, Auth: []string{"PLAIN"}, AuthWithoutTLS: true}, Options{})
		c := x.dial().greet()
		c.send(loginAs("ALICE", "secret"))
		c.expect("235")
		c.send("MAIL FROM:<a@in.example>", "RCPT TO:<v@in.example>")
		c.expect("250", "250")
		c.send("STARTTLS")
		c.expect("220")
		c.startTLS()
		c.send("EHLO c", "MAIL FROM:<a@in.example>", "RCPT TO:<v@in.example>")
		c.expect("250", "250", "250")
		c.send("RSET", loginAs("alice", "secret"), "MAIL FROM:<a@in.example>")
		c.expect("250", "235", "250")
		c.quit()
		x.stop()
		var got []string
		for _, s := range x.hooks.known {
			got = append(got, s.User+" "+strings.Join(s.Senders, " "))
		}
		want := []string{"alice@in.example @in.example", "alice@in.example @in.example", " ", " ", "alice "}
		if !slices.Equal(got, want) {
			t.Errorf("hooks knew %q, want %q", got, want)
		}
	})
}
