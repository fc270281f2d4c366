package upstream_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/smtpclient/sinktest"
	"gatepost/internal/upstream"
)

// Every fault at every stage: what the client hears, and whether the message may be
// queued instead.
func TestFaults(t *testing.T) {
	closed := &sinktest.Act{Close: true}
	silent := &sinktest.Act{Hang: true}
	reply := func(s string) *sinktest.Act { return sinktest.Reply(s) }
	for _, tc := range []struct {
		name  string
		stage string
		act   *sinktest.Act
		want  string
		text  string // of the reply
	}{
		{"closed before the banner", sinktest.Banner, closed, "connect 451 unreached", "No answer from the next hop"},
		{"no banner", sinktest.Banner, silent, "connect 451 unreached", "No answer from the next hop"},
		{"banner 421", sinktest.Banner, reply("421 4.3.2 secret name"), "connect 451 unreached", "No answer from the next hop"},
		{"banner 554", sinktest.Banner, reply("554 5.7.1 secret name"), "connect 451 unreached", "No answer from the next hop"},
		{"banner is not SMTP", sinktest.Banner, reply("SSH-2.0-x"), "connect 451 unreached", "No answer from the next hop"},
		{"EHLO 451", sinktest.Ehlo, reply("451 no"), "ehlo 451 unreached", "No answer from the next hop"},
		{"EHLO closes", sinktest.Ehlo, closed, "ehlo 451 unreached", "No answer from the next hop"},
		{"no answer to EHLO", sinktest.Ehlo, silent, "ehlo 451 unreached", "No answer from the next hop"},

		{"MAIL 451", sinktest.Mail, reply("451 4.7.1 greylisted"), "mail 451 answered", "greylisted"},
		{"MAIL 550", sinktest.Mail, reply("550 5.7.1 no"), "mail 550 answered", "no"},
		{"MAIL 421", sinktest.Mail, reply("421 4.3.2 going"), "mail 421 broken", "going"},
		{"MAIL 354", sinktest.Mail, reply("354 go"), "mail 451 broken", "The next hop broke the protocol"},
		{"MAIL 220", sinktest.Mail, reply("220 hello"), "mail 451 broken", "The next hop broke the protocol"},
		{"MAIL closes", sinktest.Mail, closed, "mail 451 broken", "Connection to the next hop was lost"},
		{"no answer to MAIL", sinktest.Mail, silent, "mail 451 broken", "The next hop did not answer in time"},

		{"RCPT 251", sinktest.Rcpt, reply("251 2.1.5 will forward"), "eod 250 answered", "Ok queued"},
		{"RCPT 450", sinktest.Rcpt, reply("450 4.2.2 full"), "rcpt 450 answered", "full"},
		{"RCPT 550 in two lines", sinktest.Rcpt, sinktest.Reply("550-5.1.1 a", "550 5.1.1 b"), "rcpt 550 answered", "a / b"},
		{"RCPT 421", sinktest.Rcpt, reply("421 4.3.2 going"), "rcpt 421 broken", "going"},
		{"RCPT 354", sinktest.Rcpt, reply("354 go"), "rcpt 451 broken", "The next hop broke the protocol"},
		{"RCPT closes", sinktest.Rcpt, closed, "rcpt 451 broken", "Connection to the next hop was lost"},
		{"no answer to RCPT", sinktest.Rcpt, silent, "rcpt 451 broken", "The next hop did not answer in time"},

		{"DATA 451", sinktest.Data, reply("451 4.3.0 no"), "data 451 answered", "no"},
		{"DATA 554", sinktest.Data, reply("554 5.5.1 no"), "data 554 answered", "no"},
		{"DATA 421", sinktest.Data, reply("421 4.3.2 going"), "data 421 broken", "going"},
		{"DATA 250", sinktest.Data, reply("250 fine"), "data 451 broken", "The next hop broke the protocol"},
		{"DATA closes", sinktest.Data, closed, "data 451 broken", "Connection to the next hop was lost"},
		{"no answer to DATA", sinktest.Data, silent, "data 451 broken", "The next hop did not answer in time"},

		{"end of data 250", sinktest.EOD, sinktest.Reply("250-2.0.0 one", "250 2.0.0 two"), "eod 250 answered", "one / two"},
		{"end of data 452", sinktest.EOD, reply("452 4.3.1 full"), "eod 452 answered", "full"},
		{"end of data 421", sinktest.EOD, reply("421 4.3.1 later"), "eod 421 answered", "later"},
		{"end of data 550", sinktest.EOD, reply("550 5.7.1 spam"), "eod 550 answered", "spam"},
		{"end of data 354", sinktest.EOD, reply("354 go on"), "eod 451 lost", "The next hop broke the protocol"},
		{"end of data 221", sinktest.EOD, reply("221 bye"), "eod 451 lost", "The next hop broke the protocol"},
		{"end of data closes", sinktest.EOD, closed, "eod 451 lost", "Connection to the next hop was lost"},
		{"no answer to the end of data", sinktest.EOD, silent, "eod 451 lost", "The next hop did not answer in time"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork(t)
				sink := n.host("192.0.2.1:25", sinktest.Config{Script: at(tc.stage, tc.act)})
				s := n.server(upstream.Config{})
				res := deliver(t, s, short)
				if got := brief(res); got != tc.want || res.Reply.Text() != tc.text {
					t.Errorf("%s %q, want %s %q", got, res.Reply.Text(), tc.want, tc.text)
				}
				lost := strings.HasSuffix(tc.want, "lost")
				if o := res.Outcome(); o.MaybeDuplicate != lost || res.Adoptable() && len(sink.Messages()) > 0 {
					t.Errorf("outcome %+v, adoptable: %v, %d messages", o, res.Adoptable(), len(sink.Messages()))
				}
				if res.Fault != upstream.Answered && res.Reply.Permanent() {
					t.Error("a fault became a 5xx")
				}
				s.Close()
				if open := s.Health().Hosts[0].Open; open != 0 {
					t.Errorf("%d slots are not given back", open)
				}
			})
		})
	}
}

