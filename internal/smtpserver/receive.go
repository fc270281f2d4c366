package smtpserver

import (
	"errors"
	"os"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/smtp"
)

// receiver is one message on its way in, by DATA or by BDAT.
type receiver struct {
	active bool
	dec    smtp.DataDecoder
	intake Intake // nil when there is none, or no longer
	// refusal is why the message will not be taken; zero while it may be.
	refusal mail.Reply
	// raw counts bytes as they came, drained those after the refusal.
	raw, drained int64
	// begun and refusedAt are readings of wire.waited.
	begun, refusedAt time.Duration
	lastRead         int
}

// openMessage asks the data hook and opens the intake. On Accept the receiver is
// active, and the reply is the one to DATA.
func (s *session) openMessage(mode smtp.DataMode) mail.Decision {
	env := s.tx.env
	switch {
	case env == nil:
		return s.say(s.needMail())
	case len(env.Recipients) == 0 && s.tx.refused > 0:
		return s.say(mail.ReplyNoValidRcpts)
	case len(env.Recipients) == 0:
		return s.say(mail.ReplyNeedRcpt)
	case env.Body == mail.BodyBinary && mode == smtp.DataDots:
		return s.say(mail.ReplyNoDataBinary) // RFC 3030 §3
	case env.Body == mail.BodyBinary:
		mode = smtp.DataBinary
	}
	// No RCPT comes any more: now what was seen at them may be known.
	env.Session = s.withFindings()
	var d mail.Decision
	if h := s.set.hooks.Data; h != nil {
		d = h.Data(s.srv.ctx, env)
	}
	d = s.decide(mail.StageData, d, defaults{mail.ReplyStartData, mail.ReplyTryLater, mail.ReplyContentRejected})
	if d.Act != mail.Accept {
		s.resetTransaction()
		return d
	}
	if d.Reply.Code != 354 {
		d.Reply = s.srv.replies[mail.ReplyStartData]
	}
	env.Session = s.withFindings()
	intake, err := s.set.hooks.Intake.Open(s.srv.ctx, env)
	if err != nil {
		s.logIntakeError("open intake", err)
		s.resetTransaction()
		return s.say(intakeReply(err))
	}
	s.rx = receiver{active: true, intake: intake, begun: s.waited}
	s.rx.dec.Reset(mode)
	return d
}

// intakeReply chooses the reply to an intake's error.
func intakeReply(err error) mail.ReplyKey {
	var chosen interface{ SMTPReply() mail.ReplyKey }
	if errors.As(err, &chosen) {
		return chosen.SMTPReply()
	}
	return mail.ReplyLocalError
}

// refuse gives the message up. The client hears of it at the end of its data.
func (r *receiver) refuse(s *session, reply mail.Reply) {
	r.refusal, r.refusedAt = reply, s.waited
	r.abort()
	d := mail.Decision{Act: actOf(reply), Reply: reply}
	s.logRefusal(mail.StageContent, d)
	s.noteRefusal(mail.StageContent, d)
}

// abort makes the intake forget the message.
func (r *receiver) abort() {
	if r.intake != nil {
		r.intake.Abort()
		r.intake = nil
	}
}

// patience is how long the session waits for more of the message, and the reply
// when nothing came. Only the time spent in waiting for the client counts, not
// what hooks, disk or our own throttling take.
func (r *receiver) patience(s *session) (time.Duration, mail.ReplyKey) {
	waited := s.waited - r.begun
	left, reason := s.set.CommandTimeout, mail.ReplyIdle
	total := s.set.DataTimeout - waited
	atRate := s.set.RateGrace + time.Duration(r.raw/s.set.MinDataRate)*time.Second - waited
	if slow := min(total, atRate); slow < left {
		left, reason = slow, mail.ReplyTooSlow
	}
	if r.refusal.Code != 0 {
		left = min(left, s.set.DrainTimeout-(s.waited-r.refusedAt))
	}
	return left, reason
}

