package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Setting returns a small value that all nodes share: a signing key, a lease.
// ErrNotFound where it was never set.
func (s *Store) Setting(ctx context.Context, name string) ([]byte, error) {
	var value []byte
	err := s.read(ctx, func(ctx context.Context, c *conn) error {
		return c.row(ctx, "SELECT value FROM settings WHERE name = ?", name).Scan(&value)
	})
	if err != nil {
		return nil, fmt.Errorf("read setting %s: %w", name, err)
	}
	return value, nil
}

// Settings returns the settings whose names begin with the prefix.
func (s *Store) Settings(ctx context.Context, prefix string) (map[string][]byte, error) {
	var all map[string][]byte
	err := s.read(ctx, func(ctx context.Context, c *conn) error {
		all = map[string][]byte{}
		return c.query(ctx, func(rows *sql.Rows) error {
			var name string
			var value []byte
			if err := rows.Scan(&name, &value); err != nil {
				return err
			}
			all[name] = value
			return nil
		}, "SELECT name, value FROM settings WHERE substr(name, 1, length(?)) = ?", prefix, prefix)
	})
	if err != nil {
		return nil, fmt.Errorf("list settings: %w", err)
	}
	return all, nil
}

// SetSetting sets the value, whatever it was.
func (s *Store) SetSetting(ctx context.Context, name string, value []byte) error {
	err := s.write(ctx, func(ctx context.Context, c *conn) error {
		_, err := c.exec(ctx, `INSERT INTO settings (name, value, changed) VALUES (?, ?, ?)
			ON CONFLICT (name) DO UPDATE SET value = excluded.value, changed = excluded.changed`,
			name, notNil(value), millis(time.Now()))
		return err
	})
	if err != nil {
		return fmt.Errorf("set setting %s: %w", name, err)
	}
	return nil
}

// InitSetting sets the value unless there is one, and returns the one that is
// there then: of several nodes that make a key at once, all get the same.
func (s *Store) InitSetting(ctx context.Context, name string, value []byte) ([]byte, error) {
	if was, err := s.Setting(ctx, name); err == nil || !errors.Is(err, ErrNotFound) {
		return was, err
	}
	var now []byte
	err := s.write(ctx, func(ctx context.Context, c *conn) error {
		_, err := c.exec(ctx, `INSERT INTO settings (name, value, changed) VALUES (?, ?, ?)
			ON CONFLICT (name) DO NOTHING`, name, notNil(value), millis(time.Now()))
		if err != nil {
			return err
		}
		return c.row(ctx, "SELECT value FROM settings WHERE name = ?", name).Scan(&now)
	})
	if err != nil {
		return nil, fmt.Errorf("set setting %s: %w", name, err)
	}
	return now, nil
}

// SwapSetting sets the value if it is still old; nil for old means that there is
// none. It reports whether it did. With ErrUnavailable it may have: a caller that
// repeats the call and is told false looks what is there.
func (s *Store) SwapSetting(ctx context.Context, name string, old, value []byte) (bool, error) {
	var n int64
	err := s.write(ctx, func(ctx context.Context, c *conn) (err error) {
		now := millis(time.Now())
		if old == nil {
			n, err = c.exec(ctx, `INSERT INTO settings (name, value, changed) VALUES (?, ?, ?)
				ON CONFLICT (name) DO NOTHING`, name, notNil(value), now)
			return err
		}
		n, err = c.exec(ctx, "UPDATE settings SET value = ?, changed = ? WHERE name = ? AND value = ?",
			notNil(value), now, name, old)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("set setting %s: %w", name, err)
	}
	return n == 1, nil
}

// DeleteSetting removes the setting if there is one.
func (s *Store) DeleteSetting(ctx context.Context, name string) error {
	err := s.write(ctx, func(ctx context.Context, c *conn) error {
		_, err := c.exec(ctx, "DELETE FROM settings WHERE name = ?", name)
		return err
	})
	if err != nil {
		return fmt.Errorf("delete setting %s: %w", name, err)
	}
	return nil
}

// notNil keeps an empty value from being NULL.
func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
