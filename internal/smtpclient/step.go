package smtpclient

import (
	"context"
	"slices"
	"time"

	"gatepost/internal/mail"
)

// A proxy cannot Send: its own client says bit by bit what is to be sent, and
// wants to hear of each bit what the remote says. Mail, Rcpt and Data are a
// transaction in steps. A refusal is a reply like any other; an error, always an
// *Error, is a session that is over.

// Mail begins a transaction with req's sender and parameters; the Content of req
// needs no more than its Size. A transaction that was left open ends.
func (c *Conn) Mail(ctx context.Context, req *Request) (mail.Reply, error) {
	defer c.watch(ctx)()
	if !c.Usable() {
		return mail.Reply{}, &Error{Stage: "mail", Key: mail.ReplyNextHopLost, Err: ErrSpent, Early: true}
	}
	if !legalPath(req.Sender.Raw) {
		return mail.ReplyBadSenderAddress.Reply(), nil
	}
	if c.dirty {
		if err := c.reset(); err != nil {
			return mail.Reply{}, early(err)
		}
	}
	c.transactions++
	c.dirty = true
	r, err := c.step("mail", c.d.cfg.Timeouts.Mail, string(c.appendMail(nil, req)))
	return r, early(err)
}

// early marks an error before any reply about the message. A reply that is none is
// the remote's fault, whatever the age of the session.
func early(err error) error {
	if e, ok := err.(*Error); ok {
		e.Early = e.Key != mail.ReplyNextHopProtocol
	}
	return err
}

// Rcpt names a recipient of the transaction that Mail began with req.
func (c *Conn) Rcpt(ctx context.Context, req *Request, r *mail.Recipient) (mail.Reply, error) {
	defer c.watch(ctx)()
	if !legalPath(r.Address.Raw) {
		return mail.ReplyBadAddress.Reply(), nil
	}
	return c.step("rcpt", c.d.cfg.Timeouts.Rcpt, string(c.appendRcpt(nil, req, r)))
}

// Noop keeps the remote from thinking that we are gone. Every answer but 421 is a
// sign of life.
func (c *Conn) Noop(ctx context.Context) error {
	defer c.watch(ctx)()
	if c.over {
		return &Error{Stage: "noop", Key: mail.ReplyNextHopLost, Err: ErrSpent}
	}
	r, err := c.ask("noop", c.d.cfg.Timeouts.Reset, "NOOP\r\n")
	switch {
	case err != nil:
		return err
	case r.Code/100 == 3:
		return c.violation("noop", r)
	}
	return nil
}

// Reset ends a transaction that was left open; where there is none it does nothing.
func (c *Conn) Reset(ctx context.Context) error {
	if c.over || !c.dirty {
		return nil
	}
	defer c.watch(ctx)()
	return c.reset()
}

// Data sends the content to req.Recipients, who must be those whom the remote took
// (at least one), and returns the outcome of each. The content goes only to its
// end where Content.WriteTo returns no error and writes Size bytes; the session is
// over otherwise. The error is why no reply was had, or why there was no content.
func (c *Conn) Data(ctx context.Context, req *Request) ([]mail.Outcome, error) {
	defer c.watch(ctx)()
	buf := c.d.buffers.Get().(*[]byte)
	defer c.d.buffers.Put(buf)

	t := &txn{c: c, req: req, out: make([]mail.Outcome, len(req.Recipients)), buf: (*buf)[:0]}
	for i := range req.Recipients {
		t.accepted = append(t.accepted, i)
	}
	if c.over {
		return t.unsent(&Error{Stage: "data", Key: mail.ReplyNextHopLost, Err: ErrSpent})
	}
	chunked := t.chunked()
	if !chunked {
		r, err := c.ask("data", c.d.cfg.Timeouts.DataInit, "DATA\r\n")
		if err == nil {
			err = t.dataAnswered(r)
		}
		if err != nil {
			return t.unsent(err)
		}
		if r.Code != 354 {
			for i := range t.out {
				t.set(i, "data", r)
			}
			return t.out, nil
		}
	}
	send := t.sendData
	if chunked {
		send = t.sendChunk
	}
	if err := t.finish(send()); err != nil {
		return t.out, err
	}
	// RFC 5321 §4.1.1.4: the end of the data ends the transaction, however it was
	// answered; RFC 3030 §2: a chunk that was refused leaves it open.
	c.dirty = chunked && !t.delivered()
	return t.out, nil
}

// unsent gives everybody the outcome of an error before the data.
func (t *txn) unsent(err *Error) ([]mail.Outcome, error) {
	t.lost(t.accepted, err, false)
	return t.out, err
}

// step sends a command to which 250, 251, 252, 4xx and 5xx are answers.
func (c *Conn) step(stage string, limit time.Duration, line string) (mail.Reply, error) {
	if c.over {
		return mail.Reply{}, &Error{Stage: stage, Key: mail.ReplyNextHopLost, Err: ErrSpent}
	}
	r, err := c.ask(stage, limit, line)
	switch {
	case err != nil:
		return r, err
	case r.Code/100 == 3, r.Positive() && !Done(r):
		return mail.Reply{}, c.violation(stage, r)
	}
	return r, nil
}

// Done reports whether a reply to MAIL, RCPT or the data is one of the positive
// ones that belong there (RFC 5321 §4.3.2; 252 is what some servers say to RCPT).
func Done(r mail.Reply) bool { return slices.Contains([]int{250, 251, 252}, r.Code) }

// XClient tells the remote, if it announced XCLIENT, whom it should take us for;
// each line is a list "NAME=value NAME=value" in xtext. It starts the conversation
// again, as helo where that is not "".
func (c *Conn) XClient(ctx context.Context, lines []string, helo string) error {
	defer c.watch(ctx)()
	if err := c.attributes("XCLIENT", lines, 220); err != nil {
		return err
	}
	if helo == "" {
		helo = c.d.cfg.Hostname
	}
	if err := c.helloAs(helo); err != nil {
		c.over = true
		return err
	}
	return nil
}

// XForward tells the remote, if it announced XFORWARD, for its log where the next
// message is from; the lines are as for XClient.
func (c *Conn) XForward(ctx context.Context, lines []string) error {
	defer c.watch(ctx)()
	return c.attributes("XFORWARD", lines, 250)
}

func (c *Conn) attributes(verb string, lines []string, want int) error {
	for _, line := range lines {
		if c.over || !legalPath(line) {
			return &Error{Stage: "ehlo", Key: mail.ReplyNextHopLost, Err: ErrSpent}
		}
		r, err := c.ask("ehlo", c.d.cfg.Timeouts.Hello, verb+" "+line+"\r\n")
		switch {
		case err != nil:
			return err
		case r.Temporary(), r.Permanent():
			return &Error{Stage: "ehlo", Reply: r}
		case r.Code != want:
			return c.violation("ehlo", r)
		}
	}
	return nil
}

// Clean reports that no transaction was left open.
func (c *Conn) Clean() bool { return !c.dirty }
