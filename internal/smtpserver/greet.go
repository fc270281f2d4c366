package smtpserver

import (
	"errors"
	"log/slog"
	"os"
	"time"

	"gatepost/internal/intercept"
	"gatepost/internal/mail"
)

// open brings a new connection to its greeting. It reports whether commands are to
// be read.
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
	s.xclient = within(s.set.XClientFrom, s.sess.Client.Addr())
	// A proxy's own connections are not counted as one client's: the clients that
	// it names are.
	if direct && !s.xclient && !s.admitNetwork() {
		return false
	}
	if s.set.TLS == TLSImplicit && !s.handshake() {
		return false
	}
	s.greet(true)
	return !s.over
}

// mayGoOn reports whether a diverted connection leads to somewhere else. One that
// would come back to us is turned away at its first turn, for the time being: it is
// a mistake in the firewall's rules or in a client, and no fault of the mail.
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
	s.turnAway(mail.ReplyNotThrough)
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
		s.turnAway(mail.ReplyProxyHeader)
		return false
	}
	if h.Known {
		s.sess.Client, s.sess.Local = h.Source, h.Original
	}
	return h.Known
}

// admitNetwork counts the session for its client's network.
func (s *session) admitNetwork() bool {
	network, ok := s.srv.opts.Limiter.enterFrom(s.sess.Client.Addr())
	if !ok {
		s.turnAway(mail.ReplyTooManyFromHost)
		return false
	}
	s.network = network
	return true
}

// turnAway ends a session before its greeting. Before a TLS handshake there is no
// way to say why.
func (s *session) turnAway(key mail.ReplyKey) {
	s.noteAway(key)
	if s.set.TLS == TLSImplicit && !s.sess.TLS.Active() {
		s.endBecause(s.srv.replies[key].String())
		return
	}
	s.respond("CONNECT", s.sayLast(key))
}

// greet decides about the connection and sends the greeting. first is false after
// XCLIENT.
func (s *session) greet(first bool) {
	s.sess.Trusted = within(s.set.TrustedNetworks, s.sess.Client.Addr())
	teased := first && s.set.PregreetDelay > 0
	if teased && !s.tease() {
		return
	}
	s.greeted = true
	var d mail.Decision
	if h := s.set.hooks.Connect; h != nil {
		d = h.Connect(s.srv.ctx, &s.sess)
	}
	d = s.decide(mail.StageConnect, d, defaults{mail.ReplyOK, mail.ReplyConnectDefer, mail.ReplyNoService})
	if d.Act == mail.Accept && d.Reply.Code != 220 {
		d.Reply = s.greeting()
	}
	if first && d.Act != mail.Drop && d.Delay > 0 {
		ended := false
		if d, ended = s.hold(d); ended {
			s.respond("CONNECT", d)
			return
		}
	}
	if teased {
		d = s.afterTeaser(d)
	}
	s.respond("CONNECT", d)
	if s.over || d.Act == mail.Accept {
		return
	}
	// RFC 5321 §3.1: after a refusing greeting, wait for QUIT and answer 503.
	if s.refused = d.Reply; d.Reply.Permanent() {
		s.refused = s.srv.replies[mail.ReplyBadSequence]
	}
}

// tease sends the first line of a greeting of several, which makes those talk who only
// wait for "220", and waits for them. It reports whether the session goes on.
func (s *session) tease() bool {
	out := s.pending()
	*out = append(append(append(*out, "220-"...), s.set.Hostname...), " ESMTP\r\n"...)
	d, ended := s.awaitTurn(s.set.PregreetDelay, mail.Decision{})
	if ended {
		s.respond("CONNECT", d)
	}
	return !ended
}

// afterTeaser makes a greeting whose first line is out already one that RFC 5321
// §4.2.1 allows: all lines have one code. Who is not wanted hears it in answer to the
// first command.
func (s *session) afterTeaser(d mail.Decision) mail.Decision {
	if d.Act == mail.Accept || d.Act == mail.Drop {
		return d
	}
	s.refused, s.refusedLast = d.Reply, d.Close
	return mail.Decision{Reply: s.greeting()}
}

// greeting is RFC 5321 §4.2's: the host name first. It has no enhanced code (RFC
// 2034 §4).
func (s *session) greeting() mail.Reply {
	return mail.Reply{Code: 220, Lines: []string{s.set.Hostname + " ESMTP"}}
}

// awaitTurn holds the greeting back to see whether the client waits for it, as it
// must (RFC 5321 §3.1). It reports what to answer then, and whether that is the end.
func (s *session) awaitTurn(wait time.Duration, d mail.Decision) (mail.Decision, bool) {
	d.Delay = 0
	if s.flush() != nil {
		s.endBecause("write failed")
		return mail.Decision{Act: mail.Drop}, true
	}
	s.readBy(time.Now().Add(wait), true)
	_, err := s.in.Fill()
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded) && s.stopping():
		return s.sayLast(mail.ReplyShuttingDown), true
	case errors.Is(err, os.ErrDeadlineExceeded):
		return d, false
	case err != nil:
		s.lost(err)
		return mail.Decision{Act: mail.Drop}, true
	}
	s.outOfTurn("pregreet", "client spoke before the greeting")
	if p := s.set.Pregreet; p == PenaltyDefer || p == PenaltyReject {
		return s.penalize(p, d), true
	}
	return d, false
}

// hold keeps the greeting back for as long as the decision says. Nobody gets it
// earlier by talking into it.
func (s *session) hold(d mail.Decision) (mail.Decision, bool) {
	until := time.Now().Add(d.Delay)
	// Of who has talked already nothing more is to be learned.
	if len(s.in.Buffered()) == 0 {
		var ended bool
		if d, ended = s.awaitTurn(d.Delay, d); ended {
			return d, true
		}
	}
	d.Delay = 0
	if rest := time.Until(until); rest > 0 && !s.pause(rest) {
		return s.sayLast(mail.ReplyShuttingDown), true
	}
	return d, false
}

// penalize replaces a decision by what the configuration has for clients that talk
// out of turn.
func (s *session) penalize(p Penalty, d mail.Decision) mail.Decision {
	switch p {
	case PenaltyDefer:
		return s.sayAndLinger(mail.ReplyEarlyDefer)
	case PenaltyReject:
		return s.sayAndLinger(mail.ReplyEarlyReject)
	}
	return d
}
