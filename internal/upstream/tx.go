package upstream

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/smtpclient"
)

// Tx is a transaction with one upstream. Its steps are for one goroutine at a time;
// between them it keeps the session alive by itself. Data or Abort must end it.
type Tx struct {
	s   *Server
	env *mail.Envelope
	w   *want
	// turn is held by whoever talks: a step or the keep-alive.
	turn  chan struct{}
	timer *time.Timer // of the keep-alive
	begun time.Time

	sess     *session // nil when the transaction is over
	over     Result   // what its steps answer then
	req      smtpclient.Request
	answered bool // a reply to RCPT was had
}

// Content is a message as it goes to an upstream: CRLF line ends, edits applied.
type Content struct {
	// Size is the number of bytes that Write writes, -1 where it is not known.
	Size int64
	// Has8Bit and HeaderUTF8 are as in mail.Envelope, of this content.
	Has8Bit, HeaderUTF8 bool
	// Write writes the message, and is called at most once. After an error, or where
	// it does not write Size bytes, the upstream never sees the end of the data and
	// the session is closed.
	Write func(io.Writer) error
}

// headerRoom is added to the size that a client has declared: for our own header
// fields.
const headerRoom = 2048

func newTx(s *Server, env *mail.Envelope) *Tx {
	return &Tx{s: s, env: env, w: s.want(env), turn: make(chan struct{}, 1), begun: time.Now()}
}

// start opens the transaction on a session. One from the pool that has died in the
// meantime is replaced by a new one, once.
func (t *Tx) start(ctx context.Context) Result {
	for {
		sess, err := t.s.session(ctx, t.w)
		if err != nil {
			return unreached(err)
		}
		t.sess = sess
		res, err := t.mail(ctx)
		if err == nil {
			if !res.OK() {
				t.sess = nil
				t.s.put(sess)
			}
			return res
		}
		res = t.broke(err)
		if !t.renew(ctx, sess, err) {
			return res
		}
	}
}

// renew reports whether another session may be tried in the place of one that came
// from the pool and ended with err before it had said anything.
func (t *Tx) renew(ctx context.Context, sess *session, err error) bool {
	var e *smtpclient.Error
	dead := errors.As(err, &e) && e.Key != mail.ReplyNextHopProtocol
	if !dead || !sess.reused || t.w.fresh || ctx.Err() != nil {
		return false
	}
	t.s.dropIdle(sess.ep)
	t.w.fresh = true
	return true
}

// mail sends MAIL. The error is a session that is over.
func (t *Tx) mail(ctx context.Context) (Result, error) {
	conn := t.sess.conn
	ext := conn.Extensions()
	if t.w.strict && !(ext.RequireTLS && conn.TLS().Verified) {
		return t.unable(mail.ReplyNextHopReqTLS, "mail"), nil
	}
	if t.env.Body == mail.BodyBinary && !ext.Binary {
		return t.unable(mail.ReplyNextHop7Bit, "mail"), nil
	}
	t.req = smtpclient.Request{Sender: t.env.Sender, Content: content{Content{Size: t.declared(ext)}}, Body: t.env.Body,
		SMTPUTF8: t.env.SMTPUTF8 && ext.SMTPUTF8, RequireTLS: t.w.strict, Ret: t.env.Ret, EnvID: t.env.EnvID}
	if !t.req.SMTPUTF8 {
		var ok bool
		if t.req.Sender, ok = asciiForm(t.req.Sender); !ok {
			return t.unable(mail.ReplyNextHopASCII, "mail"), nil
		}
	}
	if err := t.s.identify(ctx, t.sess, t.w); err != nil {
		return Result{}, err
	}
	r, err := conn.Mail(ctx, &t.req)
	if err != nil {
		return Result{}, err
	}
	return t.stamp(Result{Reply: r, Stage: "mail"}), nil
}

// declared is what SIZE says, -1 for nothing. What we add must not be what makes
// an upstream refuse a message that its limit still lets pass.
func (t *Tx) declared(ext smtpclient.Extensions) int64 {
	size := t.env.Size
	if size <= 0 {
		return -1
	}
	if ext.SizeLimit > 0 && size+headerRoom > ext.SizeLimit {
		return size
	}
	return size + headerRoom
}

