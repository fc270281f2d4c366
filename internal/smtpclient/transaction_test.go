package smtpclient_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"gatepost/internal/mail"
	"gatepost/internal/smtp"
	"gatepost/internal/smtpclient"
	"gatepost/internal/smtpclient/sinktest"
)

// pipelining and lock-step must come to the same results.
var bothWays = map[string][]string{"pipelined": {"PIPELINING"}, "in lock-step": nil}

func TestRepliesDecideForEachRecipient(t *testing.T) {
	byLine := func(replies ...string) func(sinktest.Event) *sinktest.Act {
		return func(e sinktest.Event) *sinktest.Act {
			for _, r := range replies {
				stage, wire, _ := strings.Cut(r, "=")
				if e.Stage == stage || e.Stage == sinktest.Rcpt && strings.Contains(e.Line, stage+"@") {
					return sinktest.Reply(wire)
				}
			}
			return nil
		}
	}
	for _, tc := range []struct {
		name   string
		script func(sinktest.Event) *sinktest.Act
		want   string
		taken  int // messages
		usable bool
	}{
		{"all accepted", nil, "delivered eod 250, delivered eod 250, delivered eod 250", 1, true},
		{"251 is a yes", byLine("r1=251 2.1.5 will forward"), "delivered eod 250, delivered eod 250, delivered eod 250", 1, true},
		{"one refused", byLine("r2=550 5.1.1 no"), "delivered eod 250, failed rcpt 550, delivered eod 250", 1, true},
		{"one deferred", byLine("r1=450 4.2.1 no"), "deferred rcpt 450, delivered eod 250, delivered eod 250", 1, true},
		{"all refused, each in his way", byLine("r1=550 a", "r2=450 b", "r3=553 c"), "failed rcpt 550, deferred rcpt 450, failed rcpt 553", 0, true},
		{"sender refused", byLine("mail=550 5.7.1 no"), "failed mail 550, failed mail 550, failed mail 550", 0, true},
		{"sender deferred", byLine("mail=451 4.7.1 no"), "deferred mail 451, deferred mail 451, deferred mail 451", 0, true},
		{"DATA refused", byLine("data=554 5.7.1 no"), "failed data 554, failed data 554, failed data 554", 0, true},
		{"DATA deferred, one refused before", byLine("r1=550 no", "data=451 no"), "failed rcpt 550, deferred data 451, deferred data 451", 0, true},
		{"message refused", byLine("eod=554 5.7.1 spam", "r3=450 no"), "failed eod 554, failed eod 554, deferred rcpt 450", 1, true},
		{"message deferred", byLine("eod=452 4.3.1 full"), "deferred eod 452, deferred eod 452, deferred eod 452", 1, true},
		{"421 to MAIL", byLine("mail=421 4.3.2 bye"), "none, none, none", 0, false},
		{"421 to a recipient", byLine("r1=550 no", "r2=421 bye"), "failed rcpt 550, none, none", 0, false},
		{"421 to DATA", byLine("r1=550 no", "data=421 bye"), "failed rcpt 550, none, none", 0, false},
		{"421 to the message", byLine("eod=421 4.3.2 bye"), "deferred eod 421, deferred eod 421, deferred eod 421", 1, false},
	} {
		for way, extensions := range bothWays {
			t.Run(tc.name+" "+way, func(t *testing.T) {
				k := newTalk(t, sinktest.Config{Extensions: extensions, Script: tc.script}, smtpclient.Config{})
				c := k.mustDial(t)
				out, err := c.Send(t.Context(), request(t, 3, short))
				if got := briefs(out); got != tc.want {
					t.Errorf("outcomes %s, want %s", got, tc.want)
				}
				if c.Usable() != tc.usable || (err == nil) != tc.usable {
					t.Errorf("usable: %v, error %v", c.Usable(), err)
				}
				if n := len(k.sink.Messages()); n != tc.taken {
					t.Errorf("%d messages were sent, want %d", n, tc.taken)
				}
			})
		}
	}
}

