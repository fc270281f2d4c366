package pop3proxy

import (
	"bytes"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"gatepost/internal/pop3"
	"gatepost/internal/smtp"
)

// login is USER, PASS, APOP and AUTH.
func (s *session) login(c pop3.Command) {
	verb := c.Verb.String()
	switch {
	case s.authorized:
		s.refuse(verb, replyLoggedIn)
	case s.set.TLS == TLSRequired && !s.sess.TLS.Active():
		s.refuse(verb, "-ERR use STLS first")
	case c.Verb == pop3.VerbUSER:
		s.user(c)
	case s.up == nil && c.Verb != pop3.VerbPASS:
		// Both need to know the server before the client can name it.
		s.refuse(verb, "-ERR log in by USER and PASS")
	case c.Verb == pop3.VerbPASS:
		s.pass(c)
	case c.Verb == pop3.VerbAPOP:
		s.apop(c)
	default:
		s.auth(c)
	}
}

// user is USER. The server hears it at once, because some refuse a user here.
func (s *session) user(c pop3.Command) {
	name := string(c.Arg)
	s.named = ""
	if strings.TrimSpace(name) == "" {
		s.refuse("USER", replyArguments)
		return
	}
	if s.set.Upstream.Mode == Login {
		var ok bool
		if name, ok = s.chooseServer(name); !ok {
			return
		}
	}
	reply, _, ok := s.ask("USER " + name)
	if !ok {
		return
	}
	if pop3.ParseStatus(reply) == pop3.StatusOK {
		s.named = name
	}
	s.relay("USER", reply)
}

// chooseServer takes user%host[:port] apart and connects to the host, if clients may
// name it. It returns the user.
func (s *session) chooseServer(name string) (string, bool) {
	i := strings.LastIndexByte(name, '%')
	if i <= 0 {
		s.refuse("USER", "-ERR [AUTH] log in as user%server")
		return "", false
	}
	user, host := name[:i], strings.ToLower(name[i+1:])
	port := s.set.Upstream.port()
	if h, p, err := net.SplitHostPort(host); err == nil {
		host, port = h, p
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || !isHost(host) || !s.set.Upstream.allows(host, port) {
		s.refuse("USER", "-ERR [AUTH] this server may not be used from here")
		return "", false
	}
	address := net.JoinHostPort(host, port)
	if s.up != nil && s.up.address == address {
		return user, true
	}
	s.leaveServer()
	if !s.attach(address, host, "USER") {
		return "", false
	}
	return user, true
}

// isHost reports whether a name is one that can be looked up, or an IP address.
func isHost(name string) bool {
	if _, err := netip.ParseAddr(name); err == nil {
		return true
	}
	_, err := smtp.CanonicalDomain(name)
	return err == nil && !strings.HasPrefix(name, "[")
}

// pass is PASS. All that follows the first space is the password.
func (s *session) pass(c pop3.Command) {
	if s.named == "" || s.up == nil {
		s.refuse("PASS", "-ERR USER comes first")
		return
	}
	user := s.named
	s.named = ""
	s.tryLogin(attempted{verb: "PASS", user: user, secret: string(c.Arg)}, func() ([]byte, bool) {
		reply, _, ok := s.ask("PASS " + string(c.Arg))
		return reply, ok
	})
}

// apop is APOP (RFC 1939 §7).
func (s *session) apop(c pop3.Command) {
	words := strings.Fields(string(c.Arg))
	if len(words) != 2 {
		s.refuse("APOP", replyArguments)
		return
	}
	s.tryLogin(attempted{verb: "APOP", user: words[0], secret: words[1]}, func() ([]byte, bool) {
		reply, _, ok := s.ask("APOP " + words[0] + " " + words[1])
		return reply, ok
	})
}

// attempted is a login that is being made. user is "" where nobody can tell.
type attempted struct{ verb, user, secret string }

// tryLogin asks the guard, then the server, and answers.
func (s *session) tryLogin(a attempted, ask func() ([]byte, bool)) {
	try, ok := s.mayTry(a)
	if !ok {
		return
	}
	reply, ok := ask()
	if !ok {
		if try != nil {
			try.Done(LoginUnknown, "")
		}
		return
	}
	s.loginDone(a, try, reply)
}

// mayTry asks the guard about a login, and answers where it is refused.
func (s *session) mayTry(a attempted) (Attempt, bool) {
	g := s.set.hooks.Guard
	if g == nil {
		return nil, true
	}
	account := a.user
	if account == "" {
		// Failures of an unknown account must not be everybody's.
		account = "?" + s.sess.Client.Addr().String()
	}
	try := g.Begin(s.srv.ctx, &s.sess, account)
	reason, final := try.Refused()
	if reason == "" {
		return try, true
	}
	s.noteLogin(a.user, LoginRefused, reason)
	s.pause(try.Delay())
	// The same, whoever the user is and whether he exists.
	s.say(a.verb, "-ERR [SYS/TEMP] too many failed logins, try again later")
	if final {
		s.endBecause("too many failed logins")
	}
	return nil, false
}

// loginDone gives the server's answer to a login on.
func (s *session) loginDone(a attempted, try Attempt, reply []byte) {
	result := resultOf(reply)
	if try != nil {
		try.Done(result, a.secret)
	}
	s.noteLogin(a.user, result, pop3.Code(reply))
	// The reader may move what it holds while this waits.
	reply = bytes.Clone(reply)
	if try != nil {
		s.pause(try.Delay())
	}
	if result == LoginOK {
		s.authorized = true
		s.sess.User = safeUser(a.user)
	} else if result == LoginFailed {
		s.sum.Errors++
		if s.faults++; s.faults > s.set.MaxErrors {
			s.endBecause("too many errors")
		}
	}
	s.relay(a.verb, reply)
}

// resultOf is what a server's answer to a login means. Only a wrong name or password
// counts against who gave it (RFC 2449 §8.1, RFC 3206 §4).
func resultOf(reply []byte) LoginResult {
	if pop3.ParseStatus(reply) == pop3.StatusOK {
		return LoginOK
	}
	switch code, _, _ := strings.Cut(pop3.Code(reply), "/"); code {
	case "IN-USE", "LOGIN-DELAY", "SYS":
		return LoginUnknown
	}
	return LoginFailed
}

func (s *session) noteLogin(user string, result LoginResult, reason string) {
	if o := s.srv.opts.Observer; o != nil {
		o.POPLogin(s.set.Listener, result)
	}
	if t := s.set.hooks.Traffic; t != nil {
		t.LoggedIn(&s.sess, safeUser(user), result, reason)
	}
}
