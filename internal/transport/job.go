package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/smtpclient"
)

// job is one delivery under way.
type job struct {
	d     *mail.Delivery
	env   *mail.Envelope
	marks *Marks
	out   []mail.Outcome
	// left are the recipients without an outcome, asked those that the last
	// request was for; both are indices into out.
	left, asked []int
	// last is what those get who are left at the end.
	last mail.Outcome
	// The message as it leaves, made when it is first needed.
	plain, seven *message.Content
}

func newJob(d *mail.Delivery, m *Marks) *job {
	j := &job{d: d, env: d.Message.Envelope, marks: m, out: make([]mail.Outcome, len(d.Recipients))}
	j.left = make([]int, len(d.Recipients))
	for i := range j.left {
		j.left[i] = i
	}
	return j
}

// strict reports that the message may only go to h under REQUIRETLS (RFC 8689); a
// socket of this machine is as good as TLS.
func (j *job) strict(h hop) bool { return j.env.RequireTLS && !h.local() }

// note remembers why a hop did not take the message. The last reason counts, but
// a definite no of one hop not against the chance that another one had.
func (j *job) note(o mail.Outcome) {
	if j.last.Status == mail.Deferred && o.Status == mail.Failed {
		return
	}
	j.last = o
}

func (j *job) noteError(err error, s *session) {
	o := ownOutcome(mail.Deferred, mail.ReplyNextHopLost, "connect", err)
	var e *smtpclient.Error
	if errors.As(err, &e) {
		o = e.Outcome()
	}
	o.Host, o.TLS = s.conn.Host(), s.conn.TLS()
	j.note(o)
}

// done gives the last reason to those who are left.
func (j *job) done() []mail.Outcome {
	if j.last.Status == "" {
		j.last = ownOutcome(mail.Deferred, mail.ReplyNextHopDown, "connect", nil)
	}
	for _, i := range j.left {
		j.out[i] = j.last
	}
	return j.out
}

// settle gives o to all who are left.
func (j *job) settle(o mail.Outcome) {
	for _, i := range j.left {
		j.out[i] = o
	}
	j.left = nil
}

// take keeps the outcomes of a request and works out who is left.
func (j *job) take(outcomes []mail.Outcome, s *session) {
	for n, i := range j.asked {
		j.out[i] = outcomes[n]
		if o := &j.out[i]; o.Status != "" && o.Cause == "" {
			o.Cause = s.note
		}
	}
	left := j.left[:0]
	for _, i := range j.left {
		if j.out[i].Status == "" {
			left = append(left, i)
		}
	}
	j.left = left
}

// request makes what conn is asked to take. It returns nil where that is nothing:
// nobody is left, or the hop cannot do what the message needs.
func (j *job) request(ctx context.Context, conn *smtpclient.Conn, strict bool) *smtpclient.Request {
	ext := conn.Extensions()
	if strict && !(ext.RequireTLS && conn.TLS().Verified) {
		// RFC 8689 §4.2.1: another exchanger may be able to.
		j.note(j.unable(conn, mail.ReplyNextHopReqTLS, nil))
		return nil
	}
	req := &smtpclient.Request{
		Sender:     j.env.Sender,
		RequireTLS: strict,
		Ret:        j.env.Ret,
		EnvID:      j.env.EnvID,
	}
	if !j.address(conn, req) {
		return nil
	}
	content, body, err := j.content(ctx, ext)
	if err != nil {
		o := j.unable(conn, mail.ReplyNextHop7Bit, err)
		if !unconvertible(err) {
			o.Status, o.Reply = mail.Deferred, mail.ReplyLocalError.Reply()
		}
		j.settle(o)
		return nil
	}
	// RFC 1870 §6.1: what is too large must not be sent only to be refused.
	if ext.SizeLimit > 0 && content.Size() > ext.SizeLimit {
		j.settle(j.unable(conn, mail.ReplyNextHopTooBig, fmt.Errorf("%d bytes, the next hop takes %d", content.Size(), ext.SizeLimit)))
		return nil
	}
	req.Content, req.Body = outgoing{content}, body
	return req
}