func TestSessionGoesOnAfterARefusal(t *testing.T) {
	for way, extensions := range bothWays {
		for _, stage := range []string{sinktest.Mail, sinktest.Rcpt, sinktest.Data, sinktest.EOD} {
			t.Run(stage+" "+way, func(t *testing.T) {
				k := newTalk(t, sinktest.Config{Extensions: extensions, Script: func(e sinktest.Event) *sinktest.Act {
					if e.Stage == stage && e.N == 1 {
						return sinktest.Reply("550 5.7.1 no")
					}
					return nil
				}}, smtpclient.Config{})
				c := k.mustDial(t)
				first, err := c.Send(t.Context(), request(t, 1, text("X: first\r\n\r\n")))
				if err != nil || first[0].Status != mail.Failed {
					t.Fatalf("%s, %v", briefs(first), err)
				}
				second, err := c.Send(t.Context(), request(t, 1, short))
				if err != nil || briefs(second) != "delivered eod 250" {
					t.Fatalf("%s, %v", briefs(second), err)
				}
				m := k.sink.Messages()
				if last := m[len(m)-1]; last.Body() != string(short) || len(last.To) != 1 {
					t.Errorf("second message %+v", last)
				}
			})
		}
	}
}

// Replies that must not be: nothing may be delivered, nothing bounced, and no
// later reply taken for the answer to something else.
func TestBrokenRepliesEndTheSession(t *testing.T) {
	broken := map[string]string{
		"a second reply":        "250 2.0.0 one\r\n250 2.0.0 two\r\n",
		"a second, other reply": "250 one\r\n550 two\r\n",
		"an unknown code":       "999 x\r\n",
		"1xx":                   "150 x\r\n",
		"two digits":            "25\r\n",
		"a bare LF":             "250 x\n",
		"a line of 100 kB":      "250 " + strings.Repeat("x", 100_000) + "\r\n",
		"endless lines":         strings.Repeat("250-x\r\n", 10_000) + "250 x\r\n",
		"words":                 "hello\r\n",
		"an unasked 354":        "354 go\r\n",
	}
	for name, wire := range broken {
		for way, extensions := range bothWays {
			for _, stage := range []string{sinktest.Mail, sinktest.Rcpt, sinktest.Data} {
				if stage == sinktest.Data && name == "an unasked 354" {
					continue
				}
				t.Run(name+" to "+stage+" "+way, func(t *testing.T) {
					k := newTalk(t, sinktest.Config{Extensions: extensions, Script: at(stage, &sinktest.Act{Wire: wire})}, smtpclient.Config{})
					c := k.mustDial(t)
					out, err := c.Send(t.Context(), request(t, 2, short))
					if err == nil || c.Usable() {
						t.Errorf("the session goes on, error %v", err)
					}
					for _, o := range out {
						if o.Status != mail.Deferred || o.Remote || o.Reply.Enhanced != "4.5.0" {
							t.Errorf("outcome %s (%s)", brief(o), o.Cause)
						}
					}
					if len(k.sink.Messages()) > 0 {
						t.Error("the message was sent")
					}
				})
			}
		}
	}
}

func TestDataAnsweredBy250(t *testing.T) {
	for way, extensions := range bothWays {
		t.Run(way, func(t *testing.T) {
			k := newTalk(t, sinktest.Config{Extensions: extensions, Script: at(sinktest.Data, sinktest.Reply("250 ok"))}, smtpclient.Config{})
			c := k.mustDial(t)
			out, err := c.Send(t.Context(), request(t, 1, short))
			if briefs(out) != "deferred data own 451" || !errors.Is(err, smtpclient.ErrProtocol) {
				t.Errorf("%s, %v", briefs(out), err)
			}
		})
	}
}

