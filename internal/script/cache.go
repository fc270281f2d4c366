package script

import (
	"cmp"
	"container/list"
	"context"
	"sync"
	"time"
)

// MemoryCache remembers texts for scripts until their time is over, or others need
// their place. It implements Cache for one process.
type MemoryCache struct {
	limit int

	mu      sync.Mutex
	entries map[string]*list.Element
	order   list.List // of *cached; the one that was used last is in front
}

type cached struct {
	key, value string
	until      time.Time
}

// NewMemoryCache returns a cache for so many entries, 0 for 10,000. An entry has
// 17 KiB at most.
func NewMemoryCache(limit int) *MemoryCache {
	return &MemoryCache{limit: cmp.Or(limit, 10_000), entries: map[string]*list.Element{}}
}

// Get implements Cache.
func (m *MemoryCache) Get(_ context.Context, key string) (value string, ok bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.entries[key]
	if e == nil {
		return "", false, nil
	}
	v := e.Value.(*cached)
	if time.Now().After(v.until) {
		m.drop(e)
		return "", false, nil
	}
	m.order.MoveToFront(e)
	return v.value, true, nil
}

// Set implements Cache.
func (m *MemoryCache) Set(_ context.Context, key, value string, ttl time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.entries[key]; e != nil {
		m.drop(e)
	}
	m.entries[key] = m.order.PushFront(&cached{key: key, value: value, until: time.Now().Add(ttl)})
	if m.order.Len() > m.limit {
		m.drop(m.order.Back())
	}
	return nil
}

func (m *MemoryCache) drop(e *list.Element) {
	m.order.Remove(e)
	delete(m.entries, e.Value.(*cached).key)
}