// fillData reads more of the message. When that fails it answers the client, if
// there is one, and reports false; then the session is over, because where the
// message would end is not known.
func (s *session) fillData() bool {
	if s.flush() != nil {
		s.endBecause("write failed")
		return false
	}
	// Only a client that fills the small buffer is lent a large one: thousands of
	// slow ones must not hold 64 KiB each.
	if s.rx.lastRead >= lineBuffer {
		s.borrow()
	} else {
		s.release()
	}
	left, reason := s.rx.patience(s)
	s.readBy(time.Now().Add(left), false)
	n, err := s.in.Fill()
	s.rx.lastRead = n
	if err == nil {
		return true
	}
	switch {
	case !errors.Is(err, os.ErrDeadlineExceeded):
		s.lost(err)
	case s.rx.refusal.Code != 0:
		s.giveUp(s.rx.refusal)
	case s.dying():
		s.giveUp(s.srv.replies[mail.ReplyShuttingDown])
	default:
		s.giveUp(s.srv.replies[reason])
	}
	return false
}

// giveUp answers in the middle of a message and ends the session: the rest of the
// message must never be read as commands.
func (s *session) giveUp(r mail.Reply) {
	s.linger = true
	s.respondMessage(mail.Decision{Reply: r, Close: true})
}

// maxPiece is how much is decoded at a time, so that the result fits a data buffer.
const maxPiece = (dataBuffer - smtp.MaxExpansion) / 2

// take decodes the start of src into the intake. It returns how much of src it
// took and whether the message ends there.
func (s *session) take(src []byte) (n int, end bool) {
	buf := s.srv.dataBufs.Get().(*[dataBuffer]byte)
	defer s.srv.dataBufs.Put(buf)
	r := &s.rx
	out, n, end := r.dec.Decode(buf[:0], src[:min(len(src), maxPiece)])
	r.raw += int64(n)
	s.sum.BytesIn += int64(n)
	if r.refusal.Code != 0 {
		r.drained += int64(n)
		return n, end
	}
	s.keep(out)
	return n, end
}

// keep checks the limits and writes to the intake.
func (s *session) keep(out []byte) {
	r := &s.rx
	f := r.dec.Facts()
	switch {
	case f.Normalized && s.set.LineEndings == Reject:
		r.refuse(s, s.srv.replies[mail.ReplyBareLineEnd])
	case f.Size > s.set.MaxMessageSize:
		r.refuse(s, s.srv.replies[mail.ReplyTooBig])
	case f.HeaderSize > s.set.MaxHeaderSize:
		r.refuse(s, s.srv.replies[mail.ReplyHeaderTooBig])
	default:
		if len(out) == 0 {
			return
		}
		if _, err := r.intake.Write(out); err != nil {
			s.logIntakeError("write to intake", err)
			r.refuse(s, s.srv.replies[intakeReply(err)])
		}
	}
}

// overdrained reports whether too much came after the refusal.
func (s *session) overdrained() bool { return s.rx.drained > s.set.DrainLimit }

// answerEach writes the replies for each recipient, between a 353 and the final
// reply. A client that asked for them waits for these even where all say the same;
// only a message that failed as a whole is answered at once (draft-hall-prdr-00).
func (s *session) answerEach(in Intake, final mail.Reply) {
	var all []mail.Reply
	if p, ok := in.(PerRecipient); ok {
		all = p.Answers()
	}
	if !final.Positive() && all == nil {
		return
	}
	s.write("MESSAGE", s.srv.replies[mail.ReplyPerRecipient])
	for i := range s.tx.accepted {
		reply := s.srv.replies[mail.ReplyRecipientOK]
		if i < len(all) {
			reply = all[i]
		}
		s.write("MESSAGE", reply)
	}
}

// commit ends the transaction with a message that is complete.
func (s *session) commit() mail.Decision {
	// However it ends, the transaction is over.
	defer s.resetTransaction()
	r := &s.rx
	if r.refusal.Code != 0 {
		return mail.Decision{Reply: r.refusal}
	}
	s.tx.env.Session = s.withFindings()
	facts := r.dec.Facts()
	s.tx.committed = true
	reply := r.intake.Commit(s.srv.commitCtx, facts)
	if c := reply.Code / 100; c != 2 && c != 4 && c != 5 {
		reply = s.srv.replies[mail.ReplyLocalError]
	}
	if s.tx.env.PRDR {
		s.answerEach(r.intake, reply)
	}
	r.intake = nil
	if reply.Positive() {
		s.faults, s.junk = 0, 0
		s.sum.Messages++
		if o := s.srv.opts.Observer; o != nil {
			o.Received(s.set.Listener, facts.Size)
		}
	}
	return mail.Decision{Reply: reply}
}
