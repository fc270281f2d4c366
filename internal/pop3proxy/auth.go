package pop3proxy

import (
	"bytes"
	"strings"

	"gatepost/internal/pop3"
)

// auth is AUTH (RFC 5034). Its lines are passed on as they are, whatever stands in them:
// between AUTH and its answer nothing is a command.
func (s *session) auth(c pop3.Command) {
	words := strings.Fields(string(c.Arg))
	switch {
	case len(words) == 0:
		s.listMechanisms()
	case len(words) > 2:
		s.refuse("AUTH", replyArguments)
	case pop3.BoundToConnection(words[0]):
		s.refuse("AUTH", "-ERR [AUTH] this mechanism does not work through a proxy")
	default:
		d := &dialogue{session: s, mechanism: words[0]}
		if len(words) == 2 {
			d.said = append(d.said, words[1])
		}
		d.run("AUTH " + strings.Join(words, " "))
	}
}

// listMechanisms answers an AUTH without a mechanism, with which clients asked for the
// list before there was CAPA.
func (s *session) listMechanisms() {
	caps, _, ok := s.upstreamCapabilities()
	if !ok {
		return
	}
	mechanisms, ok := caps.Through().Find("SASL")
	if !ok {
		s.refuse("AUTH", replyArguments)
		return
	}
	s.say("AUTH", "+OK mechanisms follow")
	for _, m := range mechanisms {
		s.put([]byte(m), []byte("\r\n"))
	}
	s.put([]byte(".\r\n"))
}

// dialogue is one AUTH, from the command to its answer.
type dialogue struct {
	*session
	mechanism string
	// said is what the client has said, to learn from it whose mailbox it is. It is gone
	// with the dialogue.
	said []string
	try  Attempt
	done bool // try was told
}

func (d *dialogue) run(line string) {
	if !d.mayGoOn() {
		return
	}
	defer d.abandon()
	for range maxRounds {
		reply, _, ok := d.ask(line)
		if !ok {
			return
		}
		if pop3.ParseStatus(reply) != pop3.StatusContinue {
			d.finish(reply)
			return
		}
		d.put(pop3.SafeLine(reply), []byte("\r\n"))
		answer, ok := d.readLine(maxAuthLine, d.set.IdleTimeout)
		if !ok {
			return
		}
		if _, err := pop3.ParseCommand(answer); err != nil {
			answer = []byte("*") // RFC 5034 §4: gives up
		}
		line = string(answer)
		if d.said = append(d.said, line); !d.mayGoOn() {
			d.cancel()
			return
		}
	}
	d.say("AUTH", replyTooManyErrs)
	d.endBecause("AUTH without an end")
}

// mayGoOn asks the guard, once, before the first line after which the server could decide.
func (d *dialogue) mayGoOn() bool {
	// The first line of LOGIN is a name only.
	first := 1
	if strings.EqualFold(d.mechanism, "LOGIN") {
		first = 2
	}
	if d.try != nil || d.set.hooks.Guard == nil || len(d.said) < first {
		return true
	}
	var ok bool
	d.try, ok = d.mayTry(d.attempted())
	return ok
}

func (d *dialogue) attempted() attempted {
	a := attempted{verb: "AUTH", user: pop3.Account(d.mechanism, d.said)}
	if len(d.said) > 0 {
		a.secret = d.said[len(d.said)-1]
	}
	return a
}

// cancel ends the dialogue with the server; the client has its answer.
func (d *dialogue) cancel() {
	if d.over {
		return
	}
	if _, _, ok := d.ask("*"); !ok {
		return
	}
}

func (d *dialogue) finish(reply []byte) {
	d.done = true
	if d.try == nil && pop3.ParseStatus(reply) == pop3.StatusErr && len(d.said) == 0 {
		d.relay("AUTH", reply) // it never came to a login
		return
	}
	d.loginDone(d.attempted(), d.try, bytes.Clone(reply))
}

// abandon tells the guard of a dialogue that broke off.
func (d *dialogue) abandon() {
	if d.try != nil && !d.done {
		d.try.Done(LoginUnknown, "")
	}
}
