package smtpclient_test

import (
	"errors"
	"strings"
	"testing"

	"gatepost/internal/mail"
	"gatepost/internal/smtpclient"
	"gatepost/internal/smtpclient/sinktest"
)

func TestAProbeHearsWhatIsSaidOfRecipientsAndSendsNothing(t *testing.T) {
	for way, extensions := range bothWays {
		t.Run(way, func(t *testing.T) {
			k := newTalk(t, sinktest.Config{Extensions: append([]string{"SMTPUTF8"}, extensions...), Script: func(e sinktest.Event) *sinktest.Act {
				if e.Stage == sinktest.Rcpt && strings.Contains(e.Line, "no@") {
					return sinktest.Reply("550 5.1.1 no")
				}
				return nil
			}}, smtpclient.Config{})
			c := k.mustDial(t)
			for range 2 {
				if r, err := c.ProbeMail(t.Context(), mail.Address{}, true); err != nil || r.Code != 250 {
					t.Fatalf("MAIL: %v, %v", r, err)
				}
				for to, want := range map[string]int{"no@a.example": 550, "yes@a.example": 250, "x\r\nDATA@a.example": 501} {
					if r, err := c.ProbeRcpt(t.Context(), mail.Address{Raw: to}); err != nil || r.Code != want {
						t.Errorf("RCPT %q: %v, %v", to, r, err)
					}
				}
			}
			if out, err := c.Send(t.Context(), request(t, 1, short)); err != nil || out[0].Status != mail.Delivered {
				t.Errorf("a message after a probe: %v, %v", out, err)
			}
			lines := strings.Join(k.sink.Lines(), "\n")
			if n := strings.Count(lines, "RSET"); n != 2 || strings.Count(lines, "MAIL FROM:<> SMTPUTF8") != 2 || len(k.sink.Messages()) != 1 {
				t.Errorf("the remote saw:\n%s", lines)
			}
		})
	}
}

func TestAProbeEndsWithItsSession(t *testing.T) {
	for name, c := range map[string]struct {
		stage, wire string
	}{
		"421 to MAIL": {sinktest.Mail, "421 4.3.2 bye\r\n"}, "421 to RCPT": {sinktest.Rcpt, "421 4.3.2 bye\r\n"},
		"3xx to MAIL": {sinktest.Mail, "354 what\r\n"}, "3xx to RCPT": {sinktest.Rcpt, "354 what\r\n"}, "nonsense": {sinktest.Rcpt, "hello\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			k := newTalk(t, sinktest.Config{Script: func(e sinktest.Event) *sinktest.Act {
				if e.Stage == c.stage {
					return &sinktest.Act{Wire: c.wire}
				}
				return nil
			}}, smtpclient.Config{})
			conn := k.mustDial(t)
			_, err := conn.ProbeMail(t.Context(), mail.Address{}, false)
			if c.stage == sinktest.Rcpt {
				if err != nil {
					t.Fatal(err)
				}
				_, err = conn.ProbeRcpt(t.Context(), mail.Address{Raw: "a@b.example"})
			}
			var e *smtpclient.Error
			if !errors.As(err, &e) || conn.Usable() {
				t.Errorf("got %v, usable %v", err, conn.Usable())
			}
			if _, err := conn.ProbeRcpt(t.Context(), mail.Address{Raw: "a@b.example"}); !errors.Is(err, smtpclient.ErrSpent) {
				t.Errorf("afterwards: %v", err)
			}
			if _, err := conn.ProbeMail(t.Context(), mail.Address{}, false); !errors.Is(err, smtpclient.ErrSpent) {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}
