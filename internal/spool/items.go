package spool

import (
	"errors"
	"fmt"
	"math"

	"github.com/cockroachdb/pebble/v2"

	"gatepost/internal/mail"
)

// Envelope reads the envelope of a message.
func (s *Spool) Envelope(id mail.ID) (*mail.Envelope, error) {
	if err := s.h.enter(); err != nil {
		return nil, err
	}
	defer s.h.leave()
	return read(s, msgKey(famEnvelope, id), parseEnvelope)
}

// Item reads a queue item.
func (s *Spool) Item(id mail.QueueID) (*mail.QueueItem, error) {
	if err := s.h.enter(); err != nil {
		return nil, err
	}
	defer s.h.leave()
	return read(s, itemKey(famItem, id), parseItem)
}

// read gets a record and parses it; a damaged one is kept aside.
func read[T any](s *Spool, key []byte, parse func(key, rec []byte) (T, error)) (T, error) {
	rec, closer, err := s.db.Get(key)
	if err != nil {
		var none T
		return none, s.readError(key, err)
	}
	defer closer.Close()
	v, err := parse(key, rec)
	if err != nil {
		s.setAside(key, append([]byte(nil), rec...), err)
		return v, fmt.Errorf("read %s: %w", keyName(key), err)
	}
	return v, nil
}

// Items reads all items of a message that are not done, in order. Damaged ones
// are left out.
func (s *Spool) Items(id mail.ID) ([]*mail.QueueItem, error) {
	var items []*mail.QueueItem
	prefix := msgKey(famItem, id)
	err := s.each(prefix, prefixEnd(prefix), func(key, rec []byte) (bool, error) {
		it, err := parseItem(key, rec)
		if err != nil {
			s.setAside(key, rec, err)
			return true, nil
		}
		items = append(items, it)
		return true, nil
	})
	if err != nil {
		return nil, fmt.Errorf("read items of %s: %w", id, err)
	}
	if len(items) == 0 {
		return nil, fmt.Errorf("read items of %s: %w", id, ErrNotFound)
	}
	return items, nil
}

// scheduleOfStored reads the schedule record of an item; where it is damaged, the
// item itself serves, though without the size of the body.
func (s *Spool) scheduleOfStored(id mail.QueueID) (schedule, error) {
	r, err := read(s, itemKey(famSchedule, id), parseSchedule)
	if err == nil || !errors.Is(err, ErrCorrupt) {
		return r, err
	}
	return s.rebuildSchedule(id)
}

// rebuildSchedule makes a schedule record from the other records.
func (s *Spool) rebuildSchedule(id mail.QueueID) (schedule, error) {
	it, err := read(s, itemKey(famItem, id), parseItem)
	if err != nil {
		return schedule{}, err
	}
	size, err := s.bodySize(id.Message)
	if err != nil {
		return schedule{}, err
	}
	return scheduleOf(it, 0, size), nil
}

// Update stores the items as they are now. It is not synced by itself: the change
// becomes durable with the next commit, at the latest after SyncInterval. If one
// of the items is not in the spool, nothing is stored and the error is ErrNotFound.
func (s *Spool) Update(items ...*mail.QueueItem) error {
	if err := s.h.enterChange(int64(len(items)) * batchSlack); err != nil {
		return fmt.Errorf("update items: %w", err)
	}
	defer s.h.leave()
	b := s.db.NewBatch()
	if err := s.fillUpdate(b, items); err != nil {
		return errors.Join(err, b.Close())
	}
	if err := s.unsynced(b); err != nil {
		return fmt.Errorf("update items: %w", err)
	}
	return nil
}

// UpdateSync is Update, durable when it returns nil. After an error the change may be
// seen nevertheless, and may be there after a restart or not.
func (s *Spool) UpdateSync(items ...*mail.QueueItem) error {
	err := s.synced(func(b *pebble.Batch) error { return s.fillUpdate(b, items) })
	if err != nil {
		return fmt.Errorf("update items: %w", err)
	}
	return nil
}

