package queue

import (
	"context"
	"slices"
	"time"

	"gatepost/internal/mail"
)

// Much of what a selector asks stands in the scheduler's records. Looking there
// first keeps operations on a few items of a long queue from reading all of it.

// quick reports whether the records alone decide who is selected. The lock is
// held.
func (q *Queue) quick(m *matcher) bool {
	if m.sel.Transport != "" && q.sched.dests[reportsNumber].items > 0 {
		return false // the records of these do not know their transport
	}
	return len(m.ids) == 0 && m.sender == "" && m.recipient == "" && m.domain == "" && m.lastError == nil
}

// narrows reports whether the records tell some items apart.
func (m *matcher) narrows() bool {
	return m.sel.Transport != "" || m.sel.State != "" || m.sel.OlderThan != 0 || m.sel.NewerThan != 0
}

// mayMatch reports whether the item of the record may be selected. Ages are
// taken with a second of slack, because records keep no more.
func (m *matcher) mayMatch(r *record, d *destination) bool {
	age := m.now.Sub(time.Unix(int64(r.created), 0))
	return r.place != placeNone &&
		(m.sel.State == "" || d.state(r.place) == m.sel.State) &&
		(m.sel.Transport == "" || d.key.Transport == m.sel.Transport || d.num == reportsNumber) &&
		(m.sel.OlderThan == 0 || age >= m.sel.OlderThan) &&
		(m.sel.NewerThan == 0 || age-time.Second <= m.sel.NewerThan)
}

// state is the word in lists for an item of the destination in that place.
func (d *destination) state(p place) mail.QueueState {
	switch p {
	case placeActive:
		return mail.QueueActive
	case placeHeld:
		return mail.QueueHold
	case placeNew:
		return mail.QueueIncoming
	}
	if d.tc.Incoming {
		return mail.QueueIncoming
	}
	return mail.QueueDeferred
}

// eachChunk calls fn for the IDs in each chunk of records that may be selected,
// in no order. The lock is let go between chunks, and while fn runs.
func (q *Queue) eachChunk(ctx context.Context, m *matcher, fn func([]mail.QueueID) error) error {
	for i := 0; ; i++ {
		var found []mail.QueueID
		q.mu.Lock()
		if i >= len(q.sched.t.chunks) {
			q.mu.Unlock()
			return nil
		}
		for j := range q.sched.t.chunks[i] {
			r := &q.sched.t.chunks[i][j]
			if d := q.sched.dests[r.dest]; d != nil && m.mayMatch(r, d) {
				found = append(found, r.queueID())
			}
		}
		q.mu.Unlock()
		if err := ctx.Err(); err != nil {
			return err
		}
		if len(found) > 0 {
			if err := fn(found); err != nil {
				return err
			}
		}
	}
}

// candidates returns, in order, the IDs from the given one on that may be
// selected; false where they are so many that walking the store is no slower.
func (q *Queue) candidates(ctx context.Context, m *matcher, from mail.QueueID) ([]mail.QueueID, bool) {
	if !m.narrows() {
		return nil, false
	}
	q.mu.Lock()
	most := 1000 + q.sched.t.used/8
	q.mu.Unlock()
	var ids []mail.QueueID
	err := q.eachChunk(ctx, m, func(found []mail.QueueID) error {
		for _, id := range found {
			if compareIDs(id, from) >= 0 {
				ids = append(ids, id)
			}
		}
		if len(ids) > most {
			return errPause
		}
		return nil
	})
	if err != nil {
		return nil, false
	}
	slices.SortFunc(ids, compareIDs)
	return ids, true
}
