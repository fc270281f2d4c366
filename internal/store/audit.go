package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"fmt"
	"time"
)

// AuditEntry is one line of who did what in the administration.
type AuditEntry struct {
	// ID orders the entries; PutAudit makes it.
	ID      string    `json:"id"`
	At      time.Time `json:"at"`
	Actor   string    `json:"actor"`
	Client  string    `json:"client,omitempty"`
	Action  string    `json:"action"`
	Outcome string    `json:"outcome"`
	Detail  string    `json:"detail,omitempty"`
}

// AuditQuery chooses entries; all that is set must hold. They come the newest first.
type AuditQuery struct {
	Actor string
	// Text is looked for in action, detail and client, without regard to case.
	Text          string
	Since, Before time.Time
	// After continues behind the entry with this ID.
	After string
	Limit int // 1 to 1000
}

// PutAudit keeps an entry.
func (s *Store) PutAudit(ctx context.Context, e AuditEntry) error {
	var random [6]byte
	rand.Read(random[:])
	at := millis(e.At)
	id := fmt.Sprintf("%012x%s", at, hex.EncodeToString(random[:]))
	err := s.write(ctx, func(ctx context.Context, c *conn) error {
		_, err := c.exec(ctx, "INSERT INTO audit (id, at, actor, client, action, outcome, detail) VALUES (?, ?, ?, ?, ?, ?, ?)",
			id, at, clean(e.Actor), clean(e.Client), clean(e.Action), clean(e.Outcome), clean(e.Detail))
		return err
	})
	if err != nil {
		return fmt.Errorf("keep audit entry: %w", err)
	}
	return nil
}

// Audit returns entries, and whether there are more.
func (s *Store) Audit(ctx context.Context, q AuditQuery) (found []AuditEntry, more bool, err error) {
	where, args := "1 = 1", []any{}
	add := func(condition string, values ...any) {
		where += " AND " + condition
		args = append(args, values...)
	}
	if q.Actor != "" {
		add("actor = ?", clean(q.Actor))
	}
	if q.Text != "" {
		p := contains(q.Text)
		add("(lower(action) LIKE ? ESCAPE '!' OR lower(detail) LIKE ? ESCAPE '!' OR lower(client) LIKE ? ESCAPE '!' OR lower(actor) LIKE ? ESCAPE '!')", p, p, p, p)
	}
	if !q.Since.IsZero() {
		add("at >= ?", millis(q.Since))
	}
	if !q.Before.IsZero() {
		add("at < ?", millis(q.Before))
	}
	if q.After != "" {
		add("id < ?", clean(q.After))
	}
	limit := min(max(q.Limit, 1), 1000)
	err = s.read(ctx, func(ctx context.Context, c *conn) error {
		found = nil
		return c.query(ctx, func(rows *sql.Rows) error {
			var e AuditEntry
			var at int64
			err := rows.Scan(&e.ID, &at, &e.Actor, &e.Client, &e.Action, &e.Outcome, &e.Detail)
			e.At = fromMillis(at)
			found = append(found, e)
			return err
		}, "SELECT id, at, actor, client, action, outcome, detail FROM audit WHERE "+where+" ORDER BY id DESC LIMIT ?", append(args, limit+1)...)
	})
	if err != nil {
		return nil, false, fmt.Errorf("read audit log: %w", err)
	}
	if len(found) > limit {
		return found[:limit], true, nil
	}
	return found, false, nil
}

// ExpireAudit removes entries from before a time, some at a time.
func (s *Store) ExpireAudit(ctx context.Context, before time.Time) (total int64, err error) {
	for {
		var n int64
		err := s.write(ctx, func(ctx context.Context, c *conn) (err error) {
			n, err = c.exec(ctx, "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE at < ? LIMIT 1000)", millis(before))
			return err
		})
		if err != nil {
			return total, fmt.Errorf("expire audit log: %w", err)
		}
		if total += n; n < 1000 {
			return total, nil
		}
	}
}
