package pop3proxy

import (
	"crypto/tls"
	"log/slog"

	"gatepost/internal/pop3"
)

// stls is STLS (RFC 2595 §4). It is between the client and us: the server never hears it.
func (s *session) stls(c pop3.Command) {
	switch {
	case s.sess.TLS.Active():
		s.refuse("STLS", "-ERR TLS is active")
		return
	case s.authorized:
		s.refuse("STLS", replyLoggedIn)
		return
	case !s.offersTLS():
		s.refuse("STLS", "-ERR TLS is not available")
		return
	case !c.Bare():
		s.refuse("STLS", replyArguments)
		return
	case len(s.in.Buffered()) > 0:
		// Somebody on the way may have put these bytes in, to have them executed as if they
		// had come through TLS. Nobody honest sends them.
		s.say("STLS", "-ERR nothing may follow STLS before TLS")
		s.linger = true
		s.endBecause("bytes after STLS")
		return
	}
	s.say("STLS", "+OK begin TLS")
	if s.flush() != nil {
		s.endBecause("write failed")
		return
	}
	if !s.handshake() {
		return
	}
	// RFC 2595 §4: nothing that the client said before is believed.
	s.named = ""
}

// handshake puts TLS on the client's connection, or ends the session.
func (s *session) handshake() bool {
	state, err := s.secure(s.set.TLSConfig, s.set.HandshakeTimeout)
	if err != nil {
		s.log(slog.LevelInfo, "TLS handshake failed", slog.String("client", s.sess.Client.String()), slog.String("error", err.Error()))
		s.endBecause("TLS handshake failed")
		return false
	}
	s.sess.TLS = tlsState(state)
	return true
}

// sni is the name that the client asked for in its handshake, "" for none.
func (s *session) sni() string {
	if conn, ok := s.conn.(*tls.Conn); ok {
		return conn.ConnectionState().ServerName
	}
	return ""
}
