package greylist

import (
	"sync"
	"time"

	"gatepost/internal/store"
)

// state is what is remembered of a triplet, or of a source as a whole.
type state struct {
	symbol string // SymbolWait, SymbolPassed, SymbolSource, SymbolKnown
	// until is when it must be asked for again; for SymbolWait that is when the
	// triplet may pass. It has a monotonic reading: no clock that is set changes it.
	until time.Time
}

// sourceKey is the triplet that stands for all of a source.
func sourceKey(t store.GreylistTriplet) store.GreylistTriplet {
	return store.GreylistTriplet{Source: t.Source}
}

// cache remembers up to size states, those that were used last. It has two
// generations: when the young one is full it becomes the old one, and what was in
// the old one and not used since is forgotten.
type cache struct {
	mu         sync.Mutex
	half       int
	young, old map[store.GreylistTriplet]state
}

func newCache(size int) *cache {
	return &cache{half: max(size/2, 1), young: map[store.GreylistTriplet]state{}}
}

// get returns the state of the triplet's source, if all of it passes, or its own.
func (c *cache) get(t store.GreylistTriplet, now time.Time) (state, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s, ok := c.find(sourceKey(t), now); ok {
		return s, true
	}
	return c.find(t, now)
}

func (c *cache) find(t store.GreylistTriplet, now time.Time) (state, bool) {
	s, ok := c.young[t]
	if !ok {
		if s, ok = c.old[t]; ok {
			c.insert(t, s)
		}
	}
	return s, ok && now.Before(s.until)
}

func (c *cache) put(t store.GreylistTriplet, s state) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.insert(t, s)
}

func (c *cache) insert(t store.GreylistTriplet, s state) {
	if _, there := c.young[t]; !there && len(c.young) >= c.half {
		c.old, c.young = c.young, map[store.GreylistTriplet]state{}
	}
	c.young[t] = s
}

// clear forgets everything.
func (c *cache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.old, c.young = nil, map[store.GreylistTriplet]state{}
}
