package auth

// table remembers values by key, the last used ones for sure. It is two maps: when
// the young one has half of all that may be, it becomes the old one, and what was
// in the old one and not used since is forgotten.
type table[V any] struct {
	half       int
	young, old map[uint64]*V
}

func newTable[V any](size int) *table[V] {
	return &table[V]{half: max(size/2, 1), young: make(map[uint64]*V)}
}

// find returns the value, nil where there is none.
func (t *table[V]) find(key uint64) *V {
	if v := t.young[key]; v != nil {
		return v
	}
	v := t.old[key]
	if v != nil {
		t.put(key, v)
	}
	return v
}

// get returns the value, a new one where there is none.
func (t *table[V]) get(key uint64) *V {
	v := t.find(key)
	if v == nil {
		v = new(V)
		t.put(key, v)
	}
	return v
}

func (t *table[V]) put(key uint64, v *V) {
	if len(t.young) >= t.half {
		t.young, t.old = make(map[uint64]*V), t.young
	}
	t.young[key] = v
}
