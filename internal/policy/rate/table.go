package rate

import (
	"hash/maphash"
	"sync"
	"time"
)

const (
	// shards keep sessions from waiting for each other.
	shards = 64
	// glance is how many entries a new one looks at for some that are over, and
	// sample how many where there is no room left.
	glance = 4
	sample = 16
)

// table remembers for each key the moment until which it has used its rate up
// (the theoretical arrival time of the generic cell rate algorithm). One moment
// is all there is to remember: a key whose moment has passed is as good as new and
// needs no entry.
type table struct {
	seed  maphash.Seed
	start time.Time
	max   int // entries in a shard
	shard [shards]shard
}

type shard struct {
	mu sync.Mutex
	// until is by a hash of the key with a secret of this process, so that nobody can
	// make two keys meet, and an entry has 16 bytes, whatever the key is.
	until map[uint64]int64
}

func newTable(maxKeys int) *table {
	t := &table{seed: maphash.MakeSeed(), start: time.Now(), max: max(1, maxKeys/shards)}
	for i := range t.shard {
		t.shard[i].until = map[uint64]int64{}
	}
	return t
}

// key names a bucket of somebody.
type key struct {
	kind Kind
	who  string
}

func (t *table) hash(k key) (uint64, *shard) {
	h := maphash.Comparable(t.seed, k)
	return h, &t.shard[h%shards]
}

// take charges n to a key, or tells after what time it may come again; then nothing
// is charged.
func (t *table) take(k key, b *bucket, n int64) (wait time.Duration, ok bool) {
	cost := b.cost(min(n, b.limit.Burst)) // what is larger than a burst needs all of it
	h, s := t.hash(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := int64(time.Since(t.start))
	was, known := s.until[h]
	until := max(was, now) + cost
	if over := until - now - b.room; over > 0 {
		return time.Duration(over), false
	}
	if !known {
		s.makeRoom(now, t.max)
	}
	s.until[h] = until
	return 0, true
}

// peek tells as take would of n, and charges nothing.
func (t *table) peek(k key, b *bucket, n int64) (wait time.Duration, ok bool) {
	h, s := t.hash(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := int64(time.Since(t.start))
	over := max(s.until[h], now) + b.cost(min(n, b.limit.Burst)) - now - b.room
	return time.Duration(max(over, 0)), over <= 0
}

// makeRoom forgets some entries that are over. In a full shard, where it finds
// none, it forgets the one that would be over first: whoever comes under so many
// keys that this matters is to be stopped by a wider one.
func (s *shard) makeRoom(now int64, limit int) {
	full := len(s.until) >= limit
	look := glance
	if full {
		look = sample
	}
	first, least := uint64(0), int64(-1)
	for h, until := range s.until {
		if until <= now {
			delete(s.until, h)
			full = false
		} else if least < 0 || until < least {
			first, least = h, until
		}
		if look--; look == 0 {
			break
		}
	}
	if full && least >= 0 {
		delete(s.until, first)
	}
}

// size is how many entries there are.
func (t *table) size() int {
	n := 0
	for i := range t.shard {
		s := &t.shard[i]
		s.mu.Lock()
		n += len(s.until)
		s.mu.Unlock()
	}
	return n
}
