package store

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"
)

// ReputationCounts is what was seen of one key.
type ReputationCounts struct {
	Ham, Spam, Virus, Unknown int64 // Unknown: recipients that do not exist
}

func (n ReputationCounts) plus(m ReputationCounts) ReputationCounts {
	return ReputationCounts{Ham: n.Ham + m.Ham, Spam: n.Spam + m.Spam, Virus: n.Virus + m.Virus, Unknown: n.Unknown + m.Unknown}
}

// Reputation is what was seen of one key: Total is the plain sum, Weighted the
// sum in which what is older counts less.
type Reputation struct {
	Total                                                     ReputationCounts
	WeightedHam, WeightedSpam, WeightedVirus, WeightedUnknown float64
}

// ReputationOptions bound what is kept in memory until it is written.
type ReputationOptions struct {
	// FlushEvery is how long an increment may wait; default 5 s. What waits is
	// lost in a crash, which harms nobody.
	FlushEvery time.Duration
	// MaxPending bounds the keys that wait, also while the database is away;
	// default 50,000. Further keys are dropped and counted in the log.
	MaxPending int
	// Keep is how long it is kept; default 120 days.
	Keep time.Duration
}

func (o ReputationOptions) withDefaults() ReputationOptions {
	o.FlushEvery = or(o.FlushEvery, 5*time.Second)
	o.Keep = or(o.Keep, 120*24*time.Hour)
	if o.MaxPending <= 0 {
		o.MaxPending = 50_000
	}
	return o
}

// flushKeys bounds the keys of one transaction.
const flushKeys = 500

// maxReputationKey bounds a key in bytes; longer ones are no names of networks
// or domains.
const maxReputationKey = 300

// AddReputation counts something that was seen of a key. It never waits: the
// counts are written a little later, together with others. Nodes that share a
// database add to the same counts.
func (s *Store) AddReputation(key string, n ReputationCounts) {
	s.reputation.add(fold(key), n)
}

// Reputations returns what was seen of the keys, those that are known. What is
// halfLife old counts half. What this node added last may be missing for
// ReputationOptions.FlushEvery.
func (s *Store) Reputations(ctx context.Context, keys []string, halfLife time.Duration) (map[string]Reputation, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	names := make(map[string]string, len(keys))
	args := make([]any, 0, len(keys))
	for _, key := range keys {
		names[fold(key)] = key
		args = append(args, fold(key))
	}
	args = padded(args)
	now := time.Now()
	var known map[string]Reputation
	err := s.read(ctx, func(ctx context.Context, c *conn) error {
		known = map[string]Reputation{}
		return c.query(ctx, func(rows *sql.Rows) error {
			var name string
			var d int64
			var n ReputationCounts
			if err := rows.Scan(&name, &d, &n.Ham, &n.Spam, &n.Virus, &n.Unknown); err != nil {
				return err
			}
			r := known[names[name]]
			r.add(n, weight(now, d, halfLife))
			known[names[name]] = r
			return nil
		}, "SELECT name, day, ham, spam, virus, unknown FROM reputation WHERE name IN ("+places(len(args))+") AND day >= ?",
			append(args, day(now.Add(-s.options.Reputation.Keep)))...)
	})
	if err != nil {
		return nil, fmt.Errorf("read reputation: %w", err)
	}
	return known, nil
}

func (r *Reputation) add(n ReputationCounts, weight float64) {
	r.Total = r.Total.plus(n)
	r.WeightedHam += weight * float64(n.Ham)
	r.WeightedSpam += weight * float64(n.Spam)
	r.WeightedVirus += weight * float64(n.Virus)
	r.WeightedUnknown += weight * float64(n.Unknown)
}

// day is the number of the UTC day.
func day(t time.Time) int64 { return t.Unix() / 86400 }

// weight is what something of that day counts now; what is from today, or from a
// node whose clock is ahead, counts fully.
func weight(now time.Time, d int64, halfLife time.Duration) float64 {
	age := float64(day(now)-d) * 24
	if age <= 0 || halfLife <= 0 {
		return 1
	}
	return math.Exp2(-age / halfLife.Hours())
}

// reputationBuffer holds increments until its goroutine has written them.
type reputationBuffer struct {
	s   *Store
	log *slog.Logger

	mu      sync.Mutex
	pending map[reputationKey]ReputationCounts
	dropped int64

	full chan struct{} // wakes the goroutine before its time
	quit chan struct{}
	once sync.Once
	done sync.WaitGroup
}

type reputationKey struct {
	name string
	day  int64
}

