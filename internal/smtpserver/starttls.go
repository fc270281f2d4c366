package smtpserver

import (
	"log/slog"

	"gatepost/internal/mail"
	"gatepost/internal/smtp"
)

// startTLS is STARTTLS (RFC 3207).
func (s *session) startTLS(arg []byte) {
	d := s.say(mail.ReplyStartTLS)
	switch {
	case len(arg) > 0:
		d = s.say(mail.ReplySyntax)
	case s.sess.TLS.Active():
		d = s.say(mail.ReplyTLSActive)
	case !s.offers(smtp.ExtStartTLS):
		d = s.say(mail.ReplyNotImplemented)
	case len(s.in.Buffered()) > 0:
		// Somebody on the way may have put these bytes in, to have them executed
		// as if they had come through TLS. Nobody honest sends them.
		s.outOfTurn("pipelining-starttls", "bytes after STARTTLS")
		d = s.sayAndLinger(mail.ReplyAfterStartTLS)
	}
	s.respond("STARTTLS", d)
	if d.Act != mail.Accept || s.over {
		return
	}
	if s.flush() != nil {
		s.endBecause("write failed")
		return
	}
	if !s.handshake() {
		return
	}
	// RFC 3207 §4.2: nothing that the client said before is believed.
	s.resetTransaction()
	s.helo = false
	s.sess.Helo, s.sess.ESMTP, s.sess.User, s.sess.Senders = "", false, "", nil
}

// handshake puts TLS on the connection, or ends the session.
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
