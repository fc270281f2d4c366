package reputation

import (
	"sync"
	"time"

	"gatepost/internal/store"
)

// entry is what was answered for a key; seen is false where it is not known.
type entry struct {
	reputation store.Reputation
	seen       bool
	until      time.Time
}

// cache remembers up to size keys, those that were used last. It has two
// generations: when the young one is full it becomes the old one, and what was in
// the old one and not used since is forgotten.
type cache struct {
	mu         sync.Mutex
	half       int
	young, old map[string]entry
}

func newCache(size int) *cache {
	return &cache{half: max(size/2, 1), young: map[string]entry{}}
}

func (c *cache) get(key string) (entry, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.young[key]; ok {
		return e, true
	}
	e, ok := c.old[key]
	if ok {
		c.insert(key, e)
	}
	return e, ok
}

func (c *cache) put(key string, e entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.insert(key, e)
}

func (c *cache) insert(key string, e entry) {
	if _, there := c.young[key]; !there && len(c.young) >= c.half {
		c.old, c.young = c.young, map[string]entry{}
	}
	c.young[key] = e
}
