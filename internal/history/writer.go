package history

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/spool"
	"gatepost/internal/store"
)

// How the writer goes about it.
const (
	retryMin    = time.Second
	retryMax    = 30 * time.Second
	expireEvery = 10 * time.Minute
	// lastWrite bounds what Close waits for.
	lastWrite = 5 * time.Second
)

// run is the writer: the only one that changes segments of this node.
func (h *History) run(ctx context.Context) {
	w := &writer{h: h, pause: retryMin}
	h.spilled.Store(h.cfg.Outbox != nil) // whatever a crash left
	timer := time.NewTimer(h.cfg.Interval)
	defer timer.Stop()
	for {
		var done chan struct{}
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.Background(), lastWrite)
			w.drain(last)
			cancel()
			return
		case done = <-h.flush:
		case <-h.wake:
		case <-timer.C:
		}
		next := h.cfg.Interval
		if err := w.work(ctx); err != nil {
			next = w.failed(ctx, err)
		} else {
			w.succeeded()
		}
		if done != nil {
			close(done)
		}
		timer.Reset(next)
	}
}

// writer is what the goroutine keeps to itself.
type writer struct {
	h       *History
	pause   time.Duration
	known   bool // hours and recovery are done
	expired time.Time
	// tried is when merging failed last.
	tried time.Time
}

// failed says why, once, and returns when to try again.
func (w *writer) failed(ctx context.Context, err error) time.Duration {
	if ctx.Err() != nil {
		return w.h.cfg.Interval
	}
	if was := w.h.wrong.Swap(&err); was == nil {
		w.h.cfg.Log.Error("events cannot be written to the history; they wait", "error", err)
	}
	w.trim()
	w.pause = min(2*w.pause, retryMax)
	return w.pause
}

func (w *writer) succeeded() {
	w.pause = retryMin
	if was := w.h.wrong.Swap(nil); was != nil {
		w.h.cfg.Log.Info("events can be written to the history again")
	}
}

// work writes what waits, and tidies up.
func (w *writer) work(ctx context.Context) error {
	if err := w.drain(ctx); err != nil {
		return err
	}
	if time.Since(w.expired) >= expireEvery {
		if err := w.expire(ctx); err != nil {
			return err
		}
		w.expired = time.Now()
	}
	if err := w.merge(ctx); err != nil && time.Since(w.tried) > time.Hour {
		// Small segments are found as well as large ones, only slower.
		w.tried = time.Now()
		w.h.cfg.Log.Error("segments of the history cannot be merged", "error", err)
	}
	return nil
}

// drain writes what is complete, and what only the outbox has.
func (w *writer) drain(ctx context.Context) error {
	if err := w.begin(ctx); err != nil {
		return err
	}
	for {
		slots := w.h.line.front(writeEvents, time.Now())
		if len(slots) == 0 {
			break
		}
		if err := w.write(ctx, slots); err != nil {
			return err
		}
		w.h.line.remove(len(slots))
		if err := w.drop(slots); err != nil {
			return err
		}
	}
	if w.h.spilled.Swap(false) {
		if err := w.recover(ctx, w.h.line.snapshot(), nil); err != nil {
			w.h.spilled.Store(true)
			return err
		}
	}
	return nil
}

// begin reads what was counted before, and puts what a crash left into the store.
func (w *writer) begin(ctx context.Context) error {
	if w.known {
		return nil
	}
	now := time.Now()
	hours, err := w.h.cfg.Store.Hours(ctx, now.Add(-2*time.Hour), now.Add(time.Hour))
	if err != nil {
		return err
	}
	for _, hour := range hours {
		if hour.Node == w.h.cfg.Store.Node() {
			w.h.hours.load(hour)
		}
	}
	if w.h.cfg.Outbox != nil {
		stored, err := w.storedSince(ctx)
		if err != nil {
			return err
		}
		// What is in memory is this process's, and not what a crash left.
		if err := w.recover(ctx, w.h.line.snapshot(), stored); err != nil {
			return err
		}
	}
	w.known = true
	w.measure(ctx)
	return nil
}

// storedSince are the events in segments of this node that are not older than the
// first in the outbox: a crash may have come between writing and dropping them.
func (w *writer) storedSince(ctx context.Context) (map[mail.ID]bool, error) {
	var first mail.ID
	err := w.h.cfg.Outbox.Notes(mail.ID{}, func(n spool.Note) (bool, error) {
		first = n.ID
		return false, nil
	})
	if err != nil || first.IsZero() {
		return nil, err
	}
	segments, err := w.h.cfg.Store.Segments(ctx)
	if err != nil {
		return nil, err
	}
	stored := make(map[mail.ID]bool)
	for _, s := range segments {
		if s.Node != w.h.cfg.Store.Node() || compareID(s.Last, first) < 0 {
			continue
		}
		seg, err := w.h.open(ctx, s)
		if err != nil {
			return nil, err
		}
		if err := seg.eachLine(ctx, first, func(id mail.ID, _ []byte) error {
			stored[id] = true
			return nil
		}); err != nil {
			return nil, err
		}
	}
	return stored, nil
}

