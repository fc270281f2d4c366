package gateway

import (
	"context"
	"errors"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/spool"
)

// Intake is one message on its way in: the session writes the data to it as it
// arrives and then commits it, or aborts.
type Intake struct {
	g    *Gateway
	env  *mail.Envelope
	body *spool.Writer
	// answers are the replies for each recipient, where the client takes them.
	answers []mail.Reply
	// passed is what became of those to whom it was passed on.
	passed live
}

// Open prepares the spool for the message of env, at DATA or the first BDAT.
func (g *Gateway) Open(_ context.Context, env *mail.Envelope) (*Intake, error) {
	return &Intake{g: g, env: env, body: g.cfg.Spool.Create(env.ID)}, nil
}

// Write appends message data: CRLF line ends, dot-stuffing removed.
func (in *Intake) Write(p []byte) (int, error) { return in.body.Write(p) }

// Abort forgets the message. It may follow Commit, and then does nothing.
func (in *Intake) Abort() { in.body.Abort() }

// Commit is the way of a message that has arrived whole. The engine has filled
// in the envelope's facts; the reply goes to the final dot.
func (in *Intake) Commit(ctx context.Context) mail.Reply {
	defer in.g.Reset(in.env)
	m := mail.Message{Envelope: in.env, Body: in.body.Body()}
	header, refused := in.g.readHeader(m)
	if refused.Act == mail.Accept {
		refused = in.g.checkAuthors(in.env, header)
	}
	if refused.Act != mail.Accept {
		return in.g.refused(in, refused)
	}
	in.g.trace(m, header)
	if refused = in.g.rewrite(ctx, m, header); refused.Act != mail.Accept {
		return in.g.refused(in, refused)
	}
	if in.g.scansLater(in.env) {
		tell := in.g.countUser(in.env)
		return in.kept(ctx, in.keepForLater(ctx, m), tell)
	}
	seen, err := in.g.inspect(ctx, m)
	if err != nil {
		return in.g.refused(in, deferral(err))
	}
	if in.env.PRDR && seen != nil {
		in.answers = answers(in.env)
		refused = jointRefusal(in.answers)
	} else {
		refused = refusal(in.env)
	}
	in.g.learn(seen, in.env)
	if refused.Act != mail.Accept {
		return in.g.refused(in, refused)
	}
	tell := in.g.countUser(in.env)
	in.g.holdForUser(in.env)
	return in.kept(ctx, in.finish(ctx, m, header, seen), tell)
}

// kept tells the postmaster, where that is due, of a message that is durable.
func (in *Intake) kept(ctx context.Context, reply mail.Reply, tell bool) mail.Reply {
	if tell && reply.Positive() {
		in.g.tellPostmaster(ctx, in.env)
	}
	return reply
}

// Answers are the replies for each recipient, in their order, to be sent before
// the one that Commit returned (draft-hall-prdr). Nil where that one says it all:
// for clients without PRDR, and where the message failed as a whole.
func (in *Intake) Answers() []mail.Reply { return in.answers }

// keep makes the message durable with its queue items and answers 250. Without
// items nobody is to get it: it is discarded.
func (in *Intake) keep(ctx context.Context, m mail.Message, items []*mail.QueueItem) mail.Reply {
	if err := ctx.Err(); err != nil {
		return in.g.refused(in, mail.Decision{Act: mail.Defer, Reply: mail.ReplyShuttingDown.Reply(), Reason: err.Error()})
	}
	reply := mail.ReplyQueued.Reply().WithID(in.env.ID)
	if len(items) == 0 {
		in.body.Abort()
		in.g.cfg.History.Note(in.told(mail.Decision{}, reply, nil))
		return in.g.accepted(in, reply)
	}
	// 250 means safe: from here on the message survives a crash, or was never taken.
	if err := in.commit(items, reply); err != nil {
		return in.g.refused(in, deferral(err))
	}
	in.g.cfg.Queue.Add(m, items)
	return in.g.accepted(in, reply)
}

