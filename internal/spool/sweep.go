package spool

import (
	"errors"
	"fmt"

	"gatepost/internal/mail"
)

// sweep removes what a crash left behind: chunks of messages that were never
// committed, and messages whose last item was done. Both carry a mark, so that
// the spool need not be searched.
func (s *Spool) sweep() error {
	var ids []mail.ID
	err := s.each([]byte{famMark}, []byte{famMark + 1}, func(key, _ []byte) (bool, error) {
		if len(key) == msgKeyLen {
			ids = append(ids, mail.ID(key[1:]))
		}
		return true, nil
	})
	if err != nil {
		return fmt.Errorf("sweep: %w", err)
	}
	for _, id := range ids {
		if err := s.sweepMessage(id); err != nil {
			return fmt.Errorf("sweep message %s: %w", id, err)
		}
	}
	return nil
}

func (s *Spool) sweepMessage(id mail.ID) error {
	size, err := s.bodySize(id)
	switch {
	case err == nil:
		if left, err := s.hasItems(id); err != nil || left {
			return ignoreDamage(err)
		}
		b := s.db.NewBatch()
		err = errors.Join(deleteMessage(b, id, size), b.Delete(msgKey(famMark, id), nil))
		if err != nil {
			return errors.Join(err, b.Close())
		}
		return s.unsynced(b)
	case errors.Is(err, ErrNotFound):
		b := s.db.NewBatch()
		start := msgKey(famBody, id)
		err = errors.Join(b.DeleteRange(start, prefixEnd(start), nil), b.Delete(msgKey(famMark, id), nil))
		if err != nil {
			return errors.Join(err, b.Close())
		}
		s.o.Log.Info("spool: removed a message that was never accepted", "id", id)
		return s.unsynced(b)
	}
	return ignoreDamage(err) // damaged, and named by whoever met it
}

func ignoreDamage(err error) error {
	if damaged(err) {
		return nil
	}
	return err
}