// Extend stores the envelope anew and gives the message more items, durably: all
// or nothing. The queue's items of the message may be under way meanwhile, but
// none of them may be done before Extend returns. Each new item needs a number
// that the message never had. It sets env.Size.
func (s *Spool) Extend(env *mail.Envelope, items []*mail.QueueItem) error {
	if len(items) == 0 {
		return fmt.Errorf("extend message %s: %w", env.ID, errNoItems)
	}
	old, err := s.Items(env.ID)
	if err != nil {
		return fmt.Errorf("extend message: %w", err)
	}
	if env.Size, err = s.bodySize(env.ID); err != nil {
		return fmt.Errorf("extend message: %w", err)
	}
	// More than one, so that the item that is done first leaves the body alone.
	count := uint16(min(len(old)+len(items), math.MaxUint16))
	err = s.synced(func(b *pebble.Batch) error {
		e := s.encoders.Get().(*jsonEncoder)
		defer s.putEncoder(e)
		if err := setEnvelope(b, e, env, count); err != nil {
			return err
		}
		for _, it := range append(old, items...) {
			if err := setItem(b, e, it, scheduleOf(it, count, env.Size)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("extend message %s: %w", env.ID, err)
	}
	return nil
}

func (s *Spool) fillUpdate(b *pebble.Batch, items []*mail.QueueItem) error {
	e := s.encoders.Get().(*jsonEncoder)
	defer s.putEncoder(e)
	for _, it := range items {
		old, err := s.scheduleOfStored(it.ID)
		if err != nil {
			return err
		}
		if err := setItem(b, e, it, scheduleOf(it, old.items, old.size)); err != nil {
			return err
		}
	}
	return nil
}

// Done removes an item. With the last item of a message, its envelope and body
// go too. Items of one message may be done at the same time. Like Update it is
// durable after SyncInterval at the latest; a crash before that brings the item
// back. An item that is not there gives ErrNotFound.
func (s *Spool) Done(id mail.QueueID) error {
	if err := s.h.enterChange(batchSlack); err != nil {
		return fmt.Errorf("finish item %s: %w", id, err)
	}
	defer s.h.leave()
	r, err := s.scheduleOfStored(id)
	if err != nil {
		return fmt.Errorf("finish item: %w", err)
	}
	if r.items == 1 {
		err = s.doneAlone(id, r)
	} else {
		err = s.doneAmong(id, r)
	}
	if err != nil {
		return fmt.Errorf("finish item %s: %w", id, err)
	}
	return nil
}

// doneAlone removes an item that never had a sibling, and its message.
func (s *Spool) doneAlone(id mail.QueueID, r schedule) error {
	b := s.db.NewBatch()
	if err := errors.Join(deleteItem(b, id), deleteMessage(b, id.Message, r.size)); err != nil {
		return errors.Join(err, b.Close())
	}
	return s.unsynced(b)
}

// doneAmong removes one of several items, then the message if none is left. Of
// siblings that are done at the same time at least the later one sees that none
// is left; if both do, the second removal finds nothing. Should we crash in
// between, the mark makes sweep look at the message.
func (s *Spool) doneAmong(id mail.QueueID, r schedule) error {
	b := s.db.NewBatch()
	if err := errors.Join(deleteItem(b, id), setMark(b, id.Message)); err != nil {
		return errors.Join(err, b.Close())
	}
	if err := s.unsynced(b); err != nil {
		return err
	}
	left, err := s.hasItems(id.Message)
	if err != nil || left {
		return err
	}
	b = s.db.NewBatch()
	err = errors.Join(deleteMessage(b, id.Message, r.size), b.Delete(msgKey(famMark, id.Message), nil))
	if err != nil {
		return errors.Join(err, b.Close())
	}
	return s.unsynced(b)
}

// hasItems says whether the message has an item that is not done. An item that
// can't be read counts.
func (s *Spool) hasItems(id mail.ID) (bool, error) {
	prefix := msgKey(famItem, id)
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: prefixEnd(prefix)})
	if err != nil {
		return false, err
	}
	found := it.First()
	err = it.Close()
	if damaged(err) {
		return true, nil
	}
	return found, err
}

// setMark makes sweep look at the message when the spool is opened.
func setMark(b *pebble.Batch, id mail.ID) error {
	op := b.SetDeferred(msgKeyLen, headerLen)
	putMsgKey(op.Key, famMark, id)
	seal(op.Key, op.Value)
	return op.Finish()
}