func TestMessageIsNotSentWhereDataHasTwoAnswers(t *testing.T) {
	for way, extensions := range bothWays {
		t.Run(way, func(t *testing.T) {
			k := newTalk(t, sinktest.Config{Extensions: extensions, Script: at(sinktest.Data, &sinktest.Act{Wire: "354 go\r\n250 taken\r\n"})}, smtpclient.Config{})
			c := k.mustDial(t)
			out, err := c.Send(t.Context(), request(t, 1, short))
			if briefs(out) != "deferred data own 451" || !errors.Is(err, smtpclient.ErrProtocol) || c.Usable() {
				t.Errorf("%s, %v", briefs(out), err)
			}
			c.Close()
			k.sink.Close()
			if strings.Contains(k.sink.Raw(), "hello") {
				t.Errorf("on the wire: %q", k.sink.Raw())
			}
		})
	}
}

func TestWhatFollowsTheFinalReplyDoesNotReachTheNextMessage(t *testing.T) {
	k := newTalk(t, sinktest.Config{Extensions: []string{"PIPELINING"},
		Script: at(sinktest.EOD, sinktest.Reply("250 taken", "250 again"))}, smtpclient.Config{})
	c := k.mustDial(t)
	out, err := c.Send(t.Context(), request(t, 1, short))
	if err != nil || briefs(out) != "delivered eod 250" || out[0].Reply.Text() != "taken" {
		t.Errorf("%s, %v", briefs(out), err)
	}
	if c.Usable() {
		t.Error("the session would be used again")
	}
}

func TestFinalReplyOutOfRange(t *testing.T) {
	k := newTalk(t, sinktest.Config{Script: at(sinktest.EOD, sinktest.Reply("354 more"))}, smtpclient.Config{})
	c := k.mustDial(t)
	out, err := c.Send(t.Context(), request(t, 1, short))
	if briefs(out) != "deferred eod own 451" || !out[0].MaybeDuplicate || err == nil {
		t.Errorf("%s, %v", briefs(out), err)
	}
}

func TestNobodyAcceptedButDataIs(t *testing.T) {
	script := func(e sinktest.Event) *sinktest.Act {
		switch {
		case e.Stage == sinktest.Rcpt && e.N <= 2:
			return sinktest.Reply("550 5.1.1 no")
		case e.Stage == sinktest.Data:
			return sinktest.Reply("354 go on")
		}
		return nil
	}
	k := newTalk(t, sinktest.Config{Extensions: []string{"PIPELINING"}, Script: script}, smtpclient.Config{})
	c := k.mustDial(t)
	out, err := c.Send(t.Context(), request(t, 2, short))
	if err != nil || briefs(out) != "failed rcpt 550, failed rcpt 550" {
		t.Fatalf("%s, %v", briefs(out), err)
	}
	if m := k.sink.Messages(); len(m) != 1 || m[0].Wire != "" {
		t.Errorf("messages %+v, want one empty one", m)
	}
	out, err = c.Send(t.Context(), request(t, 1, short))
	if err != nil || briefs(out) != "delivered eod 250" {
		t.Errorf("the next one: %s, %v", briefs(out), err)
	}
}

func TestRefusedSenderAndLostConnection(t *testing.T) {
	for way, extensions := range bothWays {
		t.Run(way, func(t *testing.T) {
			k := newTalk(t, sinktest.Config{Extensions: extensions,
				Script: at(sinktest.Mail, &sinktest.Act{Wire: "550 5.7.1 no\r\n", Close: true})}, smtpclient.Config{})
			out, _ := k.mustDial(t).Send(t.Context(), request(t, 2, short))
			if got := briefs(out); got != "failed mail 550, failed mail 550" {
				t.Errorf("outcomes %s", got)
			}
		})
	}
}

