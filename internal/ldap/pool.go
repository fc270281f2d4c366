package ldap

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// pool keeps connections: those of the one who searches, and those on which the
// names of users are tried, which are never used for a search.
type pool struct {
	slots chan struct{} // a token for each connection that is in use
	limit time.Duration

	mu     sync.Mutex
	closed bool
	idle   map[bool][]*conn // true for searches; the last one was used last
	rests  map[string]time.Time
}

func newPool(sessions int, idle time.Duration) *pool {
	return &pool{slots: make(chan struct{}, sessions), limit: idle,
		idle: make(map[bool][]*conn), rests: make(map[string]time.Time)}
}

// enter waits for a slot.
func (p *pool) enter(ctx context.Context) error {
	select {
	case p.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for a connection to the directory: %w", context.Cause(ctx))
	}
}

func (p *pool) leave() { <-p.slots }

// take returns an idle connection, nil where there is none.
func (p *pool) take(admin bool) (*conn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, ErrClosed
	}
	for {
		list := p.idle[admin]
		if len(list) == 0 {
			return nil, nil
		}
		c := list[len(list)-1]
		p.idle[admin] = list[:len(list)-1]
		if c.idle.Stop() && !c.IsClosing() {
			return c, nil
		}
	}
}

// put makes a connection idle.
func (p *pool) put(c *conn, admin bool) {
	p.mu.Lock()
	if p.closed || c.IsClosing() || len(p.idle[true])+len(p.idle[false]) >= cap(p.slots) {
		p.mu.Unlock()
		c.shut()
		return
	}
	defer p.mu.Unlock()
	p.idle[admin] = append(p.idle[admin], c)
	c.idle = time.AfterFunc(p.limit, func() { p.expire(c, admin) })
}

// expire ends a connection that nobody needed.
func (p *pool) expire(c *conn, admin bool) {
	p.mu.Lock()
	p.idle[admin] = slices.DeleteFunc(p.idle[admin], func(other *conn) bool { return other == c })
	p.mu.Unlock()
	c.shut()
}

func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	all := slices.Concat(p.idle[true], p.idle[false])
	clear(p.idle)
	p.mu.Unlock()
	for _, c := range all {
		c.idle.Stop()
		c.shut()
	}
}

// order is the servers with those that rest at the end.
func (p *pool) order(all []server) []server {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	var awake, resting []server
	for _, s := range all {
		if now.Before(p.rests[s.url]) {
			resting = append(resting, s)
		} else {
			awake = append(awake, s)
		}
	}
	return append(awake, resting...)
}

// note remembers whether a server could be spoken to.
func (p *pool) note(s server, rest time.Duration, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		delete(p.rests, s.url)
	} else if rest > 0 && !errors.Is(err, context.Canceled) {
		p.rests[s.url] = time.Now().Add(rest)
	}
}