// PXY-08: whatever is not one reply to one command ends the session, and the next
// transaction has one of its own.
func TestGarbageEndsTheSession(t *testing.T) {
	garbage := map[string]string{
		"two replies":      "250 2.0.0 one\r\n250 2.0.0 two\r\n",
		"a bare LF":        "250 x\n",
		"a line of 100 kB": "250 " + strings.Repeat("x", 100_000) + "\r\n",
		"999":              "999 x\r\n",
		"two digits":       "25\r\n",
		"endless lines":    strings.Repeat("250-x\r\n", 10_000) + "250 x\r\n",
		"two codes":        "250-a\r\n550 b\r\n",
	}
	for name, wire := range garbage {
		for _, stage := range []string{sinktest.Mail, sinktest.Rcpt, sinktest.Data, sinktest.EOD} {
			t.Run(name+" to "+stage, func(t *testing.T) {
				n := newNetwork(t)
				sink := n.host("192.0.2.1:25", sinktest.Config{Script: func(e sinktest.Event) *sinktest.Act {
					if e.Stage == stage && e.Conn == 1 {
						return &sinktest.Act{Wire: wire}
					}
					return nil
				}})
				s := n.server(upstream.Config{})
				res := deliver(t, s, short)
				// At the end of the data the first of two replies is the answer.
				if taken := stage == sinktest.EOD && name == "two replies"; taken != res.OK() || !taken && res.Reply.Code != 451 {
					t.Errorf("%s %q", brief(res), res.Reply)
				}
				mustDeliver(t, s)
				if m := sink.Messages(); m[len(m)-1].Conn != 2 {
					t.Errorf("the next message came over connection %d", m[len(m)-1].Conn)
				}
			})
		}
	}
}

func TestRepliesAreMadeSafe(t *testing.T) {
	n := newNetwork(t)
	n.host("192.0.2.1:25", sinktest.Config{Script: at(sinktest.Rcpt, sinktest.Reply("550 5.1.1 \x1b[31mred\x00"))})
	res := deliver(t, n.server(upstream.Config{}), short)
	if got := res.Reply.String(); got != "550 5.1.1 ?[31mred?" {
		t.Errorf("reply %q", got)
	}
}

func TestContentThatFailsIsNeverCompleted(t *testing.T) {
	errScan := errors.New("found something")
	large := strings.Repeat("0123456789abcdef\r\n", 20_000)
	for _, tc := range []struct {
		name    string
		content upstream.Content
		want    string
	}{
		{"nothing is written", upstream.Content{Size: 10, Write: func(io.Writer) error { return errScan }}, "data 451 broken"},
		{"an error in the middle", upstream.Content{Size: int64(len(large)), Write: func(w io.Writer) error {
			io.WriteString(w, large[:200_000])
			return errScan
		}}, "data 451 broken"},
		{"an error when everything is written", upstream.Content{Size: int64(len(large)), Write: func(w io.Writer) error {
			io.WriteString(w, large)
			return errScan
		}}, "data 451 broken"},
		{"too short", upstream.Content{Size: int64(len(large)) + 1, Write: text(large).Write}, "data 451 broken"},
		{"too long", upstream.Content{Size: int64(len(large)) - 1, Write: text(large).Write}, "data 451 broken"},
		{"a bare LF", text("Subject: x\r\n\r\na\n.\nMAIL FROM:<evil@x>\r\n"), "data 550 unable"},
		{"a bare LF in a large one", text(large + "a\n.\n"), "data 550 unable"},
	} {
		for _, extension := range []string{"DSN", "CHUNKING"} {
			t.Run(tc.name+" "+extension, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					n := newNetwork(t)
					sink := n.host("192.0.2.1:25", sinktest.Config{Extensions: []string{extension}})
					s := n.server(upstream.Config{ChunkFrom: 1})
					tx, _ := s.Begin(t.Context(), envelope(t))
					tx.Rcpt(t.Context(), recipient(t, "r@out.example"))
					res := tx.Data(t.Context(), tc.content)
					if got := brief(res); got != tc.want || res.Err == nil {
						t.Errorf("%s (%v), want %s", got, res.Err, tc.want)
					}
					synctest.Wait() // until the upstream has read everything that there is
					mustDeliver(t, s)
					if m := sink.Messages(); len(m) != 1 || m[0].Conn != 2 || m[0].Body() != short {
						t.Errorf("%d messages, the first one of %d bytes", len(m), len(m[0].Wire))
					}
				})
			})
		}
	}
}

