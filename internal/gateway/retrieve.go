package gateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/message/notice"
	"gatepost/internal/spool"
)

// Mailboxes is what the gateway needs for mail that clients fetch from mailboxes. The
// zero value remembers nothing and holds nothing.
type Mailboxes struct {
	// Memory remembers verdicts; nil: each message is judged each time.
	Memory Memory
	// Hold keeps the original of a message that its reader does not get. When it returns
	// nil the message is durable; holding the same ID again changes nothing. Nil: flows
	// that quarantine fail.
	Hold func(ctx context.Context, m mail.Message, r mail.Recipient) error
	// Rules is a digest of all that verdicts follow from, now.
	Rules func() string
	// From is the author of notices; the zero Address stands for postmaster.
	From mail.Address
	// Text is the template of notices; default the one that comes with Gatepost.
	Text *notice.Template
}

// Memory remembers what was judged. Its errors are its own: a message of which nothing
// is remembered is judged again.
type Memory interface {
	// Recall returns what is remembered of a message by its name.
	Recall(ctx context.Context, m mail.Mailed) (*mail.Judged, bool)
	// Remember keeps a verdict. It does not wait unless the verdict holds the message: then
	// it returns when that is durable, or cannot be.
	Remember(ctx context.Context, m mail.Mailed, j *mail.Judged)
}

// Retrieval is one message on its way from a mailbox to its reader: the bytes are
// written as they are fetched, and then it is judged. Nothing of it outlives Close, but
// for what the quarantine holds.
type Retrieval struct {
	g    *Gateway
	env  *mail.Envelope
	from mail.Mailed
	body *spool.Writer
	hash hash.Hash
}

// Retrieved is what is to be done with a message that was fetched.
type Retrieved struct {
	// Pass: the reader gets Body with Edits. Else he gets Notice, a whole message; without
	// one, he cannot have the message now.
	Pass   bool
	Edits  mail.Edits
	Body   mail.Body
	Notice []byte
	// Verdict is the flow's, nil where there is none; Reason is for log and history.
	Verdict *mail.Verdict
	Reason  string
	// ID is what history and quarantine call the message: that of its first judgement.
	ID mail.ID
	// Cached says that the verdict is one of before.
	Cached bool
}

// Retrieve makes a place for a message that is about to be fetched. env names the
// session, and the reader as the only recipient, with his content flow.
func (g *Gateway) Retrieve(_ context.Context, env *mail.Envelope, from mail.Mailed) (*Retrieval, error) {
	if len(env.Recipients) != 1 {
		return nil, fmt.Errorf("retrieve message: %d readers", len(env.Recipients))
	}
	if err := g.cfg.Spool.CheckSpace(0); err != nil {
		return nil, fmt.Errorf("retrieve message: %w", err)
	}
	return &Retrieval{g: g, env: env, from: from, body: g.cfg.Spool.Create(env.ID), hash: sha256.New()}, nil
}

// Known is what is known of a message before it is fetched: that its reader would get
// a notice again.
func (g *Gateway) Known(ctx context.Context, env *mail.Envelope, from mail.Mailed) (*Retrieved, bool) {
	j, ok := g.recall(ctx, from)
	if !ok || j.Allowed || j.Notice == nil || j.Rules != g.rules() {
		return nil, false
	}
	env.Size = j.Size
	env.Recipients[0].Verdict = j.Verdict
	return &Retrieved{Notice: j.Notice, Verdict: j.Verdict, Reason: because(j.Verdict), ID: j.Message, Cached: true}, true
}

// Write appends bytes of the message as they came, with its own line ends.
func (r *Retrieval) Write(p []byte) (int, error) {
	r.hash.Write(p)
	return r.body.Write(p)
}

// Close forgets the message.
func (r *Retrieval) Close() { r.body.Abort() }

// Judge decides about the message, which is here as a whole. An error is a failure of
// ours: nobody may get the message then.
func (r *Retrieval) Judge(ctx context.Context) (*Retrieved, error) {
	m := mail.Message{Envelope: r.env, Body: r.body.Body()}
	header, err := r.describe(m)
	if err != nil {
		return nil, fmt.Errorf("judge message: %w", err)
	}
	sum := r.hash.Sum(nil)
	known, ok := r.g.recallHash(ctx, r.from, sum)
	if ok && (known.Allowed || known.Rules == r.g.rules()) {
		if done := r.again(m, header, known); done != nil {
			return done, nil
		}
	}
	seen, err := r.g.inspect(ctx, m)
	if err != nil {
		return nil, fmt.Errorf("judge message: %w", err)
	}
	j := &mail.Judged{Rules: r.g.rules(), Hash: sum, Message: r.env.ID, Verdict: r.env.Recipients[0].Verdict, Size: m.Body.Size(), Seen: time.Now()}
	if ok {
		// It was judged by other rules before; the quarantine has it once.
		j.Message, j.Held = known.Message, known.Held
	}
	return r.act(ctx, m, header, seen, j)
}

// describe fills in what the envelope says of the content.
func (r *Retrieval) describe(m mail.Message) (*message.Header, error) {
	facts, err := message.ScanBytes(m.Body)
	if err != nil {
		return nil, err
	}
	header, err := message.ReadHeader(m.Body, r.g.cfg.MaxHeaderSize)
	if errors.Is(err, message.ErrHeaderTooBig) {
		// The flow decides about it: structure finds it.
		header, err = message.ParseHeader(nil), nil
	}
	if err != nil {
		return nil, err
	}
	env := r.env
	env.Size, env.HeaderSize, env.Has8Bit, env.HeaderUTF8, env.LongLines = m.Body.Size(), facts.HeaderSize, facts.Has8Bit, facts.HeaderUTF8, facts.LongLines
	env.Subject = message.SafeText(header.Get("Subject"), 200)
	env.MessageID = message.SafeText(header.Get("Message-ID"), 200)
	return header, nil
}

