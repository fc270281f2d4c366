package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"
)

// ErrFull says that a list has as many entries as it may have.
var ErrFull = errors.New("the list is full")

// SenderKind is what a list says about a sender.
type SenderKind string

// The kinds of entries.
const (
	SenderAllowed SenderKind = "allow"
	SenderBlocked SenderKind = "block"
)

// stored is the kind as the table has it.
func (k SenderKind) stored() string { return string(k[:1]) }

// SenderKey names an entry.
type SenderKey struct {
	// Owner is whose list it is: an address, "@domain" for all addresses there, or ""
	// for everybody. In lower case, as mail.Address.Key writes it.
	Owner string `json:"owner"`
	// Pattern is the sender: an address, or "@domain" for its addresses and those of the
	// domains below it.
	Pattern string `json:"pattern"`
}

// SenderEntry is an entry of a list of senders.
type SenderEntry struct {
	SenderKey
	Kind SenderKind `json:"kind"`
	Note string     `json:"note,omitempty"`
	// By is who made it, Added when.
	By    string    `json:"by,omitempty"`
	Added time.Time `json:"added"`
}

// SenderQuery says which entries are meant. Zero fields ask nothing; the others must all
// hold.
type SenderQuery struct {
	// Owners bounds what is found to the lists of these: "user@domain" its own, "@domain"
	// that of the domain and those of its addresses. None: all.
	Owners []string
	// Owner is one list alone, Everybody that of everybody.
	Owner     string
	Everybody bool
	Kind      SenderKind
	// Text is a part of owner, pattern or note, in any case.
	Text string
	// Limit is how many are returned; default 50, at most 1000. After continues a list
	// behind its last entry.
	Limit int
	After *SenderKey
}

func (q *SenderQuery) where() conditions {
	w := conditions{}
	w.add("added >= 0") // there is always a condition
	if q.Owner != "" || q.Everybody {
		w.add("owner = ?", fold(q.Owner))
	}
	var any conditions
	for _, o := range q.Owners {
		if o = fold(o); strings.HasPrefix(o, "@") {
			any.add("owner LIKE ? ESCAPE '!'", strings.TrimSuffix(contains(o), "%"))
		} else {
			any.add("owner = ?", o)
		}
	}
	if len(any.parts) > 0 {
		w.add("("+strings.Join(any.parts, " OR ")+")", any.args...)
	}
	if q.Kind != "" {
		w.add("kind = ?", q.Kind.stored())
	}
	if text := fold(q.Text); text != "" {
		like := contains(text)
		w.add("(owner LIKE ? ESCAPE '!' OR pattern LIKE ? ESCAPE '!' OR LOWER(note) LIKE ? ESCAPE '!')", like, like, like)
	}
	if q.After != nil {
		w.add("(owner, pattern) > (?, ?)", q.After.Owner, q.After.Pattern)
	}
	return w
}

// FindSenders returns the entries that the query asks for, by owner and pattern, and
// whether there are more.
func (s *Store) FindSenders(ctx context.Context, q SenderQuery) (found []SenderEntry, more bool, err error) {
	limit := defaultFind
	if q.Limit > 0 {
		limit = min(q.Limit, maxFind)
	}
	w := q.where()
	if found, err = s.readSenders(ctx, w.String()+" ORDER BY owner, pattern LIMIT ?", append(w.args, limit+1)); err != nil {
		return nil, false, fmt.Errorf("search lists of senders: %w", err)
	}
	if more = len(found) > limit; more {
		found = found[:limit]
	}
	return found, more, nil
}

// MatchSenders returns the entries of these lists for these patterns, in no order. The
// lists of owners are few: those of a message's recipients.
func (s *Store) MatchSenders(ctx context.Context, owners, patterns []string) ([]SenderEntry, error) {
	if len(owners) == 0 || len(patterns) == 0 {
		return nil, nil
	}
	args := make([]any, 0, len(owners)+len(patterns))
	for _, v := range owners {
		args = append(args, fold(v))
	}
	for _, v := range patterns {
		args = append(args, fold(v))
	}
	found, err := s.readSenders(ctx, "owner IN ("+marks(len(owners))+") AND pattern IN ("+marks(len(patterns))+")", args)
	if err != nil {
		return nil, fmt.Errorf("match senders: %w", err)
	}
	return found, nil
}

// marks are n places for values.
func marks(n int) string { return strings.TrimSuffix(strings.Repeat("?, ", n), ", ") }

func (s *Store) readSenders(ctx context.Context, where string, args []any) (found []SenderEntry, err error) {
	err = s.read(ctx, func(ctx context.Context, c *conn) error {
		found = nil
		return c.query(ctx, func(rows *sql.Rows) error {
			var e SenderEntry
			var kind string
			var added int64
			if err := rows.Scan(&e.Owner, &e.Pattern, &kind, &e.Note, &e.By, &added); err != nil {
				return err
			}
			e.Kind, e.Added = SenderBlocked, time.UnixMilli(added)
			if kind == SenderAllowed.stored() {
				e.Kind = SenderAllowed
			}
			found = append(found, e)
			return nil
		}, "SELECT owner, pattern, kind, note, added_by, added FROM senders WHERE "+where, args...)
	})
	return found, err
}

// PutSender adds an entry, or changes the one of its key. A list has at most so many
// entries: ErrFull.
func (s *Store) PutSender(ctx context.Context, e SenderEntry, most int) error {
	e.Owner, e.Pattern = fold(e.Owner), fold(e.Pattern)
	err := s.write(ctx, func(ctx context.Context, c *conn) error {
		var others int
		if err := c.row(ctx, "SELECT COUNT(*) FROM senders WHERE owner = ? AND pattern <> ?", e.Owner, e.Pattern).Scan(&others); err != nil {
			return err
		}
		if others >= most {
			return ErrFull
		}
		_, err := c.exec(ctx, `INSERT INTO senders (owner, pattern, kind, note, added_by, added) VALUES (?, ?, ?, ?, ?, ?)
			ON CONFLICT (owner, pattern) DO UPDATE SET kind = excluded.kind, note = excluded.note, added_by = excluded.added_by, added = excluded.added`,
			e.Owner, e.Pattern, e.Kind.stored(), e.Note, e.By, millis(e.Added))
		return err
	})
	if err != nil {
		return fmt.Errorf("put sender on list: %w", err)
	}
	return nil
}

// DropSender takes an entry off its list; ErrNotFound where there is none.
func (s *Store) DropSender(ctx context.Context, k SenderKey) error {
	err := s.write(ctx, func(ctx context.Context, c *conn) error {
		n, err := c.exec(ctx, "DELETE FROM senders WHERE owner = ? AND pattern = ?", fold(k.Owner), fold(k.Pattern))
		if err == nil && n == 0 {
			err = ErrNotFound
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("take sender off list: %w", err)
	}
	return nil
}
