package dialogue

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gatepost/test/gatepost"
	"gatepost/test/sink"
	"gatepost/test/wire"
)

// proxied is a domain whose mail is passed through to an address, with lines for its
// transport.
func proxied(name, address string, lines ...string) string {
	return fmt.Sprintf("[[domain]]\nname = \"%s.example\"\ntransport = %q\ndelivery = \"proxy\"\n"+
		"[[transport]]\nname = %q\nkind = \"smtp\"\nhosts = [%q]\n%s\n", name, name, name, address, strings.Join(lines, "\n"))
}

// through starts a gateway that passes mail for live.example through to s and relays
// in.example to another server.
func through(t *testing.T, s *sink.Sink, settings gatepost.Settings, lines ...string) (*gatepost.Instance, *sink.Sink) {
	t.Helper()
	queued := next(t, sink.Options{})
	settings.More += proxied("live", s.Addr, lines...)
	g := behind(t, queued, settings)
	gatepost.Eventually(t, "the upstream was asked what it can", patience, func() bool {
		return strings.Contains(get(t, g, "/metrics"), `gatepost_upstream_sessions{`)
	})
	return g, queued
}

// same fails the test unless a reply is, word for word, this one.
func same(t *testing.T, what string, r wire.Reply, err error, code int, lines ...string) {
	t.Helper()
	if err != nil || r.Code != code || !slices.Equal(r.Lines, lines) {
		t.Errorf("%s: got %d %q, %v, want %d %q", what, r.Code, r.Lines, err, code, lines)
	}
}

// noneQueued fails the test if something is in the queue.
func noneQueued(t *testing.T, g *gatepost.Instance) {
	t.Helper()
	if n := waiting(t, g); n != 0 {
		t.Errorf("%d items in the queue, want none", n)
	}
}

// PXY-02: at each stage the client hears what the upstream says.
func TestTheClientHearsTheUpstreamsWords(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{})
	g, _ := through(t, s, gatepost.Settings{})
	c := g.Hello("")
	data := []byte(crlf("Subject: x\n\nbody\n"))
	tests := []struct {
		stage sink.Stage
		reply string
		at    string // the client's command that gets it
		code  int
		lines []string
	}{
		{sink.RcptTo, "250 2.1.5 A mailbox of <ours>", "RCPT", 250, []string{"2.1.5 A mailbox of <ours>"}},
		{sink.RcptTo, "251 2.1.5 elsewhere", "RCPT", 251, []string{"2.1.5 elsewhere"}},
		{sink.RcptTo, "550-5.7.1 a\r\n550-5.7.1 b\r\n550 5.7.1 c", "RCPT", 550, []string{"5.7.1 a", "5.7.1 b", "5.7.1 c"}},
		{sink.RcptTo, "450 4.2.0 Greylisted, see http://x.example/?a=1", "RCPT", 450, []string{"4.2.0 Greylisted, see http://x.example/?a=1"}},
		{sink.RcptTo, "421 4.3.2 going down", "RCPT", 451, []string{"4.3.2 going down"}},
		{sink.RcptTo, "550 no enhanced code", "RCPT", 550, []string{"no enhanced code"}},
		{sink.MailFrom, "553-5.1.8 not\r\n553 5.1.8 you", "RCPT", 553, []string{"5.1.8 not", "5.1.8 you"}},
		{sink.Data, "554 5.5.1 no data", ".", 554, []string{"5.5.1 no data"}},
		{sink.EOD, "250-2.0.0 Ok: queued as 4F7\r\n250 2.0.0 at last", ".", 250, []string{"2.0.0 Ok: queued as 4F7", "2.0.0 at last"}},
		{sink.EOD, "554-5.7.1 spam\r\n554 5.7.1 says the server", ".", 554, []string{"5.7.1 spam", "5.7.1 says the server"}},
		{sink.EOD, "452 4.3.1 full", ".", 452, []string{"4.3.1 full"}},
		{sink.EOD, "354 what?", ".", 451, []string{"4.5.0 The next hop broke the protocol"}},
		{sink.RcptTo, "354 what?", "RCPT", 451, []string{"4.5.0 The next hop broke the protocol"}},
	}
	for _, tt := range tests {
		s.SetScript(sink.Fail(tt.stage, tt.reply))
		what := fmt.Sprintf("%s answers %q", tt.stage, tt.reply)
		say(t, c, "MAIL FROM:<ada@out.example>", "250 2.1.0")
		r, err := c.Cmd("RCPT TO:<bob@live.example>")
		if tt.at == "." {
			say(t, c, "DATA", "354")
			if err := c.Send(string(data) + ".\r\n"); err != nil {
				t.Fatal(err)
			}
			r, err = c.Reply()
		}
		same(t, what, r, err, tt.code, tt.lines...)
		say(t, c, "RSET", "250")
	}
	noneQueued(t, g)
}

