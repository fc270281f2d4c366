package dialogue

import (
	"fmt"
	"strings"
	"testing"

	"gatepost/test/gatepost"
	"gatepost/test/sink"
	"gatepost/test/wire"
)

// several starts a gateway in front of two upstreams, live.example and also.example,
// and a server that in.example is relayed to.
func several(t *testing.T, settings gatepost.Settings) (g *gatepost.Instance, live, also, queued *sink.Sink) {
	t.Helper()
	live, also = next(t, sink.Options{}), next(t, sink.Options{})
	retry := `retry = { delays = ["1s"], give_up_after = "1h", warn_after = "50m" }`
	settings.More += proxied("also", also.Addr, retry)
	g, queued = through(t, live, settings, retry)
	return g, live, also, queued
}

const everybody = "a@live.example,b@also.example,c@in.example"

// deliver sends a message and returns the start of the answer.
func deliver(t *testing.T, g *gatepost.Instance, to, data string) string {
	t.Helper()
	c := g.Hello("")
	defer c.Close()
	r, err := c.Deliver("ada@out.example", strings.Split(to, ","), []byte(crlf(data)))
	if err != nil {
		t.Fatalf("to %s: %v", to, err)
	}
	return r.String()
}

func TestRelayedAndProxiedRecipientsShareATransaction(t *testing.T) {
	t.Parallel()
	g, live, also, queued := several(t, gatepost.Settings{})
	if r := deliver(t, g, everybody, "Subject: all\n\nx\n"); !strings.HasPrefix(r, "250 2.0.0 OK: queued (") {
		t.Fatal(r)
	}
	// These have it when the client has its answer.
	if len(live.Mails()) != 1 || len(also.Mails()) != 1 {
		t.Errorf("%d and %d mails upstream", len(live.Mails()), len(also.Mails()))
	}
	theMail(t, queued, "c@in.example")
	drained(t, g)
}

func TestSomeUpstreamsRefuse(t *testing.T) {
	t.Parallel()
	g, live, also, queued := several(t, gatepost.Settings{})
	data := "Subject: all\n\nx\n"
	live.SetScript(sink.Fail(sink.EOD, "554 5.7.1 never"))
	also.SetScript(sink.Fail(sink.EOD, "452 4.3.1 full"))
	if r := deliver(t, g, "a@live.example", data); r != "554 5.7.1 never" {
		t.Error(r)
	}
	if r := deliver(t, g, "a@live.example,b@also.example", data); r != "452 4.3.1 full" {
		t.Errorf("all refuse: %s", r)
	}
	noneQueued(t, g)
	// With one who takes it: a report for the one, a later delivery to the other.
	if r := deliver(t, g, everybody, data); !strings.HasPrefix(r, "250 2.0.0 OK: queued (") {
		t.Errorf("one takes it: %s", r)
	}
	theMail(t, queued, "c@in.example")
	report := theMail(t, queued, "ada@out.example")
	mustContain(t, "the report", string(report.Data), "554 5.7.1 never", "a@live.example", "Action: failed")
	gatepost.Eventually(t, "one item waits", patience, func() bool { return waiting(t, g) == 1 })
	also.SetScript(nil)
	theMail(t, also, "b@also.example")
	drained(t, g)
	if n := len(live.Mails()); n != 0 {
		t.Errorf("%d mails at the one who refused", n)
	}
}

func TestMixedAnswersMayDefer(t *testing.T) {
	t.Parallel()
	g, live, also, queued := several(t, gatepost.Settings{Listener: `mixed = "defer"`})
	also.SetScript(sink.Fail(sink.EOD, "554 5.7.1 never"))
	if r := deliver(t, g, everybody, "Subject: all\n\nx\n"); !strings.HasPrefix(r, "451 4.7.1 Try again later") {
		t.Error(r)
	}
	noneQueued(t, g)
	if len(live.Mails()) != 1 || len(queued.Mails()) != 0 {
		t.Errorf("%d mails live, %d relayed", len(live.Mails()), len(queued.Mails()))
	}
	logged(t, g, "possible duplicate")
}

