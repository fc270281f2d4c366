package queue

import (
	"container/heap"
	"time"

	"gatepost/internal/mail"
)

// scheduler decides which item is tried next. It does no I/O and has no lock of
// its own: the Queue calls it under its lock.
type scheduler struct {
	t       *table
	due     dueHeap
	resting restHeap
	loading bool // due is not in order yet

	numbers map[mail.Destination]uint32
	dests   []*destination // by number; nil for a free one
	unused  []uint32       // free numbers
	evictAt int            // how many destinations there may be before idle ones go

	rings  [classCount]ring
	turn   class
	slots  int // attempts that may be under way
	active int
	totals [placeCount]int

	lookup  func(transport string) (TransportConfig, bool)
	paused  func(mail.Destination) bool
	maxRest time.Duration
}

// ring is a round of destinations of one class that have something to do.
type ring struct {
	queue  []*destination
	active int
	limit  int
}

// slot is one attempt under way.
type slot struct {
	h     handle
	dest  *destination
	class class // under which it is counted
	epoch uint32
}

// reportsNumber is the number of a destination that stands for nothing but the
// reports that are still to be sent; it never rests.
const reportsNumber = 0

func newScheduler(slots int, maxRest time.Duration) *scheduler {
	s := &scheduler{
		t:       newTable(),
		numbers: make(map[mail.Destination]uint32),
		slots:   slots,
		evictAt: 1024,
		maxRest: maxRest,
	}
	s.due.t = s.t
	for c := range s.rings {
		s.rings[c].limit = max(1, slots*shares[c]/100)
	}
	reports := &destination{restPos: -1, limit: startSessions, proven: true}
	reports.tc.Policy = DefaultPolicy()
	s.dests = []*destination{reports}
	return s
}

// destination returns the destination with this key, made if need be.
func (s *scheduler) destination(key mail.Destination) *destination {
	if num, ok := s.numbers[key]; ok {
		return s.dests[num]
	}
	if len(s.numbers) >= s.evictAt {
		s.evict()
	}
	d := &destination{key: key, restPos: -1, paused: s.paused(key)}
	d.configure(s.lookup(key.Transport))
	if n := len(s.unused); n > 0 {
		d.num = s.unused[n-1]
		s.unused = s.unused[:n-1]
		s.dests[d.num] = d
	} else {
		d.num = uint32(len(s.dests))
		s.dests = append(s.dests, d)
	}
	s.numbers[key] = d.num
	return d
}

// evict forgets idle destinations, except some of those that answered the last
// time: they must stay known as such, or their next message would wait among
// those for unknown ones. Those used since the last look are kept first.
func (s *scheduler) evict() {
	kept := 0
	var rest []*destination
	for _, num := range s.numbers {
		switch d := s.dests[num]; {
		case !d.idle():
		case d.proven && d.used && kept < keepIdle:
			kept++
			d.used = false
		default:
			rest = append(rest, d)
		}
	}
	for _, d := range rest {
		if d.proven && !d.used && kept < keepIdle {
			kept++
			continue
		}
		delete(s.numbers, d.key)
		s.dests[d.num] = nil
		s.unused = append(s.unused, d.num)
	}
	s.evictAt = 2*len(s.numbers) + 1024
}

// add makes a record. It returns 0 where the item is known already.
func (s *scheduler) add(e Entry, now time.Time) handle {
	if s.t.find(e.ID) != 0 {
		return 0
	}
	d := s.destination(e.Dest)
	h := s.t.insert(e.ID)
	r := s.t.at(h)
	r.dest = d.num
	r.created = uint32(max(0, e.Created.Unix()))
	d.items++
	d.counts[placeNone]++
	s.totals[placeNone]++
	switch e.State {
	case mail.QueueIncoming:
		s.move(h, placeNew)
	case mail.QueueHold:
		s.move(h, placeHeld)
	default:
		s.schedule(h, e.NextAttempt, now)
	}
	return h
}

// schedule makes the item wait for its time, or ready if that has come.
func (s *scheduler) schedule(h handle, at, now time.Time) {
	r := s.t.at(h)
	d := s.dests[r.dest]
	// A time beyond every delay comes from a clock that was wrong once.
	if limit := now.Add(d.tc.Policy.longest()); at.After(limit) {
		at = limit
	}
	r.due = at.UnixMilli()
	if r.due > now.UnixMilli() {
		s.move(h, placeWaiting)
	} else {
		s.move(h, placeReady)
	}
}

// move puts the item into another place.
func (s *scheduler) move(h handle, to place) {
	r := s.t.at(h)
	d := s.dests[r.dest]
	switch r.place {
	case placeReady:
		s.unlinkReady(d, h)
	case placeWaiting:
		s.due.remove(h)
	}
	d.counts[r.place]--
	s.totals[r.place]--
	r.place = to
	d.counts[to]++
	s.totals[to]++
	switch to {
	case placeReady:
		s.linkReady(d, h)
		s.offer(d)
	case placeWaiting:
		if s.loading {
			s.due.appendUnordered(h)
		} else {
			s.due.push(h)
		}
	}
}

// moveTo gives the item another destination; it must not be ready or waiting.
func (s *scheduler) moveTo(h handle, to *destination) {
	r := s.t.at(h)
	from := s.dests[r.dest]
	from.items--
	from.counts[r.place]--
	r.dest = to.num
	to.items++
	to.counts[r.place]++
}

