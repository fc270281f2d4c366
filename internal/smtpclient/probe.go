package smtpclient

import (
	"context"

	"gatepost/internal/mail"
)

// ProbeMail begins a transaction that will carry no message, to hear what the
// remote says of recipients (ProbeRcpt). needUTF8 asks for SMTPUTF8, which the
// remote must have announced. The error, an *Error, is a session that is over; a
// refusal is a reply like any other.
func (c *Conn) ProbeMail(ctx context.Context, sender mail.Address, needUTF8 bool) (mail.Reply, error) {
	defer c.watch(ctx)()
	if !c.Usable() {
		return mail.Reply{}, &Error{Stage: "mail", Key: mail.ReplyNextHopLost, Err: ErrSpent}
	}
	if !legalPath(sender.Raw) {
		return mail.ReplyBadSenderAddress.Reply(), nil
	}
	if c.dirty {
		if err := c.reset(); err != nil {
			return mail.Reply{}, err
		}
	}
	line := "MAIL FROM:<" + sender.Raw + ">"
	if needUTF8 && c.ext.SMTPUTF8 {
		line += " SMTPUTF8"
	}
	c.transactions++
	c.dirty = true
	return c.probe("mail", line)
}

// ProbeRcpt asks whether the remote takes mail for the address, within the
// transaction that ProbeMail began.
func (c *Conn) ProbeRcpt(ctx context.Context, to mail.Address) (mail.Reply, error) {
	defer c.watch(ctx)()
	if !legalPath(to.Raw) {
		return mail.ReplyBadAddress.Reply(), nil
	}
	return c.probe("rcpt", "RCPT TO:<"+to.Raw+">")
}

// probe sends a command to which 2xx, 4xx and 5xx are answers.
func (c *Conn) probe(stage, line string) (mail.Reply, error) {
	if c.over {
		return mail.Reply{}, &Error{Stage: stage, Key: mail.ReplyNextHopLost, Err: ErrSpent}
	}
	limit := c.d.cfg.Timeouts.Mail
	if stage == "rcpt" {
		limit = c.d.cfg.Timeouts.Rcpt
	}
	r, err := c.ask(stage, limit, line+"\r\n")
	switch {
	case err != nil:
		return r, err
	case r.Code/100 == 3:
		return r, c.violation(stage, r)
	}
	return r, nil
}

// reset ends a transaction that was left open.
func (c *Conn) reset() error {
	r, err := c.ask("mail", c.d.cfg.Timeouts.Reset, "RSET\r\n")
	switch {
	case err != nil:
		return err
	case !r.Positive():
		return c.violation("mail", r)
	}
	c.dirty = false
	return nil
}
