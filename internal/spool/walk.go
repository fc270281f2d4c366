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
	w := walker{s: s, fn: fn}
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
}

func (w *walker) record(key, rec []byte) (bool, error) {
	it, err := parseItem(key, rec)
	if err != nil {
		w.s.setAside(key, rec, err)
		return true, nil
	}
	if w.env == nil || w.env.ID != it.ID.Message {
		w.env, err = w.s.Envelope(it.ID.Message)
		if err != nil {
			w.env = nil
			return w.withoutEnvelope(key, err)
		}
	}
	return w.fn(it, w.env)
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
