package gateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strings"
	"time"

	"gatepost/internal/flow"
	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/message/notice"
	"gatepost/internal/scan"
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
	// Kept is how long the quarantine keeps what is held; after that a message that is
	// still fetched is held anew. Zero: for ever.
	Kept time.Duration
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
	// Claim returns the ID under which the message is to be held: id, or the one under
	// which the same content was judged before. When it returns nil that is durable.
	Claim(ctx context.Context, m mail.Mailed, hash []byte, id mail.ID) (mail.ID, error)
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
	if !ok || j.Allowed || j.Notice == nil || !g.counts(j, g.rules()) {
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
	if err != nil && !errors.Is(err, message.ErrHeaderTooBig) {
		return nil, fmt.Errorf("judge message: %w", err)
	}
	// Those of before the scan: signatures that come during it may have come too late.
	rules := r.g.rules()
	j := &mail.Judged{Rules: rules, Hash: r.hash.Sum(nil), Message: r.env.ID, Size: m.Body.Size(), Seen: time.Now()}
	if known, ok := r.g.recallHash(ctx, r.from, j.Hash); ok {
		if r.g.counts(known, rules) {
			return r.again(m, known), nil
		}
		j.Message = known.Message
	}
	if header == nil {
		r.env.Recipients[0].Verdict = r.g.headerTooBig(r.env)
		return r.act(ctx, m, message.ParseHeader(nil), nil, j)
	}
	seen, err := r.g.inspect(ctx, m)
	if err != nil {
		return nil, fmt.Errorf("judge message: %w", err)
	}
	return r.act(ctx, m, header, seen, j)
}

// describe fills in what the envelope says of the content. Without a header section that
// can be read it is no failure of ours, but ErrHeaderTooBig.
func (r *Retrieval) describe(m mail.Message) (*message.Header, error) {
	facts, err := message.ScanBytes(m.Body)
	if err != nil {
		return nil, err
	}
	env := r.env
	env.Size, env.HeaderSize, env.Has8Bit, env.HeaderUTF8, env.LongLines = m.Body.Size(), facts.HeaderSize, facts.Has8Bit, facts.HeaderUTF8, facts.LongLines
	header, err := message.ReadAnyHeader(m.Body, r.g.cfg.MaxHeaderSize)
	if err != nil {
		return nil, err
	}
	env.Subject = message.SafeText(header.Get("Subject"), 200)
	env.MessageID = message.SafeText(header.Get("Message-ID"), 200)
	return header, nil
}

// headerTooBig is the verdict about a message that cannot be read: by SMTP it would have
// been refused. Nil where nobody asked.
func (g *Gateway) headerTooBig(env *mail.Envelope) *mail.Verdict {
	name := env.Recipients[0].Route.Flow
	if _, ok := g.cfg.Content.Flows[name]; !ok {
		return nil
	}
	return &mail.Verdict{Action: mail.ActionQuarantine, Threat: mail.ThreatUnscanned, Block: structureBlock, Rule: "limit:header",
		Reason: "the header section is larger than max_header_size", Flow: name}
}

// again is what a remembered verdict means for a message that was fetched.
func (r *Retrieval) again(m mail.Message, j *mail.Judged) *Retrieved {
	done := &Retrieved{Verdict: j.Verdict, ID: j.Message, Cached: true}
	r.env.Recipients[0].Verdict = j.Verdict
	if j.Verdict != nil {
		done.Reason = because(j.Verdict)
	}
	switch {
	case j.Allowed:
		done.Pass, done.Body, done.Reason = true, m.Body, "released from the quarantine"
	case j.Notice != nil:
		done.Notice = j.Notice
	default:
		done.Pass, done.Body = true, m.Body
		if j.Edits != nil {
			done.Edits = *j.Edits
		}
	}
	return done
}

// act carries a verdict out.
func (r *Retrieval) act(ctx context.Context, m mail.Message, header *message.Header, seen *inspection, j *mail.Judged) (*Retrieved, error) {
	v := r.env.Recipients[0].Verdict
	j.Verdict = v
	r.g.sendNothing(r.env, v)
	failed := seen.failed()
	if len(failed) > 0 {
		// What somebody could not look at is looked at again.
		j.Rules = mail.RulesClaimed
	}
	var err error
	switch {
	case v == nil:
	case v.Action == mail.ActionDefer:
		// The message stays where it is; nothing is remembered.
		return &Retrieved{Verdict: v, ID: j.Message, Reason: because(v)}, nil
	case !v.Action.Delivers():
		if err = r.hold(ctx, m, j, v); err == nil {
			j.Notice = r.g.noticeOf(r.env, header, j)
		}
	case len(v.Strip) > 0 && seen != nil:
		err = r.hold(ctx, m, j, originalOf(v, seen))
	}
	if err != nil {
		return nil, err
	}
	if v != nil && v.Action.Delivers() {
		j.Edits = r.editsForReader(header, seen, j, failed)
	}
	if len(failed) == 0 || j.Held {
		r.g.remember(ctx, r.from, j)
	}
	done := r.again(m, j)
	done.Cached = false
	return done, nil
}

