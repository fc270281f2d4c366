package history

import (
	"bytes"
	"container/heap"
	"context"
	"slices"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/store"
)

// Segments of about the same size become one, so that there are few to look into. A
// segment grows up to a number of events, and to a stretch of time: it expires as a
// whole.
const (
	mergeAtOnce = 8
	// maxMerged is how many events a merged segment has at most.
	maxMerged = 256 << 10
	// sharesOfKeep is how many segments the time that events are kept is divided into, at
	// least.
	sharesOfKeep = 16
	// goodBlock is how large blocks must be, before compression and on average, for
	// merging to leave them as they are.
	goodBlock = blockSize / 4
)

// tier tells segments of about the same size.
func tier(events int64) int {
	t := 0
	for n := int64(16); n <= events; n *= mergeAtOnce {
		t++
	}
	return t
}

// merge merges what is to be merged.
func (w *writer) merge(ctx context.Context) error {
	for ctx.Err() == nil {
		if w.h.segments.Load() < mergeAtOnce {
			return nil
		}
		all, err := w.h.cfg.Store.Segments(ctx)
		if err != nil {
			return err
		}
		all = slices.DeleteFunc(all, func(s store.HistorySegment) bool { return s.Node != w.h.cfg.Store.Node() })
		some := chooseMerge(all, max(time.Duration(w.h.keep.Load())/sharesOfKeep, time.Hour))
		if len(some) == 0 {
			return nil
		}
		if err := w.mergeThese(ctx, some); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// topTier is the largest that is merged.
const topTier = 4

// chooseMerge returns segments that follow each other, the oldest first; none: there
// is nothing to merge. all are in descending order. Smaller ones in between go along:
// else they would keep their neighbours apart for ever.
func chooseMerge(all []store.HistorySegment, span time.Duration) []store.HistorySegment {
	for t := range topTier + 1 {
		var run []store.HistorySegment
		exact, events := 0, int64(0)
		for _, s := range slices.Backward(all) {
			n := tier(s.Events)
			if len(run) > 0 {
				full := events+s.Events > maxMerged && len(run) >= mergeAtOnce/2
				// What is to come is too far away for these to wait for it.
				over := s.Last.Time().Sub(run[0].First.Time()) > span
				if (full || over && len(run) > 1) && n <= t {
					return run
				}
				if full || over || n > t || events+s.Events > maxMerged {
					run, exact, events = nil, 0, 0
				}
			}
			if n > t {
				continue
			}
			if n == t {
				exact++
			}
			run, events = append(run, s), events+s.Events
			if exact == mergeAtOnce || len(run) == 2*mergeAtOnce {
				return run
			}
		}
	}
	return nil
}

// mergeThese puts one segment in the place of several.
func (w *writer) mergeThese(ctx context.Context, old []store.HistorySegment) error {
	var in []*segment
	var gone []int64
	bytes := int64(0)
	for _, s := range old {
		seg, err := w.h.open(ctx, s)
		if err != nil {
			return err
		}
		in, gone, bytes = append(in, seg), append(gone, s.ID), bytes+s.Bytes
	}
	made, err := w.h.cfg.Store.Write(ctx, store.HistoryWrite{Replaces: gone, Fill: func(put func([]byte) error) (store.HistorySegment, error) {
		m := &merger{ctx: ctx, in: in, out: newSegmentWriter(w.h.codec, put)}
		return m.run()
	}})
	if err != nil {
		return err
	}
	w.h.heads.forget(gone)
	w.h.size.Add(made.Bytes - bytes)
	w.h.segments.Add(int64(1 - len(old)))
	return nil
}

// merger merges segments, reading as it writes.
type merger struct {
	ctx context.Context
	in  []*segment
	out *segmentWriter
	// numbers are the new ones of the events of each segment; nil where they are the old
	// ones with base added.
	numbers [][]uint32
	base    []uint32
}

func (m *merger) run() (store.HistorySegment, error) {
	var err error
	first, last := m.in[0].info.First, m.in[0].info.Last
	apart := true
	for _, s := range m.in[1:] {
		apart = apart && compareID(s.info.First, last) > 0
		first, last = earlier(first, s.info.First), later(last, s.info.Last)
	}
	if apart {
		err = m.concatenate()
	} else {
		err = m.interleave()
	}
	if err == nil {
		err = m.out.blocks.flush()
	}
	if err == nil {
		err = m.mergeTerms()
	}
	if err != nil {
		return store.HistorySegment{}, err
	}
	return m.out.finish(first, last)
}

func earlier(a, b mail.ID) mail.ID {
	if compareID(b, a) < 0 {
		return b
	}
	return a
}

func later(a, b mail.ID) mail.ID {
	if compareID(b, a) > 0 {
		return b
	}
	return a
}

// concatenate copies the blocks where they are large, else their lines.
func (m *merger) concatenate() error {
	for _, s := range m.in {
		m.base = append(m.base, m.out.head.events+m.out.blocks.events)
		raw := 0
		for i := range s.head.blocks {
			raw += int(s.head.blocks[i].raw)
		}
		if raw < goodBlock*len(s.head.blocks) {
			if err := s.eachLine(m.ctx, mail.ID{}, m.out.blocks.line); err != nil {
				return err
			}
			continue
		}
		if err := m.out.blocks.flush(); err != nil {
			return err
		}
		for i := range s.head.blocks {
			data, err := s.h.cfg.Store.Blob(m.ctx, s.info.ID, uint32(i))
			if err == nil {
				err = m.out.blocks.packed(s.head.blocks[i], data)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// interleave brings the lines into the order of their IDs.
func (m *merger) interleave() error {
	m.numbers = make([][]uint32, len(m.in))
	var front lineHeap
	for i, s := range m.in {
		c := &lineCursor{s: s, of: i}
		if ok, err := c.next(m.ctx); err != nil {
			return err
		} else if ok {
			front = append(front, c)
		}
	}
	heap.Init(&front)
	for n := uint32(0); len(front) > 0; n++ {
		c := front[0]
		m.numbers[c.of] = append(m.numbers[c.of], n)
		if err := m.out.blocks.line(c.id, c.line); err != nil {
			return err
		}
		ok, err := c.next(m.ctx)
		if err != nil {
			return err
		}
		if ok {
			heap.Fix(&front, 0)
		} else {
			heap.Pop(&front)
		}
	}
	return nil
}

// lineCursor reads the lines of a segment.
type lineCursor struct {
	s     *segment
	of    int
	block int
	rest  []byte
	id    mail.ID
	line  []byte
}

func (c *lineCursor) next(ctx context.Context) (bool, error) {
	for len(c.rest) == 0 {
		if c.block == len(c.s.head.blocks) {
			return false, nil
		}
		raw, err := c.s.block(ctx, c.block)
		if err != nil {
			return false, err
		}
		c.rest = raw
		c.block++
	}
	var ok bool
	c.line, c.rest, _ = bytes.Cut(c.rest, []byte{'\n'})
	if c.id, ok = lineID(c.line); !ok {
		return false, errDamaged
	}
	return true, nil
}

// lineHeap has the cursor with the lowest ID in front.
type lineHeap []*lineCursor

func (h lineHeap) Len() int           { return len(h) }
func (h lineHeap) Less(i, j int) bool { return compareID(h[i].id, h[j].id) < 0 }
func (h lineHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *lineHeap) Push(x any)        { *h = append(*h, x.(*lineCursor)) }
func (h *lineHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}

// termCursor reads the terms of a segment in their order.
type termCursor struct {
	s    *segment
	of   int
	page int
	r    pageReader
	cur  entry
}

func (c *termCursor) next(ctx context.Context) (bool, error) {
	for {
		e, ok, err := c.r.next()
		if err != nil || ok {
			c.cur = e
			return ok, err
		}
		if c.page == len(c.s.head.pages) {
			return false, nil
		}
		info := c.s.head.pages[c.page]
		page, err := c.s.h.cfg.Store.Blob(ctx, c.s.info.ID, info.blob)
		if err != nil {
			return false, err
		}
		c.r = newPageReader(info, page)
		c.page++
	}
}

// mergeTerms writes the terms of all segments with the new numbers of their events.
func (m *merger) mergeTerms() error {
	var cursors []*termCursor
	for i, s := range m.in {
		c := &termCursor{s: s, of: i}
		if ok, err := c.next(m.ctx); err != nil {
			return err
		} else if ok {
			cursors = append(cursors, c)
		}
	}
	var numbers []uint32
	for len(cursors) > 0 {
		lowest := cursors[0].cur.term
		for _, c := range cursors[1:] {
			lowest = min(lowest, c.cur.term)
		}
		numbers = numbers[:0]
		for i := 0; i < len(cursors); i++ {
			c := cursors[i]
			if c.cur.term != lowest {
				continue
			}
			var err error
			if numbers, err = m.renumbered(numbers, c); err != nil {
				return err
			}
			ok, err := c.next(m.ctx)
			if err != nil {
				return err
			}
			if !ok {
				cursors = slices.Delete(cursors, i, i+1)
				i--
			}
		}
		if m.numbers != nil {
			slices.Sort(numbers)
		}
		if err := m.out.terms.add(lowest, numbers); err != nil {
			return err
		}
	}
	return nil
}

// renumbered appends the new numbers of the events that have the term of a cursor.
func (m *merger) renumbered(numbers []uint32, c *termCursor) ([]uint32, error) {
	list, err := c.s.list(m.ctx, c.cur)
	if err != nil {
		return nil, err
	}
	if m.numbers == nil {
		return readList(numbers, list, m.base[c.of])
	}
	from := len(numbers)
	if numbers, err = readList(numbers, list, 0); err != nil {
		return nil, err
	}
	for i := from; i < len(numbers); i++ {
		if int(numbers[i]) >= len(m.numbers[c.of]) {
			return nil, errDamaged
		}
		numbers[i] = m.numbers[c.of][numbers[i]]
	}
	return numbers, nil
}