func TestContentArrivesAsItIs(t *testing.T) {
	large := strings.Repeat("..a\r\n.\r\n", 30_000)
	for _, extensions := range [][]string{nil, {"CHUNKING"}} {
		for _, body := range []string{short, large, "", "no line end"} {
			n := newNetwork(t)
			sink := n.host("192.0.2.1:25", sinktest.Config{Extensions: extensions})
			s := n.server(upstream.Config{ChunkFrom: 1})
			if res := deliver(t, s, body); !res.OK() {
				t.Fatalf("%s (%v)", brief(res), res.Err)
			}
			want := body
			if body == "no line end" && extensions == nil {
				want += "\r\n"
			}
			m := sink.Messages()
			if len(m) != 1 || m[0].Body() != want || m[0].Bdat != (extensions != nil && body != "") {
				t.Errorf("%v: a message of %d bytes came as %d", extensions, len(body), len(m[0].Body()))
			}
		}
	}
}

// An upstream that lacks what the message needs says so itself nowhere, so we do.
func TestWhatAnUpstreamLacks(t *testing.T) {
	with := func(change func(*mail.Envelope)) *mail.Envelope {
		env := envelope(t)
		change(env)
		return env
	}
	utf8 := with(func(e *mail.Envelope) { e.SMTPUTF8 = true })
	eight := upstream.Content{Size: 2, Has8Bit: true, Write: func(w io.Writer) error { _, err := io.WriteString(w, "é"); return err }}
	header := upstream.Content{Size: 2, HeaderUTF8: true, Write: eight.Write}
	for _, tc := range []struct {
		name       string
		extensions string
		env        *mail.Envelope
		to         string
		content    upstream.Content
		want       string
		enhanced   string
	}{
		{"sender needs SMTPUTF8", "8BITMIME", with(func(e *mail.Envelope) { e.SMTPUTF8, e.Sender = true, address(t, "ü@in.example") }), "r@x.example", text(short), "mail 553 unable", "5.6.7"},
		{"only the domain of the sender is not ASCII", "8BITMIME", with(func(e *mail.Envelope) { e.SMTPUTF8, e.Sender = true, address(t, "s@bücher.example") }), "r@x.example", text(short), "eod 250 answered", "2.0.0"},
		{"recipient needs SMTPUTF8", "8BITMIME", utf8, "ü@x.example", text(short), "rcpt 553 unable", "5.6.7"},
		{"header needs SMTPUTF8", "8BITMIME", utf8, "r@x.example", header, "data 553 unable", "5.6.7"},
		{"SMTPUTF8 was said and nothing needs it", "", utf8, "r@x.example", text(short), "eod 250 answered", "2.0.0"},
		{"header needs SMTPUTF8 and the upstream has it", "8BITMIME SMTPUTF8", utf8, "ü@x.example", header, "eod 250 answered", "2.0.0"},
		{"8-bit", "", envelope(t), "r@x.example", eight, "data 554 unable", "5.6.3"},
		{"8-bit and the upstream takes it", "8BITMIME", envelope(t), "r@x.example", eight, "eod 250 answered", "2.0.0"},
		{"binary", "8BITMIME", with(func(e *mail.Envelope) { e.Body = mail.BodyBinary }), "r@x.example", eight, "mail 554 unable", "5.6.3"},
		{"REQUIRETLS", "REQUIRETLS", with(func(e *mail.Envelope) { e.RequireTLS = true }), "r@x.example", text(short), "starttls 550 unable", "5.7.30"},
		{"larger than SIZE", "SIZE 10", envelope(t), "r@x.example", text(short), "data 552 unable", "5.3.4"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := newNetwork(t)
			sink := n.host("192.0.2.1:25", sinktest.Config{Extensions: extensionLines(tc.extensions)})
			s := n.server(upstream.Config{})
			tx, res := s.Begin(t.Context(), tc.env)
			if tx != nil {
				if res = tx.Rcpt(t.Context(), recipient(t, tc.to)); res.OK() {
					res = tx.Data(t.Context(), tc.content)
				}
				tx.Abort()
			}
			if got := brief(res); got != tc.want || res.Reply.Enhanced != tc.enhanced {
				t.Errorf("%s %s, want %s %s", got, res.Reply.Enhanced, tc.want, tc.enhanced)
			}
			if taken := len(sink.Messages()) == 1; taken != res.OK() {
				t.Errorf("the upstream got it: %v", taken)
			}
			if !mail.IsASCII(sink.Raw()) && !strings.Contains(tc.extensions, "8BITMIME") {
				t.Error("8-bit bytes reached an upstream that takes 7-bit only")
			}
			if strings.Contains(sink.Raw(), "ü") && !strings.Contains(tc.extensions, "SMTPUTF8") {
				t.Error("an address in UTF-8 reached an upstream without SMTPUTF8")
			}
		})
	}
}

