package gateway

import (
	"context"
	"fmt"
	"io"

	"gatepost/internal/mail"
	"gatepost/internal/message"
)

// Release puts a message from the quarantine back on its way: the bytes and the
// envelope as they came, to the recipients that env has now, under a new ID. It is
// not scanned again, or it would be back at once. When Release returns nil the
// message is durable.
func (g *Gateway) Release(ctx context.Context, env *mail.Envelope, body mail.Body) (mail.ID, error) {
	fresh := *env
	fresh.ID = mail.NewID()
	fresh.ReleasedFrom = env.ID
	fresh.Recipients = make([]mail.Recipient, 0, len(env.Recipients))
	for _, r := range env.Recipients {
		// Transports may have changed since the message came.
		route, err := g.cfg.Router.RouteInternal(r.Address)
		if err != nil {
			return mail.ID{}, fmt.Errorf("route %s: %w", r.Address, err)
		}
		r.Route, r.Verdict = route, nil
		g.toOriginal(&fresh.Session, &r)
		fresh.Recipients = append(fresh.Recipients, r)
	}
	w := g.cfg.Spool.Create(fresh.ID)
	defer w.Abort()
	fill := copyBytes
	if fresh.Session.Protocol == mail.POP3 {
		mailed(&fresh)
		fill = copyLines
	}
	if err := fill(w, body); err != nil {
		return mail.ID{}, fmt.Errorf("spool released message: %w", err)
	}
	m := mail.Message{Envelope: &fresh, Body: w.Body()}
	header, err := message.ReadHeader(m.Body, g.cfg.MaxHeaderSize)
	if err != nil {
		return mail.ID{}, fmt.Errorf("read released message: %w", err)
	}
	// It leaves like any message that passes: with our Received field, and without
	// fields that claim to be ours.
	g.trace(m, header)
	if d := g.rewriteHeader(ctx, &fresh, header); d.Act != mail.Accept {
		return mail.ID{}, fmt.Errorf("rewrite released message: %s", d.Reason)
	}
	items := split(&fresh)
	if err := g.commitOwn(w, &fresh, items); err != nil {
		return mail.ID{}, fmt.Errorf("spool released message: %w", err)
	}
	g.cfg.Queue.Add(m, items)
	g.cfg.Log.Info("message released", "id", fresh.ID.String(), "from", env.ID.String(), "recipients", len(fresh.Recipients))
	return fresh.ID, nil
}

// copyBytes copies a body as it is.
func copyBytes(w io.Writer, body mail.Body) error {
	_, err := io.Copy(w, io.NewSectionReader(body, 0, body.Size()))
	return err
}
