package dns

import (
	"context"
	"sync"
)

// flight joins equal lookups that happen at the same time. Unlike a plain
// single flight, a lookup is cancelled when the last of its callers leaves, so
// that no goroutine outlives the work it was for.
type flight struct {
	mu    sync.Mutex
	calls map[question]*call
}

type call struct {
	done    chan struct{}
	answer  *answer // set before done is closed
	waiters int
	cancel  context.CancelFunc
}

func newFlight() *flight { return &flight{calls: make(map[question]*call)} }

// do returns the result of fn for q, run once for all callers of this moment. The
// error is ctx's.
func (f *flight) do(ctx context.Context, q question, fn func(context.Context) *answer) (*answer, error) {
	c := f.join(ctx, q, fn)
	select {
	case <-c.done:
		return c.answer, nil
	case <-ctx.Done():
		f.leave(q, c)
		return nil, context.Cause(ctx)
	}
}

func (f *flight) join(ctx context.Context, q question, fn func(context.Context) *answer) *call {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c, ok := f.calls[q]; ok {
		c.waiters++
		return c
	}
	// The lookup belongs to all callers: it ends with the last of them, not with
	// the first.
	shared, cancel := context.WithCancel(context.WithoutCancel(ctx))
	c := &call{done: make(chan struct{}), waiters: 1, cancel: cancel}
	f.calls[q] = c
	go func() {
		defer cancel()
		c.answer = fn(shared)
		f.forget(q, c)
		close(c.done)
	}()
	return c
}

func (f *flight) forget(q question, c *call) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.calls[q] == c {
		delete(f.calls, q)
	}
}

func (f *flight) leave(q question, c *call) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c.waiters--; c.waiters > 0 {
		return
	}
	c.cancel()
	if f.calls[q] == c {
		delete(f.calls, q)
	}
}
