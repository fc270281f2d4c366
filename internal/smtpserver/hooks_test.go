package smtpserver

import (
	"encoding/base64"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/mail"
)

// TestEarlyTalkersAreKnownAtConnect: what the client did before its turn is seen
// before anybody decides about it.
func TestEarlyTalkersAreKnownAtConnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := startServer(t, Config{PregreetDelay: 2 * time.Second}, Options{})
		c := x.dial()
		if got := c.line(); got != "220-gw.example ESMTP" {
			t.Fatalf("first line %q", got)
		}
		c.send("EHLO early.example")
		c.expect("220 gw.example ESMTP", "250")
		c.quit()
		patient := x.dial()
		patient.expect("220-gw.example ESMTP\n220 gw.example")
		patient.quit()
		x.stop()
		saw := x.hooks.atConnect
		if len(saw) != 2 || len(saw[0]) != 1 || saw[0][0].Symbol != "pregreet" || len(saw[1]) != 0 {
			t.Errorf("connect saw %+v", saw)
		}
	})
}

// TestRefusalAfterATeaser: the lines of a greeting have one code (RFC 5321 §4.2.1);
// who is not wanted hears it next.
func TestRefusalAfterATeaser(t *testing.T) {
	for name, tt := range map[string]struct {
		decision mail.Decision
		ehlo     string
		closed   bool
	}{
		"rejected":            {mail.Decision{Act: mail.Reject, Reply: mail.ReplyNoService.Reply()}, "554 5.7.1", false},
		"deferred":            {mail.Decision{Act: mail.Defer, Reply: mail.ReplyTryLater.Reply()}, "451 4.7.1", false},
		"rejected and closed": {mail.Decision{Act: mail.Reject, Reply: mail.ReplyNoService.Reply(), Close: true}, "554 5.7.1", true},
		"sent away":           {mail.Decision{Act: mail.Defer, Reply: mail.ReplyTooManyFromHost.Reply()}, "421 4.7.0", true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := startServer(t, Config{PregreetDelay: time.Second}, Options{})
				x.hooks.connect = tt.decision
				c := x.dial()
				c.expect("220-gw.example ESMTP\n220 gw.example ESMTP")
				c.send("EHLO client.example")
				c.expect(tt.ehlo)
				if tt.closed {
					c.expectClosed()
				} else {
					c.send("MAIL FROM:<a@b.example>")
					c.expect(tt.ehlo)
					c.quit()
				}
				x.stop()
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		x := startServer(t, Config{PregreetDelay: time.Second}, Options{})
		x.hooks.connect = mail.Decision{Act: mail.Drop}
		c := x.dial()
		if got := c.line(); got != "220-gw.example ESMTP" {
			t.Fatalf("first line %q", got)
		}
		c.expectClosed()
		x.stop()
	})
}

// TestATarpitHoldsTheGreeting: the delay of the decision comes after the wait for
// early talkers, and does not count for the reply once more.
func TestATarpitHoldsTheGreeting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := startServer(t, Config{PregreetDelay: 2 * time.Second}, Options{})
		x.hooks.connect = mail.Decision{Delay: 5 * time.Second}
		begun := time.Now()
		c := x.dial()
		c.expect("220-gw.example ESMTP\n220 ")
		if took := time.Since(begun); took != 7*time.Second {
			t.Errorf("the greeting took %v, want 7s", took)
		}
		c.quit()
		x.stop()
	})
}

// TestFindingsOfATransactionStayInIt: what was seen of one recipient is not there for
// the next one, is there once the data comes, and is gone in the next transaction.
func TestFindingsOfATransactionStayInIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := startServer(t, Config{}, Options{})
		c := x.dial().greet()
		for range 2 {
			c.send("MAIL FROM:<a@out.example>")
			c.expect("250")
			c.send("RCPT TO:<seen@in.example>")
			c.expect("250")
			c.send("RCPT TO:<seen@other.example>")
			c.expect("250")
			c.send("DATA")
			c.expect("354")
			c.send("Subject: x", "", ".")
			c.expect("250")
		}
		c.quit()
		for i, m := range x.stop() {
			if n := len(m.env.Session.Findings); n != 1 {
				t.Errorf("message %d has %d findings: %+v", i, n, m.env.Session.Findings)
			}
		}
		for i, f := range x.hooks.atRcpt {
			if len(f) > 0 {
				t.Errorf("RCPT %d saw %+v", i, f)
			}
		}
		if f := x.hooks.sessions[0].Findings; len(f) > 0 {
			t.Errorf("the session keeps %+v", f)
		}
	})
}

// TestWhatAHookAddsIsNotCounted: the limit of recipients is the client's.
func TestWhatAHookAddsIsNotCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := startServer(t, Config{MaxRecipients: 3}, Options{})
		c := x.dial().greet()
		c.send("MAIL FROM:<a@out.example>")
		c.expect("250")
		for i, want := range []string{"250", "250", "250", "452 4.5.3"} {
			c.send("RCPT TO:<team@" + string(rune('a'+i)) + ".example>")
			c.expect(want)
		}
		c.send("DATA")
		c.expect("354")
		c.send("Subject: x", "", ".")
		c.expect("250")
		c.quit()
		mails := x.stop()
		if len(mails) != 1 || len(mails[0].env.Recipients) != 6 {
			t.Errorf("%+v", mails)
		}
	})
}

// TestWhatClientsDoWrongIsTold: each 5xx and each failed login, as it happens.
func TestWhatClientsDoWrongIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := startServer(t, Config{Auth: []string{"PLAIN"}, AuthWithoutTLS: true}, Options{})
		c := x.dial().greet()
		c.send("NONSENSE")
		c.expect("500")
		c.send("MAIL FROM:<reject@out.example>")
		c.expect("550")
		c.send("MAIL FROM:<defer@out.example>")
		c.expect("451")
		c.send("AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00alice\x00wrong")))
		c.expect("535")
		c.send("AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00down\x00x")))
		c.expect("454")
		c.quit()
		x.stop()
		if got := x.hooks.counts; got["refused"] != 3 || got["login failed"] != 1 {
			t.Errorf("%+v", got)
		}
	})
}

// TestWhoLogsIn: the session gets the name and the senders that the hook found, and
// forgets both when TLS begins.
func TestWhoLogsIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := startServer(t, Config{Auth: []string{"PLAIN"}, AuthWithoutTLS: true}, Options{})
		c := x.dial().greet()
		c.send("AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00ALICE\x00secret")))
		c.expect("235")
		c.quit()
		x.stop()
		if s := x.hooks.sessions[0]; s.User != "alice@in.example" || !slices.Equal(s.Senders, []string{"@in.example"}) {
			t.Errorf("user %q, senders %q", s.User, strings.Join(s.Senders, ","))
		}
	})
}
