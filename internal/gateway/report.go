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
	rcpt, err := g.reportTo(to)
	if err != nil {
		return err
	}
	return g.submit(rcpt, report, false)
}

// SubmitNotice is SubmitReport for what nobody but this recipient may read, a
// digest: where there is no way to it, that is an error.
func (g *Gateway) SubmitNotice(_ context.Context, to mail.Address, notice io.Reader) error {
	return g.notify(to, notice, false)
}

// SubmitTLSReport is SubmitNotice for a report about TLS with the recipient's own domain:
// that TLS with it fails must not keep it here (RFC 8460 §3).
func (g *Gateway) SubmitTLSReport(_ context.Context, to mail.Address, report io.Reader) error {
	return g.notify(to, report, true)
}

func (g *Gateway) notify(to mail.Address, notice io.Reader, tlsOptional bool) error {
	route, err := g.cfg.Router.RouteInternal(to)
	if err != nil {
		return fmt.Errorf("route notice to %s: %w", to, err)
	}
	return g.submit(mail.Recipient{Address: to, Original: to, Notify: mail.NotifyNever, Route: route}, notice, tlsOptional)
}

// submit spools and queues a message of our own.
func (g *Gateway) submit(rcpt mail.Recipient, report io.Reader, tlsOptional bool) error {
	now := time.Now()
	id := mail.NewID()
	env := &mail.Envelope{
		ID:         id,
		Received:   now,
		Session:    mail.Session{ID: id, Listener: internalListener, Helo: g.cfg.Hostname},
		Recipients: []mail.Recipient{rcpt},
		SMTPUTF8:   rcpt.Address.NeedsUTF8(),

		TLSOptional: tlsOptional,
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
	if err := g.commitOwn(w, env, items); err != nil {
		return fmt.Errorf("spool report: %w", err)
	}
	g.cfg.Queue.Add(m, items)
	g.cfg.Log.Info("message of our own queued", "id", id.String(), "to", rcpt.Address.String(), "transport", rcpt.Route.Transport)
	return nil
}

// reportTo is the recipient of a report to the sender. One at an address literal,
// or at our own name where that is no domain of ours, can never be told: waiting
// would not help, so the postmaster is told at once.
func (g *Gateway) reportTo(sender mail.Address) (mail.Recipient, error) {
	// RFC 3461 §6.1: NOTIFY=NEVER keeps a report from breeding another.
	r := mail.Recipient{Address: sender, Original: sender, Notify: mail.NotifyNever}
	var err error
	if r.Route, err = g.cfg.Router.RouteInternal(sender); err != nil && !g.cfg.Postmaster.IsNull() {
		g.cfg.Log.Warn("report goes to the postmaster: there is no way to the sender", "sender", sender.String(), "error", err)
		r.Address = g.cfg.Postmaster
		r.Route, err = g.cfg.Router.RouteInternal(r.Address)
	}
	if err != nil {
		return r, fmt.Errorf("route report to %s: %w", r.Address, err)
	}
	return r, nil
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
