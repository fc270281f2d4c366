package queue

import (
	"context"
	"time"
)

const (
	// recheck bounds how long the queue sleeps: timers follow the monotonic
	// clock, due times the wall clock, and that one may be set at any time.
	recheck = time.Minute
	// stepTolerance is how far the two clocks may drift apart between two looks
	// before the wall clock counts as set.
	stepTolerance = 2 * time.Second
	// wakeBatch is how many items become ready under one hold of the lock.
	wakeBatch = 4096
)

// loadDone puts what was added while loading in order.
func (s *scheduler) loadDone() {
	s.loading = false
	s.due.heapify()
}

// wake makes up to max items ready whose time has come, and ends the rests that
// are over. It reports whether there may be more to do.
func (s *scheduler) wake(now time.Time, limit int) (more bool) {
	ms := now.UnixMilli()
	for range limit {
		if len(s.due.handles) == 0 || s.t.at(s.due.handles[0]).due > ms {
			break
		}
		s.move(s.due.handles[0], placeReady)
		more = true
	}
	for len(s.resting) > 0 && !s.resting[0].restEnd.After(now) {
		s.wakeUp(s.resting[0], now)
	}
	return more
}

// sleep returns how long nothing will become due.
func (s *scheduler) sleep(now time.Time) time.Duration {
	d := recheck
	if len(s.due.handles) > 0 {
		due := time.UnixMilli(s.t.at(s.due.handles[0]).due)
		d = min(d, due.Sub(now))
	}
	if len(s.resting) > 0 {
		d = min(d, s.resting[0].restEnd.Sub(now))
	}
	return max(d, 0)
}

// clampDue brings due times nearer that lie further in the future than the
// longest delay: after the clock was set back, nothing may wait for the time at
// which it would have been due by the old clock.
func (s *scheduler) clampDue(now time.Time) {
	for _, h := range s.due.handles {
		r := s.t.at(h)
		limit := now.Add(s.dests[r.dest].tc.Policy.longest()).UnixMilli()
		r.due = min(r.due, limit)
	}
	s.due.heapify()
}

// run wakes items and destinations when their time comes, until ctx ends.
func (q *Queue) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-q.kick:
		case <-timer.C:
		}
		now := time.Now()
		q.mu.Lock()
		// Round(0) strips the monotonic reading: the first difference is the wall
		// clock's, the second the monotonic clock's.
		if now.Round(0).Sub(last.Round(0)) < now.Sub(last)-stepTolerance {
			q.sched.clampDue(now)
		}
		last = now
		for q.sched.wake(now, wakeBatch) {
			q.dispatch()
			q.mu.Unlock() // let others in between the batches of a long list
			q.mu.Lock()
		}
		q.dispatch()
		q.wakeAt = now.Add(q.sched.sleep(now))
		timer.Reset(q.wakeAt.Sub(now))
		q.mu.Unlock()
	}
}

// rouse makes run look again if something is due before it means to wake. The
// lock is held.
func (q *Queue) rouse(now time.Time) {
	if now.Add(q.sched.sleep(now)).Before(q.wakeAt) {
		select {
		case q.kick <- struct{}{}:
		default: // it will look anyway
		}
	}
}
