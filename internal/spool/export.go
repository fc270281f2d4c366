package spool

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"gatepost/internal/mail"
)

// export copies what can be read of a message to Dir/corrupt and returns the
// name of the file with the body.
func (s *Spool) export(id mail.ID) (string, error) {
	a := &s.aside
	if err := makeDir(a.fs, a.dir); err != nil {
		return "", err
	}
	base := "message-" + id.String()
	for _, fam := range []byte{famEnvelope, famItem} {
		prefix := msgKey(fam, id)
		err := s.each(prefix, prefixEnd(prefix), func(key, rec []byte) (bool, error) {
			if len(rec) < headerLen {
				return true, nil
			}
			return true, a.write(base+"."+fileName(keyName(key))+".raw", rec[headerLen:])
		})
		if err != nil {
			return "", err
		}
	}
	body := base + ".eml"
	if err := s.exportBody(id, body); err != nil {
		return "", err
	}
	return body, nil
}

// exportBody writes the chunks that can be read, one after the other.
func (s *Spool) exportBody(id mail.ID, name string) error {
	f, err := s.aside.fs.Create(s.aside.fs.PathJoin(s.aside.dir, name), vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("create %s: %w", name, err)
	}
	const misses = 16 // a body ends where so many chunks are missing
	var key [bodyKeyLen]byte
	missing := 0
	for chunk := uint32(0); missing < misses && err == nil; chunk++ {
		putBodyKey(key[:], id, chunk)
		rec, closer, gerr := s.db.Get(key[:])
		if gerr != nil {
			missing++
			if !damaged(gerr) && !errors.Is(gerr, pebble.ErrNotFound) {
				err = gerr
			}
			continue
		}
		missing = 0
		if len(rec) > headerLen {
			_, err = f.Write(rec[headerLen:])
		}
		err = errors.Join(err, closer.Close())
	}
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return s.aside.syncDir()
}

func sortDamaged(all []Damaged) {
	slices.SortFunc(all, func(a, b Damaged) int {
		return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Key, b.Key))
	})
}
