package dialogue

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"gatepost/test/gatepost"
	"gatepost/test/sink"
)

// hop is a next hop that misbehaves, with a domain and a transport of its own.
type hop struct {
	name   string
	script sink.Script
	sink   *sink.Sink
	// mails is how many the sink keeps in the end, 1 where it is not set.
	mails int
}

func (h *hop) domain() string { return h.name + ".example" }

// hops starts a next hop for each, a gateway in front of all of them, and a
// sink that gets the reports to out.example.
func hops(t *testing.T, list []*hop, retry string) (*gatepost.Instance, *sink.Sink) {
	t.Helper()
	reports := next(t, sink.Options{})
	var more strings.Builder
	for _, h := range list {
		h.sink = next(t, sink.Options{Script: h.script})
		fmt.Fprintf(&more, "[[domain]]\nname = %q\ntransport = %q\n\n[[transport]]\nname = %q\nkind = \"smtp\"\nhosts = [%q]\nretry = { %s }\n\n",
			h.domain(), h.name, h.name, h.sink.Addr, retry)
	}
	return behind(t, reports, gatepost.Settings{More: more.String()}), reports
}

// once is a script that answers the first step of a stage, and is an ordinary
// server ever after.
func once(stage sink.Stage, re sink.Reaction) sink.Script {
	var mu sync.Mutex
	done := false
	return func(s sink.Step) sink.Reaction {
		mu.Lock()
		defer mu.Unlock()
		if s.Stage != stage || done {
			return sink.Reaction{}
		}
		done = true
		return re
	}
}

// steps counts how often a stage was reached.
type steps struct {
	mu    sync.Mutex
	count map[sink.Stage]int
}

// of is the script with its steps counted.
func (c *steps) of(script sink.Script) sink.Script {
	c.count = map[sink.Stage]int{}
	return func(s sink.Step) sink.Reaction {
		c.mu.Lock()
		c.count[s.Stage]++
		c.mu.Unlock()
		return script(s)
	}
}

func (c *steps) at(stage sink.Stage) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.count[stage]
}

var (
	stages = []sink.Stage{sink.Banner, sink.Ehlo, sink.MailFrom, sink.RcptTo, sink.Data, sink.EOD}
	later  = []string{"421 4.3.2", "450 4.2.1", "451 4.3.0", "452 4.2.2"}
	never  = []string{"550 5.1.1", "552 5.2.2", "554 5.7.1"}
)

func caseName(stage sink.Stage, code string) string { return string(stage) + "-" + code[:3] }

// DUR-20: 421, 450, 451 and 452 at each stage mean to try again, and the sender
// hears nothing of it.
func TestTemporaryRepliesAtAnyStageAreTriedAgain(t *testing.T) {
	t.Parallel()
	var list []*hop
	for _, stage := range stages {
		for _, code := range later {
			reply := code + " not now"
			list = append(list, &hop{name: caseName(stage, code), script: once(stage, sink.Reaction{Reply: reply, Close: code[:3] == "421"})})
		}
	}
	g, reports := hops(t, list, `delays = ["1s"], give_up_after = "1h", warn_after = "0s"`)
	c := g.Hello("")
	ids := map[string]string{}
	for _, h := range list {
		ids[h.name] = give(t, c, "ada@out.example", "bob@"+h.domain(), "Subject: "+h.name+"\n\nbody\n")
	}
	for _, h := range list {
		mails := h.sink.WaitMails(t, 1, patience)
		if mails[0].From == "" || !strings.Contains(string(mails[0].Data), "Subject: "+h.name) {
			t.Errorf("%s: got %+v", h.name, mails[0])
		}
	}
	drained(t, g)
	for _, h := range list {
		if n := len(h.sink.Mails()); n != 1 {
			t.Errorf("%s: %d mails", h.name, n)
		}
		stage, code, _ := strings.Cut(h.name, "-")
		gatepost.Eventually(t, h.name+": both attempts are logged", patience, func() bool {
			log := linesWith(g.MailLog(), "delivery attempt id="+ids[h.name]+":1 ")
			return len(log) == 2 && strings.Contains(log[0], "status=deferred reply=\""+code) &&
				strings.Contains(log[0], "stage="+stageName(stage)) && strings.Contains(log[1], "status=delivered")
		})
	}
	if n := len(reports.Mails()); n != 0 {
		t.Errorf("%d reports", n)
	}
}