func TestLostConnection(t *testing.T) {
	for _, tc := range []struct {
		stage string
		n     int
		early bool
		want  string
		twice bool
	}{
		{sinktest.Mail, 1, true, "none, none", false},
		{sinktest.Rcpt, 1, false, "none, none", false},
		{sinktest.Rcpt, 2, false, "none, none", false},
		{sinktest.Data, 1, false, "none, none", false},
		{sinktest.EOD, 1, false, "deferred eod own 451, deferred eod own 451", true},
	} {
		for way, extensions := range bothWays {
			t.Run(fmt.Sprintf("at %s %d %s", tc.stage, tc.n, way), func(t *testing.T) {
				k := newTalk(t, sinktest.Config{Extensions: extensions, Script: func(e sinktest.Event) *sinktest.Act {
					if e.Stage == tc.stage && e.N == tc.n {
						return &sinktest.Act{Close: true}
					}
					return nil
				}}, smtpclient.Config{})
				c := k.mustDial(t)
				out, err := c.Send(t.Context(), request(t, 2, short))
				var e *smtpclient.Error
				if !errors.As(err, &e) || e.Early != tc.early || c.Usable() {
					t.Fatalf("error %+v", err)
				}
				if got := briefs(out); got != tc.want || out[0].MaybeDuplicate != tc.twice {
					t.Errorf("outcomes %s, maybe twice %v", got, out[0].MaybeDuplicate)
				}
				if o := e.Outcome(); brief(o) != "deferred "+tc.stage+" own 451" || o.Reply.Enhanced != "4.4.2" {
					t.Errorf("outcome of the error %s %s", brief(o), o.Reply)
				}
			})
		}
	}
}

func TestTooManyRecipientsGetATransactionOfTheirOwn(t *testing.T) {
	for _, reply := range []string{"452 4.5.3 enough", "552 too many", "452 enough"} {
		for way, extensions := range bothWays {
			t.Run(reply+" "+way, func(t *testing.T) {
				taken := 0
				k := newTalk(t, sinktest.Config{Extensions: extensions, Script: func(e sinktest.Event) *sinktest.Act {
					switch e.Stage {
					case sinktest.Mail:
						taken = 0
					case sinktest.Rcpt:
						if taken++; taken > 2 {
							return sinktest.Reply(reply)
						}
					}
					return nil
				}}, smtpclient.Config{})
				c := k.mustDial(t)
				out, err := c.Send(t.Context(), request(t, 5, short))
				if err != nil {
					t.Fatal(err)
				}
				for i, o := range out {
					if brief(o) != "delivered eod 250" {
						t.Errorf("recipient %d: %s", i+1, brief(o))
					}
				}
				m := k.sink.Messages()
				if len(m) != 3 || m[2].To[0] != "RCPT TO:<r5@out.example>" {
					t.Errorf("messages %+v", m)
				}
			})
		}
	}
}

func TestFullMailboxIsNotTriedAgainAndAgain(t *testing.T) {
	for _, tc := range []struct{ reply, want string }{
		{"452 4.2.2 mailbox full", "delivered eod 250, deferred rcpt 452"},
		{"552 5.2.2 mailbox full", "delivered eod 250, failed rcpt 552"},
		{"552 mailbox full", "delivered eod 250, failed rcpt 552"},
	} {
		t.Run(tc.reply, func(t *testing.T) {
			k := newTalk(t, sinktest.Config{Extensions: []string{"PIPELINING"}, Script: func(e sinktest.Event) *sinktest.Act {
				if strings.Contains(e.Line, "r2@") {
					return sinktest.Reply(tc.reply)
				}
				return nil
			}}, smtpclient.Config{})
			out, err := k.mustDial(t).Send(t.Context(), request(t, 2, short))
			if err != nil || briefs(out) != tc.want {
				t.Errorf("%s, %v; want %s", briefs(out), err, tc.want)
			}
			if n := len(k.sink.Messages()); n != 1 {
				t.Errorf("%d messages", n)
			}
		})
	}
}

func TestLimitsAreKept(t *testing.T) {
	k := newTalk(t, sinktest.Config{Extensions: []string{"PIPELINING", "LIMITS RCPTMAX=2 MAILMAX=3"}}, smtpclient.Config{})
	c := k.mustDial(t)
	out, err := c.Send(t.Context(), request(t, 7, short))
	if !errors.Is(err, smtpclient.ErrSpent) || c.Usable() {
		t.Errorf("error %v", err)
	}
	want := strings.Repeat("delivered eod 250, ", 6) + "none"
	if got := briefs(out); got != want {
		t.Errorf("outcomes %s", got)
	}
	for _, m := range k.sink.Messages() {
		if len(m.To) > 2 {
			t.Errorf("%d recipients in a transaction", len(m.To))
		}
	}
}

