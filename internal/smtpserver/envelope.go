package smtpserver

import (
	"errors"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/smtp"
)

// maxTries times MaxRecipients is how many RCPT one transaction may have.
const maxTries = 10

// mail is MAIL (RFC 5321 §4.1.1.2).
func (s *session) mail(arg []byte) mail.Decision {
	switch {
	case !s.helo:
		return s.say(mail.ReplyNeedHelo)
	case s.tx.env != nil:
		return s.say(mail.ReplyNestedMail)
	}
	args, err := smtp.ParseMail(string(arg), s.offer.Extensions)
	switch {
	case err != nil:
		return s.say(argumentReply(err, mail.ReplyBadSenderAddress))
	case args.RequireTLS && !s.sess.TLS.Active():
		return s.say(mail.ReplyNeedRequireTLS)
	case args.Size > s.offer.MessageSize:
		// RFC 1870 §6.1
		return s.say(mail.ReplyTooBig)
	}
	env := &mail.Envelope{
		ID:         mail.NewID(),
		Received:   time.Now(),
		Session:    s.snapshot(),
		Sender:     args.From,
		Body:       args.Body,
		SMTPUTF8:   args.SMTPUTF8,
		RequireTLS: args.RequireTLS,
		PRDR:       args.PRDR,
		Ret:        args.Ret,
		EnvID:      args.EnvID,
		Size:       args.Size,
	}
	s.asked = args.From.Raw
	defer func() { s.asked = "" }()
	var d mail.Decision
	if h := s.set.hooks.Mail; h != nil {
		d = h.Mail(s.srv.ctx, env)
	}
	s.tx.findings = nil
	d = s.decide(mail.StageMail, d, defaults{mail.ReplySenderOK, mail.ReplyTryLater, mail.ReplyAccessDenied})
	if d.Act == mail.Accept {
		s.tx = transaction{env: env, findings: s.tx.findings}
	} else {
		s.tx = transaction{}
	}
	return d
}

// rcpt is RCPT (RFC 5321 §4.1.1.3).
func (s *session) rcpt(arg []byte) mail.Decision {
	env := s.tx.env
	if env == nil {
		return s.say(s.needMail())
	}
	s.tx.tries++
	switch {
	case s.tx.tries > maxTries*s.set.MaxRecipients:
		return s.sayAndLinger(mail.ReplyTooManyErrors)
	case s.tx.accepted >= s.set.MaxRecipients:
		// RFC 5321 §4.5.3.1.10: the client sends the rest in another transaction.
		return s.say(mail.ReplyTooManyRcpts)
	}
	args, err := smtp.ParseRcpt(string(arg), s.offer.Extensions, env.SMTPUTF8)
	if err != nil {
		s.tx.refused++
		return s.say(argumentReply(err, mail.ReplyBadAddress))
	}
	r := mail.Recipient{Address: args.To, Original: args.To, Notify: args.Notify, ORcpt: args.ORcpt}
	s.asked = args.To.Raw
	defer func() { s.asked = "" }()
	var d mail.Decision
	if h := s.set.hooks.Rcpt; h != nil {
		d = h.Rcpt(s.srv.ctx, env, &r)
	}
	d = s.decide(mail.StageRcpt, d, defaults{mail.ReplyRecipientOK, mail.ReplyTryLater, mail.ReplyAccessDenied})
	if d.Act != mail.Accept {
		s.tx.refused++
		return d
	}
	s.tx.accepted++
	env.Recipients = append(env.Recipients, r)
	return d
}

// needMail is the reply for want of a transaction.
func (s *session) needMail() mail.ReplyKey {
	if !s.helo {
		return mail.ReplyNeedHelo
	}
	return mail.ReplyNeedMail
}

// argumentReply chooses the reply to an argument that could not be parsed.
func argumentReply(err error, address mail.ReplyKey) mail.ReplyKey {
	switch {
	case errors.Is(err, smtp.ErrNeedsUTF8):
		return mail.ReplyNeedsSMTPUTF8 // RFC 6531 §3.5
	case errors.Is(err, smtp.ErrAddress):
		return address
	case errors.Is(err, smtp.ErrUnknownParameter):
		return mail.ReplyBadParameter // RFC 5321 §4.1.1.11
	case errors.Is(err, smtp.ErrParameterValue):
		return mail.ReplyParameterValue
	}
	return mail.ReplySyntax
}
