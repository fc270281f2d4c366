package pop3proxy

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"gatepost/internal/pop3"
)

// mailbox runs a command of the TRANSACTION state (RFC 1939 §5).
func (s *session) mailbox(c pop3.Command) {
	switch c.Verb {
	case pop3.VerbSTAT, pop3.VerbLAST:
		s.single(c, c.Verb.String())
	case pop3.VerbRSET:
		if reply, ok := s.single(c, "RSET"); ok && pop3.ParseStatus(reply) == pop3.StatusOK {
			s.deleted = 0
		}
	case pop3.VerbLIST, pop3.VerbUIDL:
		s.list(c)
	case pop3.VerbDELE:
		s.dele(c)
	case pop3.VerbRETR:
		if n, ok := c.Numbers(1); ok {
			s.retrieve(request{verb: c.Verb, number: n[0], lines: -1})
			return
		}
		s.refuse("RETR", replyArguments)
	case pop3.VerbTOP:
		if n, ok := c.Numbers(2); ok {
			s.retrieve(request{verb: c.Verb, number: n[0], lines: n[1]})
			return
		}
		s.refuse("TOP", replyArguments)
	default:
		s.refuse(c.Verb.String(), replyUnknown)
	}
}

// single passes a command on whose answer is one line. It reports false when there is none.
func (s *session) single(c pop3.Command, line string) ([]byte, bool) {
	if strings.IndexByte(line, ' ') < 0 && !c.Bare() {
		s.refuse(c.Verb.String(), replyArguments)
		return nil, false
	}
	reply, _, ok := s.ask(line)
	if !ok {
		return nil, false
	}
	s.relay(c.Verb.String(), reply)
	return reply, true
}

// noop is NOOP. Before there is a server, it is answered here.
func (s *session) noop(c pop3.Command) {
	if s.up == nil {
		s.say("NOOP", "+OK")
		return
	}
	s.single(c, "NOOP")
}

// list is LIST and UIDL, of one message or of all. What the server counts is what it has:
// of messages that get headers or are replaced, nobody knows the size before they were
// fetched.
func (s *session) list(c pop3.Command) {
	verb := c.Verb.String()
	if !c.Bare() {
		n, ok := c.Numbers(1)
		if !ok {
			s.refuse(verb, replyArguments)
			return
		}
		s.listOne(c.Verb, n[0])
		return
	}
	reply, bare, ok := s.ask(verb)
	if !ok {
		return
	}
	s.relay(verb, reply)
	if pop3.ParseStatus(reply) != pop3.StatusOK {
		return
	}
	if err := s.up.lines(bare, func(line []byte) error { return s.listed(c.Verb, line) }); err != nil {
		s.lost(err)
		return
	}
	s.put([]byte(".\r\n"))
}

func (s *session) listOne(v pop3.Verb, n int) {
	reply, _, ok := s.ask(v.String() + " " + strconv.Itoa(n))
	if !ok {
		return
	}
	if id, ok := uidlOf(reply, n); ok && v == pop3.VerbUIDL {
		s.remember(n, id)
	}
	s.relay(v.String(), reply)
}

// errNoListing is a server that sends something else than what was asked for. It is not
// passed on: it could be a message.
var errNoListing = errors.New("the server's list has lines that are none")

// listed passes one line of a list on.
func (s *session) listed(v pop3.Verb, line []byte) error {
	words := strings.Fields(string(line))
	n, ok := 0, false
	if len(words) >= 2 {
		n, ok = pop3.Number(words[0])
	}
	switch {
	case !ok, !printable(line):
		return fmt.Errorf("%w: %.40q", errNoListing, line)
	case v == pop3.VerbUIDL:
		s.remember(n, words[1])
	case strings.Trim(words[1], "0123456789") != "":
		return fmt.Errorf("%w: %.40q", errNoListing, line)
	}
	s.put(line, []byte("\r\n"))
	return nil
}

func printable(line []byte) bool {
	return bytes.IndexFunc(line, func(r rune) bool { return r < ' ' || r == 0x7f }) < 0
}

// uidlOf reads the answer to UIDL with a number.
func uidlOf(reply []byte, n int) (string, bool) {
	words := strings.Fields(string(reply))
	if pop3.ParseStatus(reply) != pop3.StatusOK || len(words) < 3 || words[1] != strconv.Itoa(n) {
		return "", false
	}
	return words[2], true
}

// remember keeps a unique ID; RFC 1939 §7 has up to 70 characters in it.
func (s *session) remember(n int, id string) {
	if len(id) > 255 || len(s.uidls) >= maxUIDLs {
		return
	}
	if s.uidls == nil {
		s.uidls = make(map[int]string)
	}
	s.uidls[n] = id
}

// dele is DELE. The original of a message that was replaced is in the quarantine; who
// does not trust that can have it kept at the server.
func (s *session) dele(c pop3.Command) {
	n, ok := c.Numbers(1)
	if !ok {
		s.refuse("DELE", replyArguments)
		return
	}
	if s.set.KeepReplaced {
		isReplaced, ok := s.isReplaced(n[0])
		if !ok {
			return
		}
		if isReplaced {
			s.say("DELE", "-ERR [SYS/PERM] a message that was replaced stays on the server")
			return
		}
	}
	reply, ok := s.single(c, "DELE "+strconv.Itoa(n[0]))
	if ok && pop3.ParseStatus(reply) == pop3.StatusOK {
		s.deleted++
	}
}

// isReplaced reports whether a message was replaced, in this session or before. ok is
// false when the server is gone.
func (s *session) isReplaced(n int) (replaced, ok bool) {
	if s.replaced[n] || s.set.hooks.Scanner == nil {
		return s.replaced[n], true
	}
	key, ok := s.key(n)
	if !ok || key.UIDL == "" {
		return false, ok
	}
	known, found := s.set.hooks.Scanner.Known(s.srv.ctx, s.envelope(), key)
	return found && !known.Pass, true
}

// international is UTF8 and LANG (RFC 6856). They are the server's: it is its texts and
// headers that change.
func (s *session) international(c pop3.Command) {
	verb := c.Verb.String()
	arg := strings.TrimSpace(string(c.Arg))
	switch {
	case s.up == nil:
		s.refuse(verb, "-ERR log in by USER and PASS")
		return
	case c.Verb == pop3.VerbUTF8 && s.authorized:
		s.refuse(verb, replyLoggedIn) // RFC 6856 §2: before the login only
		return
	case len(strings.Fields(arg)) > 1 || !printable([]byte(arg)):
		s.refuse(verb, replyArguments)
		return
	}
	line := verb
	if arg != "" {
		line += " " + arg
	}
	reply, bare, ok := s.ask(line)
	if !ok {
		return
	}
	s.relay(verb, reply)
	if pop3.ShapeOf(c, reply) != pop3.List {
		return
	}
	err := s.up.lines(bare, func(line []byte) error {
		// RFC 6856 §3: a tag and a text.
		if !printable(line) {
			return fmt.Errorf("%w: %.40q", errNoListing, line)
		}
		s.put(line, []byte("\r\n"))
		return nil
	})
	if err != nil {
		s.lost(err)
		return
	}
	s.put([]byte(".\r\n"))
}

// quit is QUIT: the only way in which the server hears it.
func (s *session) quit() {
	if s.up == nil {
		s.say("QUIT", "+OK")
		s.endBecause("quit")
		return
	}
	reply, _, ok := s.ask("QUIT")
	if !ok {
		return
	}
	s.relay("QUIT", reply)
	if pop3.ParseStatus(reply) == pop3.StatusOK {
		s.sum.Deleted = s.deleted
	}
	s.endBecause("quit")
}
