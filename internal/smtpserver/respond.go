package smtpserver

import (
	"log/slog"
	"time"

	"gatepost/internal/mail"
)

// Every command is answered with a mail.Decision whose reply is filled in: the
// engine's own come from say, a hook's go through decide. respond turns them into
// acts on the wire.

// say is the decision to give a reply of the table.
func (s *session) say(key mail.ReplyKey) mail.Decision {
	r := s.srv.replies[key]
	return mail.Decision{Act: actOf(r), Reply: r}
}

// sayLast is say, and closes.
func (s *session) sayLast(key mail.ReplyKey) mail.Decision {
	d := s.say(key)
	d.Close = true
	return d
}

// sayAndLinger is sayLast for when the client may be in the middle of sending.
func (s *session) sayAndLinger(key mail.ReplyKey) mail.Decision {
	s.linger = true
	return s.sayLast(key)
}

func actOf(r mail.Reply) mail.Act {
	switch {
	case r.Permanent():
		return mail.Reject
	case r.Temporary():
		return mail.Defer
	}
	return mail.Accept
}

// defaults are the replies of a stage for hooks that give none.
type defaults struct{ accept, defers, reject mail.ReplyKey }

// decide completes a hook's decision: its findings go to the session, or to the
// transaction where there is one, and its reply must be of the class of its act.
func (s *session) decide(stage mail.Stage, d mail.Decision, def defaults) mail.Decision {
	switch stage {
	case mail.StageMail, mail.StageRcpt, mail.StageData:
		s.tx.findings = addFindings(s.tx.findings, d.Findings)
	default:
		s.note(d.Findings...)
	}
	if d.Act != mail.Drop && (d.Reply.IsZero() || actOf(d.Reply) != d.Act || d.Reply.Code/100 == 3 && stage != mail.StageData) {
		d.Reply = s.srv.replies[def.key(d.Act)]
	}
	if d.Bandwidth > 0 {
		s.bandwidth = d.Bandwidth
	}
	if d.Act != mail.Accept {
		s.logRefusal(stage, d)
		s.noteRefusal(stage, d)
	}
	return d
}

// logRefusal tells the administrator what was refused and why: the client got
// the reply only.
func (s *session) logRefusal(stage mail.Stage, d mail.Decision) {
	attrs := []slog.Attr{
		slog.String("stage", string(stage)),
		slog.String("act", d.Act.String()),
		slog.String("client", s.sess.Client.String()),
		slog.String("helo", s.sess.Helo),
	}
	switch {
	case s.tx.env != nil:
		attrs = append(attrs, slog.String("id", s.tx.env.ID.String()), slog.String("sender", s.tx.env.Sender.String()))
		if s.asked != "" {
			attrs = append(attrs, slog.String("recipient", s.asked))
		}
	case stage == mail.StageMail:
		attrs = append(attrs, slog.String("sender", s.asked))
	}
	if !d.Reply.IsZero() {
		attrs = append(attrs, slog.String("reply", d.Reply.String()))
	}
	s.log(slog.LevelInfo, "refused", append(attrs, slog.String("reason", d.Reason))...)
}

func (d defaults) key(a mail.Act) mail.ReplyKey {
	switch a {
	case mail.Accept:
		return d.accept
	case mail.Reject:
		return d.reject
	}
	return d.defers
}

// respond carries a decision about a command out.
func (s *session) respond(verb string, d mail.Decision) {
	if d.Act == mail.Drop {
		s.discardOut()
		s.endBecause("dropped by policy")
		return
	}
	if d.Reply.Permanent() {
		// A greeting answers no command: who is refused for his errors would never
		// come to an end of them.
		if verb != "CONNECT" {
			s.tellRefused()
		}
		d = s.punish(d)
	}
	if d.Delay > 0 && !s.pause(d.Delay) {
		d = s.sayLast(mail.ReplyShuttingDown)
	}
	s.write(verb, d.Reply)
	// RFC 5321 §3.8: 421 says that the channel is being closed.
	if d.Close || d.Reply.Code == 421 {
		s.endBecause(d.Reply.String())
	}
}

// respondMessage answers the end of mail data. Whatever the client did wrong before,
// it must learn the fate of its message.
func (s *session) respondMessage(d mail.Decision) {
	if d.Reply.Permanent() {
		s.faults++
		s.sum.Errors++
		s.tellRefused()
	}
	s.write("MESSAGE", d.Reply)
	if d.Close || d.Reply.Code == 421 {
		s.endBecause(d.Reply.String())
	}
}

// punish counts errors: a client that makes many is slowed down, then sent away.
func (s *session) punish(d mail.Decision) mail.Decision {
	s.faults++
	s.sum.Errors++
	switch {
	case s.faults > s.set.MaxErrors:
		return s.sayAndLinger(mail.ReplyTooManyErrors)
	case s.faults > s.set.MaxErrors/2:
		d.Delay += s.set.ErrorDelay
	}
	return d
}

func (s *session) tellRefused() {
	if h := s.set.hooks.Refused; h != nil {
		h.Refused(&s.sess)
	}
}

// pause waits before an answer. What was answered before is sent first, so that
// the client sees that it goes on. It reports false when the server stops.
func (s *session) pause(d time.Duration) bool {
	if s.flush() != nil {
		s.endBecause("write failed")
		return true
	}
	sleep(s.srv.ctx, s.srv.draining, d)
	select {
	case <-s.srv.draining: // the session itself may hear of it a moment later
		return false
	default:
		return !s.stopping()
	}
}

// write appends a reply to those that wait to be sent.
func (s *session) write(verb string, r mail.Reply) {
	out := s.pending()
	*out = r.Append(*out)
	s.srv.replied(s.set, verb, r.Code)
	if s.srv.opts.Log.Enabled(s.srv.ctx, slog.LevelDebug) {
		s.log(slog.LevelDebug, "command", slog.String("verb", verb), slog.String("reply", r.String()))
	}
	if len(*out) >= outBuffer && s.flush() != nil {
		s.endBecause("write failed")
	}
}
