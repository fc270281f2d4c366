package smtpclient

import (
	"context"
	"time"

	"gatepost/internal/mail"
)

// Bounds on what is sent before replies are read. A server that is stuck
// because nobody reads its replies would never read our commands (RFC 2920 §3.1).
const (
	maxPipelined      = 100   // commands
	maxPipelinedBytes = 16384 // octets
)

// verb is a command whose reply is due.
type verb uint8

const (
	verbReset verb = iota
	verbMail
	verbRcpt
	verbData
)

// due is a reply that is to come.
type due struct {
	verb verb
	rcpt int // for verbRcpt: index into Request.Recipients
}

// scratch is memory that a Conn keeps from one message to the next.
type scratch struct {
	due      []due
	todo     []int
	accepted []int
	again    []int
}

// txn is one transaction: MAIL to the reply to the final dot.
type txn struct {
	c    *Conn
	req  *Request
	out  []mail.Outcome
	buf  []byte // commands that are not sent yet
	due  []due
	seen bool // a reply to MAIL was read

	refusal  mail.Reply // of MAIL; zero if it was accepted
	accepted []int      // recipients that the remote took
	again    []int      // recipients that it wants in a transaction of their own
	data     mail.Reply // to DATA
}

// Send makes the remote take the message, in several transactions if it limits
// the number of recipients. It returns one outcome per recipient in their order.
//
// Where the session ends before the message itself was on its way, the error (an
// *Error) says why, and the recipients that were not answered have the zero
// Outcome: they may be tried elsewhere at once, or get Error.Outcome. In every
// other case each recipient has its outcome.
func (c *Conn) Send(ctx context.Context, req *Request) ([]mail.Outcome, error) {
	defer c.watch(ctx)()
	buf := c.d.buffers.Get().(*[]byte)
	defer c.d.buffers.Put(buf)

	out := make([]mail.Outcome, len(req.Recipients))
	todo := c.presentable(req, out)
	early := true
	for len(todo) > 0 {
		if !c.Usable() {
			return out, &Error{Stage: "mail", Key: mail.ReplyNextHopLost, Err: ErrSpent}
		}
		batch := todo
		if n := c.ext.RcptMax; n > 0 && len(batch) > n {
			batch = todo[:n]
		}
		t := &txn{c: c, req: req, out: out, buf: (*buf)[:0],
			due: c.scratch.due[:0], accepted: c.scratch.accepted[:0], again: c.scratch.again[:0]}
		err := t.run(batch)
		c.scratch.due, c.scratch.accepted, c.scratch.again = t.due, t.accepted, t.again
		if !t.refusal.IsZero() {
			// What the remote says of the sender it would say again, so that it
			// holds for those who were not named yet, too.
			t.refuse(todo)
			todo = nil
		}
		if err != nil {
			err.Early = early && !t.seen
			return out, err
		}
		early = false
		todo = t.remaining(todo, len(batch))
	}
	return out, nil
}

// presentable returns the recipients that may be named on the wire. Addresses come
// from a parser that lets no control character pass; this is the last look.
func (c *Conn) presentable(req *Request, out []mail.Outcome) []int {
	refuse := func(i int, stage string, key mail.ReplyKey) {
		out[i] = mail.Outcome{Status: mail.Failed, Reply: key.Reply(), Stage: stage, Host: c.host, TLS: c.tls, Time: time.Now()}
	}
	todo := c.scratch.todo[:0]
	sender := legalPath(req.Sender.Raw)
	for i := range req.Recipients {
		switch {
		case !sender:
			refuse(i, "mail", mail.ReplyBadSenderAddress)
		case !legalPath(req.Recipients[i].Address.Raw):
			refuse(i, "rcpt", mail.ReplyBadAddress)
		default:
			todo = append(todo, i)
		}
	}
	c.scratch.todo = todo
	return todo
}

// remaining is who is left after a transaction of the first n of todo.
func (t *txn) remaining(todo []int, n int) []int {
	rest := todo[min(n, len(todo)):]
	if t.delivered() {
		rest = append(rest, t.again...)
	}
	return rest
}

