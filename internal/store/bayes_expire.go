package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
)

// older is the generation before the newest n messages, 0 where there are fewer.
func older(ctx context.Context, c *conn, n int) (int64, error) {
	var generation int64
	err := c.row(ctx, `SELECT generation FROM bayes_messages ORDER BY generation DESC LIMIT 1 OFFSET ?`, n).Scan(&generation)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return generation, err
}

// BayesLimits bound what is kept.
type BayesLimits struct {
	// Tokens is how many rows of tokens are kept, at least 1.
	Tokens int64
	// Messages is how many messages are remembered, Lists for how many of them
	// the tokens are, by which learning is undone exactly.
	Messages, Lists int
}

// bucket is the tokens that were last learned on one day, apart by whether one
// message alone held them.
type bucket struct {
	single bool
	seen   int64
	count  int64
}

// expirySteps is into how many transactions the removal of tokens is cut: nobody
// else can write to SQLite during one.
const expirySteps = 64

// BayesExpire removes what is over the limits: first tokens that one message alone
// held, then the others, those first that were not learned for the longest. It
// goes a tenth below the limit, so that it has to be done rarely. It returns how
// many tokens it removed.
func (s *Store) BayesExpire(ctx context.Context, limits BayesLimits) (removed int64, err error) {
	if err := s.expireMessages(ctx, limits); err != nil {
		return 0, fmt.Errorf("expire learned messages: %w", err)
	}
	buckets, total, err := s.bayesBuckets(ctx)
	if err != nil {
		return 0, fmt.Errorf("expire tokens: %w", err)
	}
	if total <= limits.Tokens {
		return 0, nil
	}
	need := total - limits.Tokens*9/10
	for _, b := range buckets {
		if removed >= need {
			break
		}
		n, err := s.expireBucket(ctx, b, need-removed)
		removed += n
		if err != nil {
			return removed, fmt.Errorf("expire tokens: %w", err)
		}
	}
	return removed, nil
}

func (s *Store) expireMessages(ctx context.Context, limits BayesLimits) error {
	return s.write(ctx, func(ctx context.Context, c *conn) error {
		last, err := older(ctx, c, limits.Messages)
		if err != nil {
			return err
		}
		if _, err := c.exec(ctx, `DELETE FROM bayes_messages WHERE generation <= ?`, last); err != nil {
			return err
		}
		if last, err = older(ctx, c, limits.Lists); err != nil {
			return err
		}
		_, err = c.exec(ctx, `UPDATE bayes_messages SET tokens = NULL WHERE generation <= ? AND tokens IS NOT NULL`, last)
		return err
	})
}

// bayesBuckets counts the tokens by age, those to go first in front.
func (s *Store) bayesBuckets(ctx context.Context) (buckets []bucket, total int64, err error) {
	err = s.readLong(ctx, func(ctx context.Context, c *conn) error {
		buckets, total = nil, 0
		return c.query(ctx, func(rows *sql.Rows) error {
			var b bucket
			if err := rows.Scan(&b.single, &b.seen, &b.count); err != nil {
				return err
			}
			buckets = append(buckets, b)
			total += b.count
			return nil
		}, `SELECT ham + spam <= 1, seen, COUNT(*) FROM bayes_tokens GROUP BY ham + spam <= 1, seen`)
	})
	slices.SortFunc(buckets, func(a, b bucket) int {
		return cmp.Or(number(b.single)-number(a.single), cmp.Compare(a.seen, b.seen))
	})
	return buckets, total, err
}

// expireBucket removes the tokens of a bucket, a slice of all hashes at a time,
// until enough are gone. Each step changes the epoch: whoever reads meanwhile
// reads again.
func (s *Store) expireBucket(ctx context.Context, b bucket, enough int64) (removed int64, err error) {
	single := `ham + spam > 1`
	if b.single {
		single = `ham + spam <= 1`
	}
	const width = 1 << 63 / (expirySteps / 2) // of all 2^64 values
	for step := range int64(expirySteps) {
		first := -1<<63 + step*width
		var n int64
		err := s.write(ctx, func(ctx context.Context, c *conn) (err error) {
			if _, err := c.exec(ctx, `UPDATE bayes_state SET epoch = epoch + 1 WHERE id = 1`); err != nil {
				return err
			}
			n, err = c.exec(ctx, `DELETE FROM bayes_tokens WHERE token >= ? AND token <= ? AND seen = ? AND `+single, first, first+width-1, b.seen)
			return err
		})
		removed += n
		if err != nil || removed >= enough {
			return removed, err
		}
	}
	return removed, nil
}
