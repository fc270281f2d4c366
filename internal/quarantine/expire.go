package quarantine

import (
	"context"
	"sync"
	"time"
)

// loop is a goroutine that does something now and then, between Start and Stop.
type loop struct {
	mu     sync.Mutex
	cancel context.CancelFunc
	ended  chan struct{}
}

// start runs fn until stop, or until ctx ends. A second start does nothing.
func (l *loop) start(ctx context.Context, fn func(context.Context)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cancel != nil {
		return
	}
	ctx, l.cancel = context.WithCancel(ctx)
	ended := make(chan struct{})
	l.ended = ended
	go func() {
		defer close(ended)
		fn(ctx)
	}()
}

// stop ends fn and waits for it until ctx ends.
func (l *loop) stop(ctx context.Context) error {
	l.mu.Lock()
	cancel, ended := l.cancel, l.ended
	l.mu.Unlock()
	if cancel == nil {
		return nil
	}
	cancel()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// wait sleeps and reports whether ctx is still good.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Start begins to delete what has become too old.
func (q *Quarantine) Start(ctx context.Context) {
	// Its own context: the loop ends by Stop, not with the call that began it.
	q.expire.start(context.WithoutCancel(ctx), func(ctx context.Context) {
		for {
			q.expireAll(ctx)
			if !wait(ctx, q.cfg.ExpireEvery) {
				return
			}
		}
	})
}

// Stop ends what Start began; it waits for it until ctx ends.
func (q *Quarantine) Stop(ctx context.Context) error { return q.expire.stop(ctx) }

// expireAll deletes what was received before the time that messages are kept.
func (q *Quarantine) expireAll(ctx context.Context) {
	before := time.Now().Add(-q.cfg.Keep)
	n, err := q.cfg.Store.ExpireQuarantine(ctx, before)
	if err != nil && ctx.Err() == nil {
		q.cfg.Log.Warn("old messages could not be deleted, trying again later", "error", err)
	}
	if n > 0 {
		q.cfg.Log.Info("old messages deleted", "count", n, "received_before", before.UTC().Format(time.RFC3339))
	}
}
