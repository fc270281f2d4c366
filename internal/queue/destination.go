package queue

import (
	"math/rand/v2"
	"slices"
	"time"

	"gatepost/internal/mail"
)

const (
	// startSessions is how many attempts a destination gets before it has shown
	// what it can bear.
	startSessions = 5
	// deadAfter is how many attempts in a row must fail to reach a destination
	// before it counts as dead: one lost connection says little.
	deadAfter = 3
)

// keepIdle is how many destinations that answered the last time are remembered
// although they have no items.
const keepIdle = 4096

// class sorts destinations by how long an attempt is likely to block a slot.
type class uint8

const (
	classProven  class = iota // it answered the last time, or is one of the few named in the configuration
	classUnknown              // it was not tried yet, or did not answer the last time
	classDead                 // only probes go through
	classCount
)

// shares bounds, in percent of all slots, what the destinations of a class may
// have at a time. Their sum is above 100 so that one class alone is not held
// back much, and each leaves room for the others: a thousand hosts that hang
// never keep mail from those that answer.
var shares = [classCount]int{classProven: 90, classUnknown: 60, classDead: 20}

// contact is what an attempt told about the destination.
type contact uint8

const (
	contactNone contact = iota // nothing: it was not tried, or failed before the network
	contactMade                // it answered, though perhaps with a refusal
	contactGood                // it took the message for a recipient
	contactLost                // no connection, or a lost one
)

// destination is one place that items go to.
type destination struct {
	key     mail.Destination
	num     uint32
	tc      TransportConfig // Policy has its defaults even where the transport is missing
	missing bool            // the transport is not configured
	paused  bool

	head, tail handle // ready list
	counts     [placeCount]int
	items      int // sum of counts

	limit    int
	epoch    uint32 // counts how often limit shrank
	failures int    // attempts in a row without contact
	proven   bool
	dead     bool
	rests    int // how often it rested since it died
	probes   int // attempts that may still be made in this waking time
	restEnd  time.Time
	restPos  int // place in the heap of resting destinations, -1 for none

	listed bool // it is in a ring
	used   bool // since idle destinations were last looked through
}

func (d *destination) class() class {
	switch {
	case d.key.NextHop == "":
		return classProven // no sender of mail can make more of these
	case d.dead:
		return classDead
	case d.proven:
		return classProven
	}
	return classUnknown
}

// runnable reports whether an item of the destination may be tried now, the
// shared slots aside.
func (d *destination) runnable() bool {
	if d.counts[placeReady] == 0 || d.missing || d.paused {
		return false
	}
	if d.dead {
		return d.probes > 0 && d.counts[placeActive] < startSessions
	}
	return d.counts[placeActive] < d.limit
}

// configure gives the destination its transport, or notes that there is none.
func (d *destination) configure(tc TransportConfig, ok bool) {
	tc.Policy = tc.Policy.withDefaults()
	d.tc, d.missing = tc, !ok
	if d.limit == 0 {
		d.limit = startSessions
	}
	d.limit = min(d.limit, tc.Policy.Sessions)
}

// learn adapts to the result of an attempt that began in the given epoch. It
// reports whether the destination died or came back to life.
func (d *destination) learn(c contact, epoch uint32) (changed bool) {
	switch c {
	case contactMade, contactGood:
		changed = d.dead
		d.failures, d.dead, d.rests, d.proven = 0, false, 0, true
		if changed {
			d.limit = min(startSessions, d.tc.Policy.Sessions)
		} else if c == contactGood {
			d.limit = min(d.limit+1, d.tc.Policy.Sessions)
		}
	case contactLost:
		d.failures++
		d.proven = false
		// Attempts that were under way together fail together: shrink once.
		if epoch == d.epoch {
			d.limit = max(1, d.limit/2)
			d.epoch++
		}
		if !d.dead && d.failures >= deadAfter {
			d.dead, changed = true, true
		}
	case contactNone:
	}
	return changed
}

// idle reports whether nothing would be lost by forgetting the destination.
func (d *destination) idle() bool { return d.items == 0 && d.restPos < 0 && !d.listed }

// delay is how long after its n-th failed attempt an item is tried again.
func (p *Policy) delay(n int) time.Duration {
	return jitter(p.Delays[max(0, min(n, len(p.Delays))-1)])
}

// longest bounds what delay returns.
func (p *Policy) longest() time.Duration {
	d := slices.Max(p.Delays)
	return d + d/10
}

// jitter varies d by ±10 %, so that what failed together does not come back
// together.
func jitter(d time.Duration) time.Duration {
	if d < 10 {
		return d
	}
	return d - d/10 + rand.N(d/5)
}

// restHeap orders resting destinations by the end of their rest; it implements
// heap.Interface.
type restHeap []*destination

func (q restHeap) Len() int           { return len(q) }
func (q restHeap) Less(i, j int) bool { return q[i].restEnd.Before(q[j].restEnd) }
func (q restHeap) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].restPos, q[j].restPos = i, j
}

// Push implements heap.Interface.
func (q *restHeap) Push(x any) {
	d := x.(*destination)
	d.restPos = len(*q)
	*q = append(*q, d)
}

// Pop implements heap.Interface.
func (q *restHeap) Pop() any {
	old := *q
	d := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	d.restPos = -1
	return d
}