// again is what a remembered verdict means for a message that was fetched; nil where
// it has to be looked at to carry it out.
func (r *Retrieval) again(m mail.Message, header *message.Header, j *mail.Judged) *Retrieved {
	v := j.Verdict
	done := &Retrieved{Verdict: v, ID: j.Message, Cached: true}
	switch {
	case j.Allowed:
		done.Pass, done.Body, done.Reason = true, m.Body, "released from the quarantine"
	case v == nil:
		done.Pass, done.Body = true, m.Body
	case j.Notice != nil:
		done.Notice, done.Reason = j.Notice, because(v)
	case v.Action.Delivers() && len(v.Strip) == 0:
		done.Pass, done.Body, done.Reason = true, m.Body, because(v)
		done.Edits = r.g.editsForReader(r.env, v, header, nil)
	default:
		return nil
	}
	r.env.Recipients[0].Verdict = v
	return done
}

// act carries a verdict out.
func (r *Retrieval) act(ctx context.Context, m mail.Message, header *message.Header, seen *inspection, j *mail.Judged) (*Retrieved, error) {
	v := j.Verdict
	done := &Retrieved{Verdict: v, ID: j.Message}
	if v == nil {
		done.Pass, done.Body = true, m.Body
		return done, nil
	}
	done.Reason = because(v)
	switch {
	case v.Action == mail.ActionDefer:
		// The message stays where it is; nothing is remembered.
		return done, nil
	case v.Action.Delivers():
		if err := r.keepOriginal(ctx, m, seen, j); err != nil {
			return nil, err
		}
		done.Pass, done.Body, done.Edits = true, m.Body, r.g.editsForReader(r.env, v, header, seen)
	default:
		if err := r.hold(ctx, m, j, v); err != nil {
			return nil, err
		}
		j.Notice = r.g.noticeOf(r.env, header, j)
		done.Notice = j.Notice
	}
	r.g.remember(ctx, r.from, j)
	return done, nil
}

// keepOriginal keeps the whole of a message of which its reader gets less.
func (r *Retrieval) keepOriginal(ctx context.Context, m mail.Message, seen *inspection, j *mail.Judged) error {
	if len(j.Verdict.Strip) == 0 || seen == nil {
		return nil
	}
	return r.hold(ctx, m, j, originalOf(j.Verdict, seen))
}

// hold puts the original into the quarantine, once.
func (r *Retrieval) hold(ctx context.Context, m mail.Message, j *mail.Judged, v *mail.Verdict) error {
	if j.Held {
		return nil
	}
	if r.g.cfg.Mailboxes.Hold == nil {
		return errors.New("hold message: there is no quarantine")
	}
	to := r.env.Recipients[0]
	held := *v
	// Whatever the verdict, this is what became of it.
	held.Action = mail.ActionQuarantine
	to.Verdict = &held
	if err := r.g.cfg.Mailboxes.Hold(ctx, m, to); err != nil {
		return fmt.Errorf("hold message: %w", err)
	}
	j.Held = true
	return nil
}

// editsForReader is what a reader's copy looks like. One with which nothing is wrong
// stays as it is, so that its size is the one that the server tells.
func (g *Gateway) editsForReader(env *mail.Envelope, v *mail.Verdict, header *message.Header, seen *inspection) mail.Edits {
	if v.Action != mail.ActionMark && len(v.Fields) == 0 && v.SubjectTag == "" && len(v.Strip) == 0 && len(v.Remove) == 0 {
		return mail.Edits{}
	}
	return *g.editsFor(env, v, header, seen)
}

func (g *Gateway) rules() string {
	if g.cfg.Mailboxes.Rules == nil {
		return ""
	}
	return g.cfg.Mailboxes.Rules()
}

// recall asks the memory about a message by its name.
func (g *Gateway) recall(ctx context.Context, from mail.Mailed) (*mail.Judged, bool) {
	if g.cfg.Mailboxes.Memory == nil || from.UIDL == "" {
		return nil, false
	}
	return g.cfg.Mailboxes.Memory.Recall(ctx, from)
}

// recallHash asks about a message that is here: by its name, where that still means the
// same content, or by its content.
func (g *Gateway) recallHash(ctx context.Context, from mail.Mailed, sum []byte) (*mail.Judged, bool) {
	if g.cfg.Mailboxes.Memory == nil {
		return nil, false
	}
	j, ok := g.recall(ctx, from)
	if from.UIDL == "" {
		from.UIDL = nameByHash(sum)
		j, ok = g.cfg.Mailboxes.Memory.Recall(ctx, from)
	}
	return j, ok && bytes.Equal(j.Hash, sum)
}

func (g *Gateway) remember(ctx context.Context, from mail.Mailed, j *mail.Judged) {
	if g.cfg.Mailboxes.Memory == nil {
		return
	}
	if from.UIDL == "" {
		from.UIDL = nameByHash(j.Hash)
	}
	g.cfg.Mailboxes.Memory.Remember(ctx, from, j)
}

// nameByHash stands for the UIDL of a server that has none. RFC 1939 §7 allows no blank
// in a real one.
func nameByHash(sum []byte) string { return fmt.Sprintf("sha256 %x", sum) }