// asciiForm turns the domain into A-labels where only the domain needs SMTPUTF8
// (RFC 5891 §4.4 does not change what is meant). ok is false where the local part
// is not ASCII.
func asciiForm(a mail.Address) (_ mail.Address, ok bool) {
	if !a.NeedsUTF8() {
		return a, true
	}
	at := strings.LastIndexByte(a.Raw, '@')
	if at < 0 || !mail.IsASCII(a.Raw[:at]) {
		return a, false
	}
	a.Raw = a.Raw[:at+1] + a.Domain
	return a, mail.IsASCII(a.Domain)
}

// Rcpt names a recipient.
func (t *Tx) Rcpt(ctx context.Context, r *mail.Recipient) Result {
	t.turn <- struct{}{}
	defer t.done()
	if t.sess == nil {
		return t.over
	}
	sess := t.sess
	res, err := t.rcpt(ctx, r)
	if err == nil {
		return res
	}
	res = t.broke(err)
	if !t.answered && t.renew(ctx, sess, err) {
		if res = t.start(ctx); res.OK() {
			if res, err = t.rcpt(ctx, r); err != nil {
				res = t.broke(err)
			}
		} else {
			t.over = res
		}
	}
	return res
}

// rcpt sends RCPT. The error is a session that is over.
func (t *Tx) rcpt(ctx context.Context, r *mail.Recipient) (Result, error) {
	to := *r
	if !t.req.SMTPUTF8 {
		var ok bool
		if to.Address, ok = asciiForm(r.Address); !ok {
			return t.unable(mail.ReplyNextHopASCII, "rcpt"), nil
		}
	}
	reply, err := t.sess.conn.Rcpt(ctx, &t.req, &to)
	if err != nil {
		return Result{}, err
	}
	t.answered = true
	if reply.Positive() {
		t.req.Recipients = append(t.req.Recipients, to)
	}
	return t.stamp(Result{Reply: reply, Stage: "rcpt"}), nil
}

// Extensions are what the upstream offers, so that a caller can convert what it
// does not take: 8-bit content, for example. They are zero when the transaction is
// over.
func (t *Tx) Extensions() smtpclient.Extensions {
	t.turn <- struct{}{}
	defer t.done()
	if t.sess == nil {
		return smtpclient.Extensions{}
	}
	return t.sess.conn.Extensions()
}

// Data sends the message to those whom Rcpt named successfully and ends the
// transaction. Where the upstream lacks what the content needs, or takes only
// smaller messages, nothing is sent.
func (t *Tx) Data(ctx context.Context, c Content) Result {
	t.turn <- struct{}{}
	defer t.done()
	if t.sess == nil {
		return t.over
	}
	if key, ok := t.takes(&c); !ok {
		res := t.unable(key, "data")
		t.finish()
		return res
	}
	t.req.Content = content{c}
	dsn := t.sess.conn.Extensions().DSN
	outcomes, err := t.sess.conn.Data(ctx, &t.req)
	res := t.judge(outcomes[0], err)
	res.DSN = dsn
	if err != nil || res.Fault != Answered {
		t.s.observeFailure(t.sess.ep, err)
	}
	t.finish()
	return res
}

// takes reports whether the upstream can be sent the content, and if not, why.
func (t *Tx) takes(c *Content) (mail.ReplyKey, bool) {
	ext := t.sess.conn.Extensions()
	switch {
	case len(t.req.Recipients) == 0:
		return mail.ReplyNoValidRcpts, false
	case t.env.SMTPUTF8 && c.HeaderUTF8 && !t.req.SMTPUTF8:
		return mail.ReplyNextHopASCII, false
	case (c.Has8Bit || c.HeaderUTF8) && t.env.Body != mail.BodyBinary && !ext.EightBit:
		return mail.ReplyNextHop7Bit, false
	case ext.SizeLimit > 0 && c.Size > ext.SizeLimit:
		// RFC 1870 §6.1: what is too large must not be sent only to be refused.
		return mail.ReplyNextHopTooBig, false
	}
	return 0, true
}

