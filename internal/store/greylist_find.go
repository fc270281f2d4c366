package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"
)

// GreylistKind is what an entry of the greylist is.
type GreylistKind string

// The kinds of entries.
const (
	GreylistTripletKind GreylistKind = "triplet" // source, sender, recipient
	GreylistSourceKind  GreylistKind = "source"  // a network or domain of which triplets have passed
	GreylistKnownKind   GreylistKind = "known"   // somebody here wrote to the sender
	GreylistAllowKind   GreylistKind = "allow"   // an administrator allowed it
)

// stored is the kind as the table has it.
func (k GreylistKind) stored() string { return string(k[:1]) }

func greylistKind(stored string) GreylistKind {
	for _, k := range []GreylistKind{GreylistTripletKind, GreylistSourceKind, GreylistKnownKind} {
		if k.stored() == stored {
			return k
		}
	}
	return GreylistAllowKind
}

// GreylistEntry is one entry, for lists.
type GreylistEntry struct {
	Kind GreylistKind `json:"kind"`
	// Source is a network or a domain, for GreylistAllowKind what was allowed.
	Source    string `json:"source,omitempty"`
	Sender    string `json:"sender,omitempty"`
	Recipient string `json:"recipient,omitempty"`
	// FirstSeen and LastSeen are when it was seen; Expires is when it is forgotten,
	// zero for never.
	FirstSeen time.Time `json:"first_seen"`
	LastSeen  time.Time `json:"last_seen"`
	Expires   time.Time `json:"expires,omitzero"`
	// Passes is how many messages of a triplet, or triplets of a source, have
	// passed. A triplet without one waits.
	Passes int64  `json:"passes"`
	Note   string `json:"note,omitempty"`
}

// GreylistQuery says which entries are meant. Zero fields ask nothing; the others
// must all hold.
type GreylistQuery struct {
	Kind GreylistKind
	// Source, Sender and Recipient are whole, or "@domain" for the addresses of a
	// domain.
	Source    string
	Sender    string
	Recipient string
	// Recipients bounds what is found to these, each whole or "@domain"; none: all.
	Recipients []string
	// Waiting are the triplets that have not passed, Passed the others.
	Waiting bool
	Passed  bool
	// Expired includes entries that are only still there because nobody has tidied up.
	Expired bool

	// Limit is how many are returned; default 50, at most 1000. After continues a
	// list behind its last entry.
	Limit int
	After *GreylistEntry
}

func (q *GreylistQuery) where() conditions {
	var w conditions
	if q.Kind != "" {
		w.add("kind = ?", q.Kind.stored())
	}
	if q.Source != "" {
		w.add("source = ?", fold(q.Source))
	}
	for _, a := range []struct{ column, value string }{{"sender", q.Sender}, {"recipient", q.Recipient}} {
		switch value := fold(a.value); {
		case value == "":
		case strings.HasPrefix(value, "@"):
			w.add(a.column+" LIKE ? ESCAPE '!'", strings.TrimSuffix(contains(value), "%"))
		default:
			w.add(a.column+" = ?", value)
		}
	}
	var any conditions
	for _, r := range q.Recipients {
		if r = fold(r); strings.HasPrefix(r, "@") {
			any.add("recipient LIKE ? ESCAPE '!'", strings.TrimSuffix(contains(r), "%"))
		} else {
			any.add("recipient = ?", r)
		}
	}
	if len(any.parts) > 0 {
		w.add("("+strings.Join(any.parts, " OR ")+")", any.args...)
	}
	switch {
	case q.Waiting:
		w.add("kind = 't' AND passes = 0")
	case q.Passed:
		w.add("kind = 't' AND passes > 0")
	}
	return w
}

// FindGreylist returns the entries that the query asks for, allowed ones first,
// then by source, sender and recipient, and whether there are more.
func (s *Store) FindGreylist(ctx context.Context, q GreylistQuery) (found []GreylistEntry, more bool, err error) {
	limit := defaultFind
	if q.Limit > 0 {
		limit = min(q.Limit, maxFind)
	}
	w := q.where()
	w.add("passes >= 0") // there is always a condition
	if !q.Expired {
		w.add("(expires = 0 OR expires > ?)", millis(time.Now()))
	}
	if q.After != nil {
		w.add("(kind, source, sender, recipient) > (?, ?, ?, ?)", q.After.Kind.stored(), q.After.Source, q.After.Sender, q.After.Recipient)
	}
	err = s.read(ctx, func(ctx context.Context, c *conn) error {
		found = nil
		return c.query(ctx, func(rows *sql.Rows) error {
			e, err := scanGreylist(rows)
			found = append(found, e)
			return err
		}, "SELECT kind, source, sender, recipient, first_seen, last_seen, passes, expires, note FROM greylist WHERE "+w.String()+
			" ORDER BY kind, source, sender, recipient LIMIT ?", append(w.args, limit+1)...)
	})
	if err != nil {
		return nil, false, fmt.Errorf("search greylist: %w", err)
	}
	if more = len(found) > limit; more {
		found = found[:limit]
	}
	return found, more, nil
}

func scanGreylist(rows *sql.Rows) (e GreylistEntry, err error) {
	var kind string
	var first, last, expires int64
	err = rows.Scan(&kind, &e.Source, &e.Sender, &e.Recipient, &first, &last, &e.Passes, &expires, &e.Note)
	e.Kind = greylistKind(kind)
	e.FirstSeen, e.LastSeen, e.Expires = fromMillis(first), fromMillis(last), fromMillis(expires)
	return e, err
}

// ErrAsksNothing says that a query which deletes would mean everything.
var ErrAsksNothing = errors.New("the query asks for nothing")

// ForgetGreylist deletes the entries that the query asks for and returns how many
// there were. Limit and After have no effect; a query without a condition is
// ErrAsksNothing.
func (s *Store) ForgetGreylist(ctx context.Context, q GreylistQuery) (int64, error) {
	w := q.where()
	if len(w.parts) == 0 {
		return 0, fmt.Errorf("forget in greylist: %w", ErrAsksNothing)
	}
	return s.deleteGreylist(ctx, w.String(), w.args...)
}
