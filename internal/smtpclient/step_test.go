package smtpclient_test

import (
	"errors"
	"strings"
	"testing"

	"gatepost/internal/mail"
	"gatepost/internal/smtpclient"
	"gatepost/internal/smtpclient/sinktest"
)

// steps is a transaction in steps: all of req's recipients, of whom those that are
// taken get the data.
func steps(t *testing.T, c *smtpclient.Conn, req *smtpclient.Request) (replies []mail.Reply, out []mail.Outcome, err error) {
	t.Helper()
	r, err := c.Mail(t.Context(), req)
	replies = append(replies, r)
	if err != nil || !r.Positive() {
		return replies, nil, err
	}
	var taken []mail.Recipient
	for i := range req.Recipients {
		r, err := c.Rcpt(t.Context(), req, &req.Recipients[i])
		replies = append(replies, r)
		if err != nil {
			return replies, nil, err
		}
		if r.Positive() {
			taken = append(taken, req.Recipients[i])
		}
	}
	if len(taken) == 0 {
		return replies, nil, nil
	}
	sent := *req
	sent.Recipients = taken
	out, err = c.Data(t.Context(), &sent)
	return replies, out, err
}

func TestStepsHaveTheirReplies(t *testing.T) {
	script := func(e sinktest.Event) *sinktest.Act {
		switch {
		case strings.Contains(e.Line, "r2@"):
			return sinktest.Reply("550-5.1.1 a", "550 5.1.1 b")
		case e.Stage == sinktest.EOD && e.N == 2:
			return sinktest.Reply("452 4.2.2 full")
		}
		return nil
	}
	for _, lmtp := range []bool{false, true} {
		k := newTalk(t, sinktest.Config{LMTP: lmtp, Script: script}, smtpclient.Config{})
		c := k.mustDial(t)
		req := request(t, 3, short)
		req.Recipients[0].Notify = mail.NotifySuccess
		replies, out, err := steps(t, c, req)
		if err != nil || len(replies) != 4 || replies[2].String() != "550 5.1.1 a / b" {
			t.Fatalf("replies %v, %v", replies, err)
		}
		want := "delivered eod 250, delivered eod 250"
		if lmtp {
			want = "delivered eod 250, deferred eod 452" // one for each that was accepted
		}
		if got := briefs(out); got != want || out[0].DSNPassed {
			t.Errorf("LMTP %v: %s, want %s", lmtp, got, want)
		}
		if m := k.sink.Messages(); len(m) != 1 || len(m[0].To) != 2 || m[0].Body() != string(short) {
			t.Errorf("messages %+v", m)
		}
		if !c.Clean() || !c.Usable() {
			t.Error("the session is not ready for another message")
		}
	}
}

func TestTransactionLeftOpenIsReset(t *testing.T) {
	for _, tc := range []struct {
		name   string
		script func(sinktest.Event) *sinktest.Act
		chunk  bool
		dirty  bool
	}{
		{"all is well", nil, false, false},
		{"message refused after DATA", at1(sinktest.EOD, "554 no"), false, false},
		{"message refused after BDAT", at1(sinktest.EOD, "554 no"), true, true},
		{"DATA refused", at1(sinktest.Data, "554 no"), false, true},
		{"recipient refused", at1(sinktest.Rcpt, "550 no"), false, true},
		{"sender refused", at1(sinktest.Mail, "550 no"), false, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			client := smtpclient.Config{}
			server := sinktest.Config{Script: tc.script}
			if tc.chunk {
				client.ChunkFrom, server.Extensions = 1, []string{"CHUNKING"}
			}
			k := newTalk(t, server, client)
			c := k.mustDial(t)
			if _, _, err := steps(t, c, request(t, 1, short)); err != nil {
				t.Fatal(err)
			}
			if c.Clean() == tc.dirty {
				t.Errorf("clean: %v", c.Clean())
			}
			if err := c.Reset(t.Context()); err != nil || !c.Clean() {
				t.Fatalf("reset: %v, clean: %v", err, c.Clean())
			}
			_, out, err := steps(t, c, request(t, 1, short))
			if err != nil || briefs(out) != "delivered eod 250" {
				t.Errorf("the next message: %s, %v", briefs(out), err)
			}
			resets := 0
			for _, l := range k.sink.Lines() {
				if l == "RSET" {
					resets++
				}
			}
			if (resets == 1) != tc.dirty || resets > 1 {
				t.Errorf("%d RSET", resets)
			}
		})
	}
}

// at1 answers a stage once.
func at1(stage, reply string) func(sinktest.Event) *sinktest.Act {
	return func(e sinktest.Event) *sinktest.Act {
		if e.Stage == stage && e.N == 1 {
			return sinktest.Reply(reply)
		}
		return nil
	}
}

func TestStepsOfASessionThatIsOver(t *testing.T) {
	for _, stage := range []string{sinktest.Mail, sinktest.Rcpt} {
		for _, reply := range []string{"421 4.3.2 bye", "354 go", "220 hello", "999 x"} {
			k := newTalk(t, sinktest.Config{Script: at1(stage, reply)}, smtpclient.Config{})
			c := k.mustDial(t)
			_, _, err := steps(t, c, request(t, 1, short))
			var e *smtpclient.Error
			if !errors.As(err, &e) || e.Stage != stage || c.Usable() {
				t.Fatalf("%s %s: %v, usable: %v", stage, reply, err, c.Usable())
			}
			if early := stage == sinktest.Mail && reply[0] == '4'; e.Early != early {
				t.Errorf("%s %s: early: %v", stage, reply, e.Early)
			}
			before := len(k.sink.Lines())
			_, err1 := c.Mail(t.Context(), request(t, 1, short))
			_, err2 := c.Rcpt(t.Context(), request(t, 1, short), &request(t, 1, short).Recipients[0])
			err3 := c.Noop(t.Context())
			out, err4 := c.Data(t.Context(), request(t, 1, short))
			err5 := c.XForward(t.Context(), []string{"ADDR=192.0.2.1"})
			for i, err := range []error{err1, err2, err3, err4, err5} {
				if !errors.Is(err, smtpclient.ErrSpent) {
					t.Errorf("step %d afterwards: %v", i, err)
				}
			}
			if out[0].Status != mail.Deferred || out[0].MaybeDuplicate || len(k.sink.Lines()) != before {
				t.Errorf("outcome %+v, lines %q", out[0], k.sink.Lines())
			}
		}
	}
}

func TestNoop(t *testing.T) {
	for reply, fine := range map[string]bool{"250 ok": true, "502 5.5.1 what": true, "451 x": true, "354 x": false, "421 x": false, "x": false} {
		k := newTalk(t, sinktest.Config{Script: at1(sinktest.Other, reply)}, smtpclient.Config{})
		c := k.mustDial(t)
		if err := c.Noop(t.Context()); (err == nil) != fine || c.Usable() != fine {
			t.Errorf("%s: %v, usable: %v", reply, err, c.Usable())
		}
	}
}

func TestAttributesAreOneLine(t *testing.T) {
	k := newTalk(t, sinktest.Config{Extensions: []string{"XCLIENT ADDR"}}, smtpclient.Config{})
	c := k.mustDial(t)
	if err := c.XClient(t.Context(), []string{"ADDR=192.0.2.1\r\nMAIL FROM:<a@b>"}, ""); err == nil {
		t.Error("a line end in an attribute is accepted")
	}
	if lines := k.sink.Lines(); len(lines) != 1 {
		t.Errorf("lines %q", lines)
	}
}