func TestALostAnswerIsAPossibleDuplicate(t *testing.T) {
	t.Parallel()
	g, live, _, queued := several(t, gatepost.Settings{})
	live.SetScript(func(step sink.Step) sink.Reaction {
		return sink.Reaction{Drop: step.Stage == sink.EOD, Keep: step.Stage == sink.EOD}
	})
	if r := deliver(t, g, "a@live.example,c@in.example", "Subject: x\n\nx\n"); !strings.HasPrefix(r, "250 2.0.0 OK: queued (") {
		t.Error(r)
	}
	theMail(t, queued, "c@in.example")
	live.SetScript(nil)
	if !live.Wait(patience, func() bool { return len(live.Mails()) >= 2 }) {
		t.Fatal("it is not tried again")
	}
	drained(t, g)
	logged(t, g, "possible duplicate")
}

// With PRDR each gets the answer of his server.
func TestPRDRPassesEachAnswer(t *testing.T) {
	t.Parallel()
	g, live, also, queued := several(t, gatepost.Settings{Listener: scanning, More: split})
	live.SetScript(sink.Fail(sink.EOD, "250 2.6.0 mine"))
	also.SetScript(sink.Fail(sink.EOD, "554 5.7.1 never"))
	c := g.Hello("")
	say(t, c, "MAIL FROM:<ada@out.example> PRDR", "250", "RCPT TO:<a@live.example>", "250", "RCPT TO:<no@in.example>", "250",
		"RCPT TO:<b@also.example>", "250", "RCPT TO:<c@in.example>", "250", "DATA", "354")
	if err := c.Send("Subject: x\r\n\r\nx\r\n.\r\n"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"353", "250 2.6.0 mine", "554 5.7.1 Not for him", "554 5.7.1 never", "250 2.1.5", "250 2.0.0 OK: queued ("} {
		if r, err := c.Reply(); err != nil || !strings.HasPrefix(r.String(), want) {
			t.Errorf("got %v, %v, want %s", r, err, want)
		}
	}
	theMail(t, live, "a@live.example")
	theMail(t, queued, "c@in.example")
	drained(t, g)
	if n := len(queued.Mails()); n != 1 {
		t.Errorf("%d mails relayed: a report?", n)
	}
	quarantine(t, g, 0)
}

// What must not get through never has an end of data upstream; recipients with other
// verdicts do not miss theirs.
func TestNothingBadReachesAnUpstream(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{})
	g, _ := through(t, s, gatepost.Settings{Listener: scanning, More: filter("virus", "body = 'EVIL-BYTES'", `then = "reject"`, `reply = "Virus"`) +
		filter("held", "recipient = 'held@live.example'", `then = "quarantine"`) +
		filter("marked", "recipient = 'marked@live.example'", `then = 'header:"X-Mark: yes"'`) +
		filter("big", "body = 'HOLD-BYTES'", `then = "quarantine"`) + flowOf(`{ use = "filters" }`)})
	if r := deliver(t, g, "a@live.example,b@live.example", "Subject: x\n\nEVIL-BYTES\n"); !strings.HasPrefix(r, "554 5.7.1 Virus (") {
		t.Error(r)
	}
	if r := deliver(t, g, "a@live.example", "Subject: x\n\nHOLD-BYTES\n"); !strings.HasPrefix(r, "250 2.0.0 OK: queued (") {
		t.Error(r)
	}
	quarantine(t, g, 1)
	c := g.Hello("")
	say(t, c, "MAIL FROM:<ada@out.example>", "250", "RCPT TO:<a@live.example>", "250")
	// By BDAT too.
	bad := "Subject: x\r\n\r\nEVIL-BYTES\r\n"
	if err := c.Send(fmt.Sprintf("BDAT %d LAST\r\n%s", len(bad), bad)); err != nil {
		t.Fatal(err)
	}
	if r, err := c.Reply(); err != nil || !strings.HasPrefix(r.String(), "554 5.7.1 Virus (") {
		t.Errorf("%v, %v", r, err)
	}
	for _, raw := range s.Wire() {
		if strings.Contains(raw, "DATA\r\n") || strings.Contains(raw, "BDAT") || strings.Contains(raw, "-BYTES") {
			t.Errorf("the upstream saw\n%s", raw)
		}
	}
	if r := deliver(t, g, "a@live.example,held@live.example,marked@live.example,b@live.example", "Subject: x\n\ngood\n"); !strings.HasPrefix(r, "250 2.0.0 OK: queued (") {
		t.Error(r)
	}
	if m := theMail(t, s, "a@live.example"); len(m.To) != 2 || strings.Contains(string(m.Data), "X-Mark") {
		t.Errorf("to %q:\n%s", m.To, m.Data)
	}
	if m := theMail(t, s, "marked@live.example"); len(m.To) != 1 || !strings.Contains(string(m.Data), "X-Mark: yes") {
		t.Errorf("to %q:\n%s", m.To, m.Data)
	}
	quarantine(t, g, 2)
	if len(mailsTo(s, "held@live.example")) != 0 {
		t.Error("what is held was passed through")
	}
}

