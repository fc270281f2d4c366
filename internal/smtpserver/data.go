package smtpserver

import (
	"log/slog"

	"gatepost/internal/mail"
	"gatepost/internal/smtp"
)

// data is DATA (RFC 5321 §4.1.1.4).
func (s *session) data(arg []byte) {
	d := s.say(mail.ReplySyntax)
	if len(arg) == 0 {
		d = s.openMessage(smtp.DataDots)
	}
	if early := len(s.in.Buffered()) > 0; early {
		// RFC 2920 §3.1: DATA must be the last of a group.
		s.outOfTurn("pipelining-data", "bytes before the reply to DATA")
		if d.Act == mail.Accept {
			d = s.penalize(s.set.Pipelining, d)
		}
		if d.Act != mail.Accept {
			// What is buffered can only be the message: not a line of it may be
			// read as a command.
			d.Close, s.linger = true, true
		}
	}
	s.respond("DATA", d)
	if d.Act != mail.Accept || s.over {
		return
	}
	if s.receiveDots() {
		s.respondMessage(s.commit())
	}
}

// receiveDots reads up to CRLF.CRLF. It reports false when it has ended the session.
func (s *session) receiveDots() bool {
	for {
		if len(s.in.Buffered()) == 0 && !s.fillData() {
			return false
		}
		n, end := s.take(s.in.Buffered())
		s.in.Discard(n)
		if end {
			return true
		}
		if s.overdrained() {
			s.giveUp(s.rx.refusal)
			return false
		}
	}
}

// logIntakeError logs why a message could not be taken in: the client only learns
// that it may try again.
func (s *session) logIntakeError(doing string, err error) {
	s.log(slog.LevelWarn, "message not taken", slog.String("id", s.tx.env.ID.String()), slog.String("doing", doing), slog.String("error", err.Error()))
}
