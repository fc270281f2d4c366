package lookup

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Config says how long a Cache keeps what, and how much of it. Zero values stand
// for the defaults.
type Config struct {
	// Entries is how many answers are kept at most; default 10,000.
	Entries int
	// Positive is how long an answer with something in it holds, default 10 min;
	// Negative one with nothing, default 1 min; Failure how long an error is
	// repeated, default 2 s. Below 0: not at all.
	Positive, Negative, Failure time.Duration
	// Timeout is how long one question may take; default 10 s.
	Timeout time.Duration
}

// WithDefaults returns the configuration with the defaults in the place of zero
// values.
func (c Config) WithDefaults() Config {
	if c.Entries <= 0 {
		c.Entries = 10_000
	}
	for _, d := range []struct {
		at       *time.Duration
		standard time.Duration
	}{{&c.Positive, 10 * time.Minute}, {&c.Negative, time.Minute}, {&c.Failure, 2 * time.Second}, {&c.Timeout, 10 * time.Second}} {
		if *d.at == 0 {
			*d.at = d.standard
		}
	}
	return c
}

// Cache keeps answers of one service. It is safe for concurrent use.
type Cache[V any] struct {
	cfg   Config
	empty func(V) bool

	mu sync.Mutex
	// The answers are in two generations: when the young one is full, it becomes the
	// old one, which is forgotten. What is used moves to the young one.
	young, old map[string]kept[V]
	calls      map[string]*call[V]
}

type kept[V any] struct {
	value V
	err   error
	until time.Time
}

// call is a question that is being asked.
type call[V any] struct {
	done    chan struct{}
	value   V // set, with err, before done is closed
	err     error
	waiters int
	cancel  context.CancelFunc
}

// NewCache returns an empty cache; empty tells the answers that hold nothing.
func NewCache[V any](cfg Config, empty func(V) bool) *Cache[V] {
	return &Cache[V]{cfg: cfg.WithDefaults(), empty: empty, young: map[string]kept[V]{}, calls: map[string]*call[V]{}}
}

// Get returns the answer for the key: the one that is kept, or that of ask, which
// is called once for all who want it at this moment. It returns early with the
// cause when ctx ends.
func (c *Cache[V]) Get(ctx context.Context, key string, ask func(context.Context) (V, error)) (V, error) {
	p, k, ok := c.join(ctx, key, ask)
	if ok {
		return k.value, k.err
	}
	select {
	case <-p.done:
		return p.value, p.err
	case <-ctx.Done():
		c.leave(key, p)
		var none V
		return none, context.Cause(ctx)
	}
}

// join finds an answer, or a call that waits for one.
func (c *Cache[V]) join(ctx context.Context, key string, ask func(context.Context) (V, error)) (*call[V], kept[V], bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k, ok := c.find(key); ok {
		return nil, k, true
	}
	if p, ok := c.calls[key]; ok {
		p.waiters++
		return p, kept[V]{}, false
	}
	// The question belongs to all who wait: it ends with the last of them, not with
	// the first.
	shared, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.cfg.Timeout)
	p := &call[V]{done: make(chan struct{}), waiters: 1, cancel: cancel}
	c.calls[key] = p
	go func() {
		defer cancel()
		p.value, p.err = ask(shared)
		c.settle(key, p, errors.Is(shared.Err(), context.Canceled))
		close(p.done)
	}()
	return p, kept[V]{}, false
}

// find returns a kept answer that still holds. The caller holds the lock.
func (c *Cache[V]) find(key string) (kept[V], bool) {
	k, ok := c.young[key]
	if !ok {
		if k, ok = c.old[key]; ok {
			delete(c.old, key)
			c.put(key, k)
		}
	}
	if ok && !time.Now().Before(k.until) {
		delete(c.young, key)
		return kept[V]{}, false
	}
	return k, ok
}

// put keeps an answer. The caller holds the lock.
func (c *Cache[V]) put(key string, k kept[V]) {
	if len(c.young) >= max(1, c.cfg.Entries/2) {
		c.old, c.young = c.young, map[string]kept[V]{}
	}
	c.young[key] = k
}

// settle keeps what a call brought. The error of a question that nobody waits
// for any more says nothing about the service.
func (c *Cache[V]) settle(key string, p *call[V], abandoned bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calls[key] == p {
		delete(c.calls, key)
	}
	hold := c.cfg.Positive
	switch {
	case p.err != nil && abandoned:
		return
	case p.err != nil:
		hold = c.cfg.Failure
	case c.empty(p.value):
		hold = c.cfg.Negative
	}
	if hold > 0 {
		c.put(key, kept[V]{value: p.value, err: p.err, until: time.Now().Add(hold)})
	}
}

func (c *Cache[V]) leave(key string, p *call[V]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.waiters--; p.waiters > 0 {
		return
	}
	p.cancel()
	if c.calls[key] == p {
		delete(c.calls, key)
	}
}

// Len is how many answers are kept.
func (c *Cache[V]) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.young) + len(c.old)
}