// PXY-01: the client's answer is not before the upstream's.
func TestTheAnswerWaitsForTheUpstream(t *testing.T) {
	t.Parallel()
	go1, asked := make(chan struct{}), make(chan struct{})
	s := next(t, sink.Options{})
	g, _ := through(t, s, gatepost.Settings{})
	s.SetScript(func(step sink.Step) sink.Reaction {
		if step.Stage != sink.EOD {
			return sink.Reaction{}
		}
		close(asked)
		return sink.Reaction{Reply: "250 2.6.0 yes, 17", Wait: go1}
	})
	c := g.Hello("")
	answer := make(chan wire.Reply, 1)
	go func() {
		r, err := c.Deliver("ada@out.example", []string{"bob@live.example"}, []byte("Subject: x\r\n\r\nx\r\n"))
		if err != nil {
			r.Lines = []string{err.Error()}
		}
		answer <- r
	}()
	<-asked
	select {
	case r := <-answer:
		t.Fatalf("answered %v before the upstream did", r)
	case <-time.After(300 * time.Millisecond):
	}
	close(go1)
	same(t, "the end of the data", <-answer, nil, 250, "2.6.0 yes, 17")
	m := theMail(t, s, "bob@live.example")
	fields := added(t, m, "Subject: x\r\n\r\nx\r\n")
	if len(fields) != 1 || !strings.HasPrefix(fields[0], "Received: from ") {
		t.Errorf("the upstream got %q in front", fields)
	}
	noneQueued(t, g)
	host, port, _ := strings.Cut(s.Addr, ":")
	logged(t, g, " destination=live ", " host=["+host+"]:"+port, ` reply="250 2.6.0 yes, 17"`, ` upstream_reply="250 2.6.0 yes, 17"`)
}

// PXY-03: an upstream that dies.
func TestAnUpstreamDies(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{})
	g, _ := through(t, s, gatepost.Settings{})
	c := g.Hello("")
	for _, stage := range []sink.Stage{sink.MailFrom, sink.RcptTo, sink.Data, sink.EOD, sink.Banner, sink.Ehlo} {
		s.SetScript(func(step sink.Step) sink.Reaction {
			return sink.Reaction{Drop: step.Stage == stage}
		})
		say(t, c, "MAIL FROM:<ada@out.example>", "250")
		r, err := c.Cmd("RCPT TO:<bob@live.example>")
		if r.Positive() {
			say(t, c, "DATA", "354")
			if err := c.Send("Subject: x\r\n\r\nx\r\n.\r\n"); err != nil {
				t.Fatal(err)
			}
			r, err = c.Reply()
		}
		if err != nil || r.Code != 451 || !strings.HasPrefix(r.Lines[0], "4.4.") {
			t.Errorf("it hangs up at %s: %v, %v", stage, r, err)
		}
		say(t, c, "RSET", "250")
		noneQueued(t, g)
	}
	logged(t, g, "possible duplicate", "stage=eod")
	s.SetScript(nil)
	gatepost.Eventually(t, "it is used again", patience, func() bool {
		if _, err := c.Cmd("RSET"); err != nil {
			t.Fatal(err)
		}
		r, err := c.Deliver("ada@out.example", []string{"bob@live.example"}, []byte("Subject: x\r\n\r\nx\r\n"))
		return err == nil && r.Code == 250
	})
}

