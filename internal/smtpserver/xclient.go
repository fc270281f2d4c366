package smtpserver

import (
	"bytes"
	"net/netip"
	"strconv"
	"strings"

	"gatepost/internal/mail"
	"gatepost/internal/smtp"
)

// xclientCommand is XCLIENT (postfix.org/XCLIENT_README.html): a proxy in front of
// us says whose session this is. The session goes back to its greeting.
func (s *session) xclientCommand(arg []byte) {
	switch {
	case !s.xclient:
		s.respond("XCLIENT", s.say(mail.ReplyAccessDenied))
		return
	case s.tx.env != nil:
		s.respond("XCLIENT", s.say(mail.ReplyBadSequence))
		return
	}
	client, ok := s.clientFrom(arg)
	if !ok {
		s.respond("XCLIENT", s.say(mail.ReplySyntax))
		return
	}
	if client.Client.Addr() != s.sess.Client.Addr() {
		// From now on the session counts as one of the client's network.
		s.srv.opts.Limiter.leaveFrom(s.network)
		s.network = netip.Prefix{}
		network, ok := s.srv.opts.Limiter.enterFrom(client.Client.Addr())
		if !ok {
			s.respond("XCLIENT", s.sayLast(mail.ReplyTooManyFromHost))
			return
		}
		s.network = network
	}
	s.resetTransaction()
	// The connect hook is asked again: what it said of the one before is void.
	client.Findings, s.bandwidth = nil, 0
	s.sess = client
	s.helo = false
	s.greet(false)
}

// clientFrom returns the session as the attributes describe it. What an XCLIENT
// before this one said of the client does not count any more, but for attributes
// that are not named here.
func (s *session) clientFrom(arg []byte) (mail.Session, bool) {
	c := s.snapshot()
	if len(arg) == 0 {
		return c, false
	}
	for word := range bytes.FieldsSeq(arg) {
		name, raw, ok := strings.Cut(string(word), "=")
		if !ok {
			return c, false
		}
		value, err := smtp.DecodeXText(raw)
		if err != nil || value == "" || len(value) > maxHelo {
			return c, false
		}
		if value == "[UNAVAILABLE]" || value == "[TEMPUNAVAIL]" {
			value = ""
		}
		if !setClient(&c, strings.ToUpper(name), value) {
			return c, false
		}
	}
	return c, true
}

// setClient sets one attribute; an empty value says that it is not known.
func setClient(c *mail.Session, name, value string) bool {
	ok := true
	switch name {
	case "NAME":
		c.Name = safeName([]byte(value))
	case "HELO":
		c.Helo = safeName([]byte(value))
	case "ADDR":
		ok = setAddr(&c.Client, value)
	case "PORT":
		ok = setPort(&c.Client, value)
	case "DESTADDR":
		ok = setAddr(&c.Local, value)
	case "DESTPORT":
		ok = setPort(&c.Local, value)
	case "PROTO":
		c.ESMTP = strings.EqualFold(value, "ESMTP")
		ok = value == "" || c.ESMTP || strings.EqualFold(value, "SMTP")
	case "LOGIN":
		c.User, c.Senders = value, nil
		ok = value == "" || validUser(value)
	default:
		ok = false
	}
	return ok
}

func setAddr(ap *netip.AddrPort, value string) bool {
	if value == "" {
		return true // keep the proxy's: there must be one
	}
	if len(value) > 5 && strings.EqualFold(value[:5], "IPv6:") {
		value = value[5:]
	}
	a, err := netip.ParseAddr(value)
	if err != nil || a.Zone() != "" {
		return false
	}
	*ap = netip.AddrPortFrom(a.Unmap(), ap.Port())
	return true
}

func setPort(ap *netip.AddrPort, value string) bool {
	if value == "" {
		*ap = netip.AddrPortFrom(ap.Addr(), 0)
		return true
	}
	n, err := strconv.ParseUint(value, 10, 16)
	*ap = netip.AddrPortFrom(ap.Addr(), uint16(n))
	return err == nil
}
