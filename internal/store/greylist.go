package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"
)

// Greylisting keeps all it knows in one table; see its migration for the kinds of
// rows. The rules that follow from the times are in package greylist, but for
// those that must hold when several nodes see the same triplet at once.

// GreylistTriplet is who sent, from where, to whom, in the form in which package
// greylist compares them.
type GreylistTriplet struct {
	// Source is a network ("192.0.2.0/24") or an authenticated domain.
	Source    string
	Sender    string // "<>" for the null sender
	Recipient string
}

// GreylistRules are the times by which a triplet is judged.
type GreylistRules struct {
	Delay  time.Duration // from the first try until it passes
	Window time.Duration // until which it must have been tried again
	Keep   time.Duration // since it passed the last time
	// SourcePasses is how many triplets of a source must have passed until all of
	// it passes at once; 0: never.
	SourcePasses int
}

// GreylistAnswer is what is known of a triplet that was just seen.
type GreylistAnswer struct {
	// Passed says that the triplet has waited long enough, now or before; Source
	// that its source is allowed; Known that somebody here wrote to the sender.
	Passed, Source, Known bool
	// Wait is how long it has to wait, above 0 where none of the above holds.
	Wait time.Duration
}

// seeTriplet notes a triplet and returns what it is now, with what is known of
// its source and its sender, in one statement. A time of the first try that lies
// ahead of us (the clock went back, or another node's is ahead) begins anew, so
// that nobody waits for a moment that does not come.
const seeTriplet = `INSERT INTO greylist (kind, source, sender, recipient, first_seen, last_seen, passes, expires, note)
	VALUES ('t', ?, ?, ?, ?, ?, 0, ?, '')
	ON CONFLICT (kind, source, sender, recipient) DO UPDATE SET
		first_seen = CASE
			WHEN greylist.expires <= excluded.last_seen THEN excluded.first_seen
			WHEN greylist.passes = 0 AND greylist.first_seen > excluded.last_seen THEN excluded.first_seen
			ELSE greylist.first_seen END,
		passes = CASE
			WHEN greylist.expires <= excluded.last_seen THEN 0
			WHEN greylist.passes > 0 THEN greylist.passes + 1
			WHEN greylist.first_seen <= excluded.last_seen - ? THEN 1
			ELSE 0 END,
		expires = CASE
			WHEN greylist.expires <= excluded.last_seen THEN excluded.expires
			WHEN greylist.passes > 0 OR greylist.first_seen <= excluded.last_seen - ? THEN excluded.last_seen + ?
			WHEN greylist.first_seen > excluded.last_seen THEN excluded.expires
			ELSE greylist.expires END,
		last_seen = excluded.last_seen
	RETURNING first_seen, passes,
		COALESCE((SELECT g.passes FROM greylist g WHERE g.kind = 's' AND g.source = ? AND g.sender = '' AND g.recipient = '' AND g.expires > ?), 0),
		COALESCE((SELECT 1 FROM greylist g WHERE g.kind = 'k' AND g.source = '' AND g.sender = ? AND g.recipient = ? AND g.expires > ?), 0)`

// SeeGreylist notes that a triplet was seen and returns what is known of it.
func (s *Store) SeeGreylist(ctx context.Context, t GreylistTriplet, r GreylistRules) (GreylistAnswer, error) {
	t = GreylistTriplet{Source: fold(t.Source), Sender: fold(t.Sender), Recipient: fold(t.Recipient)}
	now := millis(time.Now())
	delay, keep := r.Delay.Milliseconds(), r.Keep.Milliseconds()
	var a GreylistAnswer
	err := s.write(ctx, func(ctx context.Context, c *conn) error {
		var first, passes, source, known int64
		err := c.row(ctx, seeTriplet,
			t.Source, t.Sender, t.Recipient, now, now, now+r.Window.Milliseconds(),
			delay, delay, keep,
			t.Source, now, t.Sender, t.Recipient, now).Scan(&first, &passes, &source, &known)
		if err != nil {
			return err
		}
		a = GreylistAnswer{Passed: passes > 0, Known: known > 0, Source: r.SourcePasses > 0 && source >= int64(r.SourcePasses)}
		if !a.Passed && !a.Known && !a.Source {
			a.Wait = max(time.Duration(first+delay-now)*time.Millisecond, time.Millisecond)
		}
		return noteGreylistPass(ctx, c, greylistPass{t: t, a: a, now: now, keep: keep, first: passes == 1})
	})
	if err != nil {
		return GreylistAnswer{}, fmt.Errorf("note greylist triplet: %w", err)
	}
	return a, nil
}

// greylistPass is what follows from an answer for other rows.
type greylistPass struct {
	t         GreylistTriplet
	a         GreylistAnswer
	now, keep int64
	first     bool // the triplet has passed for the first time
}

