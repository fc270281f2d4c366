package upstream

import (
	"context"
	"fmt"
	"slices"
	"time"

	"gatepost/internal/smtpclient"
)

// endpoint is one address of a host. Its fields are under Server.mu.
type endpoint struct {
	host   *host
	target smtpclient.Target
	secure bool       // DNSSEC vouched for the address, when it was last asked for
	open   int        // sessions, idle ones too, and slots that were given out
	idle   []*session // the last one was used last

	failures int       // in a row
	rests    time.Time // until then
	back     time.Time // when it came back after an outage; zero for long ago
}

// outage is after how many failures in a row an address counts as down.
const outage = 3

// session is a conversation with an upstream. One transaction has it at a time.
type session struct {
	conn *smtpclient.Conn
	ep   *endpoint
	// identity is in whose name the session was opened; strict says that its
	// certificate was verified for REQUIRETLS.
	identity string
	strict   bool
	// renames says that it can be given another identity.
	renames bool
	reused  bool
	timer   *time.Timer // ends it when it was idle for long
	// login is set where a client has logged in: the session is its own.
	login *login
}

// serves reports whether the session is good for w.
func (sess *session) serves(w *want) bool {
	return (sess.strict || !w.strict) && (sess.renames || sess.identity == w.identity)
}

// waiter is a transaction that waits for a session.
type waiter struct {
	want *want
	got  chan grant
}

// grant is a session, or the right to open one: then put or release must follow.
type grant struct {
	ep   *endpoint
	sess *session
}

func (s *Server) endpointLocked(h *host, t smtpclient.Target) *endpoint {
	ep := s.endpoints[t.Address]
	if ep == nil {
		ep = &endpoint{host: h, target: t}
		s.endpoints[t.Address] = ep
		s.tidyLocked()
	}
	return ep
}

// maxEndpoints is how many addresses are remembered.
const maxEndpoints = 4096

// tidyLocked forgets addresses that nobody uses, where name servers gave us many.
func (s *Server) tidyLocked() {
	if len(s.endpoints) <= maxEndpoints {
		return
	}
	for a, ep := range s.endpoints {
		if ep.open == 0 && ep.rests.Before(time.Now()) {
			delete(s.endpoints, a)
		}
	}
}

// limit is how many sessions there may be to ep.
func (s *Server) limit(ep *endpoint, now time.Time) int {
	if s.slow(ep, now) {
		return 1 + int(float64(s.cfg.Sessions-1)*float64(now.Sub(ep.back))/float64(s.cfg.SlowStart))
	}
	return s.cfg.Sessions
}

// slow reports that ep has come back from an outage a short while ago.
func (s *Server) slow(ep *endpoint, now time.Time) bool {
	return !ep.back.IsZero() && now.Sub(ep.back) < s.cfg.SlowStart
}

// claim is what came of asking for a session to an address.
type claim uint8

const (
	granted claim = iota
	full          // it has as many sessions as it may
	resting       // it is left alone
)

// claim asks for a session to ep. anyway takes one that rests, too, unless it is
// down.
func (s *Server) claim(ep *endpoint, w *want, anyway bool) (grant, claim) {
	s.mu.Lock()
	if !w.fresh {
		for i := len(ep.idle) - 1; i >= 0; i-- {
			if sess := ep.idle[i]; sess.serves(w) && sess.timer.Stop() {
				// The one that was used last: the others may then end.
				ep.idle = slices.Delete(ep.idle, i, i+1)
				sess.reused = true
				s.mu.Unlock()
				return grant{ep, sess}, granted
			}
		}
	}
	now := time.Now()
	if s.restsLocked(ep, now, anyway) {
		s.mu.Unlock()
		return grant{}, resting
	}
	if ep.open < s.limit(ep, now) {
		ep.open++
		s.mu.Unlock()
		return grant{ep: ep}, granted
	}
	if len(ep.idle) > 0 {
		// Idle sessions for other clients: one makes room.
		sess := ep.idle[0]
		ep.idle = slices.Delete(ep.idle, 0, 1)
		sess.timer.Stop()
		delete(s.sessions, sess)
		s.mu.Unlock()
		sess.conn.Leave()
		return grant{ep: ep}, granted
	}
	s.mu.Unlock()
	return grant{}, full
}

// restsLocked reports whether an address should be left alone. When its rest is
// over the first who asks may try it; the others wait for what he finds.
func (s *Server) restsLocked(ep *endpoint, now time.Time, anyway bool) bool {
	switch {
	case ep.failures == 0, anyway && ep.failures < outage:
		return false
	case now.Before(ep.rests):
		return true
	}
	ep.rests = now.Add(s.restFor(ep.failures - 1))
	return false
}

func (s *Server) restFor(failures int) time.Duration {
	return min(s.cfg.Rest<<min(failures, 16), s.cfg.RestMax)
}

// failed notes that an address could not be spoken to.
func (s *Server) failed(ep *endpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ep.rests = time.Now().Add(s.restFor(ep.failures))
	ep.failures++
}

// succeeded notes that it could.
func (s *Server) succeeded(ep *endpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ep.failures >= outage {
		ep.back = time.Now()
	}
	ep.failures, ep.rests = 0, time.Time{}
}

