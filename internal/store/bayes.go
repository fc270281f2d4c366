package store

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// BayesMessage is one message to learn.
type BayesMessage struct {
	// Scope is whose mail it is: "" for all, or a domain.
	Scope string
	// Digest is the identity of the message.
	Digest [32]byte
	Spam   bool
	// Keep leaves what was learned of the message before as it is; otherwise
	// learning it as the other class first undoes that.
	Keep bool
	// Tokens are the hashes of its tokens, without duplicates.
	Tokens []uint64
}

// BayesScope is what was learned in one scope.
type BayesScope struct {
	ID        int64
	Name      string
	Ham, Spam int64 // messages
	Since     time.Time
	Last      time.Time
}

// BayesCount is how many ham and spam messages of a scope held a token.
type BayesCount struct {
	Scope     int64
	Token     uint64
	Ham, Spam int64
}

// BayesChange is what one generation did to one scope; the numbers are added.
type BayesChange struct {
	Scope     int64
	Ham, Spam int64 // messages
	Tokens    []BayesCount
}

// BayesPoint says how much of what was learned a reader has seen.
type BayesPoint struct{ Generation, Epoch int64 }

// ErrBayesReload says that the changes since a point are not there any more:
// everything has to be loaded again.
var ErrBayesReload = errors.New("too much was learned or expired since: load everything")

// keptGenerations is for how many generations the log is kept.
const keptGenerations = 512

// BayesLearn learns messages in one transaction and reports for each whether it
// changed anything. A message that was learned before as the same class changes
// nothing, so the call can be repeated.
func (s *Store) BayesLearn(ctx context.Context, messages []BayesMessage) (changed []bool, err error) {
	err = s.write(ctx, func(ctx context.Context, c *conn) error {
		changed = make([]bool, len(messages))
		b, err := beginBayes(ctx, c)
		if err != nil {
			return err
		}
		for i := range messages {
			if changed[i], err = b.learn(ctx, &messages[i]); err != nil {
				return err
			}
		}
		return b.finish(ctx)
	})
	if err != nil {
		return nil, fmt.Errorf("learn messages: %w", err)
	}
	return changed, nil
}

// BayesForget undoes what was learned of a message and reports whether there was
// anything. The tokens of m are used where those that were learned are no longer
// kept; Spam does not matter.
func (s *Store) BayesForget(ctx context.Context, m BayesMessage) (changed bool, err error) {
	err = s.write(ctx, func(ctx context.Context, c *conn) error {
		b, err := beginBayes(ctx, c)
		if err != nil {
			return err
		}
		if changed, err = b.forget(ctx, &m); err != nil || !changed {
			return err
		}
		return b.finish(ctx)
	})
	if err != nil {
		return false, fmt.Errorf("forget message: %w", err)
	}
	return changed, nil
}

// bayesWrite is one transaction that learns. What is added to tokens is gathered
// and written at the end, as the messages of a batch have many in common.
type bayesWrite struct {
	c          *conn
	generation int64
	now        time.Time
	scopes     map[string]int64
	added      map[int64]*bayesSum
	logged     int
}

// bayesSum is what a transaction adds to one scope.
type bayesSum struct {
	ham, spam int64
	tokens    map[uint64]*[2]int64 // ham, spam
}

// beginBayes takes the lock under which everything is learned. Without it two
// transactions could commit their generations in the other order, and a node that
// read in between would miss one; they could also wait for each other's tokens.
func beginBayes(ctx context.Context, c *conn) (*bayesWrite, error) {
	b := &bayesWrite{c: c, now: time.Now(), scopes: map[string]int64{}, added: map[int64]*bayesSum{}}
	err := c.row(ctx, `UPDATE bayes_state SET generation = generation + 1 WHERE id = 1 RETURNING generation`).Scan(&b.generation)
	return b, err
}

// scope returns the number of a scope, making it if need be.
func (b *bayesWrite) scope(ctx context.Context, name string) (int64, error) {
	if id, ok := b.scopes[name]; ok {
		return id, nil
	}
	_, err := b.c.exec(ctx, `INSERT INTO bayes_scopes (name, ham, spam, since, last) VALUES (?, 0, 0, ?, 0) ON CONFLICT (name) DO NOTHING`,
		clean(name), millis(b.now))
	if err != nil {
		return 0, err
	}
	var id int64
	if err := b.c.row(ctx, `SELECT id FROM bayes_scopes WHERE name = ?`, clean(name)).Scan(&id); err != nil {
		return 0, err
	}
	b.scopes[name] = id
	return id, nil
}