func noteGreylistPass(ctx context.Context, c *conn, p greylistPass) error {
	var err error
	switch {
	case p.first:
		_, err = c.exec(ctx, `INSERT INTO greylist (kind, source, sender, recipient, first_seen, last_seen, passes, expires, note)
			VALUES ('s', ?, '', '', ?, ?, 1, ?, '')
			ON CONFLICT (kind, source, sender, recipient) DO UPDATE SET
				passes = CASE WHEN greylist.expires <= excluded.last_seen THEN 1 ELSE greylist.passes + 1 END,
				last_seen = excluded.last_seen, expires = excluded.expires`, p.t.Source, p.now, p.now, p.now+p.keep)
	case p.a.Source:
		_, err = c.exec(ctx, `UPDATE greylist SET last_seen = ?, expires = ? WHERE kind = 's' AND source = ? AND sender = '' AND recipient = ''`,
			p.now, p.now+p.keep, p.t.Source)
	}
	if err != nil || !p.a.Known || p.a.Passed {
		return err
	}
	// It outlives what we learnt from our own mail, as if it had waited.
	_, err = c.exec(ctx, `UPDATE greylist SET passes = 1, expires = ? WHERE kind = 't' AND source = ? AND sender = ? AND recipient = ?`,
		p.now+p.keep, p.t.Source, p.t.Sender, p.t.Recipient)
	return err
}

// GreylistPair is a direction of mail that needs no delay: from whom, to whom.
type GreylistPair struct{ Sender, Recipient string }

// maxGreylistRows bounds the rows of one transaction.
const maxGreylistRows = 1000

// LearnGreylist lets mail of these directions pass for as long as keep says.
func (s *Store) LearnGreylist(ctx context.Context, pairs []GreylistPair, keep time.Duration) error {
	now := millis(time.Now())
	expires := now + keep.Milliseconds()
	pairs = slices.Clone(pairs)
	for i := range pairs {
		pairs[i] = GreylistPair{fold(pairs[i].Sender), fold(pairs[i].Recipient)}
	}
	// In one order for all nodes, so that they never wait for each other in a ring;
	// and PostgreSQL changes no row twice in one statement.
	slices.SortFunc(pairs, func(x, y GreylistPair) int {
		return cmp.Or(cmp.Compare(x.Sender, y.Sender), cmp.Compare(x.Recipient, y.Recipient))
	})
	pairs = slices.Compact(pairs)
	for some := range slices.Chunk(pairs, 64) {
		err := s.write(ctx, func(ctx context.Context, c *conn) error {
			var args []any
			for _, p := range some {
				args = append(args, "k", "", p.Sender, p.Recipient, now, now, 0, expires, "")
			}
			_, err := c.exec(ctx, `INSERT INTO greylist (kind, source, sender, recipient, first_seen, last_seen, passes, expires, note) VALUES `+
				tuples(len(some), 9)+` ON CONFLICT (kind, source, sender, recipient) DO UPDATE SET last_seen = excluded.last_seen, expires = excluded.expires`, args...)
			return err
		})
		if err != nil {
			return fmt.Errorf("learn greylist pairs: %w", err)
		}
	}
	return nil
}

// AllowGreylist keeps what an administrator allowed, in the words of package
// greylist, with a note of his. What is there gets the new note.
func (s *Store) AllowGreylist(ctx context.Context, what, note string) error {
	err := s.write(ctx, func(ctx context.Context, c *conn) error {
		now := millis(time.Now())
		_, err := c.exec(ctx, `INSERT INTO greylist (kind, source, sender, recipient, first_seen, last_seen, passes, expires, note)
			VALUES ('a', ?, '', '', ?, ?, 0, 0, ?)
			ON CONFLICT (kind, source, sender, recipient) DO UPDATE SET last_seen = excluded.last_seen, note = excluded.note`,
			fold(what), now, now, clean(note))
		return err
	})
	if err != nil {
		return fmt.Errorf("allow in greylist: %w", err)
	}
	return nil
}

// ExpireGreylist removes what has expired, some rows at a time, and returns how
// many there were.
func (s *Store) ExpireGreylist(ctx context.Context) (int64, error) {
	now := millis(time.Now())
	return s.deleteGreylist(ctx, "expires > 0 AND expires <= ?", now)
}

// deleteGreylist deletes the rows for which the condition holds, in transactions
// that are short enough for others to get their turn.
func (s *Store) deleteGreylist(ctx context.Context, where string, args ...any) (total int64, err error) {
	for {
		var n int64
		err := s.write(ctx, func(ctx context.Context, c *conn) (err error) {
			n, err = c.exec(ctx, `DELETE FROM greylist WHERE (kind, source, sender, recipient) IN
				(SELECT kind, source, sender, recipient FROM greylist WHERE `+where+` LIMIT ?)`, append(slices.Clip(args), maxGreylistRows)...)
			return err
		})
		if err != nil {
			return total, fmt.Errorf("delete from greylist: %w", err)
		}
		if total += n; n < maxGreylistRows {
			return total, nil
		}
	}
}
