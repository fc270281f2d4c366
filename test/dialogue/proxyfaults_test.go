package dialogue

import (
	"crypto/tls"
	"fmt"
	"strings"
	"testing"

	"gatepost/test/gatepost"
	"gatepost/test/peer"
	"gatepost/test/sink"
	"gatepost/test/wire"
)

// upstreamFault is what an upstream does wrong at one stage.
type upstreamFault struct {
	stage sink.Stage
	// verb is the command that is meant where the stage is that of several.
	verb string
	name string
	re   sink.Reaction
	// silent: it says nothing until the test is over with it.
	silent bool
	// at is the client's command that is answered otherwise than it would be, "." for the
	// end of the data, "" for none; want is the answer.
	at, want string
	// adopted: with if_unreachable = "adopt" the message is queued instead.
	adopted bool
	// upstream is what is special about it: "tls" must be had, "none" is there.
	upstream string
}

// What our own words are for.
const (
	unreached = "451 4.4.1 No answer from the next hop"
	brokenOff = "451 4.4.2 Connection to the next hop was lost"
	tooLate   = "451 4.4.2 The next hop did not answer in time"
	nonsense  = "451 4.5.0 The next hop broke the protocol"
)

// openingFaults are those before there is a session.
func openingFaults() []upstreamFault {
	list := []upstreamFault{
		{name: "nobody listens", at: "RCPT", want: unreached, adopted: true, upstream: "none"},
		{stage: sink.Ehlo, name: "502", re: sink.Reaction{Reply: "502 5.5.1 what?"}}, // there is still HELO
	}
	for _, stage := range []sink.Stage{sink.Banner, sink.Ehlo, sink.StartTLS} {
		upstream := ""
		if stage == sink.StartTLS {
			upstream = "tls"
		}
		faults := map[string]sink.Reaction{
			"421":         {Reply: "421 4.3.2 secret words", Close: true},
			"554":         {Reply: "554 5.7.1 secret words"},
			"454":         {Reply: "454 4.7.0 secret words"},
			"closes":      {Drop: true},
			"no SMTP":     {Reply: "SSH-2.0-secret"},
			"999":         {Reply: "999 secret"},
			"two codes":   {Reply: "220-secret\r\n250 words"},
			"a long line": {Reply: "220 " + strings.Repeat("x", 100<<10)},
			"silence":     {},
		}
		if stage == sink.Ehlo {
			delete(faults, "554") // as 502
		}
		if stage == sink.StartTLS {
			faults["no handshake"] = sink.Reaction{Reply: "220 2.0.0 go ahead\r\n220 secret", Close: true}
		}
		for name, re := range faults {
			list = append(list, upstreamFault{stage: stage, name: name, re: re, silent: name == "silence", at: "RCPT", want: unreached, adopted: true, upstream: upstream})
		}
	}
	return list
}

// commandFaults are those of MAIL, RCPT and DATA.
func commandFaults() (list []upstreamFault) {
	for stage, at := range map[sink.Stage]string{sink.MailFrom: "RCPT", sink.RcptTo: "RCPT", sink.Data: "."} {
		add := func(name, reply, want string, adopted bool) {
			list = append(list, upstreamFault{stage: stage, name: name, re: sink.Reaction{Reply: reply}, at: at, want: want, adopted: adopted})
		}
		add("451", "451-4.7.1 later\r\n451 4.7.1 perhaps", "451 4.7.1 later / 4.7.1 perhaps", false)
		add("550", "550-5.7.1 never\r\n550 5.7.1 ever", "550 5.7.1 never / 5.7.1 ever", false)
		add("421", "421 4.3.2 going", "451 4.3.2 going", true)
		add("221", "221 bye", nonsense, true)
		add("999", "999 x", nonsense, true)
		add("two digits", "25", nonsense, true)
		add("two codes", "250-a\r\n550 b", nonsense, true)
		add("a bare LF", "250 a\nb", nonsense, true)
		add("a long line", "250 "+strings.Repeat("x", 100<<10), nonsense, true)
		list = append(list, upstreamFault{stage: stage, name: "closes", re: sink.Reaction{Drop: true}, at: at, want: brokenOff, adopted: true},
			upstreamFault{stage: stage, name: "silence", silent: true, at: at, want: tooLate, adopted: true})
	}
	return list
}