// extensionLines are the EHLO lines for "8BITMIME SIZE 10".
func extensionLines(s string) []string {
	s = strings.ReplaceAll(s, "SIZE ", "SIZE_")
	var out []string
	for f := range strings.FieldsSeq(s) {
		out = append(out, strings.ReplaceAll(f, "_", " "))
	}
	return out
}

func TestParametersAreThoseTheUpstreamOffers(t *testing.T) {
	env := envelope(t)
	env.Size, env.Body, env.SMTPUTF8, env.Ret, env.EnvID = 1000, mail.Body8Bit, true, mail.RetHdrs, "id 1"
	to := recipient(t, "r@out.example")
	to.Notify, to.ORcpt = mail.NotifyFailure|mail.NotifyDelay, "rfc822;o@out.example"
	for extensions, want := range map[string]string{
		"": "MAIL FROM:<s@in.example>|RCPT TO:<r@out.example>",
		"SIZE 8BITMIME SMTPUTF8 DSN": "MAIL FROM:<s@in.example> SIZE=3048 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=id+201|" +
			"RCPT TO:<r@out.example> NOTIFY=FAILURE,DELAY ORCPT=rfc822;o@out.example",
		"SIZE 2000": "MAIL FROM:<s@in.example> SIZE=1000|RCPT TO:<r@out.example>",
	} {
		n := newNetwork(t)
		lines := extensionLines(strings.ReplaceAll(extensions, "SIZE 8", "8"))
		if strings.HasPrefix(extensions, "SIZE 8") {
			lines = append(lines, "SIZE")
		}
		sink := n.host("192.0.2.1:25", sinktest.Config{Extensions: lines})
		tx, _ := n.server(upstream.Config{}).Begin(t.Context(), env)
		tx.Rcpt(t.Context(), to)
		if got := strings.Join(sink.Lines()[1:], "|"); got != want {
			t.Errorf("%q:\n%s\nwant\n%s", extensions, got, want)
		}
	}
}

func TestClientGivesUpWhileTheUpstreamIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		n.host("192.0.2.1:25", sinktest.Config{Script: at(sinktest.Banner, &sinktest.Act{Hang: true})})
		s := n.server(upstream.Config{OpenTimeout: 7 * time.Second})
		begun := time.Now()
		res := deliver(t, s, short)
		if got := brief(res); got != "connect 451 unreached" || time.Since(begun) != 7*time.Second {
			t.Errorf("%s after %v", got, time.Since(begun))
		}
		if f := s.Health().Hosts[0].Failures; f != 1 {
			t.Errorf("%d failures", f)
		}
	})
}

func TestCloseEndsRunningTransactions(t *testing.T) {
	for stage, want := range map[string]string{sinktest.Rcpt: "rcpt 451 broken", sinktest.EOD: "eod 451 lost"} {
		synctest.Test(t, func(t *testing.T) {
			n := newNetwork(t)
			n.host("192.0.2.1:25", sinktest.Config{Script: at(stage, &sinktest.Act{Hang: true})})
			s := n.server(upstream.Config{})
			done := make(chan upstream.Result, 1)
			go func() { done <- deliver(t, s, short) }()
			synctest.Wait()
			begun := time.Now()
			s.Close()
			if res := <-done; brief(res) != want || time.Since(begun) > 0 {
				t.Errorf("%s after %v, want %s", brief(res), time.Since(begun), want)
			}
			if res := deliver(t, s, short); brief(res) != "connect 451 unreached" {
				t.Errorf("after Close: %s", brief(res))
			}
		})
	}
}