// await waits in the queue for a session to any address.
func (s *Server) await(ctx context.Context, w *want) (grant, error) {
	wt := &waiter{want: w, got: make(chan grant, 1)}
	s.mu.Lock()
	if s.closed || len(s.waiting) >= s.cfg.MaxWaiting {
		s.mu.Unlock()
		return grant{}, fmt.Errorf("%w and %d are waiting already", errBusy, s.cfg.MaxWaiting)
	}
	s.waiting = append(s.waiting, wt)
	s.armTickLocked()
	s.mu.Unlock()
	begun := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, s.cfg.WaitTimeout, fmt.Errorf("%w for %v", errBusy, s.cfg.WaitTimeout))
	defer cancel()
	select {
	case g := <-wt.got:
		s.observeWait(begun, true)
		return g, nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	i := slices.Index(s.waiting, wt)
	if i >= 0 {
		s.waiting = slices.Delete(s.waiting, i, i+1)
	}
	s.mu.Unlock()
	if i < 0 {
		// It was granted in this very moment: pass it on.
		if g := <-wt.got; g.sess != nil {
			s.put(g.sess)
		} else {
			s.release(g.ep)
		}
	}
	s.observeWait(begun, false)
	return grant{}, context.Cause(ctx)
}

func (s *Server) observeWait(begun time.Time, granted bool) {
	if s.deps.Observer != nil {
		s.deps.Observer.Waited(time.Since(begun), granted)
	}
}

// armTickLocked sees to it that waiters hear of the room that a slow start makes
// as time goes by.
func (s *Server) armTickLocked() {
	now := time.Now()
	slow := false
	for _, ep := range s.endpoints {
		slow = slow || s.slow(ep, now)
	}
	if !slow || len(s.waiting) == 0 || s.closed {
		return
	}
	every := max(s.cfg.SlowStart/time.Duration(s.cfg.Sessions), 10*time.Millisecond)
	if s.tick == nil {
		s.tick = time.AfterFunc(every, s.ticked)
		return
	}
	s.tick.Reset(every)
}

func (s *Server) ticked() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, ep := range s.endpoints {
		if ep.open > 0 {
			s.dispatchLocked(ep)
		}
	}
	s.armTickLocked()
}

// dispatchLocked gives free slots of ep to those who wait.
func (s *Server) dispatchLocked(ep *endpoint) {
	for ep.open < s.limit(ep, time.Now()) {
		i := s.firstLocked(ep)
		if i < 0 {
			return
		}
		w := s.waiting[i]
		s.waiting = slices.Delete(s.waiting, i, i+1)
		ep.open++
		w.got <- grant{ep: ep}
	}
}

// firstLocked is the place of who waits longest for a session to ep, -1 for nobody.
func (s *Server) firstLocked(ep *endpoint) int {
	return slices.IndexFunc(s.waiting, func(w *waiter) bool { return w.want.takes(ep) })
}

// release gives back a slot.
func (s *Server) release(ep *endpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ep.open--
	s.dispatchLocked(ep)
}

// drop ends a session that is of no more use.
func (s *Server) drop(sess *session) {
	s.ended(sess)
	s.forget(sess)
	sess.conn.Close()
	s.release(sess.ep)
}

func (s *Server) forget(sess *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, sess)
}

// put gives a session back after a transaction. One that was left open is ended
// first, so that the session holds nothing of it; that takes an answer of the
// upstream, for which nobody should have to wait.
func (s *Server) put(sess *session) {
	if !sess.conn.Usable() {
		s.drop(sess)
		return
	}
	if !sess.conn.Clean() {
		reset := func() {
			if sess.conn.Reset(s.ctx) != nil {
				s.drop(sess)
				return
			}
			s.keep(sess)
		}
		if !s.spawn(reset) {
			s.drop(sess)
		}
		return
	}
	s.keep(sess)
}

// keep hands a session that is reset to who waits for one, or makes it idle, or
// ends it. Its slot is free when it is really over, so that an upstream never sees
// more sessions than the limit.
func (s *Server) keep(sess *session) {
	if sess.login != nil {
		s.comeBack(sess)
		return
	}
	if sess.conn.Transactions() < s.cfg.MessagesPerSession && s.offer(sess) {
		return
	}
	s.quit(sess)
}

func (s *Server) quit(sess *session) {
	s.ended(sess)
	s.forget(sess)
	end := func() {
		sess.conn.Quit()
		s.release(sess.ep)
	}
	if !s.spawn(end) {
		sess.conn.Leave()
		s.release(sess.ep)
	}
}

func (s *Server) offer(sess *session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	if i := s.firstLocked(sess.ep); i >= 0 {
		w := s.waiting[i]
		if !sess.serves(w.want) || w.want.fresh {
			return false // the slot will be his
		}
		s.waiting = slices.Delete(s.waiting, i, i+1)
		sess.reused = true
		w.got <- grant{sess.ep, sess}
		return true
	}
	sess.ep.idle = append(sess.ep.idle, sess)
	sess.timer = time.AfterFunc(s.cfg.IdleTimeout, func() { s.expire(sess) })
	return true
}

// expire ends a session that nobody needed.
func (s *Server) expire(sess *session) {
	s.mu.Lock()
	i := slices.Index(sess.ep.idle, sess)
	if i >= 0 {
		sess.ep.idle = slices.Delete(sess.ep.idle, i, i+1)
	}
	s.mu.Unlock()
	if i >= 0 {
		s.quit(sess)
	}
}

// dropIdle ends the idle sessions to an address of which one was found dead: the
// others were opened in the same times.
func (s *Server) dropIdle(ep *endpoint) {
	s.mu.Lock()
	stale := ep.idle
	ep.idle = nil
	for _, sess := range stale {
		sess.timer.Stop()
		delete(s.sessions, sess)
	}
	s.mu.Unlock()
	for _, sess := range stale {
		sess.conn.Leave()
		s.release(ep)
	}
}