// unable is the outcome for what the hop cannot do.
func (j *job) unable(conn *smtpclient.Conn, key mail.ReplyKey, cause error) mail.Outcome {
	o := ownOutcome(mail.Failed, key, "ehlo", cause)
	o.Host, o.TLS = conn.Host(), conn.TLS()
	return o
}

// address fills in sender, recipients and SMTPUTF8. It returns false where nobody
// is left to send to.
func (j *job) address(conn *smtpclient.Conn, req *smtpclient.Request) bool {
	ext := conn.Extensions()
	headerUTF8 := j.env.SMTPUTF8 && j.env.HeaderUTF8
	refused := func() mail.Outcome { return j.unable(conn, mail.ReplyNextHopASCII, nil) }
	if !ext.SMTPUTF8 {
		// RFC 6531 §3.2, §3.5: what needs the extension must not be sent without.
		var ok bool
		if req.Sender, ok = asciiForm(req.Sender); !ok || headerUTF8 {
			j.settle(refused())
			return false
		}
	}
	needed := headerUTF8 || req.Sender.NeedsUTF8() || j.env.SMTPUTF8 && j.env.Has8Bit
	j.asked = j.asked[:0]
	left := j.left[:0]
	for _, i := range j.left {
		r := j.d.Recipients[i]
		if !ext.SMTPUTF8 {
			var ok bool
			if r.Address, ok = asciiForm(r.Address); !ok {
				j.out[i] = refused()
				continue
			}
		}
		needed = needed || r.Address.NeedsUTF8()
		left = append(left, i)
		j.asked = append(j.asked, i)
		req.Recipients = append(req.Recipients, r)
	}
	j.left = left
	req.SMTPUTF8 = needed
	return len(left) > 0
}

// asciiForm turns the domain into A-labels where only the domain needs it (RFC
// 5891 §4.4 does not change what is meant). ok is false where the local part is
// not ASCII: nobody but its own host knows another name for it.
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

// content is the message as the hop can take it, signed.
func (j *job) content(ctx context.Context, ext smtpclient.Extensions) (*message.Content, mail.BodyKind, error) {
	eight := j.env.Has8Bit || j.env.HeaderUTF8
	switch {
	case j.env.Body == mail.BodyBinary && ext.Binary:
		return j.signed(ctx, &j.plain, false, mail.BodyBinary)
	case j.env.Body == mail.BodyBinary, eight && !ext.EightBit:
		return j.signed(ctx, &j.seven, true, "")
	case eight:
		return j.signed(ctx, &j.plain, false, mail.Body8Bit)
	}
	return j.signed(ctx, &j.plain, false, "")
}

// signed returns the content in *made, making it when it is not there. What is
// converted is signed afterwards: a signature covers what leaves.
func (j *job) signed(ctx context.Context, made **message.Content, seven bool, body mail.BodyKind) (*message.Content, mail.BodyKind, error) {
	if *made != nil {
		return *made, body, nil
	}
	c := message.NewContent(j.d.Message)
	if seven {
		var err error
		if c, err = message.To7Bit(c); err != nil {
			return nil, "", err
		}
	}
	whole, err := j.marks.Put(ctx, j.env, c)
	if err != nil {
		return nil, "", err
	}
	*made = whole
	return whole, body, nil
}

// outgoing is a message.Content as smtpclient wants it.
type outgoing struct{ *message.Content }

// WriteTo implements io.WriterTo.
func (o outgoing) WriteTo(w io.Writer) (int64, error) { return o.Reader().WriteTo(w) }

// unconvertible reports that a message cannot be made 7 bit, ever.
func unconvertible(err error) bool {
	return errors.Is(err, message.ErrSigned) || errors.Is(err, message.ErrHeaderUTF8) || errors.Is(err, message.ErrCannotConvert)
}