func newReputationBuffer(s *Store) *reputationBuffer {
	b := &reputationBuffer{
		s: s, log: s.options.Log, pending: map[reputationKey]ReputationCounts{},
		full: make(chan struct{}, 1), quit: make(chan struct{}),
	}
	b.done.Go(b.run)
	return b
}

func (b *reputationBuffer) add(name string, n ReputationCounts) {
	if name == "" || len(name) > maxReputationKey {
		return
	}
	key := reputationKey{name: name, day: day(time.Now())}
	b.mu.Lock()
	was, known := b.pending[key]
	waiting := len(b.pending)
	if !known && waiting >= b.s.options.Reputation.MaxPending {
		b.dropped++
		b.mu.Unlock()
		return
	}
	b.pending[key] = was.plus(n)
	b.mu.Unlock()
	if waiting >= flushKeys {
		select {
		case b.full <- struct{}{}:
		default:
		}
	}
}

// run writes what waits until close. While the database is away it tries no more
// often than it would write.
func (b *reputationBuffer) run() {
	ticker := time.NewTicker(b.s.options.Reputation.FlushEvery)
	defer ticker.Stop()
	var cleaned int64
	for {
		full := b.full
		if b.s.Health() != nil {
			full = nil
		}
		select {
		case <-b.quit:
			b.flush()
			return
		case <-ticker.C:
		case <-full:
		}
		b.flush()
		if today := day(time.Now()); today != cleaned && b.s.Health() == nil {
			if err := b.forget(); err == nil {
				cleaned = today
			}
		}
	}
}

// flush writes what waits, in bounded transactions; what could not be written
// waits on.
func (b *reputationBuffer) flush() {
	b.mu.Lock()
	pending := b.pending
	b.pending = map[reputationKey]ReputationCounts{}
	dropped := b.dropped
	b.dropped = 0
	b.mu.Unlock()
	if dropped > 0 {
		b.log.Warn("reputation: too much waits for the database, the rest is not counted", "dropped", dropped)
	}
	// In one order for all nodes, so that they never wait for each other in a ring.
	keys := slices.SortedFunc(maps.Keys(pending), func(x, y reputationKey) int {
		if c := strings.Compare(x.name, y.name); c != 0 {
			return c
		}
		return int(x.day - y.day)
	})
	for len(keys) > 0 {
		some := keys[:min(flushKeys, len(keys))]
		if err := b.write(some, pending); err != nil {
			b.restore(keys, pending)
			return
		}
		keys = keys[len(some):]
	}
}

func (b *reputationBuffer) write(keys []reputationKey, counts map[reputationKey]ReputationCounts) error {
	return b.s.write(context.Background(), func(ctx context.Context, c *conn) error {
		for chunk := range slices.Chunk(keys, 64) {
			args := make([]any, 0, 6*len(chunk))
			for _, k := range chunk {
				n := counts[k]
				args = append(args, k.name, k.day, n.Ham, n.Spam, n.Virus, n.Unknown)
			}
			_, err := c.exec(ctx, `INSERT INTO reputation (name, day, ham, spam, virus, unknown) VALUES `+tuples(len(chunk), 6)+`
				ON CONFLICT (name, day) DO UPDATE SET ham = reputation.ham + excluded.ham, spam = reputation.spam + excluded.spam,
				virus = reputation.virus + excluded.virus, unknown = reputation.unknown + excluded.unknown`, args...)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// restore puts back what could not be written, as far as there is room.
func (b *reputationBuffer) restore(keys []reputationKey, counts map[reputationKey]ReputationCounts) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, k := range keys {
		was, known := b.pending[k]
		if !known && len(b.pending) >= b.s.options.Reputation.MaxPending {
			b.dropped++
			continue
		}
		b.pending[k] = was.plus(counts[k])
	}
}

// forget removes what is older than Keep, some rows at a time.
func (b *reputationBuffer) forget() error {
	old := day(time.Now().Add(-b.s.options.Reputation.Keep))
	for {
		var n int64
		err := b.s.write(context.Background(), func(ctx context.Context, c *conn) (err error) {
			n, err = c.exec(ctx, `DELETE FROM reputation WHERE (name, day) IN (SELECT name, day FROM reputation WHERE day < ? LIMIT 1000)`, old)
			return err
		})
		if err != nil || n == 0 {
			return err
		}
		select {
		case <-b.quit:
			return nil
		default:
		}
	}
}

func (b *reputationBuffer) close() {
	b.once.Do(func() { close(b.quit) })
	b.done.Wait()
}
