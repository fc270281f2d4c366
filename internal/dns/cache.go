package dns

import (
	"container/list"
	"sync"
	"time"
)

// bytesPerEntry is the average that bounds the cache's memory.
const bytesPerEntry = 1 << 10

// cache keeps answers until their time is over; when it is full the answers that
// were not used for longest go.
type cache struct {
	maxEntries int
	maxBytes   int

	mu      sync.Mutex
	entries map[question]*list.Element // of *cacheEntry
	order   *list.List                 // most recently used first
	bytes   int
}

type cacheEntry struct {
	key     question
	answer  *answer
	expires time.Time
}

func newCache(entries int) *cache {
	return &cache{
		maxEntries: entries,
		maxBytes:   entries * bytesPerEntry,
		entries:    make(map[question]*list.Element),
		order:      list.New(),
	}
}

// get returns a living answer or nil.
func (c *cache) get(q question) *answer {
	c.mu.Lock()
	defer c.mu.Unlock()
	el, ok := c.entries[q]
	if !ok {
		return nil
	}
	e := el.Value.(*cacheEntry)
	if !time.Now().Before(e.expires) {
		c.remove(el)
		return nil
	}
	c.order.MoveToFront(el)
	return e.answer
}

// put keeps an answer for its TTL; one without is not kept (RFC 1035 §3.2.1).
func (c *cache) put(q question, a *answer) {
	if a.ttl <= 0 || c.maxEntries <= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if el, ok := c.entries[q]; ok {
		c.remove(el)
	}
	c.entries[q] = c.order.PushFront(&cacheEntry{key: q, answer: a, expires: time.Now().Add(a.ttl)})
	c.bytes += a.cost
	for c.order.Len() > c.maxEntries || c.bytes > c.maxBytes {
		c.remove(c.order.Back())
	}
}

func (c *cache) remove(el *list.Element) {
	e := c.order.Remove(el).(*cacheEntry)
	delete(c.entries, e.key)
	c.bytes -= e.answer.cost
}
