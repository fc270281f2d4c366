package history

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/store"
)

// Search says what is looked for, and for whom.
type Search struct {
	Query *Query
	// Domains, where not nil, are those that the asker may see.
	Domains []string
	// Limit is how many events are returned; default 50, at most 1000.
	Limit int
	// Before continues a search: Found.Next of the page before.
	Before mail.ID
	// Budget is how long it may take; default 10 s. What could not be looked at until
	// then is left for the next page.
	Budget time.Duration
	// Progress, where set, is called now and then.
	Progress func(Progress)
}

// Progress is how far a search is.
type Progress struct {
	Looked int64     `json:"looked"` // events
	Of     int64     `json:"of"`
	At     time.Time `json:"at"` // what is looked at now
}

// Found is a page of results, the latest first.
type Found struct {
	Events []*mail.Event
	// Next is where the next page begins; zero: that is all.
	Next mail.ID
	// Partial says that the time was up: the next page may have more although this one
	// is not full.
	Partial bool
}

const (
	defaultLimit  = 50
	maxLimit      = 1000
	defaultBudget = 10 * time.Second
	// flushPatience is how long a search waits for the events of the last moment: the
	// writer may be merging.
	flushPatience = time.Second
	// maxTries is how often a search begins again whose segments were merged meanwhile.
	maxTries = 5
)

// Search finds events, also those of the last moment.
func (h *History) Search(ctx context.Context, s Search) (*Found, error) {
	if s.Query == nil {
		s.Query = &Query{}
	}
	if s.Limit <= 0 {
		s.Limit = defaultLimit
	}
	s.Limit = min(s.Limit, maxLimit)
	s.Budget = orDefault(s.Budget, defaultBudget)
	if s.Before.IsZero() {
		soon, cancel := context.WithTimeout(ctx, flushPatience)
		h.Flush(soon)
		cancel()
	}
	for try := 1; ; try++ {
		found, err := h.search(ctx, &s)
		if errors.Is(err, store.ErrNotFound) && try < maxTries {
			continue // a segment was merged, or expired
		}
		if err != nil {
			return nil, fmt.Errorf("search history: %w", err)
		}
		return found, nil
	}
}

// finder is one search under way.
type finder struct {
	s *Search
	// Events are looked at whose IDs are in [from, to).
	from, to mail.ID
	deadline time.Time
	clauses  []clause
	hits     []hit // in descending order, at most Limit+1
	looked   int64
	of       int64
	told     time.Time
}

// hit is an event that was found.
type hit struct {
	id    mail.ID
	event *mail.Event
}

func (h *History) search(ctx context.Context, s *Search) (*Found, error) {
	f := &finder{s: s, deadline: time.Now().Add(s.Budget), clauses: s.Query.clauses}
	f.from = mail.FirstID(time.Now().Add(-time.Duration(h.keep.Load())))
	if !s.Query.Since.IsZero() {
		f.from = later(f.from, mail.FirstID(s.Query.Since))
	}
	f.to = mail.FirstID(time.Now().Add(24 * time.Hour))
	if !s.Query.Until.IsZero() {
		f.to = mail.FirstID(s.Query.Until)
	}
	if !s.Before.IsZero() {
		f.to = earlier(f.to, s.Before)
	}
	if s.Domains != nil {
		ask := clause{any: []term{}}
		for _, d := range s.Domains {
			ask.any = append(ask.any, hash(fieldAsker, d))
		}
		f.clauses = append(slices.Clip(slices.Clone(f.clauses)), ask)
	}
	segments, err := h.cfg.Store.Segments(ctx)
	if err != nil {
		return nil, err
	}
	segments = slices.DeleteFunc(segments, func(seg store.HistorySegment) bool {
		return compareID(seg.Last, f.from) < 0 || compareID(seg.First, f.to) >= 0
	})
	for _, seg := range segments {
		f.of += seg.Events
	}
	return f.run(ctx, h, segments)
}

