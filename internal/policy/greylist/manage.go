package greylist

import (
	"context"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/store"
)

// List returns the entries that the query asks for, and whether there are more.
func (g *Greylist) List(ctx context.Context, q store.GreylistQuery) ([]store.GreylistEntry, bool, error) {
	return g.config.Store.FindGreylist(ctx, q)
}

// Allow allows something (ParseAllow) for good, here at once and on other nodes
// within their Config.AllowEvery.
func (g *Greylist) Allow(ctx context.Context, what, note string) error {
	what, err := ParseAllow(what)
	if err != nil {
		return err
	}
	defer g.allowed.stale()
	return g.config.Store.AllowGreylist(ctx, what, note)
}

// Forget deletes the entries that the query asks for and returns how many there
// were. What they were about waits again: here at once, on other nodes within their
// Config.CacheFor.
func (g *Greylist) Forget(ctx context.Context, q store.GreylistQuery) (int64, error) {
	defer g.cache.clear()
	defer g.allowed.stale()
	return g.config.Store.ForgetGreylist(ctx, q)
}

// Pass lets mail of a sender to a recipient, both as entries have them, pass without
// delay for as long as Config.Keep says: here at once, on other nodes within their
// Config.CacheFor.
func (g *Greylist) Pass(ctx context.Context, pair store.GreylistPair) error {
	defer g.cache.clear()
	return g.config.Store.LearnGreylist(ctx, []store.GreylistPair{pair}, g.config.Keep)
}

// Bounds on what Outgoing holds until it is written.
const (
	maxPairs    = 4096
	pairsEvery  = 5 * time.Second
	pairsAtOnce = 512 // written together
)

// Outgoing tells that somebody here wrote to somebody outside, who may answer
// without delay. It never waits; under a flood, or while the store is away, some of
// it is not kept, which costs a delay.
func (g *Greylist) Outgoing(from, to mail.Address) {
	if from.IsNull() || to.IsNull() {
		return
	}
	select {
	case g.pairs <- store.GreylistPair{Sender: NormalSender(to), Recipient: from.Key()}:
	default:
	}
}

// run writes what Outgoing was told and deletes what has expired, until ctx ends.
func (g *Greylist) run(ctx context.Context) {
	tidy := time.NewTicker(g.config.TidyEvery)
	defer tidy.Stop()
	var pairs []store.GreylistPair
	var due <-chan time.Time // nil while there are none
	write := func(ctx context.Context) {
		g.writePairs(ctx, pairs)
		pairs, due = nil, nil
	}
	for {
		select {
		case <-ctx.Done():
			for len(g.pairs) > 0 {
				pairs = append(pairs, <-g.pairs)
			}
			write(context.WithoutCancel(ctx))
			return
		case p := <-g.pairs:
			if pairs = append(pairs, p); len(pairs) == 1 {
				due = time.After(pairsEvery)
			}
			if len(pairs) == pairsAtOnce {
				write(ctx)
			}
		case <-due:
			write(ctx)
		case <-tidy.C:
			g.tidy(ctx)
		}
	}
}

// writePairs writes what there is. Where that fails it is lost.
func (g *Greylist) writePairs(ctx context.Context, pairs []store.GreylistPair) {
	if len(pairs) == 0 || g.paused() != nil {
		return
	}
	limited, cancel := context.WithTimeout(ctx, g.config.Timeout)
	defer cancel()
	if err := g.config.Store.LearnGreylist(limited, pairs, g.config.Keep); err != nil {
		g.pause(err)
	}
}

// tidy deletes what has expired. Nodes that do it at the same time are in nobody's
// way.
func (g *Greylist) tidy(ctx context.Context) {
	if g.paused() != nil {
		return
	}
	limited, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	n, err := g.config.Store.ExpireGreylist(limited)
	if err != nil && ctx.Err() == nil {
		g.pause(err)
	}
	g.config.Log.Debug("greylist: expired entries deleted", "entries", n)
}