// stageName is how logs name a stage of the sink.
func stageName(stage string) string {
	if stage == string(sink.Banner) {
		return "connect"
	}
	return stage
}

func linesWith(text, part string) (found []string) {
	for line := range strings.Lines(text) {
		if strings.Contains(line, part) {
			found = append(found, line)
		}
	}
	return found
}

// DUR-20: 550, 552 and 554 to the message or its envelope are told to the sender,
// once, in the next hop's own words.
func TestPermanentRepliesAreReportedOnce(t *testing.T) {
	t.Parallel()
	var list []*hop
	counts := map[string]*steps{}
	for _, stage := range stages[2:] {
		for _, code := range never {
			h := &hop{name: caseName(stage, code)}
			counts[h.name] = &steps{}
			h.script = counts[h.name].of(sink.Fail(stage, code+" never, said "+h.name))
			list = append(list, h)
		}
	}
	g, reports := hops(t, list, `delays = ["1s"], give_up_after = "1h", warn_after = "0s"`)
	c := g.Hello("")
	for _, h := range list {
		give(t, c, "ada@out.example", "bob@"+h.domain(), "Subject: "+h.name+"\nMessage-ID: <1@out.example>\n\nsecret body\n")
	}
	reports.WaitMails(t, len(list), patience)
	drained(t, g)
	for _, h := range list {
		stage, code, _ := strings.Cut(h.name, "-")
		status := map[string]string{"550": "5.1.1", "552": "5.2.2", "554": "5.7.1"}[code]
		r := theReport(t, reports, "bob@"+h.domain(), "failed", status)
		if got, want := r.recipients[0].Get("Diagnostic-Code"), "smtp; "+code+" "+status+" never, said "+h.name; got != want {
			t.Errorf("%s: diagnostic code %q, want %q", h.name, got, want)
		}
		if got := r.recipients[0].Get("Remote-MTA"); got != "dns; [127.0.0.1]" {
			t.Errorf("%s: remote MTA %q", h.name, got)
		}
		mustContain(t, h.name+": what comes back", r.original, "Subject: "+h.name)
		if strings.Contains(r.original, "secret body") || r.returned != "text/rfc822-headers" {
			t.Errorf("%s: the body comes back too, as %s", h.name, r.returned)
		}
		if n := counts[h.name].at(sink.Stage(stage)); n != 1 || len(h.sink.Mails()) != 0 {
			t.Errorf("%s: %d tries, %d mails", h.name, n, len(h.sink.Mails()))
		}
	}
	for _, m := range reports.Mails() {
		if m.To[0] != "<ada@out.example>" || len(m.To) != 1 {
			t.Errorf("report to %v", m.To)
		}
	}
}

// DUR-20: a next hop that refuses us before it has heard of the message says
// nothing about the message (RFC 5321 §4.2.4.2): it is tried again. One that does
// not know EHLO is greeted by HELO.
func TestRefusedGreetingsAreTriedAgain(t *testing.T) {
	t.Parallel()
	var list []*hop
	for _, code := range never {
		list = append(list,
			&hop{name: caseName(sink.Banner, code), script: once(sink.Banner, sink.Reaction{Reply: code + " no", Close: true})},
			&hop{name: caseName(sink.Ehlo, code), script: sink.Fail(sink.Ehlo, code+" no")},
			&hop{name: caseName(sink.Helo, code), script: refuseHello(code)})
	}
	g, reports := hops(t, list, `delays = ["1s"], give_up_after = "1h", warn_after = "0s"`)
	c := g.Hello("")
	for _, h := range list {
		give(t, c, "ada@out.example", "bob@"+h.domain(), "Subject: x\n\nbody\n")
	}
	for _, h := range list {
		m := h.sink.WaitMails(t, 1, patience)[0]
		if strings.HasPrefix(h.name, "ehlo") && (h.sink.Sessions() != 1 || m.From != "<ada@out.example>") {
			t.Errorf("%s: %d sessions, MAIL %s; want one session with HELO", h.name, h.sink.Sessions(), m.From)
		}
		if !strings.HasPrefix(h.name, "ehlo") && h.sink.Sessions() != 2 {
			t.Errorf("%s: %d sessions, want 2", h.name, h.sink.Sessions())
		}
	}
	drained(t, g)
	if n := len(reports.Mails()); n != 0 {
		t.Errorf("%d reports", n)
	}
}

