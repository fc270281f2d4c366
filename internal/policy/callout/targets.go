package callout

import (
	"context"
	"errors"
	"sync"
	"time"
)

// errBusy says that a callout was not made, to spare somebody.
var errBusy = errors.New("too many callouts to the server")

// maxTargets bounds how many servers are remembered.
const maxTargets = 10_000

// targets bounds what servers have to bear from us.
type targets struct {
	perTarget, perMinute int
	slots                chan struct{} // one for each callout

	mu   sync.Mutex
	list map[string]*target
}

// target is one server, by its address: names cost nothing.
type target struct {
	users int // that hold a slot or wait for one
	slots chan struct{}
	// tokens are the callouts that may be made at once; they come back over a minute.
	tokens float64
	at     time.Time
}

// refill brings the tokens up to date.
func (t *targets) refill(one *target) {
	now := time.Now()
	back := now.Sub(one.at).Minutes() * float64(t.perMinute)
	one.tokens, one.at = min(one.tokens+back, float64(t.perMinute)), now
}

func newTargets(c Config) *targets {
	return &targets{perTarget: c.PerTarget, perMinute: c.PerMinute, slots: make(chan struct{}, c.Sessions), list: map[string]*target{}}
}

// enter waits until the server may be asked, and returns how to leave. errBusy
// says that it was asked enough for now, or that the wait was too long.
func (t *targets) enter(ctx context.Context, address string) (leave func(), err error) {
	one := t.use(address)
	if one == nil {
		return nil, errBusy
	}
	for i, slots := range []chan struct{}{one.slots, t.slots} {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			if i == 1 {
				<-one.slots
			}
			t.unuse(one)
			return nil, errBusy
		}
	}
	return func() {
		<-t.slots
		<-one.slots
		t.unuse(one)
	}, nil
}

// use returns the server, nil where its rate is used up or there are too many.
func (t *targets) use(address string) *target {
	t.mu.Lock()
	defer t.mu.Unlock()
	one, ok := t.list[address]
	if !ok {
		if len(t.list) >= maxTargets {
			t.sweep()
		}
		if len(t.list) >= maxTargets {
			return nil
		}
		one = &target{slots: make(chan struct{}, t.perTarget), tokens: float64(t.perMinute), at: time.Now()}
		t.list[address] = one
	}
	if t.refill(one); one.tokens < 1 {
		return nil
	}
	one.tokens--
	one.users++
	return one
}

func (t *targets) unuse(one *target) {
	t.mu.Lock()
	defer t.mu.Unlock()
	one.users--
}

// sweep forgets the servers about which there is nothing to remember.
func (t *targets) sweep() {
	for address, one := range t.list {
		if t.refill(one); one.users == 0 && one.tokens >= float64(t.perMinute) {
			delete(t.list, address)
		}
	}
}
