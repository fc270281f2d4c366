package senders

import (
	"context"
	"fmt"
	"time"

	"gatepost/internal/store"
)

// ListStore keeps the lists: *store.Store.
type ListStore interface {
	FindSenders(ctx context.Context, q store.SenderQuery) ([]store.SenderEntry, bool, error)
	PutSender(ctx context.Context, e store.SenderEntry, most int) error
	DropSender(ctx context.Context, k store.SenderKey) error
}

// Lists is what people change lists by. It holds at once, on every node.
type Lists struct {
	Store ListStore
	// Most is how many entries a list may have; default 10,000.
	Most int
}

const defaultMost = 10_000

// Find returns the entries that the query asks for, and whether there are more.
func (l Lists) Find(ctx context.Context, q store.SenderQuery) ([]store.SenderEntry, bool, error) {
	return l.Store.FindSenders(ctx, q)
}

// Put allows or blocks a sender, in the place of what the list said about it. The errors
// are ErrOwner, ErrPattern, store.ErrFull and those of the store.
func (l Lists) Put(ctx context.Context, e store.SenderEntry) (store.SenderEntry, error) {
	var err error
	if e.Owner, err = ParseOwner(e.Owner); err != nil {
		return e, fmt.Errorf("%.100q: %w", e.Owner, err)
	}
	given := e.Pattern
	if e.Pattern, err = ParsePattern(given); err != nil {
		return e, fmt.Errorf("%.100q: %w", given, err)
	}
	if e.Kind != store.SenderAllowed && e.Kind != store.SenderBlocked {
		return e, fmt.Errorf("%.20q is neither allow nor block", e.Kind)
	}
	most := l.Most
	if most <= 0 {
		most = defaultMost
	}
	e.Added = time.Now()
	return e, l.Store.PutSender(ctx, e, most)
}

// Drop takes a sender off a list; store.ErrNotFound where it is not on it.
func (l Lists) Drop(ctx context.Context, k store.SenderKey) error {
	return l.Store.DropSender(ctx, k)
}
