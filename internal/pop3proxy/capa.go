package pop3proxy

import (
	"strings"

	"gatepost/internal/pop3"
)

// ownCapabilities are those of a server of which nothing else is known: RFC 1939's
// optional commands, which nearly all have.
var ownCapabilities = []string{"TOP", "USER", "UIDL"}

// capa is CAPA (RFC 2449 §5): what both sides can do, and our own STLS.
func (s *session) capa() {
	caps, known := pop3.Capabilities(nil), false
	if s.up == nil {
		// The server is named by the login, and greets only then: nothing but USER can do it.
		caps, known = append(caps, ownCapabilities...), true
		caps = append(caps, "RESP-CODES", "PIPELINING")
	} else {
		var ok bool
		if caps, known, ok = s.upstreamCapabilities(); !ok {
			return
		}
	}
	if !known {
		if !s.offersTLS() {
			s.say("CAPA", replyUnknown)
			return
		}
		// RFC 2595 §4 has clients look for STLS in the list: there must be one.
		caps = append(caps, ownCapabilities...)
	}
	s.say("CAPA", "+OK capability list follows")
	for _, line := range caps.Through() {
		if s.set.TLS == TLSRequired && !s.sess.TLS.Active() && isLogin(line) {
			continue
		}
		s.put([]byte(line), []byte("\r\n"))
	}
	if s.offersTLS() {
		s.put([]byte("STLS\r\n"))
	}
	s.put([]byte(".\r\n"))
}

// isLogin reports whether a capability is a way to log in.
func isLogin(line string) bool {
	tag, _, _ := strings.Cut(line, " ")
	return strings.EqualFold(tag, "USER") || strings.EqualFold(tag, "SASL")
}

// upstreamCapabilities asks the server. ok is false when it is gone.
func (s *session) upstreamCapabilities() (caps pop3.Capabilities, known, ok bool) {
	s.up.patience(s.up.timeout)
	caps, known, err := s.up.capabilities()
	if err != nil {
		s.lost(err)
		return nil, false, false
	}
	return caps, known, true
}

// offersTLS reports whether STLS is possible now. RFC 2595 §4: before the login only.
func (s *session) offersTLS() bool {
	return (s.set.TLS == TLSStart || s.set.TLS == TLSRequired) && !s.sess.TLS.Active() && !s.authorized
}