// refuse gives the refusal of MAIL to those who have no better answer.
func (t *txn) refuse(whom []int) {
	for _, i := range whom {
		if t.out[i].Status == "" {
			t.set(i, "mail", t.refusal)
		}
	}
}

// delivered reports that the message was taken for somebody, without which
// trying the recipients that were too many again at once would be a loop.
func (t *txn) delivered() bool {
	for _, i := range t.accepted {
		if t.out[i].Status == mail.Delivered {
			return true
		}
	}
	return false
}

// run is one transaction for the recipients of batch.
func (t *txn) run(batch []int) *Error {
	c := t.c
	c.transactions++
	if err := t.envelope(batch); err != nil {
		return err
	}
	switch {
	case !t.refusal.IsZero():
		return nil // no transaction was opened
	case len(t.accepted) == 0:
		c.dirty = true
		return t.abandon()
	case t.chunked():
		return t.finish(t.sendChunk())
	case t.data.Code == 354:
		return t.finish(t.sendData())
	}
	// DATA itself was refused: that is the answer for everybody who was accepted.
	c.dirty = true
	for _, i := range t.accepted {
		t.set(i, "data", t.data)
	}
	return nil
}

// chunked reports whether the message goes by BDAT. It needs a size, and pays for
// large messages: no 354 to wait for and no dots to look for. Binary content
// cannot go otherwise (RFC 3030 §3).
func (t *txn) chunked() bool {
	c := t.c
	size := t.req.Content.Size()
	return c.ext.Chunking && size >= 0 && (size >= c.d.cfg.ChunkFrom || t.binary())
}

func (t *txn) binary() bool { return t.req.Body == mail.BodyBinary && t.c.ext.Binary }

// envelope sends MAIL, RCPT and, unless the message goes by BDAT, DATA, in as
// few writes as the remote allows, and reads the replies.
func (t *txn) envelope(batch []int) *Error {
	c := t.c
	if c.dirty {
		t.buf = append(t.buf, "RSET\r\n"...)
		if err := t.queue(due{verb: verbReset}); err != nil {
			return err
		}
		c.dirty = false
	}
	t.buf = c.appendMail(t.buf, t.req)
	if err := t.queue(due{verb: verbMail}); err != nil {
		return err
	}
	for _, i := range batch {
		if !t.refusal.IsZero() {
			break
		}
		t.buf = c.appendRcpt(t.buf, t.req, &t.req.Recipients[i])
		if err := t.queue(due{verb: verbRcpt, rcpt: i}); err != nil {
			return err
		}
	}
	// Without pipelining we know by now whether DATA makes sense.
	if t.refusal.IsZero() && !t.chunked() && (len(t.accepted) > 0 || len(t.due) > 0) {
		t.buf = append(t.buf, "DATA\r\n"...)
		t.due = append(t.due, due{verb: verbData})
	}
	return t.sync()
}

// queue notes that the command at the end of buf awaits a reply, and sends what
// is gathered when that is as much as may be sent at once.
func (t *txn) queue(d due) *Error {
	t.due = append(t.due, d)
	if !t.c.ext.Pipelining || len(t.due) >= maxPipelined || len(t.buf) >= maxPipelinedBytes {
		return t.sync()
	}
	return nil
}

// sync sends the commands in buf in one write and reads their replies.
func (t *txn) sync() *Error {
	c := t.c
	if len(t.due) == 0 {
		return nil
	}
	if c.replies.Buffered() > 0 {
		return t.broken(c.fail(t.due[0].stage(), errUnasked))
	}
	c.arm(t.due[0].limit(&c.d.cfg.Timeouts))
	if _, err := c.nc.Write(t.buf); err != nil {
		return c.fail(t.due[0].stage(), err)
	}
	t.buf = t.buf[:0]
	for _, d := range t.due {
		r, err := c.reply(d.stage(), d.limit(&c.d.cfg.Timeouts))
		if err == nil {
			err = t.answered(d, r)
		}
		if err != nil {
			return t.broken(err)
		}
	}
	t.due = t.due[:0]
	if c.replies.Buffered() > 0 {
		return t.broken(c.fail("data", errUnasked))
	}
	return nil
}

