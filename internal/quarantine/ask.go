package quarantine

import (
	"context"

	"gatepost/internal/mail"
	"gatepost/internal/store"
)

// Get returns one message as lists show it.
func (q *Quarantine) Get(ctx context.Context, id mail.ID) (*Row, error) {
	rec, err := q.record(ctx, id)
	if err != nil {
		return nil, err
	}
	return &rec.Row, nil
}

// askNote marks an entry whose release was asked for.
const askNote = "release asked for"

// Ask notes that somebody who may not release messages asks for their release. They
// stay held, and are found by Filter.Asked. It returns a result for each ID, in their
// order; who asks again is told nothing else.
func (q *Quarantine) Ask(ctx context.Context, r Request) []Result {
	return q.each(ctx, r, func(ctx context.Context, id mail.ID, r Request) Result {
		res := Result{ID: id}
		rec, err := q.record(ctx, id)
		if err != nil {
			return res.failed(err)
		}
		r.Force = false
		chosen, err := rec.choose(r, Held)
		if err == nil {
			err = q.setState(ctx, id, keysOf(chosen), store.QuarantineChange{State: store.QuarantineHeld, From: fromStates(r), By: r.By, Note: askNote})
		}
		if err != nil {
			return res.failed(err)
		}
		res.Recipients = namesOf(chosen)
		q.cfg.History.Note(q.event(mail.EventRequest, rec, res.Recipients, r))
		q.cfg.Log.Info("release asked for", "id", id.String(), "by", r.By)
		return res
	})
}