// PXY-08: replies that are none.
func TestAnUpstreamThatSpeaksNonsense(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{})
	g, _ := through(t, s, gatepost.Settings{})
	c := g.Hello("")
	for _, reply := range []string{"250 one\r\n250 two", "250 one\nmore", "250 " + strings.Repeat("x", 100<<10), "999 x", "25", "250-a\r\n550 b", ""} {
		s.SetScript(func(step sink.Step) sink.Reaction {
			if step.Stage == sink.RcptTo && strings.Contains(step.Line, "evil") {
				if reply == "" {
					return sink.Reaction{Reply: " "}
				}
				return sink.Reaction{Reply: reply}
			}
			if step.Stage == sink.RcptTo {
				return sink.Reaction{Reply: "550 5.1.1 the answer for " + step.Line}
			}
			return sink.Reaction{}
		})
		say(t, c, "MAIL FROM:<ada@out.example>", "250")
		r, err := c.Cmd("RCPT TO:<evil@live.example>")
		if err != nil || r.Positive() && reply != "250 one\r\n250 two" || len(r.Lines) > 1 {
			t.Errorf("%.20q: got %v, %v", reply, r, err)
		}
		r, err = c.Cmd("RCPT TO:<other@live.example>")
		if err != nil || r.Code != 451 && !strings.Contains(r.Text(), "other@live.example") {
			t.Errorf("after %.20q the next recipient is answered %v, %v", reply, r, err)
		}
		say(t, c, "RSET", "250")
	}
}

// PXY-09: a client that pipelines, and an upstream that does not.
func TestPipelinedCommandsKeepTheirOrder(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{Extensions: []string{"8BITMIME"}, Script: func(step sink.Step) sink.Reaction {
		if step.Stage == sink.RcptTo && strings.Contains(step.Line, "two@") {
			return sink.Reaction{Reply: "550 5.1.1 not two"}
		}
		return sink.Reaction{}
	}})
	g, _ := through(t, s, gatepost.Settings{})
	c := g.Hello("")
	if err := c.Send("MAIL FROM:<ada@out.example>\r\nRCPT TO:<one@live.example>\r\nRCPT TO:<two@live.example>\r\nRCPT TO:<three@live.example>\r\nDATA\r\n"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"250 2.1.0", "250", "550 5.1.1 not two", "250", "354"} {
		if r, err := c.Reply(); err != nil || !strings.HasPrefix(r.String(), want) {
			t.Fatalf("got %v, %v, want %s", r, err, want)
		}
	}
	if err := c.Send("Subject: x\r\n\r\nx\r\n.\r\nQUIT\r\n"); err != nil {
		t.Fatal(err)
	}
	if r, err := c.Reply(); err != nil || r.Code != 250 {
		t.Fatalf("%v, %v", r, err)
	}
	if m := theMail(t, s, "one@live.example"); len(m.To) != 2 {
		t.Errorf("to %q", m.To)
	}
}