// broken is called with what ended the session. Where replies and commands do
// not match, no reply of this transaction can be trusted.
func (t *txn) broken(err *Error) *Error {
	if err.Key == mail.ReplyNextHopProtocol && err.Reply.IsZero() {
		t.seen = true
		t.overrule(err)
	}
	return err
}

// overrule gives everybody who does not have the message the outcome of err.
func (t *txn) overrule(err *Error) {
	o := t.stamp(err.Outcome())
	for i := range t.out {
		if t.out[i].Status != mail.Delivered {
			t.out[i] = o
		}
	}
}

func (d due) stage() string {
	switch d.verb {
	case verbRcpt:
		return "rcpt"
	case verbData:
		return "data"
	}
	return "mail"
}

func (d due) limit(t *Timeouts) time.Duration {
	switch d.verb {
	case verbReset:
		return t.Reset
	case verbMail:
		return t.Mail
	case verbRcpt:
		return t.Rcpt
	}
	return t.DataInit
}

// answered takes the reply to a command.
func (t *txn) answered(d due, r mail.Reply) *Error {
	if d.verb == verbData {
		return t.dataAnswered(r)
	}
	if r.Code/100 == 3 {
		return t.c.violation(d.stage(), r)
	}
	switch d.verb {
	case verbReset:
		if !r.Positive() {
			return t.c.violation("mail", r)
		}
	case verbMail:
		t.seen = true
		if !r.Positive() {
			t.refusal = r
		}
	case verbRcpt:
		if t.refusal.IsZero() {
			t.rcptAnswered(d.rcpt, r)
		}
	}
	return nil
}

func (t *txn) rcptAnswered(i int, r mail.Reply) {
	if r.Positive() {
		t.accepted = append(t.accepted, i)
		return
	}
	t.set(i, "rcpt", r)
	// RFC 5321 §4.5.3.1.10: 452 after accepted recipients means that these are
	// enough for now, and so may 552 where nothing says that a mailbox is full.
	// Whoever is meant by it himself hears it again when he is the first.
	if len(t.accepted) > 0 && (r.Code == 452 || r.Code == 552 && (r.Enhanced == "" || r.Enhanced == "5.5.3")) {
		t.out[i].Status = mail.Deferred
		t.again = append(t.again, i)
	}
}

func (t *txn) dataAnswered(r mail.Reply) *Error {
	// RFC 5321 §3.3: nothing but 354 asks for the message.
	if r.Code/100 == 3 && r.Code != 354 || r.Positive() {
		return t.c.violation("data", r)
	}
	t.data = r
	if r.Code == 354 && !t.refusal.IsZero() {
		// It refused the sender and wants his message. There is no way on from here.
		t.c.over = true
	}
	return nil
}

// abandon closes a transaction in which nobody was accepted.
func (t *txn) abandon() *Error {
	c := t.c
	if t.data.Code != 354 {
		return nil
	}
	// RFC 2920 §3.1: a server that answers 354 without recipients gets an empty
	// message. Under LMTP nobody knows how many replies that has.
	if c.d.cfg.LMTP {
		c.over = true
		return nil
	}
	c.dirty = false
	if _, err := c.ask("eod", c.d.cfg.Timeouts.DataDone, ".\r\n"); err != nil {
		// Everybody has his answer already.
		c.over = true
	}
	return nil
}

// set records a reply as the outcome of a recipient.
func (t *txn) set(i int, stage string, r mail.Reply) {
	o := mail.Outcome{Reply: r, Remote: true, Stage: stage, Time: time.Now()}
	switch {
	case r.Positive():
		o.Status = mail.Delivered
		// RFC 3461 §5.2.2: who was given NOTIFY reports success himself.
		o.DSNPassed = t.c.ext.DSN && t.req.Recipients[i].Notify != 0
	case r.Permanent():
		o.Status = mail.Failed
	default:
		o.Status = mail.Deferred
	}
	t.out[i] = t.stamp(o)
}

// stamp says who was spoken to.
func (t *txn) stamp(o mail.Outcome) mail.Outcome {
	o.Host, o.TLS = t.c.host, t.c.tls
	return o
}