// dataFaults are those while the message goes over, and after it.
func dataFaults() []upstreamFault {
	eod := func(name string, re sink.Reaction, want string) upstreamFault {
		return upstreamFault{stage: sink.EOD, name: name, re: re, silent: strings.HasPrefix(name, "silence"), at: ".", want: want}
	}
	other := func(verb, name string, re sink.Reaction) upstreamFault {
		return upstreamFault{stage: sink.Other, verb: verb, name: name, re: re, silent: name == "silence"}
	}
	list := []upstreamFault{
		{stage: sink.Body, name: "closes", re: sink.Reaction{Drop: true}, at: ".", want: brokenOff, adopted: true},
		{stage: sink.Body, name: "reads no more", re: sink.Reaction{Drop: true}, silent: true, at: ".", want: tooLate, adopted: true},
		eod("451", sink.Reaction{Reply: "451 4.3.0 not now"}, "451 4.3.0 not now"),
		eod("452 in lines", sink.Reaction{Reply: "452-4.3.1 a\r\n452 4.3.1 b"}, "452 4.3.1 a / 4.3.1 b"),
		eod("554", sink.Reaction{Reply: "554 5.7.1 spam"}, "554 5.7.1 spam"),
		eod("421", sink.Reaction{Reply: "421 4.3.2 going", Close: true}, "451 4.3.2 going"),
		eod("closes", sink.Reaction{Drop: true}, brokenOff),
		eod("takes it and closes", sink.Reaction{Drop: true, Keep: true}, brokenOff),
		eod("silence", sink.Reaction{Drop: true}, tooLate),
		eod("silence, and takes it", sink.Reaction{Drop: true, Keep: true}, tooLate),
		eod("354", sink.Reaction{Reply: "354 go on", Keep: true}, nonsense),
		eod("999", sink.Reaction{Reply: "999 x"}, nonsense),
		eod("two codes", sink.Reaction{Reply: "250-a\r\n550 b", Keep: true}, nonsense),
		eod("takes it and speaks on", sink.Reaction{Reply: "250 2.0.0 one\r\n250 2.0.0 two"}, "250 2.0.0 one"),
	}
	// A client never waits for these, and hears nothing of them.
	for _, verb := range []string{"RSET", "QUIT"} {
		list = append(list, other(verb, "421", sink.Reaction{Reply: "421 4.3.2 no", Close: true}), other(verb, "451", sink.Reaction{Reply: "451 4.3.0 no"}), other(verb, "550", sink.Reaction{Reply: "550 5.5.1 no"}),
			other(verb, "closes", sink.Reaction{Drop: true}), other(verb, "999", sink.Reaction{Reply: "999 x"}), other(verb, "two replies", sink.Reaction{Reply: "250 a\r\n250 b"}), other(verb, "silence", sink.Reaction{}))
	}
	return list
}

// faulty is an upstream with a fault.
type faulty struct {
	upstreamFault
	domain string
	sink   *sink.Sink
	healed chan struct{} // ends its silence
	// address is where one is to be that is not there.
	address string
}

// hurt makes it do what it does wrong.
func (f *faulty) hurt() {
	f.sink.SetScript(func(step sink.Step) sink.Reaction {
		if step.Stage != f.stage || !strings.HasPrefix(step.Line, f.verb) {
			return sink.Reaction{}
		}
		re := f.re
		if f.silent {
			re.Wait = f.healed
		}
		return re
	})
}

// heal makes it an ordinary server.
func (f *faulty) heal(t *testing.T) {
	close(f.healed)
	if f.sink == nil {
		f.sink = next(t, sink.Options{Addr: f.address})
	}
	f.sink.SetScript(nil)
}

// subjects counts the messages of a subject that it has taken.
func (f *faulty) subjects(subject string) (n int) {
	for _, m := range f.sink.Mails() {
		if strings.Contains(string(m.Data), "\r\nSubject: "+subject+"\r\n") {
			n++
		}
	}
	return n
}

// infirmary is a gateway with an upstream for each fault.
func infirmary(t *testing.T, adopt bool) (*gatepost.Instance, []*faulty) {
	t.Helper()
	cert := peer.NewCertificate(t, "sink.example")
	var all []*faulty
	var more strings.Builder
	for _, list := range [][]upstreamFault{openingFaults(), commandFaults(), dataFaults()} {
		for _, what := range list {
			f := &faulty{upstreamFault: what, domain: fmt.Sprintf("f%d", len(all)), healed: make(chan struct{}), address: gatepost.FreeAddress(t)}
			lines := []string{`timeouts = { connect = "1s", banner = "1s", hello = "1s", tls = "1s", mail = "1s", rcpt = "1s", data = "1s", block = "1s", done = "1s", quit = "100ms", idle = "100ms", rest = "1s", rest_max = "1s" }`,
				`retry = { delays = ["1s"], give_up_after = "1h", warn_after = "50m" }`}
			o := sink.Options{Addr: f.address}
			if what.upstream == "tls" {
				o.TLS = &tls.Config{Certificates: []tls.Certificate{cert.TLS}}
				lines = append(lines, `tls = "require"`)
			}
			if adopt {
				lines = append(lines, `if_unreachable = "adopt"`)
			}
			if what.upstream != "none" {
				f.sink = next(t, o)
			}
			more.WriteString(proxied(f.domain, f.address, lines...))
			all = append(all, f)
		}
	}
	g := behind(t, next(t, sink.Options{}), gatepost.Settings{More: more.String(), Limits: "max_sessions_per_ip = 1000\nerror_delay = \"1ms\""})
	return g, all
}

