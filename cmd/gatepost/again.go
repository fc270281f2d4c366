package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"gatepost/internal/mail"
	"gatepost/internal/spool"
	"gatepost/internal/store"
)

// again looks at messages that are still here with the rules of now. It implements
// admin.Again.
type again struct{ *app }

// ScanAgain implements admin.Again.
func (a again) ScanAgain(ctx context.Context, id mail.ID) (then, now *mail.Envelope, err error) {
	state, g := a.state.Load(), a.gateway.Load()
	if state == nil || g == nil {
		return nil, nil, errors.New("not started yet")
	}
	then, body, err := a.original(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	copied := *then
	now = &copied
	now.Findings, now.Edits = nil, mail.Edits{}
	now.Recipients = slices.Clone(then.Recipients)
	for i := range now.Recipients {
		r := &now.Recipients[i]
		r.Verdict = nil
		if now.Session.Protocol == mail.POP3 {
			continue // its flow is that of the listener
		}
		// The domain may have another flow by now. Where it has none any more, what
		// was decided then is all that there is.
		probe := mail.Recipient{Address: r.Address, Original: r.Original}
		if d := state.gen.routes.Route(now.Session.Listener, &mail.Session{Trusted: true}, &probe); d.Act == mail.Accept {
			r.Route = probe.Route
		}
	}
	if _, err := g.Explain(ctx, mail.Message{Envelope: now, Body: body}); err != nil {
		return nil, nil, fmt.Errorf("look at %s again: %w", id, err)
	}
	return then, now, nil
}

// original finds a message in the quarantine or in the spool.
func (a again) original(ctx context.Context, id mail.ID) (*mail.Envelope, mail.Body, error) {
	held, err := a.services.store.Quarantined(ctx, id)
	if err == nil && held.Envelope != nil {
		body, err := a.services.quarantine.Body(ctx, id)
		return held.Envelope, body, err
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, nil, err
	}
	env, err := a.spool.Envelope(id)
	if err != nil {
		if errors.Is(err, spool.ErrNotFound) {
			err = fs.ErrNotExist
		}
		return nil, nil, err
	}
	body, err := a.spool.Body(id)
	if errors.Is(err, spool.ErrNotFound) {
		err = fs.ErrNotExist
	}
	return env, body, err
}