// learn adds one message, after undoing it as the other class.
func (b *bayesWrite) learn(ctx context.Context, m *BayesMessage) (bool, error) {
	scope, err := b.scope(ctx, m.Scope)
	if err != nil {
		return false, err
	}
	var was bool
	switch err := b.c.row(ctx, `SELECT spam <> 0 FROM bayes_messages WHERE scope = ? AND digest = ?`, scope, m.Digest[:]).Scan(&was); {
	case errors.Is(err, sql.ErrNoRows):
	case err != nil:
		return false, err
	case was == m.Spam || m.Keep:
		return false, nil
	default:
		if _, err := b.forget(ctx, m); err != nil {
			return false, err
		}
	}
	_, err = b.c.exec(ctx, `INSERT INTO bayes_messages (scope, digest, spam, generation, tokens) VALUES (?, ?, ?, ?, ?)`,
		scope, m.Digest[:], number(m.Spam), b.generation, packTokens(m.Tokens))
	if err != nil {
		return false, err
	}
	b.add(scope, m)
	return true, nil
}

// add notes what a message adds to its scope.
func (b *bayesWrite) add(scope int64, m *BayesMessage) {
	sum := b.added[scope]
	if sum == nil {
		sum = &bayesSum{tokens: map[uint64]*[2]int64{}}
		b.added[scope] = sum
	}
	class := number(m.Spam)
	if m.Spam {
		sum.spam++
	} else {
		sum.ham++
	}
	for _, token := range m.Tokens {
		counts := sum.tokens[token]
		if counts == nil {
			counts = new([2]int64)
			sum.tokens[token] = counts
		}
		counts[class]++
	}
}

// forget takes one message away. What was added in the same transaction is
// written first, since it may be this message.
func (b *bayesWrite) forget(ctx context.Context, m *BayesMessage) (bool, error) {
	scope, err := b.scope(ctx, m.Scope)
	if err != nil {
		return false, err
	}
	if err := b.flush(ctx); err != nil {
		return false, err
	}
	var spam bool
	var packed []byte
	err = b.c.row(ctx, `DELETE FROM bayes_messages WHERE scope = ? AND digest = ? RETURNING spam <> 0, tokens`, scope, m.Digest[:]).Scan(&spam, &packed)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	tokens := m.Tokens
	if packed != nil {
		tokens = unpackTokens(packed)
	}
	return true, b.subtract(ctx, scope, spam, slices.Sorted(slices.Values(tokens)))
}

// subtract takes one message with these tokens from the counts of a scope. A
// token that expired in between is not there any more, and stays so.
func (b *bayesWrite) subtract(ctx context.Context, scope int64, spam bool, tokens []uint64) error {
	column, change := "ham", BayesChange{Scope: scope, Ham: -1}
	if spam {
		column, change = "spam", BayesChange{Scope: scope, Spam: -1}
	}
	_, err := b.c.exec(ctx, `UPDATE bayes_scopes SET `+column+` = `+column+` - 1 WHERE id = ? AND `+column+` > 0`, scope)
	if err != nil {
		return err
	}
	for part := range chunks(tokens) {
		args := make([]any, 0, len(part)+1)
		args = append(args, scope)
		for _, token := range part {
			args = append(args, int64(token))
			change.Tokens = append(change.Tokens, BayesCount{Token: token, Ham: change.Ham, Spam: change.Spam})
		}
		where := ` WHERE scope = ? AND token IN (` + places(len(part)) + `) AND `
		if _, err := b.c.exec(ctx, `UPDATE bayes_tokens SET `+column+` = `+column+` - 1`+where+column+` > 0`, args...); err != nil {
			return err
		}
		if _, err := b.c.exec(ctx, `DELETE FROM bayes_tokens`+where+`ham = 0 AND spam = 0`, args...); err != nil {
			return err
		}
	}
	return b.log(ctx, change)
}

// flush writes what was added so far.
func (b *bayesWrite) flush(ctx context.Context) error {
	for _, scope := range slices.Sorted(maps.Keys(b.added)) {
		if err := b.write(ctx, scope, b.added[scope]); err != nil {
			return err
		}
	}
	clear(b.added)
	return nil
}

