package callout

import (
	"sync"
	"time"

	"gatepost/internal/mail"
)

// answer is what is known of an address, or of all addresses of a domain.
type answer struct {
	result mail.Result
	symbol string
	reason string
	until  time.Time
}

// picky is the symbol of a domain that does not take any address.
const picky = "picky"

// cache remembers up to size answers, those that were used last. It has two
// generations: when the young one is full it becomes the old one, and what was in
// the old one and not used since is forgotten.
type cache struct {
	mu         sync.Mutex
	half       int
	young, old map[string]answer
}

func newCache(size int) *cache {
	return &cache{half: max(size/2, 1), young: map[string]answer{}}
}

func (c *cache) get(key string) (answer, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a, ok := c.young[key]
	if !ok {
		if a, ok = c.old[key]; ok {
			c.insert(key, a)
		}
	}
	return a, ok && time.Now().Before(a.until)
}

func (c *cache) put(key string, a answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.insert(key, a)
}

func (c *cache) insert(key string, a answer) {
	if _, there := c.young[key]; !there && len(c.young) >= c.half {
		c.old, c.young = c.young, map[string]answer{}
	}
	c.young[key] = a
}
