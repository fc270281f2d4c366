package transport

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"gatepost/internal/smtpclient"
)

// session is a conversation that the pool knows.
type session struct {
	conn *smtpclient.Conn
	// address and class say for which hops the session serves: the class is what
	// was asked of its encryption.
	address, class string
	// note is what the outcomes should mention, such as that TLS failed.
	note   string
	reused bool
	idle   *time.Timer
}

// pool keeps the sessions of a transport: at most so many to one address, each
// for a number of messages, and open for a while after the last one. It also
// remembers which addresses could not be spoken to.
type pool struct {
	limit    int
	messages int
	idle     time.Duration
	rest     time.Duration
	restMax  time.Duration

	// ctx ends when the pool is closed; running holds its goroutines and users.
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu     sync.Mutex
	closed bool
	peers  map[string]*peer
}

// peer is what the pool knows of one address.
type peer struct {
	open    int        // sessions, idle ones too, and slots that were given out
	idle    []*session // the last one was used last
	waiting []*waiter  // the first one waits longest

	failures int
	rests    time.Time // until then
}

// waiter waits for a session to become free, or for a slot to open one.
type waiter struct {
	class string
	got   chan *session // nil is a slot
}

var errClosed = errors.New("transport is closed")

func newPool(cfg Config) *pool {
	p := &pool{limit: cfg.Sessions, messages: cfg.MessagesPerSession, idle: cfg.IdleTimeout,
		rest: cfg.Rest, restMax: cfg.RestMax, peers: make(map[string]*peer)}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// enter joins ctx with the life of the pool, and makes close wait for leave.
func (p *pool) enter(ctx context.Context) (joined context.Context, leave func(), err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, nil, errClosed
	}
	p.running.Add(1)
	joined, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(p.ctx, func() { cancel(errClosed) })
	return joined, func() {
		stop()
		cancel(nil)
		p.running.Done()
	}, nil
}

// take returns an idle session to the address, or nil for the right to open one:
// then put or release must follow. At the limit it waits for either. fresh asks
// for the right.
func (p *pool) take(ctx context.Context, address, class string, fresh bool) (*session, error) {
	p.mu.Lock()
	pr := p.peer(address)
	if !fresh {
		if s := pr.takeIdle(class); s != nil {
			p.mu.Unlock()
			return s, nil
		}
	}
	if pr.open < p.limit {
		pr.open++
		p.mu.Unlock()
		return nil, nil
	}
	if len(pr.idle) > 0 {
		// Idle sessions of another class, or stale ones: one makes room.
		s := pr.idle[0]
		pr.idle = slices.Delete(pr.idle, 0, 1)
		p.mu.Unlock()
		s.conn.Leave()
		return nil, nil
	}
	w := &waiter{class: class, got: make(chan *session, 1)}
	pr.waiting = append(pr.waiting, w)
	p.mu.Unlock()
	return p.await(ctx, address, w)
}

func (p *pool) await(ctx context.Context, address string, w *waiter) (*session, error) {
	select {
	case s := <-w.got:
		return s, nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	pr := p.peer(address)
	if i := slices.Index(pr.waiting, w); i >= 0 {
		pr.waiting = slices.Delete(pr.waiting, i, i+1)
		p.mu.Unlock()
		return nil, context.Cause(ctx)
	}
	p.mu.Unlock()
	// It was granted in this very moment: pass it on.
	if s := <-w.got; s != nil {
		p.put(s)
	} else {
		p.release(address)
	}
	return nil, context.Cause(ctx)
}

// takeIdle takes the session that was used last: the others may then end.
func (pr *peer) takeIdle(class string) *session {
	for i := len(pr.idle) - 1; i >= 0; i-- {
		if s := pr.idle[i]; s.class == class {
			pr.idle = slices.Delete(pr.idle, i, i+1)
			s.idle.Stop()
			s.reused = true
			return s
		}
	}
	return nil
}

// peer returns the entry of an address, which p.tidy removes.
func (p *pool) peer(address string) *peer {
	pr := p.peers[address]
	if pr == nil {
		pr = &peer{}
		p.peers[address] = pr
	}
	return pr
}

// put gives a session back.
func (p *pool) put(s *session) {
	switch {
	case !s.conn.Usable():
		s.conn.Close()
		p.release(s.address)
		return
	case s.conn.Transactions() >= p.messages || !p.keep(s):
		// The slot is free when the session is really over, so that the next hop
		// never sees more than the limit.
		p.running.Go(func() {
			s.conn.Quit()
			p.release(s.address)
		})
	}
}

// keep hands the session to who waits for one, or makes it idle. It returns false
// where the session must end.
func (p *pool) keep(s *session) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	pr := p.peer(s.address)
	if len(pr.waiting) > 0 {
		w := pr.waiting[0]
		if w.class != s.class {
			return false // the slot will be his
		}
		pr.waiting = slices.Delete(pr.waiting, 0, 1)
		s.reused = true
		w.got <- s
		return true
	}
	pr.idle = append(pr.idle, s)
	if s.idle == nil {
		s.idle = time.AfterFunc(p.idle, func() { p.expire(s) })
	} else {
		s.idle.Reset(p.idle)
	}
	return true
}

