package spool

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"gatepost/internal/mail"
)

// Notes are what somebody else will keep in a place of their own, and that must not
// be lost until it is there: events on their way to the history. A note is written
// once, under an ID of its own, and dropped once.

// Note is one record.
type Note struct {
	ID     mail.ID
	Record []byte
}

// Note adds a note that becomes durable with the message, or never was: it is part
// of the commit. It may be called once; the record must not change until then.
func (w *Writer) Note(n Note) { w.note = n }

// PutNote keeps a note. It is in front of every change that is made afterwards: what
// is done next to a message is not there after a crash unless the note is.
func (s *Spool) PutNote(n Note) error {
	if err := s.h.enterChange(int64(len(n.Record)) + batchSlack/8); err != nil {
		return fmt.Errorf("keep note: %w", err)
	}
	defer s.h.leave()
	b := s.db.NewBatchWithSize(len(n.Record) + msgKeyLen + headerLen + 32)
	if err := setNote(b, n); err != nil {
		return errors.Join(fmt.Errorf("keep note: %w", err), b.Close())
	}
	if err := s.unsynced(b); err != nil {
		return fmt.Errorf("keep note: %w", err)
	}
	return nil
}

// DropNotes forgets notes that are kept elsewhere now. A crash may bring them back.
func (s *Spool) DropNotes(ids []mail.ID) error {
	if err := s.h.enterChange(int64(len(ids) * msgKeyLen)); err != nil {
		return fmt.Errorf("drop notes: %w", err)
	}
	defer s.h.leave()
	b := s.db.NewBatch()
	for _, id := range ids {
		if err := dropNote(b, id); err != nil {
			return errors.Join(fmt.Errorf("drop notes: %w", err), b.Close())
		}
	}
	if err := s.unsynced(b); err != nil {
		return fmt.Errorf("drop notes: %w", err)
	}
	return nil
}

// Notes calls fn with each note in the order of the IDs, beginning behind the given
// one, until it returns false or an error. What is damaged is set aside and left out.
// The record is valid during the call only; fn may call the spool.
func (s *Spool) Notes(behind mail.ID, fn func(Note) (bool, error)) error {
	err := s.each(after(msgKey(famNote, behind)), []byte{famNote + 1}, func(key, rec []byte) (bool, error) {
		p, err := unseal(key, rec)
		if err != nil || len(key) != msgKeyLen {
			s.setAside(key, rec, err)
			return true, nil
		}
		return fn(Note{ID: mail.ID(key[1:]), Record: p})
	})
	if err != nil {
		return fmt.Errorf("read notes: %w", err)
	}
	return nil
}

func setNote(b *pebble.Batch, n Note) error {
	op := b.SetDeferred(msgKeyLen, headerLen+len(n.Record))
	putMsgKey(op.Key, famNote, n.ID)
	copy(op.Value[headerLen:], n.Record)
	seal(op.Key, op.Value)
	return op.Finish()
}

func dropNote(b *pebble.Batch, id mail.ID) error {
	op := b.SingleDeleteDeferred(msgKeyLen)
	putMsgKey(op.Key, famNote, id)
	return op.Finish()
}

// PutNoteSync is PutNote, durable when it returns nil.
func (s *Spool) PutNoteSync(n Note) error {
	if err := s.synced(func(b *pebble.Batch) error { return setNote(b, n) }); err != nil {
		return fmt.Errorf("keep note: %w", err)
	}
	return nil
}