// forget drops the record of an item that is gone.
func (s *scheduler) forget(h handle) {
	s.move(h, placeNone)
	d := s.dests[s.t.at(h).dest]
	d.items--
	d.counts[placeNone]--
	s.totals[placeNone]--
	s.t.remove(h)
}

func (s *scheduler) linkReady(d *destination, h handle) {
	r := s.t.at(h)
	r.a, r.b = 0, uint32(d.tail)
	if d.tail != 0 {
		s.t.at(d.tail).a = uint32(h)
	} else {
		d.head = h
	}
	d.tail = h
}

func (s *scheduler) unlinkReady(d *destination, h handle) {
	r := s.t.at(h)
	next, prev := handle(r.a), handle(r.b)
	if prev != 0 {
		s.t.at(prev).a = uint32(next)
	} else {
		d.head = next
	}
	if next != 0 {
		s.t.at(next).b = uint32(prev)
	} else {
		d.tail = prev
	}
}

// offer enters the destination into its ring if it has something to do.
func (s *scheduler) offer(d *destination) {
	if !d.listed && d.runnable() {
		d.listed = true
		r := &s.rings[d.class()]
		r.queue = append(r.queue, d)
	}
}

// take chooses the next item to try and marks it active; false if there is none
// or no slot for it.
func (s *scheduler) take() (slot, bool) {
	for again := true; again; {
		again = false
		for range classCount {
			c := s.turn
			s.turn = (s.turn + 1) % classCount
			sl, ok, moved := s.takeFrom(c)
			if ok {
				return sl, true
			}
			// What moved to a ring that was looked at before must not be missed.
			again = again || moved
		}
	}
	return slot{}, false
}

// takeFrom is take for one class. It moves destinations whose class has changed
// since they were listed to the ring where they belong, and reports whether any
// was.
func (s *scheduler) takeFrom(c class) (sl slot, ok, moved bool) {
	r := &s.rings[c]
	for range len(r.queue) {
		if s.active >= s.slots || r.active >= r.limit {
			break
		}
		d := r.queue[0]
		r.queue = r.queue[1:]
		d.listed = false
		if !d.runnable() {
			continue
		}
		if d.class() != c {
			s.offer(d)
			moved = true
			continue
		}
		// A destination may have as many slots as are free, so that the last ones
		// go to those that have none yet.
		if n := d.counts[placeActive]; n > 0 && n >= min(r.limit-r.active, s.slots-s.active) {
			s.offer(d)
			continue
		}
		sl = slot{h: d.head, dest: d, class: c, epoch: d.epoch}
		s.move(d.head, placeActive)
		d.used = true
		if d.dead {
			d.probes--
		}
		r.active++
		s.active++
		s.offer(d)
		return sl, true, moved
	}
	return slot{}, false, moved
}

// finish frees the slot of an attempt after its item was moved on. It reports
// whether the destination died or came back to life.
func (s *scheduler) finish(sl slot, c contact, now time.Time) (changed bool) {
	d := sl.dest
	s.rings[sl.class].active--
	s.active--
	if d.num != reportsNumber {
		changed = d.learn(c, sl.epoch)
	}
	if d.dead && d.restPos < 0 && (changed || d.probes == 0 && d.counts[placeActive] == 0) {
		if changed || c == contactLost {
			s.rest(d, now)
		} else {
			d.probes = 1 // the probe told nothing; the next one may
		}
	}
	if !d.dead && d.restPos >= 0 {
		heap.Remove(&s.resting, d.restPos)
	}
	s.offer(d)
	return changed
}

// rest lets a dead destination be until it is time for the next probe.
func (s *scheduler) rest(d *destination, now time.Time) {
	delay := min(s.maxRest, d.tc.Policy.delay(d.rests+1))
	d.rests++
	d.probes = 0
	d.restEnd = now.Add(delay)
	heap.Push(&s.resting, d)
}

// wakeUp ends the rest of a dead destination: one probe goes through, and with
// it every item for which an attempt is overdue.
func (s *scheduler) wakeUp(d *destination, now time.Time) {
	if d.restPos >= 0 {
		heap.Remove(&s.resting, d.restPos)
	}
	if d.dead {
		d.probes = 1 + s.pressForward(d, now)
	}
	s.offer(d)
}

// pressForward moves those ready items to the front that must be tried although
// the destination is dead: a delay warning or giving up needs an attempt of the
// item's own. It returns how many there are.
func (s *scheduler) pressForward(d *destination, now time.Time) int {
	var pressing []handle
	warn, giveUp := d.tc.Policy.WarnAfter, d.tc.Policy.GiveUpAfter
	for h := d.head; h != 0; h = handle(s.t.at(h).a) {
		r := s.t.at(h)
		age := now.Sub(time.Unix(int64(r.created), 0))
		if age >= giveUp || warn > 0 && age >= warn && r.flags&flagOverdue == 0 {
			pressing = append(pressing, h)
		}
	}
	for i := len(pressing) - 1; i >= 0; i-- {
		h := pressing[i]
		s.unlinkReady(d, h)
		s.pushFront(d, h)
	}
	return len(pressing)
}

func (s *scheduler) pushFront(d *destination, h handle) {
	r := s.t.at(h)
	r.a, r.b = uint32(d.head), 0
	if d.head != 0 {
		s.t.at(d.head).b = uint32(h)
	} else {
		d.tail = h
	}
	d.head = h
}