// expire ends a session that nobody needed.
func (p *pool) expire(s *session) {
	p.mu.Lock()
	pr := p.peer(s.address)
	i := slices.Index(pr.idle, s)
	if i < 0 || p.closed {
		p.mu.Unlock()
		return
	}
	pr.idle = slices.Delete(pr.idle, i, i+1)
	p.running.Add(1)
	p.mu.Unlock()
	defer p.running.Done()
	s.conn.Quit()
	p.release(s.address)
}

// release gives back a slot.
func (p *pool) release(address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pr := p.peer(address)
	if len(pr.waiting) > 0 {
		w := pr.waiting[0]
		pr.waiting = slices.Delete(pr.waiting, 0, 1)
		w.got <- nil
		return
	}
	pr.open--
	p.tidy(address, pr)
}

// dropIdle ends the idle sessions to an address of which one was found dead: the
// others were opened in the same times.
func (p *pool) dropIdle(address string) {
	p.mu.Lock()
	pr := p.peer(address)
	stale := pr.idle
	pr.idle = nil
	p.mu.Unlock()
	for _, s := range stale {
		s.idle.Stop()
		s.conn.Leave()
		p.release(address)
	}
}

// maxPeers is how many addresses without a session are remembered as failing.
const maxPeers = 4096

// tidy forgets an address of which nothing needs to be known.
func (p *pool) tidy(address string, pr *peer) {
	if pr.open == 0 && pr.failures == 0 {
		delete(p.peers, address)
	}
	if len(p.peers) <= maxPeers {
		return
	}
	now := time.Now()
	for a, pr := range p.peers {
		if pr.open == 0 && pr.rests.Before(now) {
			delete(p.peers, a)
		}
	}
}

// close ends everything and waits for it.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	var idle []*session
	for _, pr := range p.peers {
		idle = append(idle, pr.idle...)
		pr.idle = nil
	}
	p.mu.Unlock()
	p.cancel()
	for _, s := range idle {
		s.idle.Stop()
		p.running.Go(func() {
			s.conn.Quit()
			p.release(s.address)
		})
	}
	p.running.Wait()
}

// failed notes that an address could not be spoken to: it rests, and longer each
// time.
func (p *pool) failed(address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pr := p.peer(address)
	pr.rests = time.Now().Add(p.restFor(pr.failures))
	pr.failures++
}

func (p *pool) restFor(failures int) time.Duration {
	return min(p.rest<<min(failures, 16), p.restMax)
}

// succeeded notes that an address could be spoken to.
func (p *pool) succeeded(address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if pr := p.peers[address]; pr != nil {
		pr.failures, pr.rests = 0, time.Time{}
	}
}

// resting reports whether an address should be left alone. When its rest is over
// the first who asks may probe it; the others wait for what he finds.
func (p *pool) resting(address string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	pr := p.peers[address]
	if pr == nil || pr.failures == 0 {
		return false
	}
	now := time.Now()
	if now.Before(pr.rests) {
		return true
	}
	pr.rests = now.Add(p.restFor(pr.failures - 1))
	return false
}

// sortByBusy orders hops by how many of their sessions would be at work with one more,
// for their weight, the order of equals kept.
func (p *pool) sortByBusy(hops []hop) {
	p.mu.Lock()
	defer p.mu.Unlock()
	busy := func(h hop) int {
		pr := p.peers[h.target.Address]
		if pr == nil {
			return 0
		}
		return pr.open - len(pr.idle)
	}
	slices.SortStableFunc(hops, func(a, b hop) int { return cmp.Compare((busy(a)+1)*b.weight, (busy(b)+1)*a.weight) })
}
