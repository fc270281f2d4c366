package rate

// Counter counts events under keys of somebody else's making, each within a limit of
// its own: scripts.
type Counter struct{ table *table }

// NewCounter returns a counter that remembers so many keys, 0 for 1,000,000.
func NewCounter(maxKeys int) *Counter {
	if maxKeys <= 0 {
		maxKeys = 1_000_000
	}
	return &Counter{newTable(maxKeys)}
}

// Over counts one event and reports whether that is more than the limit allows. Then it
// was not counted. Equal keys with other limits are other keys.
func (c *Counter) Over(name string, l Limit) bool {
	b := newBucket(l)
	_, ok := c.table.take(key{kind: Kind("counter " + l.String()), who: name}, &b, 1)
	return !ok
}