// recover writes what the outbox has and memory has not. Those that are stored
// already are only dropped. What was noted since the snapshot is left alone: it is in
// the line, or set spilled anew. What a crash left with a later ID, because the clock
// went back, stays in the outbox until the next start.
func (w *writer) recover(ctx context.Context, memory snapshot, stored map[mail.ID]bool) error {
	var slots []*slot
	total := int64(0)
	flush := func() error {
		fresh := slices.DeleteFunc(slices.Clone(slots), func(s *slot) bool { return stored[s.id] })
		if len(fresh) > 0 {
			if err := w.write(ctx, fresh); err != nil {
				return err
			}
		}
		if !w.known {
			w.h.outbox.Add(total) // that which was spilled is counted
		}
		err := w.drop(slots)
		slots, total = slots[:0], 0
		return err
	}
	err := w.h.cfg.Outbox.Notes(mail.ID{}, func(n spool.Note) (bool, error) {
		if memory.ids[n.ID] || compareID(n.ID, memory.last) > 0 {
			return true, nil
		}
		s := &slot{id: n.ID, line: slices.Clone(n.Record), noted: true}
		var e mail.Event
		if err := json.Unmarshal(s.line, &e); err != nil {
			// Nobody could read it later either.
			w.h.cfg.Log.Error("an event that a crash left cannot be read", "id", n.ID.String(), "error", err)
			return true, w.h.cfg.Outbox.DropNotes([]mail.ID{n.ID})
		}
		s.terms = appendTerms(nil, &e)
		if !w.known && !stored[s.id] {
			w.h.hours.add(&e) // those that were spilled are counted
		}
		total += int64(len(s.line))
		if slots = append(slots, s); len(slots) < writeEvents {
			return true, nil
		}
		return true, flush()
	})
	if err != nil {
		return err
	}
	return flush()
}

// drop takes events that are stored out of the outbox.
func (w *writer) drop(slots []*slot) error {
	var ids []mail.ID
	size := int64(0)
	for _, s := range slots {
		if s.noted {
			ids = append(ids, s.id)
			size += int64(len(s.line))
		}
	}
	if len(ids) == 0 {
		return nil
	}
	w.h.outbox.Add(-size)
	if err := w.h.cfg.Outbox.DropNotes(ids); err != nil {
		// They come again after the next start, and are known then.
		w.h.cfg.Log.Warn("events that are stored stay in the outbox", "error", err)
	}
	return nil
}

// trim drops the oldest events when there are too many in the outbox.
func (w *writer) trim() {
	excess := w.h.outbox.Load() - w.h.cfg.MaxOutbox
	if excess <= 0 || w.h.cfg.Outbox == nil {
		return
	}
	inMemory := w.h.line.snapshot().ids
	var ids []mail.ID
	size := int64(0)
	err := w.h.cfg.Outbox.Notes(mail.ID{}, func(n spool.Note) (bool, error) {
		if !inMemory[n.ID] {
			ids = append(ids, n.ID)
			size += int64(len(n.Record))
		}
		return size < excess+w.h.cfg.MaxOutbox/10, nil
	})
	if err = errors.Join(err, w.h.cfg.Outbox.DropNotes(ids)); err != nil {
		w.h.cfg.Log.Warn("the outbox of the history cannot be shortened", "error", err)
		return
	}
	w.h.outbox.Add(-size)
	w.h.dropped.Add(int64(len(ids)))
	if len(ids) > 0 {
		w.h.cfg.Log.Error("the history cannot be written and its outbox is full: the oldest events are lost", "events", len(ids))
	}
}

