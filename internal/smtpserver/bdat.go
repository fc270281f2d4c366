package smtpserver

import (
	"gatepost/internal/mail"
	"gatepost/internal/smtp"
)

// bdat is BDAT (RFC 3030 §2). Its n bytes are n bytes, whatever they hold and
// whether they are wanted or not. Where n is unknown or absurd the session ends,
// because where commands go on is unknown too.
func (s *session) bdat(arg []byte) {
	size, last, ok := s.chunk(arg)
	if !ok {
		return
	}
	if size == 0 && !last {
		// An empty chunk brings no mail forward.
		if s.junk++; s.junk > s.set.MaxJunk {
			s.respond("BDAT", s.sayAndLinger(mail.ReplyTooManyErrors))
			return
		}
	}
	if !s.rx.active {
		d := s.openMessage(smtp.DataChunks)
		if d.Act != mail.Accept {
			s.drainChunk(size, d)
			return
		}
		if d.Delay > 0 && !s.pause(d.Delay) {
			s.respond("BDAT", s.sayAndLinger(mail.ReplyShuttingDown))
			return
		}
	}
	if !s.receiveChunk(size) {
		return
	}
	if last && s.rx.refusal.Code == 0 {
		s.finishChunks()
	}
	switch {
	case last:
		s.respondMessage(s.commit())
	case s.rx.refusal.Code != 0:
		// RFC 3030 §2: later chunks, which may be on their way, are answered 503.
		d := mail.Decision{Reply: s.rx.refusal}
		s.resetTransaction()
		s.respondMessage(d)
	default:
		s.respond("BDAT", s.say(mail.ReplyChunkOK))
	}
}

// chunk reads the argument of BDAT. When it can't be followed it answers, ends the
// session and reports false.
func (s *session) chunk(arg []byte) (size int64, last, ok bool) {
	size, last, err := smtp.ParseChunk(arg)
	switch {
	case !s.offers(smtp.ExtChunking):
		s.respond("BDAT", s.sayAndLinger(mail.ReplyNotImplemented))
	case err != nil:
		s.respond("BDAT", s.sayAndLinger(mail.ReplySyntax))
	case size > s.set.MaxMessageSize+s.set.DrainLimit:
		s.respond("BDAT", s.sayAndLinger(mail.ReplyTooBig))
	default:
		return size, last, true
	}
	return 0, false, false
}

// refuseChunk answers a BDAT that the state of the session does not allow.
func (s *session) refuseChunk(arg []byte, d mail.Decision) {
	if d.Close {
		s.respond("BDAT", d)
		return
	}
	if size, _, ok := s.chunk(arg); ok {
		s.drainChunk(size, d)
	}
}

// drainChunk throws the bytes of a chunk away and answers with d.
func (s *session) drainChunk(size int64, d mail.Decision) {
	if d.Act == mail.Drop {
		s.respond("BDAT", d)
		return
	}
	s.rx = receiver{active: true, begun: s.waited}
	s.rx.dec.Reset(smtp.DataChunks)
	s.rx.refuse(s, d.Reply)
	if s.receiveChunk(size) {
		s.rx = receiver{}
		s.respond("BDAT", d)
	}
}

// receiveChunk reads the bytes of a chunk. It reports false when it has ended the
// session.
func (s *session) receiveChunk(size int64) bool {
	for size > 0 {
		if len(s.in.Buffered()) == 0 && !s.fillData() {
			return false
		}
		b := s.in.Buffered()
		n, _ := s.take(b[:min(int64(len(b)), size)])
		s.in.Discard(n)
		size -= int64(n)
		if s.overdrained() {
			s.giveUp(s.rx.refusal)
			return false
		}
	}
	return true
}

// finishChunks takes what the last byte of the message still owes.
func (s *session) finishChunks() {
	var rest [smtp.MaxExpansion]byte
	s.keep(s.rx.dec.Finish(rest[:0]))
}