// PXY-02, PXY-03, PXY-08, PXY-12: whatever an upstream does at whatever stage, the client
// has one answer to each command, what it was told is true, and the next message is none
// the worse.
func TestEveryFaultAtEveryStage(t *testing.T) {
	t.Parallel()
	for _, adopt := range []bool{false, true} {
		t.Run(fmt.Sprintf("adopt %v", adopt), func(t *testing.T) {
			t.Parallel()
			g, all := infirmary(t, adopt)
			t.Run("faults", func(t *testing.T) {
				for _, f := range all {
					t.Run(fmt.Sprintf("%s%s %s", f.stage, f.verb, f.name), func(t *testing.T) {
						t.Parallel()
						f.try(t, g, adopt)
					})
				}
			})
			// Nothing is left that would come a second time.
			drained(t, g)
			for _, f := range all {
				want := 0
				if f.taken(adopt) {
					want = 1
				}
				if one, two := f.subjects("first"), f.subjects("second"); one != want || two != 1 {
					t.Errorf("%s%s %s: it has the first message %d times and the second one %d times, want %d and 1", f.stage, f.verb, f.name, one, two, want)
				}
			}
		})
	}
}

// taken reports whether the upstream has the first message in the end.
func (f *faulty) taken(adopt bool) bool {
	switch {
	case f.stage == sink.Other && f.verb == "RSET":
		return false // it was never sent
	case f.at == "" || strings.HasPrefix(f.want, "250") || f.re.Keep:
		return true
	}
	return adopt && f.adopted
}

// try sends one message during the fault and one after it.
func (f *faulty) try(t *testing.T, g *gatepost.Instance, adopt bool) {
	t.Helper()
	if f.sink != nil {
		if !f.sink.Wait(patience, func() bool { return f.sink.Sessions() > 0 && f.sink.Open() == 0 }) {
			t.Fatal("it was not asked what it can")
		}
		f.hurt()
	}
	c := g.Hello("")
	f.first(t, c, adopt)
	say(t, c, "NOOP", "250 2.0.0 OK")
	if f.verb == "QUIT" {
		gatepost.Eventually(t, "it hears QUIT", patience, func() bool { return strings.Contains(strings.Join(f.sink.Wire()[1:], ""), "QUIT\r\n") })
	}
	f.heal(t)
	gatepost.Eventually(t, "the next message is taken", patience, func() bool {
		say(t, c, "RSET", "250")
		r, err := c.Deliver("ada@out.example", []string{"bob@" + f.domain + ".example"}, []byte("Subject: second\r\n\r\nx\r\n"))
		return err == nil && r.Code == 250
	})
	if f.taken(adopt) && !f.sink.Wait(patience, func() bool { return f.subjects("first") > 0 }) {
		t.Error("the first message is lost")
	}
	c.Quit()
}

// first sends the message that meets the fault.
func (f *faulty) first(t *testing.T, c *wire.Conn, adopt bool) {
	t.Helper()
	want := f.want
	if adopt && f.adopted {
		want = "250 2.0.0 OK: queued ("
	}
	at := f.at
	say(t, c, "MAIL FROM:<ada@out.example>", "250 2.1.0")
	r, err := c.Cmd("RCPT TO:<bob@%s.example>", f.domain)
	if f.verb == "RSET" {
		say(t, c, "RSET", "250 2.0.0 OK", "MAIL FROM:<ada@out.example>", "250", "RSET", "250 2.0.0 OK")
		return
	}
	if err == nil && r.Positive() {
		at = "."
		say(t, c, "DATA", "354")
		body := "Subject: first\r\n\r\n"
		if f.stage == sink.Body {
			// More than the buffers of both sides take.
			body += strings.Repeat(strings.Repeat("x", 70)+"\r\n", 200<<10)
		}
		if err = c.Send(body + ".\r\n"); err == nil {
			r, err = c.Reply()
		}
	} else if at != "RCPT" || adopt && f.adopted {
		t.Errorf("RCPT: %v, %v", r, err)
	}
	if f.at == "" {
		want = "250 2.0.0 ok"
	}
	if err != nil || !strings.HasPrefix(r.String(), want) {
		t.Errorf("got %.200s, %v, want %s", r.String(), err, want)
	}
	if strings.Contains(r.String(), "secret") {
		t.Errorf("the client hears %v", r)
	}
}
