package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"gatepost/internal/mail"
)

// QuarantineChange is a new state for entries.
type QuarantineChange struct {
	State QuarantineState
	// From are the states in which an entry must be; default held alone.
	From []QuarantineState
	By   string
	At   time.Time // default now
	Note string
}

// SetQuarantineState changes the state of the entries of these recipients
// (address keys; none: all) and returns those that it changed. Of two that
// release a message at once only one is told that it did. The same change made
// again, with the same By and At, returns the same entries, so that a caller who
// lost the answer can ask again. ErrNotFound where there is no such message.
func (s *Store) SetQuarantineState(ctx context.Context, id mail.ID, recipients []string, change QuarantineChange) ([]QuarantineEntry, error) {
	if len(change.From) == 0 {
		change.From = []QuarantineState{QuarantineHeld}
	}
	if change.At.IsZero() {
		change.At = time.Now()
	}
	var w conditions
	w.add("message_id = ?", id.String())
	w.oneOf("recipient_key", recipients)
	from := make([]any, len(change.From))
	for i, state := range change.From {
		from[i] = string(state)
	}
	w.add("(state IN ("+places(len(from))+") OR (state = ? AND changed = ? AND changed_by = ?))",
		append(from, string(change.State), millis(change.At), clean(change.By))...)
	args := append([]any{string(change.State), millis(change.At), clean(change.By), clean(change.Note)}, w.args...)

	var changed []QuarantineEntry
	err := s.write(ctx, func(ctx context.Context, c *conn) error {
		changed = nil
		var there int
		err := c.row(ctx, "SELECT complete FROM quarantine_messages WHERE id = ? AND complete = 1", id.String()).Scan(&there)
		if err != nil {
			return err
		}
		return c.query(ctx, func(rows *sql.Rows) error {
			_, e, err := scanEntry(rows)
			changed = append(changed, e)
			return err
		}, "UPDATE quarantine_entries SET state = ?, changed = ?, changed_by = ?, change_reason = ? WHERE "+w.String()+
			" RETURNING "+entryColumns, args...)
	})
	if err != nil {
		return nil, fmt.Errorf("change quarantined message %s: %w", id, err)
	}
	return changed, nil
}

// DeleteQuarantined removes a message for all recipients, body and entries. A
// message that is not there is no error.
func (s *Store) DeleteQuarantined(ctx context.Context, id mail.ID) error {
	err := s.write(ctx, func(ctx context.Context, c *conn) error {
		_, err := c.exec(ctx, "DELETE FROM quarantine_messages WHERE id = ?", id.String())
		return err
	})
	if err != nil {
		return fmt.Errorf("delete quarantined message %s: %w", id, err)
	}
	return nil
}

// Bounds of one transaction of ExpireQuarantine.
const (
	expireMessages = 100
	expireBytes    = 32 << 20
)

// abandoned is how long a message may be incomplete: whoever writes it tries
// again long before, and begins anew if it was removed.
const abandoned = 24 * time.Hour

// ExpireQuarantine removes the messages that were received before, whatever the
// state of their entries, and what is left of messages whose body was never
// written to its end. It works in small transactions, returns how many messages it
// removed, and ends early with ctx.
func (s *Store) ExpireQuarantine(ctx context.Context, before time.Time) (int, error) {
	removed := 0
	for {
		if err := ctx.Err(); err != nil {
			return removed, err
		}
		n, err := s.expireSome(ctx, mail.FirstID(before).String(), millis(time.Now().Add(-abandoned)))
		removed += n
		if err != nil {
			return removed, fmt.Errorf("expire quarantine: %w", err)
		}
		if n == 0 {
			return removed, nil
		}
	}
}

func (s *Store) expireSome(ctx context.Context, id string, incomplete int64) (int, error) {
	n := 0
	err := s.write(ctx, func(ctx context.Context, c *conn) error {
		var ids []any
		var bytes int64
		err := c.query(ctx, func(rows *sql.Rows) error {
			var id string
			var size int64
			if err := rows.Scan(&id, &size); err != nil {
				return err
			}
			if bytes += size; len(ids) == 0 || bytes <= expireBytes {
				ids = append(ids, id)
			}
			return nil
		}, `SELECT id, size FROM (SELECT id, size FROM quarantine_messages WHERE id < ? ORDER BY id LIMIT ?) AS old
			UNION ALL
			SELECT id, size FROM (SELECT id, size FROM quarantine_messages WHERE complete = 0 AND stored < ? AND id >= ? LIMIT ?) AS broken`,
			id, expireMessages, incomplete, id, expireMessages)
		if n = len(ids); n == 0 || err != nil {
			return err
		}
		ids = padded(ids)
		if _, err := c.exec(ctx, "DELETE FROM quarantine_messages WHERE id IN ("+places(len(ids))+")", ids...); err != nil {
			return err
		}
		if c.dialect == dialectSQLite {
			// Gives the space back to the disk, a bounded part at a time.
			_, err = c.exec(ctx, "PRAGMA incremental_vacuum(10000)")
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}

// QuarantineCount is how many entries there are of one threat in one state.
type QuarantineCount struct {
	Threat  mail.Threat     `json:"threat"`
	State   QuarantineState `json:"state"`
	Entries int64           `json:"entries"`
}

// QuarantineStats is what is in the quarantine.
type QuarantineStats struct {
	Messages int64             `json:"messages"`
	Bytes    int64             `json:"bytes"`
	Counts   []QuarantineCount `json:"counts"`
}

// QuarantineStats counts what is in the quarantine.
func (s *Store) QuarantineStats(ctx context.Context) (QuarantineStats, error) {
	var stats QuarantineStats
	err := s.read(ctx, func(ctx context.Context, c *conn) error {
		stats = QuarantineStats{}
		err := c.row(ctx, "SELECT count(*), coalesce(sum(size), 0) FROM quarantine_messages WHERE complete = 1").Scan(&stats.Messages, &stats.Bytes)
		if err != nil {
			return err
		}
		return c.query(ctx, func(rows *sql.Rows) error {
			var n QuarantineCount
			err := rows.Scan(&n.Threat, &n.State, &n.Entries)
			stats.Counts = append(stats.Counts, n)
			return err
		}, "SELECT threat, state, count(*) FROM quarantine_entries GROUP BY threat, state ORDER BY threat, state")
	})
	if err != nil {
		return QuarantineStats{}, fmt.Errorf("count quarantine: %w", err)
	}
	return stats, nil
}

// QuarantineRecipients returns the address keys of those for whom entries were
// stored from since to before until that are still held, in order, at most limit,
// those after the given one: the recipients of digests. Entries are stamped a
// moment before they are seen, and by the clocks of several nodes: leave a minute
// between until and now. FindQuarantined with StoredSince and StoredUntil has the
// entries of each.
func (s *Store) QuarantineRecipients(ctx context.Context, since, until time.Time, after string, limit int) ([]string, error) {
	var keys []string
	err := s.read(ctx, func(ctx context.Context, c *conn) error {
		keys = nil
		return c.query(ctx, func(rows *sql.Rows) error {
			var key string
			err := rows.Scan(&key)
			keys = append(keys, key)
			return err
		}, `SELECT DISTINCT recipient_key FROM quarantine_entries
			WHERE state = ? AND stored >= ? AND stored < ? AND recipient_key > ? ORDER BY recipient_key LIMIT ?`,
			string(QuarantineHeld), millis(since), millis(until), after, limit)
	})
	if err != nil {
		return nil, fmt.Errorf("list recipients of the quarantine: %w", err)
	}
	return keys, nil
}
