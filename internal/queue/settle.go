package queue

import (
	"time"

	"gatepost/internal/mail"
)

// Bounds of the pause between two tries to store what could not be stored.
const (
	saveAgainMin = time.Second
	saveAgainMax = 30 * time.Second
	// probeKey is a setting written only to see whether the store takes writes.
	probeKey = "queue/probe"
)

// settle puts the item of a finished attempt where it belongs, frees the slot,
// and returns the next job for the same worker.
func (q *Queue) settle(j job, r result) (job, bool) {
	r = q.lockSettled(j.h, r)
	now := time.Now()
	q.cache.free(j.cached)
	q.place(j.h, r, now)
	changed := q.sched.finish(j.slot, r.contact, now)
	dead, rest := j.dest.dead, j.dest.restEnd.Sub(now)
	next, ok := q.next()
	q.dispatch()
	q.rouse(now)
	q.mu.Unlock()
	if changed {
		q.noteDestination(j.dest.key, dead, rest)
	}
	return next, ok
}

func (q *Queue) noteDestination(d mail.Destination, dead bool, rest time.Duration) {
	if dead {
		q.log.Warn("destination does not answer; it rests and is probed", "transport", d.Transport, "next_hop", d.NextHop,
			"probe_in", rest.Round(time.Second))
		return
	}
	q.log.Warn("destination answers again", "transport", d.Transport, "next_hop", d.NextHop)
}

// lockSettled does what operations asked for while the item was under way, and
// returns with the lock held, so that nothing can be asked for before the item
// is in its place.
func (q *Queue) lockSettled(h handle, r result) result {
	for {
		q.mu.Lock()
		op, ok := q.pending[h]
		// What could not be stored yet is still under way.
		if !ok || r.fate == fateGone || r.fate == fateUnsaved {
			return r
		}
		delete(q.pending, h)
		q.mu.Unlock()
		r = q.applyLate(op, r)
	}
}

// place moves the record according to r. The lock is held.
func (q *Queue) place(h handle, r result, now time.Time) {
	s := q.sched
	if r.overdue {
		s.t.at(h).flags |= flagOverdue
	}
	switch r.fate {
	case fateGone:
		delete(q.pending, h)
		s.forget(h)
		return
	case fateUnsaved:
		s.move(h, placeTaken)
		q.unsaved[h] = r
		q.down = true
		q.startSaving()
		return
	case fateAsWas:
		if r.was == placeParked {
			r.was = placeReady // its pause may have ended meanwhile
		}
		s.move(h, r.was)
		return
	case fateReport:
		q.rehome(h, s.dests[reportsNumber])
	default:
		if r.item != nil {
			q.rehome(h, s.destination(r.item.Destination()))
		}
	}
	switch r.fate {
	case fateHeld:
		s.move(h, placeHeld)
	case fateNew:
		s.move(h, placeNew)
	case fateParked:
		if r.pauses == q.pauses.version {
			s.move(h, placeParked)
		} else {
			s.schedule(h, now, now) // a pause ended or began meanwhile: look again
		}
	case fateDue, fateReport:
		s.schedule(h, r.at, now)
	}
}

// rehome gives the item of h another destination. The lock is held.
func (q *Queue) rehome(h handle, to *destination) {
	if r := q.sched.t.at(h); r.dest != to.num {
		q.sched.move(h, placeTaken)
		q.sched.moveTo(h, to)
	}
}

// startSaving makes sure that somebody tries to store what is unsaved. The lock
// is held.
func (q *Queue) startSaving() {
	if !q.saving {
		q.saving = true
		q.loops.Go(q.save)
	}
}

// save tries to store what is unsaved until it is. While the store takes no
// writes at all, attempts are suspended: their outcomes could not be kept, and
// mail would be delivered again and again. One item that cannot be stored while
// others can does not hold the rest.
func (q *Queue) save() {
	pause := saveAgainMin
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		select {
		case <-q.loop.Done():
			return
		case <-timer.C:
		}
		works := q.saveUnsaved()
		if !works {
			works = q.cfg.Store.PutSetting(probeKey, nil) == nil
		}
		q.mu.Lock()
		again := works && q.down
		if again {
			q.down = false
			q.dispatch()
		}
		q.saving = len(q.unsaved) > 0
		more := q.saving
		q.mu.Unlock()
		if again {
			q.log.Info("outcomes can be stored again")
		}
		if !more {
			return
		}
		pause = min(2*pause, saveAgainMax)
		timer.Reset(pause)
	}
}

// saveUnsaved tries each unsaved result once and reports whether any was stored.
func (q *Queue) saveUnsaved() (works bool) {
	q.mu.Lock()
	handles := make([]handle, 0, len(q.unsaved))
	for h := range q.unsaved {
		handles = append(handles, h)
	}
	q.mu.Unlock()
	for _, h := range handles {
		q.mu.Lock()
		r := q.unsaved[h]
		id := q.sched.t.at(h).queueID()
		q.mu.Unlock()
		r.fate = r.saved
		if err := q.write(id, r); err != nil {
			if !q.cfg.Gone(err) {
				continue
			}
			r.fate = fateGone
		}
		works = true
		r = q.lockSettled(h, r)
		now := time.Now()
		delete(q.unsaved, h)
		q.place(h, r, now)
		q.dispatch()
		q.rouse(now)
		q.mu.Unlock()
	}
	return works
}

// saveLast is the last try, when the queue stops.
func (q *Queue) saveLast() error {
	q.saveUnsaved()
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.unsaved) == 0 {
		return nil
	}
	for h := range q.unsaved {
		q.log.Error("outcome is lost; recipients may get the message again", "id", q.sched.t.at(h).queueID().String())
	}
	return errUnsaved
}
