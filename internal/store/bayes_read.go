package store

import (
	"context"
	"database/sql"
	"time"
)

// longRead is how much longer than Options.Timeout a read of all tokens may take.
const longRead = 12

// readLong is read for statements that go through whole tables.
func (s *Store) readLong(ctx context.Context, fn work) error {
	ctx, cancel := context.WithTimeout(ctx, longRead*s.options.Timeout)
	defer cancel()
	return s.engine.read(ctx, fn)
}

// BayesVisitor takes what BayesLoad reads, in no order. Reset is called first, and
// again when the reading has to begin anew.
type BayesVisitor interface {
	Reset()
	Scope(BayesScope)
	Count(BayesCount)
}

// BayesLoad reads everything that was learned, as it was at one moment, and
// returns the point of that moment. It is one statement, which is one snapshot in
// both databases.
func (s *Store) BayesLoad(ctx context.Context, v BayesVisitor) (point BayesPoint, err error) {
	err = s.readLong(ctx, func(ctx context.Context, c *conn) error {
		v.Reset()
		var what, scope, token, ham, spam, since, last int64
		var name string
		return c.query(ctx, func(rows *sql.Rows) error {
			if err := rows.Scan(&what, &scope, &token, &ham, &spam, &since, &last, &name); err != nil {
				return err
			}
			switch what {
			case 0:
				point = BayesPoint{Generation: ham, Epoch: spam}
			case 1:
				v.Scope(BayesScope{ID: scope, Name: name, Ham: ham, Spam: spam, Since: fromMillis(since), Last: fromMillis(last)})
			default:
				v.Count(BayesCount{Scope: scope, Token: uint64(token), Ham: ham, Spam: spam})
			}
			return nil
		}, `SELECT 0, 0, CAST(0 AS BIGINT), generation, epoch, CAST(0 AS BIGINT), CAST(0 AS BIGINT), '' FROM bayes_state
			UNION ALL SELECT 1, id, 0, ham, spam, since, last, name FROM bayes_scopes
			UNION ALL SELECT 2, scope, token, ham, spam, 0, 0, '' FROM bayes_tokens`)
	})
	return point, err
}

// BayesChanges reads what was learned since a point, in order, and returns the new
// point. ErrBayesReload says that this is not possible any more.
func (s *Store) BayesChanges(ctx context.Context, since BayesPoint) (changes []BayesChange, now BayesPoint, err error) {
	err = s.read(ctx, func(ctx context.Context, c *conn) error {
		changes, now = nil, BayesPoint{}
		if err := c.row(ctx, `SELECT generation, epoch FROM bayes_state WHERE id = 1`).Scan(&now.Generation, &now.Epoch); err != nil {
			return err
		}
		if now == since {
			return nil
		}
		if now.Epoch != since.Epoch || now.Generation < since.Generation || now.Generation-since.Generation >= keptGenerations {
			return ErrBayesReload
		}
		return c.query(ctx, func(rows *sql.Rows) error {
			var ch BayesChange
			var packed []byte
			if err := rows.Scan(&ch.Scope, &ch.Ham, &ch.Spam, &packed); err != nil {
				return err
			}
			ch.Tokens = unpackCounts(packed, ch.Scope)
			changes = append(changes, ch)
			return nil
		}, `SELECT scope, ham, spam, changes FROM bayes_log WHERE generation > ? AND generation <= ? ORDER BY generation, n`, since.Generation, now.Generation)
	})
	return changes, now, err
}

// BayesSize is how much room the records take.
type BayesSize struct {
	Tokens   int64     // rows of tokens, of all scopes
	Messages int64     // messages that are remembered
	Bytes    int64     // about, without indexes
	Oldest   time.Time // the day on which the token was learned that was not for the longest
}

// rowBytes is about what a row of a token or message takes without its tokens.
const rowBytes = 48

// BayesSize counts the rows, which takes a moment where there are millions.
func (s *Store) BayesSize(ctx context.Context) (size BayesSize, err error) {
	err = s.readLong(ctx, func(ctx context.Context, c *conn) error {
		var day, lists int64
		if err := c.row(ctx, `SELECT COUNT(*), COALESCE(MIN(seen), 0) FROM bayes_tokens`).Scan(&size.Tokens, &day); err != nil {
			return err
		}
		err := c.row(ctx, `SELECT COUNT(*), CAST(COALESCE(SUM(LENGTH(tokens)), 0) AS BIGINT) FROM bayes_messages`).Scan(&size.Messages, &lists)
		if err != nil {
			return err
		}
		size.Bytes = rowBytes*(size.Tokens+size.Messages) + lists
		if day > 0 {
			size.Oldest = time.Unix(day*86400, 0).UTC()
		}
		return nil
	})
	return size, err
}