// write adds a sum to the counts of a scope.
func (b *bayesWrite) write(ctx context.Context, scope int64, sum *bayesSum) error {
	_, err := b.c.exec(ctx, `UPDATE bayes_scopes SET ham = ham + ?, spam = spam + ?, last = ? WHERE id = ?`, sum.ham, sum.spam, millis(b.now), scope)
	if err != nil {
		return err
	}
	change := BayesChange{Scope: scope, Ham: sum.ham, Spam: sum.spam}
	day := b.now.Unix() / 86400
	for part := range chunks(slices.Sorted(maps.Keys(sum.tokens))) {
		args := make([]any, 0, 5*len(part))
		for _, token := range part {
			counts := sum.tokens[token]
			args = append(args, int64(token), scope, counts[0], counts[1], day)
			change.Tokens = append(change.Tokens, BayesCount{Token: token, Ham: counts[0], Spam: counts[1]})
		}
		_, err := b.c.exec(ctx, `INSERT INTO bayes_tokens (token, scope, ham, spam, seen) VALUES `+tuples(len(part), 5)+
			` ON CONFLICT (token, scope) DO UPDATE SET ham = bayes_tokens.ham + excluded.ham, spam = bayes_tokens.spam + excluded.spam, seen = excluded.seen`, args...)
		if err != nil {
			return err
		}
	}
	return b.log(ctx, change)
}

// log keeps a change for the other nodes.
func (b *bayesWrite) log(ctx context.Context, change BayesChange) error {
	b.logged++
	_, err := b.c.exec(ctx, `INSERT INTO bayes_log (generation, n, scope, ham, spam, changes) VALUES (?, ?, ?, ?, ?, ?)`,
		b.generation, b.logged, change.Scope, change.Ham, change.Spam, packCounts(change.Tokens))
	return err
}

// finish writes what is left and drops what is old in the log.
func (b *bayesWrite) finish(ctx context.Context) error {
	if err := b.flush(ctx); err != nil {
		return err
	}
	_, err := b.c.exec(ctx, `DELETE FROM bayes_log WHERE generation <= ?`, b.generation-keptGenerations)
	return err
}

// chunks yields pieces of s whose lengths are powers of two, so that few different
// statements are prepared; 128 tuples of 5 stay below every limit on parameters.
func chunks(s []uint64) func(yield func([]uint64) bool) {
	return func(yield func([]uint64) bool) {
		for size := 128; size > 0; size /= 2 {
			for ; len(s) >= size; s = s[size:] {
				if !yield(s[:size]) {
					return
				}
			}
		}
	}
}

// packTokens writes hashes one after the other, 8 bytes each.
func packTokens(tokens []uint64) []byte {
	b := make([]byte, 0, 8*len(tokens))
	for _, token := range tokens {
		b = binary.BigEndian.AppendUint64(b, token)
	}
	return b
}

func unpackTokens(b []byte) []uint64 {
	tokens := make([]uint64, 0, len(b)/8)
	for ; len(b) >= 8; b = b[8:] {
		tokens = append(tokens, binary.BigEndian.Uint64(b))
	}
	return tokens
}

// packCounts writes counts in 16 bytes each.
func packCounts(counts []BayesCount) []byte {
	b := make([]byte, 0, 16*len(counts))
	for _, n := range counts {
		b = binary.BigEndian.AppendUint64(b, n.Token)
		b = binary.BigEndian.AppendUint32(b, uint32(int32(n.Ham)))
		b = binary.BigEndian.AppendUint32(b, uint32(int32(n.Spam)))
	}
	return b
}

func unpackCounts(b []byte, scope int64) []BayesCount {
	counts := make([]BayesCount, 0, len(b)/16)
	for ; len(b) >= 16; b = b[16:] {
		counts = append(counts, BayesCount{
			Scope: scope,
			Token: binary.BigEndian.Uint64(b),
			Ham:   int64(int32(binary.BigEndian.Uint32(b[8:]))),
			Spam:  int64(int32(binary.BigEndian.Uint32(b[12:]))),
		})
	}
	return counts
}

// number is how truth is stored in both dialects.
func number(b bool) int {
	if b {
		return 1
	}
	return 0
}