// run looks into the segments, the latest first.
func (f *finder) run(ctx context.Context, h *History, segments []store.HistorySegment) (*Found, error) {
	for i, info := range segments {
		if f.full() && compareID(f.hits[f.s.Limit].id, info.Last) > 0 {
			break
		}
		seg, err := h.open(ctx, info)
		if err != nil {
			return nil, err
		}
		stopped, err := f.segment(ctx, seg)
		if err != nil {
			return nil, err
		}
		if !stopped.IsZero() {
			// What is left of this segment, and all of those that follow, may hold more.
			cut := stopped
			if i+1 < len(segments) {
				cut = later(cut, successor(segments[i+1].Last))
			}
			if compareID(cut, f.to) < 0 {
				return f.page(cut), nil
			}
			// Nothing is complete yet: this one must be, or the pages would never end.
			deadline := f.deadline
			f.deadline = deadline.Add(time.Hour)
			if _, err := f.segment(ctx, seg); err != nil {
				return nil, err
			}
			f.deadline = deadline
		}
	}
	return f.page(mail.ID{}), nil
}

func (f *finder) full() bool { return len(f.hits) > f.s.Limit }

// page is what was found. Where cut is set, the time was up, and nothing is sure below
// it.
func (f *finder) page(cut mail.ID) *Found {
	found := &Found{Events: []*mail.Event{}}
	if !cut.IsZero() {
		f.hits = slices.DeleteFunc(f.hits, func(a hit) bool { return compareID(a.id, cut) < 0 })
		found.Next, found.Partial = cut, true
	}
	if f.full() {
		f.hits = f.hits[:f.s.Limit]
		found.Next, found.Partial = f.hits[f.s.Limit-1].id, false
	}
	for _, a := range f.hits {
		found.Events = append(found.Events, a.event)
	}
	return found
}

// segment looks into one segment. stopped is the ID from which on down it was not
// looked at, because the time was up.
func (f *finder) segment(ctx context.Context, seg *segment) (stopped mail.ID, err error) {
	numbers, all, err := f.candidates(ctx, seg)
	if err != nil {
		return stopped, err
	}
	var found []hit
	blocks := seg.head.blocks
	for n := len(blocks) - 1; n >= 0 && len(found) <= f.s.Limit; n-- {
		b := &blocks[n]
		if compareID(b.id, f.to) >= 0 {
			i, _ := slices.BinarySearch(numbers, b.first)
			numbers = numbers[:i]
			continue
		}
		if n+1 < len(blocks) && compareID(blocks[n+1].id, f.from) <= 0 {
			break
		}
		wanted := numbers
		if !all {
			i, _ := slices.BinarySearch(numbers, b.first)
			wanted, numbers = numbers[i:], numbers[:i]
			if len(wanted) == 0 {
				if i == 0 {
					break
				}
				continue
			}
		}
		if err := ctx.Err(); err != nil {
			return stopped, err
		}
		if time.Now().After(f.deadline) && n+1 < len(blocks) {
			stopped = blocks[n+1].id
			break
		}
		if found, err = f.block(ctx, chosen{seg, n, wanted, all}, found); err != nil {
			return stopped, err
		}
		f.tell(b)
	}
	f.merge(found)
	return stopped, nil
}

// tell says how far the search is, a few times a second.
func (f *finder) tell(b *blockInfo) {
	f.looked += int64(b.events)
	if now := time.Now(); f.s.Progress != nil && now.Sub(f.told) > 200*time.Millisecond {
		f.told = now
		f.s.Progress(Progress{Looked: f.looked, Of: f.of, At: b.id.Time()})
	}
}

// merge adds what a segment has, which may overlap with others.
func (f *finder) merge(found []hit) {
	f.hits = append(f.hits, found...)
	slices.SortFunc(f.hits, func(a, b hit) int { return compareID(b.id, a.id) })
	f.hits = slices.CompactFunc(f.hits, func(a, b hit) bool { return a.id == b.id })
	if len(f.hits) > f.s.Limit+1 {
		f.hits = f.hits[:f.s.Limit+1]
	}
}