// sendNothing takes out of a verdict what sends mail: the message lies in a mailbox and is
// only read. The check of the configuration finds filters that ask for it; scripts may ask
// all the same.
func (g *Gateway) sendNothing(env *mail.Envelope, v *mail.Verdict) {
	if v == nil || len(v.Redirect) == 0 && len(v.Copy) == 0 && v.Transport == "" {
		return
	}
	g.cfg.Log.Warn("a message that is fetched from a mailbox is sent to nobody", "id", env.ID.String(), "flow", v.Flow,
		"redirect", len(v.Redirect), "copy", len(v.Copy), "transport", v.Transport)
	v.Redirect, v.Copy, v.Transport = nil, nil, ""
}

// hold puts the original into the quarantine. That is one entry, however often the
// message is fetched: it gets one ID for ever, and holding that again changes nothing.
func (r *Retrieval) hold(ctx context.Context, m mail.Message, j *mail.Judged, v *mail.Verdict) error {
	boxes := &r.g.cfg.Mailboxes
	if boxes.Hold == nil {
		return errors.New("hold message: there is no quarantine")
	}
	if boxes.Memory != nil {
		id, err := boxes.Memory.Claim(ctx, nameFor(r.from, j.Hash), j.Hash, j.Message)
		if err != nil {
			return fmt.Errorf("hold message: %w", err)
		}
		j.Message = id
	}
	env, to, held := *m.Envelope, r.env.Recipients[0], *v
	env.ID = j.Message
	// Whatever the verdict, this is what became of it.
	held.Action = mail.ActionQuarantine
	to.Verdict = &held
	if err := boxes.Hold(ctx, mail.Message{Envelope: &env, Body: m.Body}, to); err != nil {
		return fmt.Errorf("hold message: %w", err)
	}
	j.Held = true
	return nil
}

// editsForReader is what a reader's copy looks like. One with which nothing is wrong
// stays as it is, so that its size is the one that the server tells; nil says so.
func (r *Retrieval) editsForReader(header *message.Header, seen *inspection, j *mail.Judged, failed []string) *mail.Edits {
	v := j.Verdict
	unlooked := slices.DeleteFunc(slices.Clone(failed), func(f string) bool {
		use, _, _ := strings.Cut(f, " ")
		return flow.Defaults(use).OnUnknown == mail.ActionDeliver // it only adds to the score
	})
	plain := v.Action != mail.ActionMark && len(v.Fields) == 0 && v.SubjectTag == "" && len(v.Strip) == 0 && len(v.Remove) == 0
	if plain && len(unlooked) == 0 && !r.g.wantsEdits(v, header, seen) {
		return nil
	}
	env := *r.env
	env.ID = j.Message
	// Where there are fields of ours, there are none of others that claim to be.
	env.Edits = mail.Edits{Cut: r.g.forged(header)}
	edits := r.g.editsFor(&env, v, header, seen)
	if len(unlooked) > 0 {
		edits.Prepend = append([]byte(foldField("X-Gatepost-Unscanned: "+strings.Join(unlooked, ", "))), edits.Prepend...)
	}
	return edits
}

// wantsEdits reports whether an external engine asked for changes.
func (g *Gateway) wantsEdits(v *mail.Verdict, header *message.Header, seen *inspection) bool {
	if g.cfg.Content.Edits == nil || seen == nil {
		return false
	}
	prepend, cut := g.cfg.Content.Edits(seen.findingsFor(g.cfg.Content.Flows[v.Flow]), header)
	return len(prepend) > 0 || len(cut) > 0
}

// failed are the blocks that could not say anything about a message for reasons that are
// not the message's: "clamav (timeout)".
func (seen *inspection) failed() []string {
	if seen == nil {
		return nil
	}
	var all []string
	for _, r := range seen.reports {
		for _, f := range r.Findings {
			if f.Result == mail.Unknown && (f.Symbol == scan.SymbolError || f.Symbol == scan.SymbolTimeout || f.Symbol == scan.SymbolBusy) {
				all = append(all, r.Use+" ("+f.Symbol+")")
				break
			}
		}
	}
	return all
}

// counts reports whether what is remembered of a message holds: its rules are those of
// now, and the quarantine has what a notice says that it has.
func (g *Gateway) counts(j *mail.Judged, rules string) bool {
	kept := g.cfg.Mailboxes.Kept
	switch {
	case j.Allowed:
		return true
	case j.Held && kept > 0 && time.Since(j.Seen) > kept:
		return false
	}
	return j.Rules == rules
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
	j, ok := g.cfg.Mailboxes.Memory.Recall(ctx, nameFor(from, sum))
	return j, ok && bytes.Equal(j.Hash, sum)
}

func (g *Gateway) remember(ctx context.Context, from mail.Mailed, j *mail.Judged) {
	if g.cfg.Mailboxes.Memory != nil {
		g.cfg.Mailboxes.Memory.Remember(ctx, nameFor(from, j.Hash), j)
	}
}

// nameFor gives a name to a message whose server has none for it. RFC 1939 §7 allows no
// blank in a real one.
func nameFor(from mail.Mailed, sum []byte) mail.Mailed {
	if from.UIDL == "" {
		from.UIDL = fmt.Sprintf("sha256 %x", sum)
	}
	return from
}