// PXY-07, PXY-10: nothing of one transaction gets into another, and no line that the
// client hides in one.
func TestNothingLeaksBetweenTransactions(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{})
	g, _ := through(t, s, gatepost.Settings{Listener: scanning, More: filter("no", "body = 'forbidden'", `then = "reject"`) + flowOf(`{ use = "filters" }`)})
	c := g.Hello("")
	r, err := c.Deliver("eve@out.example", []string{"first@live.example"}, []byte(crlf("Subject: x\n\nforbidden words\n")))
	if err != nil || !strings.HasPrefix(r.String(), "554 5.7.1 Content refused") {
		t.Fatalf("%v, %v", r, err)
	}
	say(t, c, "MAIL FROM:<eve@out.example>", "250", "RCPT TO:<second@live.example>", "250", "RSET", "250",
		"MAIL FROM:<eve@out.example>", "250", "RCPT TO:<third@live.example>", "250", "EHLO again.example", "250")
	give(t, c, "ada@out.example", "in@in.example", "Subject: a\n\nx\n")
	r, err = c.Deliver("ada@out.example", []string{"fourth@live.example"}, []byte(crlf("Subject: x\n\ngood words\n")))
	if err != nil || r.Code != 250 {
		t.Fatalf("%v, %v", r, err)
	}
	m := theMail(t, s, "fourth@live.example")
	if len(m.To) != 1 || !strings.HasPrefix(m.From, "<ada@out.example>") || strings.Contains(string(m.Data), "forbidden") {
		t.Errorf("from %s to %q: %s", m.From, m.To, m.Data)
	}
	for _, line := range []string{"MAIL FROM:<a@x.example>\rRCPT TO:<evil@live.example>\r\n", "MAIL FROM:<a@x.example>\nRCPT TO:<evil@live.example>\r\n"} {
		d := g.Hello("")
		if err := d.Send(line); err != nil {
			t.Fatal(err)
		}
		if r, err := d.Reply(); err == nil && r.Code/100 != 5 {
			t.Errorf("%q: %v", line, r)
		}
	}
	wires := strings.Join(s.Wire(), "")
	if strings.Contains(wires, "forbidden") || strings.Contains(wires, "evil@") {
		t.Errorf("the upstream saw what it must not:\n%s", wires)
	}
	if n := strings.Count(wires, "\r\nDATA\r\n"); n != 1 {
		t.Errorf("%d DATA, want 1:\n%s", n, wires)
	}
	if n := len(s.Mails()); n != 1 {
		t.Errorf("%d mails", n)
	}
	gatepost.Eventually(t, "its transactions are ended", patience, func() bool {
		return strings.Count(strings.Join(s.Wire(), ""), "RSET\r\n")+s.Sessions() >= 3
	})
}

// PXY-12: nobody answers.
func TestTheUpstreamIsDown(t *testing.T) {
	t.Parallel()
	down := gatepost.FreeAddress(t)
	queued := next(t, sink.Options{})
	g := behind(t, queued, gatepost.Settings{More: proxied("live", down) +
		proxied("adopted", down, `if_unreachable = "adopt"`, `retry = { delays = ["1s"], give_up_after = "1h", warn_after = "50m" }`)})
	c := g.Hello("")
	say(t, c, "MAIL FROM:<ada@out.example>", "250", "RCPT TO:<bob@live.example>", "451 4.4.1 No answer from the next hop", "RSET", "250")
	r, err := c.Deliver("ada@out.example", []string{"eva@adopted.example"}, []byte(crlf("Subject: later\n\nx\n")))
	if err != nil || !strings.HasPrefix(r.String(), "250 2.0.0 OK: queued (") {
		t.Fatalf("%v, %v", r, err)
	}
	if n := waiting(t, g); n != 1 {
		t.Errorf("%d items in the queue", n)
	}
	mustContain(t, "/healthz", get(t, g, "/healthz"), "upstream live", "upstream adopted")
	s := next(t, sink.Options{Addr: down})
	theMail(t, s, "eva@adopted.example")
	drained(t, g)
}

