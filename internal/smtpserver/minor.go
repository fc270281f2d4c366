package smtpserver

import (
	"gatepost/internal/mail"
	"gatepost/internal/smtp"
)

// minor is the verbs that need no more than a reply.
func (s *session) minor(c smtp.Command) mail.Decision {
	switch c.Verb {
	case smtp.VerbNOOP:
		return s.say(mail.ReplyOK)
	case smtp.VerbHELP:
		return s.say(mail.ReplyHelp)
	case smtp.VerbRSET:
		if len(c.Arg) > 0 {
			return s.say(mail.ReplySyntax)
		}
		s.resetTransaction()
		return s.say(mail.ReplyOK)
	case smtp.VerbVRFY:
		if len(c.Arg) == 0 {
			return s.say(mail.ReplySyntax)
		}
		// RFC 5321 §3.5.3 and §7.3: the same for every address, so that nobody
		// learns from it who exists.
		return s.say(mail.ReplyVrfy)
	case smtp.VerbQUIT:
		if len(c.Arg) > 0 {
			return s.say(mail.ReplySyntax)
		}
		s.resetTransaction()
		s.sum.Reason = "quit"
		return s.sayLast(mail.ReplyBye)
	case smtp.VerbEXPN, smtp.VerbETRN, smtp.VerbTURN:
		return s.say(mail.ReplyNotImplemented)
	case smtp.VerbHTTP:
		// What follows are header lines and a body that somebody else wrote.
		s.outOfTurn("http", "HTTP request")
		return s.sayAndLinger(mail.ReplyHTTP)
	}
	return s.say(mail.ReplyBadCommand)
}
