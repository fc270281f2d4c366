package gateway

import (
	"context"
	"fmt"
	"io"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/message"
)

// internalListener is the listener's name in envelopes that Gatepost made itself.
const internalListener = "internal"

// SubmitReport spools and queues a message of our own, a DSN, from the null
// sender. The report is durable when nil is returned.
func (g *Gateway) SubmitReport(_ context.Context, to mail.Address, report io.Reader) error {
	route, err := g.cfg.Router.RouteInternal(to)
	if err != nil {
		return fmt.Errorf("route report to %s: %w", to, err)
	}
	now := time.Now()
	id := mail.NewID()
	env := &mail.Envelope{
		ID:       id,
		Received: now,
		Session:  mail.Session{ID: id, Listener: internalListener, Helo: g.cfg.Hostname},
		// RFC 3461 §6.1: NOTIFY=NEVER keeps a report from breeding another.
		Recipients: []mail.Recipient{{Address: to, Original: to, Notify: mail.NotifyNever, Route: route}},
		SMTPUTF8:   to.NeedsUTF8(),
	}
	w := g.cfg.Spool.Create(id)
	defer w.Abort()
	if _, err := io.Copy(w, report); err != nil {
		return fmt.Errorf("spool report: %w", err)
	}
	if err := g.describe(env, w.Body()); err != nil {
		return err
	}
	m := mail.Message{Envelope: env, Body: w.Body()}
	items := split(env)
	if err := w.Commit(env, items); err != nil {
		return fmt.Errorf("spool report: %w", err)
	}
	g.cfg.Queue.Add(m, items)
	g.cfg.Log.Info("report queued", "id", id.String(), "to", to.String(), "transport", route.Transport)
	return nil
}

// describe fills in the facts that the SMTP engine gathers for other mail.
func (g *Gateway) describe(env *mail.Envelope, body mail.Body) error {
	header, err := message.ReadHeader(body, g.cfg.MaxHeaderSize)
	if err != nil {
		return fmt.Errorf("read report: %w", err)
	}
	facts, err := message.ScanBytes(body)
	if err != nil {
		return fmt.Errorf("read report: %w", err)
	}
	env.Size = body.Size()
	env.HeaderSize, env.LongLines = facts.HeaderSize, facts.LongLines
	env.Has8Bit, env.HeaderUTF8 = facts.Has8Bit, facts.HeaderUTF8
	env.Subject = message.SafeText(header.Get("Subject"), 200)
	env.MessageID = message.SafeText(header.Get("Message-ID"), 200)
	return nil
}
