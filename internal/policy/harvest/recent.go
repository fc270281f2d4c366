package harvest

import "time"

// counter is a count and when it was brought up to date. The time has a monotonic
// reading: no clock that is set changes how it decays.
type counter struct {
	n  float64
	at time.Time
}

// recent holds up to size counters, those that were used last. It has two
// generations: when the young one is full it becomes the old one, and what was in
// the old one and not used since is forgotten.
type recent[K comparable] struct {
	half       int
	young, old map[K]counter
}

func newRecent[K comparable](size int) *recent[K] {
	return &recent[K]{half: max(size/2, 1), young: map[K]counter{}}
}

func (r *recent[K]) get(key K) counter {
	c, ok := r.young[key]
	if !ok {
		if c, ok = r.old[key]; ok {
			r.put(key, c)
		}
	}
	return c
}

func (r *recent[K]) put(key K, c counter) {
	if _, there := r.young[key]; !there && len(r.young) >= r.half {
		r.old, r.young = r.young, map[K]counter{}
	}
	r.young[key] = c
}

func (r *recent[K]) drop(key K) {
	delete(r.young, key)
	delete(r.old, key)
}