// candidates are the events of a segment that have the terms of the query; all: the
// index can't tell, every one may be meant.
func (f *finder) candidates(ctx context.Context, seg *segment) (numbers []uint32, all bool, err error) {
	type lookup struct {
		c       *clause
		entries []entry
		size    int
	}
	var lookups []lookup
	var terms []term
	for i := range f.clauses {
		if f.clauses[i].indexed() {
			terms = append(terms, f.clauses[i].any...)
		}
	}
	known, err := seg.find(ctx, terms)
	if err != nil {
		return nil, false, err
	}
	for i := range f.clauses {
		c := &f.clauses[i]
		if !c.indexed() {
			continue
		}
		l := lookup{c: c}
		for _, t := range c.any {
			if e, ok := known[t]; ok {
				l.entries = append(l.entries, e)
				if e.list == nil {
					l.size += 1 << 20
				} else {
					l.size += len(e.list)
				}
			}
		}
		if !c.not && len(l.entries) == 0 {
			return nil, false, nil
		}
		if len(l.entries) > 0 {
			lookups = append(lookups, l)
		}
	}
	// The rare ones first: where they leave nothing, the long lists are not read.
	slices.SortStableFunc(lookups, func(a, b lookup) int {
		if a.c.not != b.c.not {
			return map[bool]int{false: -1, true: 1}[a.c.not]
		}
		return a.size - b.size
	})
	all = true
	for _, l := range lookups {
		if !all && len(numbers) == 0 {
			return nil, false, nil
		}
		list, err := seg.union(ctx, l.entries)
		if err != nil {
			return nil, false, err
		}
		switch {
		case l.c.not && all:
			numbers = subtract(everything(seg.head.events), list)
		case l.c.not:
			numbers = subtract(numbers, list)
		case all:
			numbers = list
		default:
			numbers = intersect(numbers, list)
		}
		all = false
	}
	return numbers, all, nil
}

// indexed reports whether the index can say something about a condition.
func (c *clause) indexed() bool { return c.any != nil && !(c.not && c.check != nil) }

func everything(n uint32) []uint32 {
	all := make([]uint32, n)
	for i := range all {
		all[i] = uint32(i)
	}
	return all
}

// union are the events that have one of several terms.
func (s *segment) union(ctx context.Context, entries []entry) ([]uint32, error) {
	var lists [][]uint32
	for _, e := range entries {
		raw, err := s.list(ctx, e)
		if err != nil {
			return nil, err
		}
		numbers, err := readList(make([]uint32, 0, len(raw)), raw, 0)
		if err != nil {
			return nil, err
		}
		lists = append(lists, numbers)
	}
	return union(lists), nil
}

// chosen is what is looked at of a block: the events with these numbers, or all.
type chosen struct {
	seg    *segment
	n      int
	wanted []uint32
	all    bool
}

// block looks at the events of one block, the latest first.
func (f *finder) block(ctx context.Context, c chosen, found []hit) ([]hit, error) {
	raw, err := c.seg.block(ctx, c.n)
	if err != nil {
		return nil, err
	}
	b := &c.seg.head.blocks[c.n]
	lines := bytes.Split(bytes.TrimSuffix(raw, []byte{'\n'}), []byte{'\n'})
	if uint32(len(lines)) != b.events {
		return nil, errDamaged
	}
	count := len(c.wanted)
	if c.all {
		count = len(lines)
	}
	for i := count - 1; i >= 0 && len(found) <= f.s.Limit; i-- {
		at := i
		if !c.all {
			at = int(c.wanted[i] - b.first)
		}
		a, ok, err := f.event(lines[at])
		if err != nil {
			return nil, fmt.Errorf("segment %d block %d: %w", c.seg.info.ID, c.n, err)
		}
		if ok {
			found = append(found, a)
		}
	}
	return found, nil
}

// event decides about one event.
func (f *finder) event(line []byte) (a hit, ok bool, err error) {
	id, ok := lineID(line)
	if !ok {
		return a, false, errDamaged
	}
	if compareID(id, f.from) < 0 || compareID(id, f.to) >= 0 {
		return a, false, nil
	}
	for i := range f.clauses {
		if c := &f.clauses[i]; c.raw != nil && !c.not && !c.raw(line) {
			return a, false, nil
		}
	}
	e := new(mail.Event)
	if err := json.Unmarshal(line, e); err != nil {
		return a, false, fmt.Errorf("%w: %w", errDamaged, err)
	}
	if f.s.Domains != nil {
		// What others can't see can't be found either.
		if e = restrict(e, f.s.Domains); e == nil || !f.s.Query.Matches(e) {
			return a, false, nil
		}
		return hit{id, e}, true, nil
	}
	for i := range f.clauses {
		if c := &f.clauses[i]; c.check != nil && c.holds(e) == c.not {
			return a, false, nil
		}
	}
	return hit{id, e}, true, nil
}
