package pop3proxy

import (
	"errors"
	"log/slog"
	"net"
	"time"

	"gatepost/internal/intercept"
)

// open brings a new connection to its greeting. It reports whether commands are to be
// read.
func (s *session) open() bool {
	direct := true
	if within(s.set.ProxyFrom, s.sess.Client.Addr()) {
		if direct = s.proxyHeader(); s.over {
			return false
		}
	}
	if !s.mayGoOn() {
		return false
	}
	// A proxy's own connections are not counted as one client's.
	if l := s.srv.opts.Limiter; direct && l != nil {
		network, ok := l.EnterFrom(s.sess.Client.Addr())
		if !ok {
			s.turnAway(replyTooManyHere)
			return false
		}
		s.network = network
	}
	s.sess.Trusted = within(s.set.TrustedNetworks, s.sess.Client.Addr())
	if s.set.TLS == TLSImplicit && !s.handshake() {
		return false
	}
	return s.greet()
}

// mayGoOn reports whether a diverted connection leads to somewhere else.
func (s *session) mayGoOn() bool {
	c, ok := s.raw.(*intercept.Conn)
	if !ok {
		return true
	}
	err := c.Check(s.srv.ctx)
	if err == nil {
		return true
	}
	s.log(slog.LevelWarn, "diverted connection refused", slog.String("client", s.sess.Client.String()), slog.String("error", err.Error()))
	s.turnAway(replyNotThrough)
	return false
}

// proxyHeader reads the PROXY header, which must be there. It reports whether the
// session is now that of a client, as against the proxy's own.
func (s *session) proxyHeader() bool {
	s.readBy(time.Now().Add(s.set.HandshakeTimeout), true)
	h, err := intercept.ReadHeader(s.raw)
	if err != nil {
		s.linger = true // the client has sent something else
		s.log(slog.LevelWarn, "bad PROXY header", slog.String("from", s.sess.Client.String()), slog.String("error", err.Error()))
		s.turnAway(replyProxyHeader)
		return false
	}
	if h.Known {
		s.sess.Client, s.sess.Local = h.Source, h.Original
	}
	return h.Known
}

// turnAway ends a session before its greeting. Before a TLS handshake there is no way
// to say why.
func (s *session) turnAway(line string) {
	if s.set.TLS != TLSImplicit || s.sess.TLS.Active() {
		s.say("CONNECT", line)
	}
	s.endBecause(line[len("-ERR "):])
}

// greet passes the server's greeting on as it is: APOP is made with what stands in it
// (RFC 1939 §7). Where the client names the server later, we greet ourselves, without
// anything that could be taken for a timestamp.
func (s *session) greet() bool {
	address, name := s.set.Upstream.Address, ""
	switch s.set.Upstream.Mode {
	case Login:
		s.say("CONNECT", "+OK "+s.set.Hostname+" POP3 ready")
		return !s.over
	case Original:
		if !s.sess.Original.IsValid() {
			s.turnAway(replyNotThrough)
			return false
		}
		// The name that the client asked for by SNI is all that is known of the server's.
		address, name = s.sess.Original.String(), s.sni()
	}
	if name == "" {
		name, _, _ = net.SplitHostPort(address)
	}
	if !s.attach(address, name, "CONNECT") {
		s.endBecause("no server")
		return false
	}
	s.relay("CONNECT", s.up.greeting)
	return !s.over
}

// attach connects to the server, or answers why not.
func (s *session) attach(address, name, verb string) bool {
	s.sess.Server = address
	u, err := s.connect(address, name)
	if err == nil {
		s.up = u
		return true
	}
	s.log(slog.LevelWarn, "no server", slog.String("client", s.sess.Client.String()), slog.String("server", address), slog.String("error", err.Error()))
	var refused *refusal
	if errors.As(err, &refused) {
		s.relay(verb, refused.line)
		return false
	}
	s.say(verb, replyNoServer)
	return false
}
