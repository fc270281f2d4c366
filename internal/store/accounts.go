package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// Account is an account of the administration, as package accounts writes it.
type Account struct {
	Name string
	// Version is what PutAccount needs to know that nobody else changed it.
	Version int64
	Record  []byte
}

// Accounts returns all accounts in the order of their names.
func (s *Store) Accounts(ctx context.Context) ([]Account, error) {
	var all []Account
	err := s.read(ctx, func(ctx context.Context, c *conn) error {
		all = nil
		return c.query(ctx, func(rows *sql.Rows) error {
			var a Account
			if err := rows.Scan(&a.Name, &a.Version, &a.Record); err != nil {
				return err
			}
			all = append(all, a)
			return nil
		}, "SELECT name, version, record FROM accounts ORDER BY name")
	})
	if err != nil {
		return nil, fmt.Errorf("list accounts: %w", err)
	}
	return all, nil
}

// Account returns one account, or ErrNotFound.
func (s *Store) Account(ctx context.Context, name string) (Account, error) {
	a := Account{Name: fold(name)}
	err := s.read(ctx, func(ctx context.Context, c *conn) error {
		return c.row(ctx, "SELECT version, record FROM accounts WHERE name = ?", a.Name).Scan(&a.Version, &a.Record)
	})
	if err != nil {
		return Account{}, fmt.Errorf("read account: %w", err)
	}
	return a, nil
}

// PutAccount keeps an account if its version is still the one that is there; 0: if
// there is none. It reports whether it did, and which version it has now.
func (s *Store) PutAccount(ctx context.Context, a Account) (version int64, did bool, err error) {
	var n int64
	err = s.write(ctx, func(ctx context.Context, c *conn) (err error) {
		if a.Version == 0 {
			n, err = c.exec(ctx, "INSERT INTO accounts (name, version, record) VALUES (?, 1, ?) ON CONFLICT (name) DO NOTHING",
				fold(a.Name), a.Record)
			return err
		}
		n, err = c.exec(ctx, "UPDATE accounts SET version = version + 1, record = ? WHERE name = ? AND version = ?",
			a.Record, fold(a.Name), a.Version)
		return err
	})
	if err != nil {
		return 0, false, fmt.Errorf("keep account: %w", err)
	}
	return a.Version + 1, n == 1, nil
}

// DeleteAccount removes an account with its sessions and tokens, and reports whether
// there was one.
func (s *Store) DeleteAccount(ctx context.Context, name string) (bool, error) {
	var n int64
	err := s.write(ctx, func(ctx context.Context, c *conn) (err error) {
		if _, err = c.exec(ctx, "DELETE FROM account_keys WHERE account = ?", fold(name)); err != nil {
			return err
		}
		n, err = c.exec(ctx, "DELETE FROM accounts WHERE name = ?", fold(name))
		return err
	})
	if err != nil {
		return false, fmt.Errorf("delete account: %w", err)
	}
	return n == 1, nil
}

// KeyKind tells what an AccountKey opens.
type KeyKind string

// The kinds of keys.
const (
	SessionKey KeyKind = "s"
	TokenKey   KeyKind = "t"
)

// AccountKey is a session of a browser or a token of a program. ID is a hash of its
// secret.
type AccountKey struct {
	ID      string
	Kind    KeyKind
	Account string
	Record  []byte
	Created time.Time
	Seen    time.Time
	Expires time.Time // zero: never
}

const accountKeyFields = "id, kind, account, record, created, seen, expires"

func scanAccountKey(scan func(...any) error) (k AccountKey, err error) {
	var created, seen, expires int64
	err = scan(&k.ID, (*string)(&k.Kind), &k.Account, &k.Record, &created, &seen, &expires)
	k.Created, k.Seen, k.Expires = fromMillis(created), fromMillis(seen), fromMillis(expires)
	return k, err
}

// PutAccountKey keeps a key, new or changed.
func (s *Store) PutAccountKey(ctx context.Context, k AccountKey) error {
	err := s.write(ctx, func(ctx context.Context, c *conn) error {
		_, err := c.exec(ctx, "INSERT INTO account_keys ("+accountKeyFields+`) VALUES (?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (id) DO UPDATE SET record = excluded.record, seen = excluded.seen, expires = excluded.expires`,
			k.ID, string(k.Kind), fold(k.Account), k.Record, millis(k.Created), millis(k.Seen), millis(k.Expires))
		return err
	})
	if err != nil {
		return fmt.Errorf("keep key of account: %w", err)
	}
	return nil
}

