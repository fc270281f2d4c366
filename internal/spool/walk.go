package spool

import (
	"bytes"
	"errors"
	"fmt"

	"gatepost/internal/mail"
)

// Walk calls fn with every item and its envelope, ordered by ID, beginning with
// from, until fn returns false or an error. It is a stream: items that change
// meanwhile are seen in their old or their new state, and an envelope that is
// shared by siblings is passed once per item. What is damaged is set aside and
// left out. fn may call the spool.
func (s *Spool) Walk(from mail.QueueID, fn func(*mail.QueueItem, *mail.Envelope) (bool, error)) error {
	w := walker{s: s, fn: fn, envelopes: envelopeCursor{s: s, next: msgKey(famEnvelope, from.Message)}}
	err := s.eachOrGap(itemKey(famItem, from), []byte{famItem + 1}, w.record, w.gap)
	if err != nil {
		return fmt.Errorf("walk spool: %w", err)
	}
	return nil
}

type walker struct {
	s   *Spool
	fn  func(*mail.QueueItem, *mail.Envelope) (bool, error)
	env *mail.Envelope // of the item before

	envelopes envelopeCursor
}

func (w *walker) record(key, rec []byte) (bool, error) {
	it, err := parseItem(key, rec)
	if err != nil {
		w.s.setAside(key, rec, err)
		return true, nil
	}
	if w.env == nil || w.env.ID != it.ID.Message {
		w.env, err = w.envelopes.find(it.ID.Message)
		if err != nil {
			w.env = nil
			return w.withoutEnvelope(key, err)
		}
	}
	return w.fn(it, w.env)
}

// envelopeCursor reads envelopes in the order of their IDs, many at a time, which
// takes a fraction of what it takes to get them one by one.
type envelopeCursor struct {
	s     *Spool
	page  page
	arena []byte
	at    int
	next  []byte // where to read on, nil at the end
}

// find returns the envelope of a message. The IDs must ascend.
func (c *envelopeCursor) find(id mail.ID) (*mail.Envelope, error) {
	var key [msgKeyLen]byte
	putMsgKey(key[:], famEnvelope, id)
	for {
		for ; c.at < len(c.page.records); c.at++ {
			r := c.page.records[c.at]
			switch bytes.Compare(r.key, key[:]) {
			case 0:
				if env, err := parseEnvelope(r.key, r.val); err == nil {
					return env, nil
				}
				return c.s.Envelope(id)
			case 1:
				return c.s.Envelope(id) // not there, or in a range that can't be read
			}
		}
		if c.next == nil {
			return c.s.Envelope(id)
		}
		var err error
		c.at = 0
		if c.arena, err = c.s.readPage(&c.page, c.arena, c.next, []byte{famEnvelope + 1}); err != nil {
			return nil, err
		}
		c.next = c.page.next
	}
}

// withoutEnvelope decides about an item whose envelope can't be read.
func (w *walker) withoutEnvelope(key []byte, err error) (bool, error) {
	if errors.Is(err, ErrNotFound) {
		// Most likely the item was done since the page was read.
		id, _ := parseItemKey(key)
		if _, ierr := w.s.Item(id); ierr == nil {
			w.s.setAside(key, nil, fmt.Errorf("%w: item without an envelope", ErrCorrupt))
		}
		return true, nil
	}
	return true, ignoreDamage(err)
}

// gap names the items that can't be read: their schedule records tell which.
func (w *walker) gap(g gap) (bool, error) {
	start, end := bytes.Clone(g.start), bytes.Clone(g.end)
	start[0] = famSchedule
	if end[0] == famItem {
		end[0] = famSchedule
	} else {
		end = []byte{famSchedule + 1}
	}
	return true, w.s.each(start, end, func(key, _ []byte) (bool, error) {
		if id, ok := parseItemKey(key); ok {
			w.s.setAside(itemKey(famItem, id), nil, g.err)
		}
		return true, nil
	})
}

func isNotFound(err error) bool { return errors.Is(err, ErrNotFound) }