// refuseHello refuses EHLO and HELO in the first session.
func refuseHello(code string) sink.Script {
	return func(s sink.Step) sink.Reaction {
		if s.Session == 1 && (s.Stage == sink.Ehlo || s.Stage == sink.Helo) {
			return sink.Reaction{Reply: code + " no"}
		}
		return sink.Reaction{}
	}
}

// DUR-23, DUR-24: what a next hop does against the protocol never counts as
// delivered and never as refused; the session is over and the mail is tried again.
func TestBrokenNextHopsAreTriedAgain(t *testing.T) {
	t.Parallel()
	list := []*hop{
		{name: "closes-after-the-dot", script: once(sink.EOD, sink.Reaction{Drop: true})},
		{name: "closes-at-data", script: once(sink.Data, sink.Reaction{Drop: true})},
		{name: "closes-at-rcpt", script: once(sink.RcptTo, sink.Reaction{Drop: true})},
		{name: "closes-at-banner", script: once(sink.Banner, sink.Reaction{Drop: true})},
		{name: "250-to-data", script: once(sink.Data, sink.Reaction{Reply: "250 2.0.0 ok"})},
		{name: "354-to-rcpt", script: once(sink.RcptTo, sink.Reaction{Reply: "354 go ahead"})},
		{name: "354-to-mail", script: once(sink.MailFrom, sink.Reaction{Reply: "354 go ahead"})},
		{name: "354-to-the-dot", script: once(sink.EOD, sink.Reaction{Reply: "354 go on"}), mails: 2},
		{name: "two-replies-to-rcpt", script: once(sink.RcptTo, sink.Reaction{Reply: "250 ok\r\n250 ok"})},
		{name: "two-replies-to-data", script: once(sink.Data, sink.Reaction{Reply: "354 go\r\n250 ok"})},
		{name: "two-banners", script: once(sink.Banner, sink.Reaction{Reply: "220 a\r\n220 b"})},
		{name: "no-code", script: once(sink.RcptTo, sink.Reaction{Reply: "fine"})},
		{name: "code-999", script: once(sink.RcptTo, sink.Reaction{Reply: "999 fine"})},
		{name: "short-code", script: once(sink.EOD, sink.Reaction{Reply: "25"}), mails: 2},
		{name: "long-line", script: once(sink.RcptTo, sink.Reaction{Reply: "250 " + strings.Repeat("x", 100<<10)})},
		{name: "endless-reply", script: once(sink.Ehlo, sink.Reaction{Reply: strings.Repeat("250-x\r\n", 20000) + "250 x"})},
	}
	g, reports := hops(t, list, `delays = ["1s"], give_up_after = "1h", warn_after = "0s"`)
	c := g.Hello("")
	for _, h := range list {
		give(t, c, "ada@out.example", "bob@"+h.domain(), "Subject: "+h.name+"\n\nbody\n")
	}
	for _, h := range list {
		h.sink.WaitMails(t, max(h.mails, 1), patience)
		if n := h.sink.Sessions(); n != 2 {
			t.Errorf("%s: %d sessions, want a second one for the second try", h.name, n)
		}
	}
	drained(t, g)
	for _, h := range list {
		if n := len(h.sink.Mails()); n != max(h.mails, 1) {
			t.Errorf("%s: %d mails", h.name, n)
		}
	}
	if n := len(reports.Mails()); n != 0 {
		t.Errorf("%d reports", n)
	}
}

// DUR-23: the next hop that took the message but could not say so gets it again,
// the same bytes with the same identifiers, so that duplicates can be seen.
func TestALostReplyToTheDotMakesADuplicateAndNothingWorse(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{Script: once(sink.EOD, sink.Reaction{Drop: true, Keep: true})})
	g := behind(t, s, gatepost.Settings{})
	give(t, g.Hello(gatepost.Trusted), "ada@out.example", "bob@in.example", "Subject: no identifier of its own\n\nbody\n")
	mails := s.WaitMails(t, 2, patience)
	drained(t, g)
	if string(mails[0].Data) != string(mails[1].Data) || !strings.Contains(string(mails[0].Data), "Message-ID: <") {
		t.Errorf("first %q, then %q", mails[0].Data, mails[1].Data)
	}
	if n := len(s.Mails()); n != 2 {
		t.Errorf("%d mails", n)
	}
	if rows := linesWith(g.MailLog(), "status=deferred"); len(rows) != 1 {
		t.Errorf("log of the lost reply: %q", rows)
	}
}
