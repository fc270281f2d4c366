package queue

import "gatepost/internal/mail"

const (
	// cachedOverhead is what an envelope and an item take beside the body.
	cachedOverhead = 2048
	// cacheAhead is how many items of one destination may wait in memory: more
	// would only take the memory from destinations that move.
	cacheAhead = 64
)

// cached is a message that need not be read from the store.
type cached struct {
	item *mail.QueueItem
	m    mail.Message
}

// cache keeps messages between Add and their first attempt, within a budget.
type cache struct {
	budget int64
	held   map[handle]cached
}

func newCache(budget int64) cache {
	return cache{budget: budget, held: make(map[handle]cached)}
}

func cost(c cached) int64 { return c.m.Body.Size() + cachedOverhead }

// put keeps the message if there is room, and its turn is near.
func (c *cache) put(h handle, m cached, d *destination) {
	if d.paused || d.missing || d.dead || m.m.Body == nil || m.m.Envelope == nil || d.counts[placeReady] > cacheAhead || cost(m) > c.budget {
		return
	}
	c.budget -= cost(m)
	c.held[h] = m
}

// take returns what is kept for h, the zero value for nothing. Its memory counts
// against the budget until free is called.
func (c *cache) take(h handle) cached {
	m := c.held[h]
	delete(c.held, h)
	return m
}

// free gives back what take returned.
func (c *cache) free(m cached) {
	if m.item != nil {
		c.budget += cost(m)
	}
}