// AccountKey returns the key of an ID unless it has expired, or ErrNotFound.
func (s *Store) AccountKey(ctx context.Context, kind KeyKind, id string) (AccountKey, error) {
	var k AccountKey
	err := s.read(ctx, func(ctx context.Context, c *conn) (err error) {
		k, err = scanAccountKey(c.row(ctx, "SELECT "+accountKeyFields+" FROM account_keys WHERE id = ? AND kind = ? AND (expires = 0 OR expires > ?)",
			clean(id), string(kind), millis(time.Now())).Scan)
		return err
	})
	if err != nil {
		return AccountKey{}, fmt.Errorf("read key of account: %w", err)
	}
	return k, nil
}

// AccountKeys lists the keys of an account that have not expired, the newest first;
// "" stands for all accounts. At most 1,000 are listed.
func (s *Store) AccountKeys(ctx context.Context, kind KeyKind, account string) ([]AccountKey, error) {
	var all []AccountKey
	err := s.read(ctx, func(ctx context.Context, c *conn) error {
		all = nil
		return c.query(ctx, func(rows *sql.Rows) error {
			k, err := scanAccountKey(rows.Scan)
			all = append(all, k)
			return err
		}, "SELECT "+accountKeyFields+` FROM account_keys WHERE kind = ? AND (account = ? OR ? = '') AND (expires = 0 OR expires > ?)
			ORDER BY created DESC, id LIMIT 1000`, string(kind), fold(account), account, millis(time.Now()))
	})
	if err != nil {
		return nil, fmt.Errorf("list keys of account: %w", err)
	}
	return all, nil
}

// TouchAccountKey notes that a key was used, and when it expires now. A key that is
// gone stays so.
func (s *Store) TouchAccountKey(ctx context.Context, id string, seen, expires time.Time) error {
	err := s.write(ctx, func(ctx context.Context, c *conn) error {
		_, err := c.exec(ctx, "UPDATE account_keys SET seen = ?, expires = ? WHERE id = ?", millis(seen), millis(expires), clean(id))
		return err
	})
	if err != nil {
		return fmt.Errorf("touch key of account: %w", err)
	}
	return nil
}

// SwapAccountKey changes the record of a key if it is still the old one, and reports
// whether it did: of two who count a failed try at once none is lost.
func (s *Store) SwapAccountKey(ctx context.Context, id string, old, record []byte) (bool, error) {
	var n int64
	err := s.write(ctx, func(ctx context.Context, c *conn) (err error) {
		n, err = c.exec(ctx, "UPDATE account_keys SET record = ? WHERE id = ? AND record = ?", record, clean(id), old)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("change key of account: %w", err)
	}
	return n == 1, nil
}

// DeleteAccountKey removes a key of an account, and reports whether there was one.
func (s *Store) DeleteAccountKey(ctx context.Context, kind KeyKind, account, id string) (bool, error) {
	n, err := s.deleteAccountKeys(ctx, "kind = ? AND account = ? AND id = ?", string(kind), fold(account), clean(id))
	return n > 0, err
}

// DeleteAccountKeys removes all keys of a kind of an account but one; "" for except
// removes all.
func (s *Store) DeleteAccountKeys(ctx context.Context, kind KeyKind, account, except string) (int64, error) {
	return s.deleteAccountKeys(ctx, "kind = ? AND account = ? AND id <> ?", string(kind), fold(account), clean(except))
}

// ExpireAccountKeys removes what has expired.
func (s *Store) ExpireAccountKeys(ctx context.Context) (int64, error) {
	return s.deleteAccountKeys(ctx, "expires > 0 AND expires <= ?", millis(time.Now()))
}

func (s *Store) deleteAccountKeys(ctx context.Context, where string, args ...any) (n int64, err error) {
	err = s.write(ctx, func(ctx context.Context, c *conn) (err error) {
		n, err = c.exec(ctx, "DELETE FROM account_keys WHERE "+where, args...)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("delete keys of account: %w", err)
	}
	return n, nil
}
