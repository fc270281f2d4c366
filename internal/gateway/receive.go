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
	m := mail.Message{Envelope: in.env, Body: in.body.Body()}
	header, refusal := in.g.readHeader(m)
	if refusal.Act != mail.Accept {
		return in.g.refused(in, refusal)
	}
	in.g.trace(m, header)
	items := split(in.env)
	if err := ctx.Err(); err != nil {
		return in.g.refused(in, mail.Decision{Act: mail.Defer, Reply: mail.ReplyShuttingDown.Reply(), Reason: err.Error()})
	}
	// 250 means safe: from here on the message survives a crash, or was never taken.
	if err := in.body.Commit(in.env, items); err != nil {
		return in.g.refused(in, deferral(err))
	}
	in.g.cfg.Queue.Add(m, items)
	return in.g.accepted(in)
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

// split makes the queue items of a message: one for each destination, in the
// order in which the recipients name them.
func split(env *mail.Envelope) []*mail.QueueItem {
	var items []*mail.QueueItem
	for _, r := range env.Recipients {
		dest := mail.Destination{Transport: r.Route.Transport, NextHop: r.Route.NextHop}
		item := itemFor(items, dest)
		if item == nil {
			item = &mail.QueueItem{
				ID:          mail.QueueID{Message: env.ID, N: uint16(len(items) + 1)},
				State:       mail.QueueDeferred,
				Transport:   dest.Transport,
				NextHop:     dest.NextHop,
				Created:     env.Received,
				NextAttempt: env.Received,
			}
			items = append(items, item)
		}
		item.Recipients = append(item.Recipients, mail.QueuedRecipient{Recipient: r})
	}
	return items
}

func itemFor(items []*mail.QueueItem, dest mail.Destination) *mail.QueueItem {
	for _, item := range items {
		if item.Destination() == dest {
			return item
		}
	}
	return nil
}

// accepted tells the client that its message is safe.
func (g *Gateway) accepted(in *Intake) mail.Reply {
	reply := mail.ReplyQueued.Reply().WithID(in.env.ID)
	g.cfg.Traffic.SMTPTransaction(in.env, mail.Decision{}, reply, time.Since(in.env.Received))
	return reply
}

// refused tells the client that its message was not taken.
func (g *Gateway) refused(in *Intake, d mail.Decision) mail.Reply {
	in.body.Abort()
	reply := d.Reply.WithID(in.env.ID)
	g.cfg.Traffic.SMTPTransaction(in.env, d, reply, time.Since(in.env.Received))
	return reply
}
