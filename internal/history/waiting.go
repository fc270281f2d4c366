package history

import (
	"slices"
	"sync"
	"time"

	"gatepost/internal/mail"
)

// waiting is the line of events on their way to the store. Places are given out in
// the order of IDs, before an event is encoded or its message durable; the writer
// takes what is complete at the front, so that segments follow each other in the order
// of IDs too.
type waiting struct {
	mu    sync.Mutex
	slots []*slot
	last  mail.ID
}

// slotState is how far an event is.
type slotState uint8

const (
	slotBegun slotState = iota
	slotReady
	slotVoid // it did not come true
)

// slot is the place of one event.
type slot struct {
	id     mail.ID
	line   []byte
	terms  []term
	noted  bool // the outbox has it
	queued bool // it is, or was, in the line
	late   bool // others did not wait for it
	state  slotState
	begun  time.Time
}

// reserve gives an event its ID and, where there is room, a place.
func (w *waiting) reserve(s *slot, most int) {
	fresh := mail.NewID()
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if slices.Compare(fresh[:], w.last[:]) <= 0 {
		fresh = successor(w.last)
	}
	w.last = fresh
	s.id, s.begun = fresh, now
	if len(w.slots) < most {
		s.queued = true
		w.slots = append(w.slots, s)
	}
}

// successor is the next ID.
func successor(id mail.ID) mail.ID {
	for i := len(id) - 1; i >= 0; i-- {
		if id[i]++; id[i] != 0 {
			break
		}
	}
	return id
}

// finish completes an event and returns how many are in the line.
func (w *waiting) finish(s *slot, state slotState) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	s.state = state
	if s.late {
		s.late = false
		w.slots = append(w.slots, s) // out of order, which merging heals
	}
	return len(w.slots)
}

// front are the complete events at the front, at most so many. They stay in the line
// until remove. One that was begun long ago and is not complete is passed by.
func (w *waiting) front(most int, now time.Time) []*slot {
	w.mu.Lock()
	defer w.mu.Unlock()
	var taken []*slot
	for i := 0; i < len(w.slots) && len(taken) < most; i++ {
		s := w.slots[i]
		switch {
		case s.state == slotReady:
			taken = append(taken, s)
			continue
		case s.state == slotBegun && now.Sub(s.begun) < stuckAfter:
			return taken
		}
		s.late = s.state == slotBegun
		w.slots = slices.Delete(w.slots, i, i+1)
		i--
	}
	return taken
}

// remove takes the first n out.
func (w *waiting) remove(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	rest := copy(w.slots, w.slots[n:])
	clear(w.slots[rest:])
	w.slots = w.slots[:rest]
}

func (w *waiting) length() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.slots)
}

// snapshot is what the line holds, and the last ID that was given out: what has a
// later one came to the line, or past it, afterwards.
type snapshot struct {
	ids  map[mail.ID]bool
	last mail.ID
}

func (w *waiting) snapshot() snapshot {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := make(map[mail.ID]bool, len(w.slots))
	for _, s := range w.slots {
		all[s.id] = true
	}
	return snapshot{ids: all, last: w.last}
}

// join appends an event that has its ID.
func (w *waiting) join(s *slot) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.slots = append(w.slots, s)
}