// A client that goes away in the middle leaves nothing upstream.
func TestTheClientGoesAway(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{})
	g, _ := through(t, s, gatepost.Settings{})
	for _, last := range []string{"RCPT TO:<b@live.example>\r\n", "DATA\r\nSubject: x\r\n\r\nhalf of", "BDAT 5\r\nabcde"} {
		c, _, err := wire.Hello(g.SMTP, wire.Options{})
		if err != nil {
			t.Fatal(err)
		}
		say(t, c, "MAIL FROM:<ada@out.example>", "250", "RCPT TO:<a@live.example>", "250")
		if err := c.Send(last); err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	gatepost.Eventually(t, "no transaction is left", patience, func() bool {
		m := get(t, g, "/metrics")
		return strings.Contains(m, `state="busy",transport="live"} 0`)
	})
	if len(s.Mails()) != 0 || strings.Contains(strings.Join(s.Wire(), ""), "DATA") {
		t.Errorf("the upstream saw %q", s.Wire())
	}
	noneQueued(t, g)
}

// One answer can't stand for several servers: members of aliases are relayed.
func TestMembersOfAnAliasAreRelayed(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{})
	g, queued := through(t, s, gatepost.Settings{More: "[rewrite]\nvirtual = [\"all@live.example a@live.example, c@in.example\", \"one@live.example a@live.example\"]\n"})
	if r := deliver(t, g, "all@live.example", "Subject: x\n\nx\n"); !strings.HasPrefix(r, "250 2.0.0 OK: queued (") {
		t.Error(r)
	}
	theMail(t, s, "a@live.example")
	theMail(t, queued, "c@in.example")
	drained(t, g)
	s.SetScript(sink.Fail(sink.EOD, "250 2.0.0 mine"))
	if r := deliver(t, g, "one@live.example", "Subject: x\n\nx\n"); r != "250 2.0.0 mine" {
		t.Error(r)
	}
}

// A reload keeps the sessions of a transport that is the same; sessions of clients go
// on with what they began with.
func TestAReloadKeepsWhatIsPassedThrough(t *testing.T) {
	t.Parallel()
	live, also := next(t, sink.Options{}), next(t, sink.Options{})
	g, _ := through(t, live, gatepost.Settings{})
	c := g.Hello("")
	say(t, c, "MAIL FROM:<ada@out.example>", "250", "RCPT TO:<a@live.example>", "250")
	sessions := live.Sessions()
	g.Configure(gatepost.Settings{Next: live.Addr, More: proxied("live", live.Addr) + proxied("also", also.Addr, `if_unreachable = "adopt"`)})
	if out, err := g.Run("reload"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	say(t, c, "DATA", "354")
	if err := c.Send("Subject: x\r\n\r\nx\r\n.\r\n"); err != nil {
		t.Fatal(err)
	}
	if r, err := c.Reply(); err != nil || r.Code != 250 {
		t.Errorf("%v, %v", r, err)
	}
	if r := deliver(t, g, "b@live.example,b@also.example", "Subject: x\n\nx\n"); !strings.HasPrefix(r, "250 2.0.0 OK: queued (") {
		t.Error(r)
	}
	if live.Sessions() != sessions || len(live.Mails()) != 2 || len(also.Mails()) != 1 {
		t.Errorf("%d sessions before, %d after; %d and %d mails", sessions, live.Sessions(), len(live.Mails()), len(also.Mails()))
	}
	out, err := g.Run("status")
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	mustContain(t, "status", out, "Upstream live "+live.Addr+": 1 of 1000 sessions", "Upstream also "+also.Addr+": ")
	out, err = g.Run("route", "a@live.example")
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	mustContain(t, "route", out, "by transport live, passed through")
	noneQueued(t, g)
}
