package bayes

import (
	"time"

	"gatepost/internal/store"
)

// table holds the counts of all tokens in memory: open addressing, 16 bytes each,
// because a message asks for a thousand of them and the database is too far away.
// It is not safe for concurrent use; Classifier locks it.
type table struct {
	slots []slot
	used  int
	// limit is how many tokens it takes; more are not known here.
	limit  int
	scopes map[string]*scopeCounts
	byID   map[int64]*scopeCounts
}

type slot struct {
	key       uint64 // 0 is free
	ham, spam uint32
}

// scopeCounts are the messages that were learned in one scope.
type scopeCounts struct {
	store.BayesScope
	seed uint64
}

// minSlots is the size of an empty table, a power of two.
const minSlots = 1 << 12

func newTable(limit int) *table {
	return &table{slots: make([]slot, minSlots), limit: limit, scopes: map[string]*scopeCounts{}, byID: map[int64]*scopeCounts{}}
}

// Reset, Scope and Count make it a store.BayesVisitor.
func (t *table) Reset() { *t = *newTable(t.limit) }

// Scope notes a scope.
func (t *table) Scope(s store.BayesScope) {
	c := &scopeCounts{BayesScope: s, seed: mix(uint64(s.ID) * pairSeed)}
	t.scopes[s.Name], t.byID[s.ID] = c, c
}

// Count adds to the counts of a token; they never go below 0.
func (t *table) Count(n store.BayesCount) {
	key := keyOf(n.Token, mix(uint64(n.Scope)*pairSeed))
	s := t.find(key)
	if s.key == 0 {
		if n.Ham <= 0 && n.Spam <= 0 || t.used >= t.limit {
			return
		}
		if 4*t.used >= 3*len(t.slots) {
			t.grow()
			s = t.find(key)
		}
		s.key = key
		t.used++
	}
	s.ham = addCount(s.ham, n.Ham)
	s.spam = addCount(s.spam, n.Spam)
}

func addCount(have uint32, n int64) uint32 {
	return uint32(min(max(int64(have)+n, 0), 1<<32-1))
}

// keyOf is the key of a token in a scope; never 0.
func keyOf(token, seed uint64) uint64 {
	if key := token ^ seed; key != 0 {
		return key
	}
	return 1
}

// find returns the slot of a key, or the free one where it would go.
func (t *table) find(key uint64) *slot {
	mask := uint64(len(t.slots) - 1)
	for i := key & mask; ; i = (i + 1) & mask {
		if s := &t.slots[i]; s.key == key || s.key == 0 {
			return s
		}
	}
}

func (t *table) grow() {
	old := t.slots
	t.slots = make([]slot, 2*len(old))
	for i := range old {
		if old[i].key != 0 {
			*t.find(old[i].key) = old[i]
		}
	}
}

// apply adds what another node, or this one, learned.
func (t *table) apply(c *store.BayesChange) {
	if s := t.byID[c.Scope]; s != nil {
		s.Ham = max(s.Ham+c.Ham, 0)
		s.Spam = max(s.Spam+c.Spam, 0)
		s.Last = time.Now().UTC()
	}
	for _, n := range c.Tokens {
		t.Count(n)
	}
}

// knows reports whether the scopes of all changes are known by name.
func (t *table) knows(changes []store.BayesChange) bool {
	for i := range changes {
		if t.byID[changes[i].Scope] == nil {
			return false
		}
	}
	return true
}

// get returns the counts of a token in a scope.
func (t *table) get(token uint64, s *scopeCounts) (ham, spam uint32) {
	found := t.find(keyOf(token, s.seed))
	return found.ham, found.spam
}

// bytes is how much memory the table takes.
func (t *table) bytes() int64 { return int64(len(t.slots)) * 16 }