// judge makes a Result of what came of the data.
func (t *Tx) judge(o mail.Outcome, err error) Result {
	res := t.stamp(Result{Reply: o.Reply, Stage: o.Stage, Err: err})
	switch {
	case o.Remote && o.Reply.Positive() && !smtpclient.Done(o.Reply):
		// It may mean anything; nobody knows which command it was for.
		t.sess.conn.Close()
		res.Reply, res.Fault, res.Err = mail.ReplyNextHopProtocol.Reply(), Lost, &smtpclient.Error{Stage: o.Stage, Reply: o.Reply, Err: smtpclient.ErrProtocol}
	case o.Remote && o.Reply.Code == 421 && o.Stage == "data":
		// As after MAIL and RCPT: it goes away and does not have the message.
		res.Fault = Broken
	case o.Remote:
	case o.MaybeDuplicate:
		res.Fault = Lost
	case o.Status == mail.Failed:
		res.Fault = Unable
	default:
		res.Fault = Broken
	}
	return res
}

// Abort ends the transaction without a message. It may be called at any time,
// after Data too.
func (t *Tx) Abort() {
	t.turn <- struct{}{}
	defer t.done()
	if t.sess != nil {
		t.finish()
	}
}

var errOver = errors.New("the transaction is over")

// finish gives the session back.
func (t *Tx) finish() {
	sess := t.sess
	t.sess = nil
	t.over = ours(mail.ReplyLocalError, Broken, "data", errOver)
	t.s.put(sess)
}

// broke notes that the session is over, and with it the transaction.
func (t *Tx) broke(err error) Result {
	res := t.stamp(broken(err))
	t.over = res
	if res.Reply.Code == 421 {
		// It was said once; from now on it is gone.
		t.over.Reply = mail.ReplyNextHopLost.Reply()
	}
	sess := t.sess
	t.sess = nil
	t.s.observeFailure(sess.ep, err)
	t.s.log.Debug("upstream session ended", "host", sess.conn.Host(), "error", err)
	t.s.drop(sess)
	return res
}

func (t *Tx) unable(key mail.ReplyKey, stage string) Result {
	return t.stamp(ours(key, Unable, stage, nil))
}

// stamp says who was spoken to.
func (t *Tx) stamp(res Result) Result {
	res.Host, res.TLS = t.sess.conn.Host(), t.sess.conn.TLS()
	return res
}

// content is a Content as smtpclient wants it.
type content struct{ c Content }

// Size implements smtpclient.Content.
func (c content) Size() int64 { return c.c.Size }

// WriteTo implements io.WriterTo.
func (c content) WriteTo(w io.Writer) (int64, error) { return c.c.Size, c.c.Write(w) }

// done ends a step, after which the keep-alive has its time.
func (t *Tx) done() {
	if t.timer != nil {
		if t.sess != nil && time.Since(t.begun) < t.s.cfg.MaxHold {
			t.timer.Reset(t.s.cfg.KeepAlive)
		} else {
			t.timer.Stop()
		}
	}
	<-t.turn
}

// keepAlive begins to keep the session alive: from now on there may be a NOOP
// whenever nobody has the turn.
func (t *Tx) keepAlive() {
	// The timer may go off before it is assigned.
	t.turn <- struct{}{}
	defer t.done()
	if t.s.cfg.KeepAlive > 0 {
		t.timer = time.AfterFunc(t.s.cfg.KeepAlive, t.ping)
	}
}

// ping says NOOP, so that an upstream does not take the silence of a long scan for
// the end of us. A session that does not survive it is found out now, and the next
// step hears of it.
func (t *Tx) ping() {
	select {
	case t.turn <- struct{}{}:
	default:
		return // a step is running and will set the timer again
	}
	defer t.done()
	if t.sess == nil || !t.s.enter() {
		return
	}
	defer t.s.running.Done()
	if err := t.sess.conn.Noop(t.s.ctx); err != nil {
		t.broke(err)
	}
}