// write makes a segment of events.
func (w *writer) write(ctx context.Context, slots []*slot) error {
	sorted := slices.SortedFunc(slices.Values(slots), func(a, b *slot) int { return compareID(a.id, b.id) })
	pairs := pairsOf(sorted)
	hours, err := w.h.hours.changed()
	if err != nil {
		return err
	}
	seg, err := w.h.cfg.Store.Write(ctx, store.HistoryWrite{Hours: hours, Fill: func(put func([]byte) error) (store.HistorySegment, error) {
		sw := newSegmentWriter(w.h.codec, put)
		for _, s := range sorted {
			if err := sw.blocks.line(s.id, s.line); err != nil {
				return store.HistorySegment{}, err
			}
		}
		if err := sw.blocks.flush(); err != nil {
			return store.HistorySegment{}, err
		}
		var numbers []uint32
		for i := 0; i < len(pairs); {
			t := pairs[i].term
			numbers = numbers[:0]
			for ; i < len(pairs) && pairs[i].term == t; i++ {
				// An event may have a term twice.
				if n := len(numbers); n == 0 || numbers[n-1] != pairs[i].number {
					numbers = append(numbers, pairs[i].number)
				}
			}
			if err := sw.terms.add(t, numbers); err != nil {
				return store.HistorySegment{}, err
			}
		}
		return sw.finish(sorted[0].id, sorted[len(sorted)-1].id)
	}})
	if err != nil {
		w.h.hours.again(hours)
		return err
	}
	w.h.bases.wrote(hours)
	w.h.written.Add(int64(len(slots)))
	w.h.size.Add(seg.Bytes)
	w.h.segments.Add(1)
	return nil
}

// pair is a term and the number of an event that has it.
type pair struct {
	term   term
	number uint32
}

// pairBuckets is how many buckets pairsOf sorts into: terms are hashes, so that a
// bucket has one or two of those that are rare.
const pairBuckets = 1 << 14

// pairsOf are the terms of events in ascending order, and those of one term in the
// order of the events. Half of the time of a write was spent in sorting them by
// comparison.
func pairsOf(slots []*slot) []pair {
	var starts [pairBuckets + 1]uint32
	bucket := func(t term) int { return int(t >> 50) }
	n := 0
	for _, s := range slots {
		n += len(s.terms)
		for _, t := range s.terms {
			starts[bucket(t)+1]++
		}
	}
	for i := range pairBuckets {
		starts[i+1] += starts[i]
	}
	pairs := make([]pair, n)
	next := starts
	for i, s := range slots {
		for _, t := range s.terms {
			at := &next[bucket(t)]
			pairs[*at] = pair{t, uint32(i)}
			*at++
		}
	}
	for i := range pairBuckets {
		// Stable: the events of a term stay in their order. Mostly there is one term.
		some := pairs[starts[i]:starts[i+1]]
		byTerm := func(a, b pair) int { return cmp.Compare(a.term, b.term) }
		if !slices.IsSortedFunc(some, byTerm) {
			slices.SortStableFunc(some, byTerm)
		}
	}
	return pairs
}

// segmentWriter writes the blobs of a segment in their order.
type segmentWriter struct {
	head   head
	n      uint32
	blocks blockWriter
	terms  termWriter
}

func newSegmentWriter(c *codec, put func([]byte) error) *segmentWriter {
	w := &segmentWriter{}
	number := func(data []byte) (uint32, error) {
		n := w.n
		w.n++
		return n, put(data)
	}
	w.blocks = blockWriter{put: number, codec: c, head: &w.head}
	w.terms = termWriter{put: number, head: &w.head}
	return w
}

func (w *segmentWriter) finish(first, last mail.ID) (store.HistorySegment, error) {
	if err := w.terms.flush(); err != nil {
		return store.HistorySegment{}, err
	}
	return store.HistorySegment{First: first, Last: last, Events: int64(w.head.events), Head: w.head.encode()}, nil
}

// expire removes what is too old, and what is too much.
func (w *writer) expire(ctx context.Context) error {
	segments, err := w.h.cfg.Store.Segments(ctx)
	if err != nil {
		return err
	}
	keep := time.Duration(w.h.keep.Load())
	oldest := mail.FirstID(time.Now().Add(-keep))
	left := w.h.maxSize.Load()
	var gone []int64
	events, size := int64(0), int64(0)
	for _, s := range segments { // the latest first
		if left -= s.Bytes; compareID(s.Last, oldest) < 0 || left < 0 {
			gone = append(gone, s.ID)
			events += s.Events
		} else {
			size += s.Bytes
		}
	}
	if len(gone) > 0 {
		if err := w.h.cfg.Store.Drop(ctx, gone...); err != nil {
			return fmt.Errorf("expire history: %w", err)
		}
		w.h.cfg.Log.Info("old events are gone", "events", events, "kept_bytes", size)
	}
	w.h.size.Store(size)
	w.h.segments.Store(int64(len(segments) - len(gone)))
	return w.h.cfg.Store.DropHours(ctx, time.Now().Add(-keep))
}

// measure finds out how large the history is.
func (w *writer) measure(ctx context.Context) {
	segments, err := w.h.cfg.Store.Segments(ctx)
	if err != nil {
		return // expire will
	}
	size := int64(0)
	for _, s := range segments {
		size += s.Bytes
	}
	w.h.size.Store(size)
	w.h.segments.Store(int64(len(segments)))
}

func compareID(a, b mail.ID) int { return slices.Compare(a[:], b[:]) }