func TestManyRecipientsArePipelinedInPortions(t *testing.T) {
	k := newTalk(t, sinktest.Config{Extensions: []string{"PIPELINING"}}, smtpclient.Config{})
	out, err := k.mustDial(t).Send(t.Context(), request(t, 1000, short))
	if err != nil {
		t.Fatal(err)
	}
	for i, o := range out {
		if o.Status != mail.Delivered {
			t.Fatalf("recipient %d: %s", i, brief(o))
		}
	}
	if m := k.sink.Messages(); len(m) != 1 || len(m[0].To) != 1000 {
		t.Errorf("%d messages", len(m))
	}
	for _, w := range k.wire.take() {
		if n := strings.Count(w, "RCPT"); n > 100 {
			t.Errorf("%d RCPT in one write", n)
		}
	}
}

func TestLMTPHasAReplyForEachRecipient(t *testing.T) {
	final := []string{"250 2.0.0 one", "550 5.2.1 two", "452 4.2.2 three"}
	for way, extensions := range bothWays {
		t.Run(way, func(t *testing.T) {
			k := newTalk(t, sinktest.Config{LMTP: true, Extensions: extensions, Script: func(e sinktest.Event) *sinktest.Act {
				switch {
				case strings.Contains(e.Line, "r2@"):
					return sinktest.Reply("550 5.1.1 no")
				case e.Stage == sinktest.EOD:
					return sinktest.Reply(final[(e.N-1)%3])
				}
				return nil
			}}, smtpclient.Config{})
			c := k.mustDial(t)
			for range 2 {
				out, err := c.Send(t.Context(), request(t, 4, short))
				if err != nil || briefs(out) != "delivered eod 250, failed rcpt 550, failed eod 550, deferred eod 452" {
					t.Errorf("%s, %v", briefs(out), err)
				}
			}
			if lines := k.sink.Lines(); lines[0] != "LHLO gw.example" {
				t.Errorf("first command %s", lines[0])
			}
		})
	}
}

func TestLMTPLosesTheConnectionBetweenReplies(t *testing.T) {
	k := newTalk(t, sinktest.Config{LMTP: true, Script: func(e sinktest.Event) *sinktest.Act {
		if e.Stage == sinktest.EOD && e.N == 2 {
			return &sinktest.Act{Close: true}
		}
		return nil
	}}, smtpclient.Config{})
	out, err := k.mustDial(t).Send(t.Context(), request(t, 3, short))
	if err == nil || briefs(out) != "delivered eod 250, deferred eod own 451, deferred eod own 451" {
		t.Fatalf("%s, %v", briefs(out), err)
	}
	if out[0].MaybeDuplicate || !out[1].MaybeDuplicate || !out[2].MaybeDuplicate {
		t.Errorf("maybe twice: %v %v %v", out[0].MaybeDuplicate, out[1].MaybeDuplicate, out[2].MaybeDuplicate)
	}
}

func TestIllegalContentNeverLeaves(t *testing.T) {
	for _, extensions := range [][]string{{"PIPELINING"}, {"CHUNKING"}} {
		for _, body := range []text{"a\r\n\n.\r\nMAIL FROM:<evil@x>\r\n", "a\rb\r\n", "a\x00b\r\n", "a\r\nb\r"} {
			t.Run(fmt.Sprintf("%q with %s", body, extensions), func(t *testing.T) {
				k := newTalk(t, sinktest.Config{Extensions: extensions}, smtpclient.Config{ChunkFrom: 1})
				c := k.mustDial(t)
				out, err := c.Send(t.Context(), request(t, 1, body))
				if !errors.Is(err, smtp.ErrIllegalData) || briefs(out) != "failed data own 550" || c.Usable() {
					t.Errorf("%s, %v", briefs(out), err)
				}
				c.Close()
				k.sink.Close()
				if raw := strings.ReplaceAll(k.sink.Raw(), "\r\n", ""); strings.ContainsAny(raw, "\r\n\x00") || len(k.sink.Messages()) > 0 {
					t.Errorf("on the wire: %q", k.sink.Raw())
				}
			})
		}
	}
}
