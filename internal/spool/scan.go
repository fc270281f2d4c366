package spool

import (
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"gatepost/internal/mail"
)

// Entry is what the scheduler needs to know of an item.
type Entry struct {
	ID                   mail.QueueID
	State                mail.QueueState
	Dest                 mail.Destination
	Created, NextAttempt time.Time
}

// A page is what is read before the reader's function runs: no iterator is open
// while it does, so it may take its time, and may call the spool.
const (
	pageRecords = 4096
	pageBytes   = 1 << 20
)

// record is a copy of a key and its value.
type record struct{ key, val []byte }

// page reads records in [start, end). next is where to go on, nil at the end. If
// it meets damage, gap holds the range that can't be read.
type page struct {
	records []record
	next    []byte
	gap     *gap
}

// gap is a range of keys that can't be read.
type gap struct {
	start, end []byte
	err        error
}

// readPage fills p anew, reusing its memory.
func (s *Spool) readPage(p *page, arena []byte, start, end []byte) ([]byte, error) {
	p.records, p.next, p.gap = p.records[:0], nil, nil
	arena = arena[:0]
	if err := s.h.enter(); err != nil {
		return arena, err
	}
	defer s.h.leave()
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: start, UpperBound: end})
	if err != nil {
		if !damaged(err) {
			return arena, err
		}
		return arena, s.bridge(p, start, end, err)
	}
	for it.First(); it.Valid(); it.Next() {
		v, verr := it.ValueAndErr()
		if verr != nil {
			break
		}
		if len(p.records) == pageRecords || len(arena)+len(v) > pageBytes && len(p.records) > 0 {
			p.next = append([]byte(nil), it.Key()...)
			break
		}
		n, k := len(arena), len(it.Key())
		arena = append(append(arena, it.Key()...), v...)
		p.records = append(p.records, record{arena[n : n+k : n+k], arena[n+k:]})
	}
	if err := it.Close(); err != nil {
		if !damaged(err) {
			return arena, err
		}
		if n := len(p.records); n > 0 {
			start = after(p.records[n-1].key)
		}
		return arena, s.bridge(p, start, end, err)
	}
	return arena, nil
}

// bridge finds where reading can go on after damage at start.
func (s *Spool) bridge(p *page, start, end []byte, cause error) error {
	resume, err := s.findReadable(start, end)
	if err != nil {
		return err
	}
	p.gap = &gap{start: append([]byte(nil), start...), end: resume, err: cause}
	if resume == nil {
		p.gap.end = end
	}
	p.next = resume
	s.o.Log.Error("spool: a range of records cannot be read", "from", keyName(start), "to", keyName(p.gap.end), "error", cause.Error())
	return nil
}

// each calls fn for the records in [start, end) until it returns false. Ranges that
// can't be read are left out.
func (s *Spool) each(start, end []byte, fn func(key, rec []byte) (bool, error)) error {
	return s.eachOrGap(start, end, fn, nil)
}

// eachOrGap is each, with a function that is told of what can't be read.
func (s *Spool) eachOrGap(start, end []byte, fn func(key, rec []byte) (bool, error), onGap func(gap) (bool, error)) error {
	var p page
	var arena []byte
	for start != nil {
		var err error
		if arena, err = s.readPage(&p, arena, start, end); err != nil {
			return err
		}
		for _, r := range p.records {
			if more, err := fn(r.key, r.val); err != nil || !more {
				return err
			}
		}
		if p.gap != nil && onGap != nil {
			if more, err := onGap(*p.gap); err != nil || !more {
				return err
			}
		}
		start = p.next
	}
	return nil
}

// Scan calls fn with every item, reading the small schedule records only. It is
// meant for the start. A schedule record that is damaged is made anew from its
// item; an item that is damaged too is put aside with its message.
func (s *Spool) Scan(fn func(Entry) error) error {
	sc := scanner{s: s, fn: fn, names: make(map[mail.Destination]mail.Destination)}
	err := s.eachOrGap([]byte{famSchedule}, []byte{famSchedule + 1}, sc.record, sc.gap)
	if err != nil {
		return fmt.Errorf("scan spool: %w", err)
	}
	return nil
}

type scanner struct {
	s  *Spool
	fn func(Entry) error
	// names lets a million entries share the strings of their few destinations.
	names map[mail.Destination]mail.Destination
}

func (sc *scanner) emit(id mail.QueueID, r schedule) error {
	dest, ok := sc.names[r.dest]
	if !ok {
		dest = r.dest
		sc.names[dest] = dest
	}
	return sc.fn(Entry{ID: id, State: r.state, Dest: dest, Created: r.created, NextAttempt: r.next})
}

func (sc *scanner) record(key, rec []byte) (bool, error) {
	id, ok := parseItemKey(key)
	if !ok {
		sc.s.setAside(key, rec, fmt.Errorf("%w: not a key of a schedule record", ErrCorrupt))
		return true, nil
	}
	r, err := parseSchedule(key, rec)
	if err == nil {
		return true, sc.emit(id, r)
	}
	sc.s.setAside(key, rec, err)
	return true, sc.rebuild(id)
}

// rebuild makes the schedule record of an item anew.
func (sc *scanner) rebuild(id mail.QueueID) error {
	r, err := sc.restore(id)
	if err != nil {
		if !damaged(err) && !isNotFound(err) {
			return err
		}
		return sc.s.PutAside(id.Message, fmt.Sprintf("schedule record and item %s are damaged", id))
	}
	return sc.emit(id, r)
}

// restore rebuilds a schedule record and stores it.
func (sc *scanner) restore(id mail.QueueID) (schedule, error) {
	s := sc.s
	if err := s.h.enterChange(batchSlack); err != nil {
		return schedule{}, err
	}
	defer s.h.leave()
	r, err := s.rebuildSchedule(id)
	if err != nil {
		return schedule{}, err
	}
	b := s.db.NewBatch()
	op := b.SetDeferred(itemKeyLen, r.len())
	putItemKey(op.Key, famSchedule, id)
	r.put(op.Key, op.Value)
	if err := op.Finish(); err != nil {
		return schedule{}, err
	}
	return r, s.unsynced(b)
}

// gap finds the items whose schedule records can't be read.
func (sc *scanner) gap(g gap) (bool, error) {
	start, end := append([]byte(nil), g.start...), append([]byte(nil), g.end...)
	start[0] = famItem
	if end[0] == famSchedule {
		end[0] = famItem
	} else {
		end = []byte{famItem + 1}
	}
	return true, sc.s.each(start, end, func(key, rec []byte) (bool, error) {
		it, err := parseItem(key, rec)
		if err != nil {
			sc.s.setAside(key, rec, err)
			return true, nil
		}
		return true, sc.emit(it.ID, scheduleOf(it, 0, 0))
	})
}
