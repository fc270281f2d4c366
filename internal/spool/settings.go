package spool

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// settingKey is the key of a setting.
func settingKey(name string) []byte {
	return append([]byte{famSetting}, name...)
}

// PutSetting stores a small named value durably.
func (s *Spool) PutSetting(name string, v []byte) error {
	err := s.synced(func(b *pebble.Batch) error {
		key := settingKey(name)
		op := b.SetDeferred(len(key), headerLen+len(v))
		copy(op.Key, key)
		copy(op.Value[headerLen:], v)
		seal(op.Key, op.Value)
		return op.Finish()
	})
	if err != nil {
		return fmt.Errorf("store setting %q: %w", name, err)
	}
	return nil
}

// DeleteSetting removes a setting durably; that it was not there is no error.
func (s *Spool) DeleteSetting(name string) error {
	err := s.synced(func(b *pebble.Batch) error { return b.Delete(settingKey(name), nil) })
	if err != nil {
		return fmt.Errorf("delete setting %q: %w", name, err)
	}
	return nil
}

// Setting reads a setting, or returns ErrNotFound.
func (s *Spool) Setting(name string) ([]byte, error) {
	if err := s.h.enter(); err != nil {
		return nil, err
	}
	defer s.h.leave()
	return read(s, settingKey(name), parseSetting)
}

func parseSetting(key, rec []byte) ([]byte, error) {
	p, err := unseal(key, rec)
	return append([]byte(nil), p...), err
}

// Settings reads all settings whose names begin with the prefix; damaged ones
// are left out.
func (s *Spool) Settings(prefix string) (map[string][]byte, error) {
	all := make(map[string][]byte)
	start := settingKey(prefix)
	err := s.each(start, prefixEnd(start), func(key, rec []byte) (bool, error) {
		v, err := parseSetting(key, rec)
		if err != nil {
			s.setAside(key, rec, err)
			return true, nil
		}
		all[string(key[1:])] = v
		return true, nil
	})
	if err != nil {
		return nil, fmt.Errorf("read settings: %w", err)
	}
	return all, nil
}