// keepForLater makes the message durable for the scanner.
func (in *Intake) keepForLater(ctx context.Context, m mail.Message) mail.Reply {
	reply := in.keep(ctx, m, []*mail.QueueItem{scanItem(in.env)})
	if reply.Positive() {
		in.g.cfg.WaitLog.Info("waits for the scanner", "id", in.env.ID.String(), "sender", "<"+in.env.Sender.String()+">",
			"recipients", len(in.env.Recipients), "size", in.env.Size)
	}
	return reply
}

// scansLater reports whether the message is answered first and scanned then.
func (g *Gateway) scansLater(env *mail.Envelope) bool {
	return g.cfg.Queued[env.Session.Listener] && len(g.flowsOf(env)) > 0
}

// scanItem is the one item of a message that waits for the scanner.
func scanItem(env *mail.Envelope) *mail.QueueItem {
	item := &mail.QueueItem{
		ID:    mail.QueueID{Message: env.ID, N: 1},
		State: mail.QueueDeferred, Transport: ScannerTransport,
		Created: env.Received, NextAttempt: env.Received,
	}
	for _, r := range env.Recipients {
		r.Notify = mail.NotifyNever // that it was scanned is no delivery
		item.Recipients = append(item.Recipients, mail.QueuedRecipient{Recipient: r})
	}
	return item
}

// learn tells the statistics what became of a message.
func (g *Gateway) learn(seen *inspection, env *mail.Envelope) {
	if seen != nil && g.cfg.Content.Learn != nil {
		g.cfg.Content.Learn(seen.in, env)
	}
}

// readHeader checks what the header section says about the message's way so far.
func (g *Gateway) readHeader(m mail.Message) (*message.Header, mail.Decision) {
	header, err := message.ReadHeader(m.Body, g.cfg.MaxHeaderSize)
	if errors.Is(err, message.ErrHeaderTooBig) {
		return nil, mail.Decision{Act: mail.Reject, Reply: mail.ReplyHeaderTooBig.Reply(), Reason: err.Error()}
	}
	if err != nil {
		return nil, deferral(err)
	}
	// RFC 5321 §6.3: counting Received fields finds loops.
	if header.Count("Received") > g.cfg.MaxHops {
		return nil, mail.Decision{Act: mail.Reject, Reply: mail.ReplyTooManyHops.Reply(), Reason: "more Received fields than max_hops"}
	}
	return header, mail.Decision{}
}

// deferral is the decision for a failure of ours: the client keeps the message.
func deferral(err error) mail.Decision {
	key := mail.ReplyLocalError
	var known interface{ SMTPReply() mail.ReplyKey }
	if errors.As(err, &known) {
		key = known.SMTPReply()
	}
	return mail.Decision{Act: mail.Defer, Reply: key.Reply(), Reason: err.Error()}
}

// split makes the queue items of a message that nothing was decided about: one for
// each destination, in the order in which the recipients name them.
func split(env *mail.Envelope) []*mail.QueueItem {
	p := planner{env: env, next: 1}
	for _, r := range env.Recipients {
		p.add(r, nil)
	}
	return p.items
}

// accepted tells the client that its message is safe.
func (g *Gateway) accepted(in *Intake, reply mail.Reply, passed ...mail.Outcome) mail.Reply {
	g.charge(&in.env.Session, in.env, ChargeBytes, in.env.Size)
	g.cfg.Traffic.SMTPTransaction(in.env, mail.Decision{}, reply, time.Since(in.env.Received), passed...)
	if g.cfg.Sent != nil {
		g.cfg.Sent(in.env)
	}
	return reply
}

// refused tells the client that its message was not taken: in the words of upstreams
// where it was passed on to some.
func (g *Gateway) refused(in *Intake, d mail.Decision, passed ...mail.Outcome) mail.Reply {
	in.body.Abort()
	in.answers = nil
	reply := d.Reply
	if len(passed) == 0 {
		reply = reply.WithID(in.env.ID)
	}
	g.cfg.Traffic.SMTPTransaction(in.env, d, reply, time.Since(in.env.Received), passed...)
	g.cfg.History.Note(in.told(d, reply, nil))
	return reply
}
