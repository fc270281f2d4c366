package queue

import (
	"slices"
	"strings"
	"time"
)

// Stats returns the queue as it is at this moment.
func (q *Queue) Stats() Stats {
	oldest := q.oldest()
	q.mu.Lock()
	s := q.sched
	st := Stats{
		Incoming:     s.totals[placeNew],
		Active:       s.totals[placeActive],
		Deferred:     s.totals[placeReady] + s.totals[placeWaiting] + s.totals[placeParked] + s.totals[placeTaken],
		Hold:         s.totals[placeHeld],
		Oldest:       oldest,
		Suspended:    q.down,
		Destinations: make([]DestinationStats, 0, len(s.numbers)),
	}
	for _, d := range s.dests[reportsNumber+1:] {
		if d == nil || d.items == 0 && !d.dead {
			continue
		}
		if d.tc.Incoming {
			waiting := d.counts[placeReady] + d.counts[placeWaiting] + d.counts[placeParked] + d.counts[placeTaken]
			st.Incoming, st.Deferred = st.Incoming+waiting, st.Deferred-waiting
		}
		st.Destinations = append(st.Destinations, DestinationStats{
			Destination: d.key,
			Active:      d.counts[placeActive],
			Ready:       d.counts[placeReady],
			Waiting:     d.counts[placeWaiting] + d.counts[placeParked],
			Hold:        d.counts[placeHeld],
			Limit:       d.limit,
			Dead:        d.dead,
			Paused:      d.paused,
			Missing:     d.missing,
		})
	}
	q.mu.Unlock()
	slices.SortFunc(st.Destinations, func(a, b DestinationStats) int {
		if c := strings.Compare(a.Transport, b.Transport); c != 0 {
			return c
		}
		return strings.Compare(a.NextHop, b.NextHop)
	})
	return st
}

// oldest is when the oldest item was made, zero for an empty queue. It lets
// others at the lock after each chunk: a million records take a while.
func (q *Queue) oldest() time.Time {
	var oldest uint32
	for i := 0; ; i++ {
		q.mu.Lock()
		if i >= len(q.sched.t.chunks) {
			q.mu.Unlock()
			break
		}
		for j := range q.sched.t.chunks[i] {
			r := &q.sched.t.chunks[i][j]
			if r.place != placeNone && (oldest == 0 || r.created < oldest) {
				oldest = r.created
			}
		}
		q.mu.Unlock()
	}
	if oldest == 0 {
		return time.Time{}
	}
	return time.Unix(int64(oldest), 0)
}

// unpark makes parked items ready, so that they are looked at again.
func (s *scheduler) unpark() {
	if s.totals[placeParked] == 0 {
		return
	}
	for i, chunk := range s.t.chunks {
		for j := range chunk {
			if chunk[j].place == placeParked {
				s.move(handle(i*chunkSize+j), placeReady)
			}
		}
	}
}