// PXY-14: EHLO promises what the upstream can take, and what it can't take all the
// same is refused.
func TestOnlyWhatUpstreamsTakeIsPromised(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{Extensions: []string{"PIPELINING", "8BITMIME", "SMTPUTF8", "DSN", "SIZE 100000", "X-OWN"}})
	g, _ := through(t, s, gatepost.Settings{})
	_, hello, err := wire.Hello(g.SMTP, wire.Options{})
	if err != nil || !hello.Has("SMTPUTF8") || !hello.Has("DSN") || !strings.Contains(hello.Text(), "SIZE 100000 ") || hello.Has("X-OWN") || !hello.Has("CHUNKING") {
		t.Errorf("EHLO says %v, %v", hello, err)
	}
	// A session with fewer: what was promised does not hold.
	c := g.Hello("")
	plain := func(step sink.Step) sink.Reaction {
		if step.Stage == sink.Ehlo {
			return sink.Reaction{Reply: "250-plain\r\n250 PIPELINING"}
		}
		return sink.Reaction{Close: step.Stage == sink.Other}
	}
	s.SetScript(func(step sink.Step) sink.Reaction {
		if r := plain(step); r != (sink.Reaction{}) {
			return r
		}
		return sink.Reaction{Drop: step.Session == 1}
	})
	say(t, c, "MAIL FROM:<müller@out.example> SMTPUTF8", "250", "RCPT TO:<bob@live.example>", "553 5.6.7", "RSET", "250")
	say(t, c, "MAIL FROM:<ada@out.example> BODY=8BITMIME", "250", "RCPT TO:<bob@live.example>", "250", "DATA", "354")
	if err := c.Send(crlf("Subject: x\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\nGrüße\n.\n")); err != nil {
		t.Fatal(err)
	}
	if r, err := c.Reply(); err != nil || r.Code != 250 {
		t.Fatalf("%v, %v", r, err)
	}
	if m := theMail(t, s, "bob@live.example"); !strings.Contains(string(m.Data), "Gr=C3=BC=C3=9Fe") {
		t.Errorf("it got\n%s", m.Data)
	}
	// From now on less is promised, after a restart too, while it is down.
	file := filepath.Join(g.DataDir, "upstreams.json")
	gatepost.Eventually(t, "what was learned is kept", patience, func() bool {
		text, err := os.ReadFile(file)
		return err == nil && !strings.Contains(string(text), "smtputf8")
	})
	s.SetScript(nil)
	gatepost.Eventually(t, "it is learned again", patience, func() bool {
		d := g.Hello("")
		defer d.Close()
		r, err := d.Deliver("ada@out.example", []string{"bob@live.example"}, []byte("Subject: x\r\n\r\nx\r\n"))
		text, err2 := os.ReadFile(file)
		return err == nil && r.Code == 250 && err2 == nil && strings.Contains(string(text), "smtputf8")
	})
	g.Stop()
	s.Close()
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	if _, hello, err = wire.Hello(g.SMTP, wire.Options{}); err != nil || !hello.Has("SMTPUTF8") {
		t.Errorf("after a restart EHLO says %v, %v", hello, err)
	}
}

// PXY-15: a scan that does not end has an end all the same, and the upstream hears
// nothing of the message.
func TestAScanThatDoesNotEnd(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	s := next(t, sink.Options{})
	g, _ := through(t, s, gatepost.Settings{Listener: scanning, Limits: "scan_timeout = \"1s\"",
		More: flowOf(fmt.Sprintf(`{ use = "spamd", address = "tcp:%s", on_unknown = "defer" }`, silent.Addr()))})
	c := g.Hello("")
	r, err := c.Deliver("ada@out.example", []string{"bob@live.example"}, []byte("Subject: x\r\n\r\nx\r\n"))
	if err != nil || !strings.HasPrefix(r.String(), "451 4.7.1") {
		t.Errorf("%v, %v", r, err)
	}
	if wires := strings.Join(s.Wire(), ""); strings.Contains(wires, "DATA\r\n") || !strings.Contains(wires, "RCPT TO:<bob@live.example>") {
		t.Errorf("the upstream saw\n%s", wires)
	}
	noneQueued(t, g)
}
