package store

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"gatepost/internal/mail"
)

// MailboxEntry is what is remembered of one message in a mailbox.
type MailboxEntry struct {
	Name   mail.Mailed
	Judged mail.Judged
}

// Mailbox returns what is remembered of a message; ErrNotFound for nothing. asked says
// when somebody asked for it the last time.
func (s *Store) Mailbox(ctx context.Context, m mail.Mailed) (j *mail.Judged, asked time.Time, err error) {
	var text []byte
	var seen int64
	m = cleanMailed(m)
	err = s.read(ctx, func(ctx context.Context, c *conn) error {
		return c.row(ctx, "SELECT judged, seen FROM mailbox WHERE server = ? AND account = ? AND uidl = ?", m.Server, m.User, m.UIDL).Scan(&text, &seen)
	})
	if err == nil {
		j = new(mail.Judged)
		err = json.Unmarshal(text, j)
	}
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("recall message in mailbox: %w", err)
	}
	return j, time.UnixMilli(seen), nil
}

// RememberMailbox keeps what is known of messages, in the place of what was judged
// before. One that was released stays so while its content is the same.
func (s *Store) RememberMailbox(ctx context.Context, entries []MailboxEntry) error {
	err := s.write(ctx, func(ctx context.Context, c *conn) error {
		for i := range entries {
			e := &entries[i]
			known, err := knownMailbox(ctx, c, e.Name)
			if err != nil && !errors.Is(err, ErrNotFound) {
				return err
			}
			if err == nil && (known.Seen.After(e.Judged.Seen) || known.Allowed && bytes.Equal(known.Hash, e.Judged.Hash)) {
				continue
			}
			if err := rememberMailbox(ctx, c, e); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("remember messages in mailboxes: %w", err)
	}
	return nil
}

// ClaimMailbox returns the ID under which a message is to be held: id, or the one that
// it got when somebody judged the same content before. What is known of another content
// of that name is forgotten. When it returns nil this is durable, so that nobody holds
// the message under another ID.
func (s *Store) ClaimMailbox(ctx context.Context, m mail.Mailed, hash []byte, id mail.ID) (mail.ID, error) {
	claimed := id
	err := s.write(ctx, func(ctx context.Context, c *conn) error {
		e := MailboxEntry{Name: m, Judged: mail.Judged{Rules: mail.RulesClaimed, Hash: hash, Message: id}}
		claimed = id
		known, err := knownMailbox(ctx, c, m)
		if errors.Is(err, ErrNotFound) {
			if n, err := putMailbox(ctx, c, &e, "ON CONFLICT (server, account, uidl) DO NOTHING"); err != nil || n > 0 {
				return err
			}
			known, err = knownMailbox(ctx, c, m) // another node was faster
		}
		if err != nil {
			return err
		}
		if bytes.Equal(known.Hash, hash) && !known.Message.IsZero() {
			claimed = known.Message
			return nil
		}
		return rememberMailbox(ctx, c, &e)
	})
	if err != nil {
		return mail.ID{}, fmt.Errorf("claim message in mailbox: %w", err)
	}
	return claimed, nil
}

// knownMailbox is what is remembered of a message; ErrNotFound for nothing.
func knownMailbox(ctx context.Context, c *conn, m mail.Mailed) (*mail.Judged, error) {
	var text []byte
	m = cleanMailed(m)
	err := c.row(ctx, "SELECT judged FROM mailbox WHERE server = ? AND account = ? AND uidl = ?", m.Server, m.User, m.UIDL).Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	j := new(mail.Judged)
	return j, json.Unmarshal(text, j)
}

func rememberMailbox(ctx context.Context, c *conn, e *MailboxEntry) error {
	_, err := putMailbox(ctx, c, e, `ON CONFLICT (server, account, uidl) DO UPDATE
		SET message = excluded.message, held = excluded.held, seen = excluded.seen, judged = excluded.judged`)
	return err
}

// putMailbox adds a row, and returns how many it changed.
func putMailbox(ctx context.Context, c *conn, e *MailboxEntry, onConflict string) (int64, error) {
	text, err := json.Marshal(&e.Judged)
	if err != nil {
		return 0, err
	}
	held := 0
	if e.Judged.Held {
		held = 1
	}
	m := cleanMailed(e.Name)
	return c.exec(ctx, "INSERT INTO mailbox (server, account, uidl, message, held, seen, judged) VALUES (?, ?, ?, ?, ?, ?, ?) "+onConflict,
		m.Server, m.User, m.UIDL, e.Judged.Message.String(), held, millis(time.Now()), text)
}

// TouchMailbox notes that somebody asked for a message.
func (s *Store) TouchMailbox(ctx context.Context, m mail.Mailed) error {
	m = cleanMailed(m)
	err := s.write(ctx, func(ctx context.Context, c *conn) error {
		_, err := c.exec(ctx, "UPDATE mailbox SET seen = ? WHERE server = ? AND account = ? AND uidl = ?", millis(time.Now()), m.Server, m.User, m.UIDL)
		return err
	})
	if err != nil {
		return fmt.Errorf("note message in mailbox: %w", err)
	}
	return nil
}

// AllowMailbox lets a message that the quarantine holds pass when it is fetched the next
// time, and returns its names; ErrNotFound where nothing is remembered of it any more.
func (s *Store) AllowMailbox(ctx context.Context, id mail.ID) ([]mail.Mailed, error) {
	var names []mail.Mailed
	err := s.write(ctx, func(ctx context.Context, c *conn) error {
		names = nil
		var entries []MailboxEntry
		err := c.query(ctx, func(rows *sql.Rows) error {
			var e MailboxEntry
			var text []byte
			if err := rows.Scan(&e.Name.Server, &e.Name.User, &e.Name.UIDL, &text); err != nil {
				return err
			}
			entries = append(entries, e)
			return json.Unmarshal(text, &entries[len(entries)-1].Judged)
		}, "SELECT server, account, uidl, judged FROM mailbox WHERE message = ? AND held = 1", id.String())
		if err != nil {
			return err
		}
		for i := range entries {
			e := &entries[i]
			e.Judged.Allowed, e.Judged.Notice = true, nil
			if err := rememberMailbox(ctx, c, e); err != nil {
				return err
			}
			names = append(names, e.Name)
		}
		if len(names) == 0 {
			return ErrNotFound
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("allow message in mailbox: %w", err)
	}
	return names, nil
}

// ExpireMailbox forgets what nobody asked for since a moment, and the oldest of what is
// more than most. It returns how many it forgot.
func (s *Store) ExpireMailbox(ctx context.Context, before time.Time, most int64) (int64, error) {
	var forgot int64
	err := s.write(ctx, func(ctx context.Context, c *conn) error {
		n, err := c.exec(ctx, "DELETE FROM mailbox WHERE seen < ?", millis(before))
		if err != nil {
			return err
		}
		forgot = n
		var last int64
		err = c.row(ctx, "SELECT seen FROM mailbox ORDER BY seen DESC LIMIT 1 OFFSET ?", most).Scan(&last)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err == nil {
			n, err = c.exec(ctx, "DELETE FROM mailbox WHERE seen <= ?", last)
			forgot += n
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("forget messages in mailboxes: %w", err)
	}
	return forgot, nil
}

// cleanMailed makes the names that strangers chose fit for a database.
func cleanMailed(m mail.Mailed) mail.Mailed {
	return mail.Mailed{Server: clean(m.Server), User: clean(m.User), UIDL: clean(m.UIDL)}
}
