package queue

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"
	"unsafe"

	"gatepost/internal/mail"
)

func randomID(r *rand.Rand) mail.QueueID {
	var id mail.QueueID
	// Few different values, so that collisions and neighbours are common.
	binary.BigEndian.PutUint64(id.Message[8:], r.Uint64N(300))
	id.N = uint16(1 + r.IntN(3))
	return id
}

func TestTheTableFindsWhatAMapFinds(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	tab, model := newTable(), make(map[mail.QueueID]handle)
	for range 200000 {
		id := randomID(r)
		h, known := model[id]
		if got := tab.find(id); got != h {
			t.Fatalf("find: %d, want %d", got, h)
		}
		switch {
		case !known:
			model[id] = tab.insert(id)
		case r.IntN(2) == 0:
			tab.remove(h)
			delete(model, id)
		}
		if tab.used != len(model) {
			t.Fatalf("%d records, want %d", tab.used, len(model))
		}
	}
	for id, h := range model {
		if tab.at(h).queueID() != id {
			t.Fatal("a record is under another ID")
		}
		tab.remove(h)
	}
	if tab.used != 0 || len(tab.chunks) != 0 {
		t.Error("an empty table keeps its memory")
	}
}

// testScheduler has destinations that are never paused.
func testScheduler() *scheduler {
	s := newScheduler(50, 10*time.Minute)
	s.lookup = func(string) (TransportConfig, bool) { return TransportConfig{Policy: DefaultPolicy()}, true }
	s.paused = func(mail.Destination) bool { return false }
	return s
}

func TestDueItemsComeInOrderWhateverWasTakenOut(t *testing.T) {
	s := testScheduler()
	r := rand.New(rand.NewPCG(3, 4))
	now := time.Now()
	var all []handle
	for i := range 5000 {
		e := Entry{ID: mail.QueueID{Message: mail.NewID(), N: 1}, State: mail.QueueDeferred, Created: now,
			NextAttempt: now.Add(time.Duration(1+r.IntN(3000)) * time.Second)}
		s.loading = i < 2500
		if i == 2500 {
			s.loadDone()
		}
		all = append(all, s.add(e, now))
	}
	for range 1000 {
		i := r.IntN(len(all))
		s.forget(all[i])
		all = slices.Delete(all, i, i+1)
	}
	for step := range 301 {
		at := now.Add(time.Duration(step) * 10 * time.Second)
		for s.wake(at, 7) {
		}
		waiting := 0
		for _, h := range all {
			rec := s.t.at(h)
			if due := rec.due <= at.UnixMilli(); due != (rec.place == placeReady) {
				t.Fatalf("at %v an item due at %v is in place %d", at, time.UnixMilli(rec.due), rec.place)
			}
			if rec.place == placeWaiting {
				waiting++
			}
		}
		if waiting != len(s.due.handles) {
			t.Fatalf("%d in the heap, %d wait", len(s.due.handles), waiting)
		}
	}
}

// check tests what must always hold in a scheduler.
func (s *scheduler) check() error {
	var totals [placeCount]int
	active := 0
	for _, d := range s.dests {
		if d == nil {
			continue
		}
		var counts [placeCount]int
		n, prev := 0, handle(0)
		for h := d.head; h != 0; prev, h = h, handle(s.t.at(h).a) {
			if r := s.t.at(h); r.place != placeReady || r.dest != d.num || handle(r.b) != prev {
				return fmt.Errorf("%v: ready list is broken at %d", d.key, n)
			}
			n++
		}
		if d.tail != prev || n != d.counts[placeReady] {
			return fmt.Errorf("%v: %d in the ready list, counted %d", d.key, n, d.counts[placeReady])
		}
		for i := range s.t.chunks {
			for j := range s.t.chunks[i] {
				if r := &s.t.chunks[i][j]; r.place != placeNone && r.dest == d.num {
					counts[r.place]++
				}
			}
		}
		if counts != d.counts {
			return fmt.Errorf("%v: counts %v, want %v", d.key, d.counts, counts)
		}
		for p, c := range counts {
			totals[p] += c
		}
		active += counts[placeActive]
		if d.dead && d.restPos < 0 && d.probes == 0 && d.counts[placeActive] == 0 {
			return fmt.Errorf("%v: dead, awake and without a probe", d.key)
		}
		if d.runnable() != d.listed && d.runnable() {
			return fmt.Errorf("%v: it could run and is in no ring", d.key)
		}
	}
	if totals != s.totals || active != s.active {
		return fmt.Errorf("totals %v, want %v; %d active, counted %d", s.totals, totals, active, s.active)
	}
	return nil
}

func TestTheSchedulerStaysConsistent(t *testing.T) {
	for seed := range uint64(20) {
		s := testScheduler()
		r := rand.New(rand.NewPCG(seed, 7))
		now := time.Now()
		var running []slot
		var known []handle
		for step := range 3000 {
			now = now.Add(time.Duration(r.IntN(5000)) * time.Millisecond)
			switch r.IntN(8) {
			case 0, 1:
				e := Entry{ID: mail.QueueID{Message: mail.NewID(), N: 1}, Created: now, NextAttempt: now.Add(time.Duration(r.IntN(60)-30) * time.Second),
					State: []mail.QueueState{mail.QueueDeferred, mail.QueueDeferred, mail.QueueHold, mail.QueueIncoming}[r.IntN(4)],
					Dest:  mail.Destination{Transport: "t", NextHop: []string{"", "a", "b", "c", "d", "e"}[r.IntN(6)]}}
				known = append(known, s.add(e, now))
			case 2, 3, 6, 7:
				if sl, ok := s.take(); ok {
					running = append(running, sl)
				} else if s.active < s.slots/2 {
					for _, d := range s.dests {
						if d.runnable() && d.counts[placeActive] == 0 && s.rings[d.class()].active < s.rings[d.class()].limit {
							t.Fatalf("seed %d, step %d: %v was passed over", seed, step, d.key)
						}
					}
				}
			case 4:
				if len(running) == 0 {
					continue
				}
				i := r.IntN(len(running))
				sl := running[i]
				running = slices.Delete(running, i, i+1)
				if r.IntN(3) == 0 {
					s.forget(sl.h)
					known = slices.DeleteFunc(known, func(h handle) bool { return h == sl.h })
				} else {
					s.schedule(sl.h, now.Add(time.Minute), now)
				}
				s.finish(sl, contact(r.IntN(4)), now)
			case 5:
				s.wake(now, 100)
				if r.IntN(10) == 0 {
					s.evict()
				}
			}
			if step%25 != 0 {
				continue
			}
			if err := s.check(); err != nil {
				t.Fatalf("seed %d, step %d: %v", seed, step, err)
			}
		}
	}
}

func TestAClockSetBackDoesNotKeepMailWaiting(t *testing.T) {
	s := testScheduler()
	now := time.Now()
	longest := DefaultPolicy()
	for i := range 100 {
		s.add(Entry{ID: mail.QueueID{Message: mail.NewID(), N: 1}, Created: now, NextAttempt: now.Add(time.Duration(i) * time.Minute / 2)}, now)
	}
	now = now.Add(-24 * time.Hour)
	s.clampDue(now)
	for s.wake(now.Add(longest.longest()), 1000) {
	}
	if n := len(s.due.handles); n != 0 {
		t.Errorf("%d items wait longer than the longest delay", n)
	}
}

func TestTheDelayFollowsTheListAndVariesALittle(t *testing.T) {
	p := Policy{Delays: []time.Duration{time.Minute, time.Hour}}.withDefaults()
	for n, want := range map[int]time.Duration{0: time.Minute, 1: time.Minute, 2: time.Hour, 3: time.Hour, 1000: time.Hour} {
		seen := make(map[time.Duration]bool)
		for range 1000 {
			d := p.delay(n)
			if d < want*9/10 || d > want*11/10 || d > p.longest() {
				t.Fatalf("delay %d: %v", n, d)
			}
			seen[d] = true
		}
		if len(seen) < 100 {
			t.Errorf("delay %d does not vary", n)
		}
	}
}

func TestNextIDIsTheNextOne(t *testing.T) {
	id := mail.QueueID{Message: mail.NewID(), N: 7}
	if next, ok := nextID(id); !ok || next.N != 8 || next.Message != id.Message {
		t.Errorf("%v %v", next, ok)
	}
	id.N = 1<<16 - 1
	id.Message[15] = 0xff
	if next, ok := nextID(id); !ok || compareIDs(next, id) <= 0 || next.N != 0 || next.Message[15] != 0 {
		t.Errorf("%v %v", next, ok)
	}
	for i := range id.Message {
		id.Message[i] = 0xff
	}
	if _, ok := nextID(id); ok {
		t.Error("there is an ID after the last")
	}
}

func TestTheLimiterForgetsWithoutEnd(t *testing.T) {
	l := newLimiter(2)
	now := time.Now()
	for i := range 3 * maxBuckets {
		if !l.take(limiterKey{sender: fmt.Sprint(i)}, now) {
			t.Fatal("a sender is limited by others")
		}
	}
	if n := len(l.buckets); n > maxBuckets {
		t.Errorf("%d buckets", n)
	}
	k := limiterKey{sender: "a"}
	got := ""
	for range 4 {
		got += fmt.Sprint(l.take(k, now), " ")
	}
	l.giveBack(k, now)
	got += fmt.Sprint(l.take(k, now), " ", l.take(k, now.Add(30*time.Minute)), " ", l.take(k, now.Add(31*time.Minute)))
	if got != "true true false false true true false" {
		t.Error(got)
	}
}

func TestARecordIsSmall(t *testing.T) {
	if n := unsafe.Sizeof(record{}); n > 48 {
		t.Errorf("a record has %d bytes", n)
	}
}

// million is what a store of a million items yields at start.
func million(n int) func(func(Entry) error) error {
	now := time.Now()
	r := rand.New(rand.NewPCG(1, 1))
	hops := make([]string, 10000)
	for i := range hops {
		hops[i] = fmt.Sprintf("domain-%d.example", i)
	}
	return func(fn func(Entry) error) error {
		for i := range n {
			var id mail.QueueID
			id.N = 1
			binary.BigEndian.PutUint64(id.Message[:8], uint64(now.UnixMilli()-int64(n-i))<<16|r.Uint64N(1<<16))
			binary.BigEndian.PutUint64(id.Message[8:], r.Uint64())
			err := fn(Entry{ID: id, State: mail.QueueDeferred, Dest: mail.Destination{Transport: "internet", NextHop: hops[r.IntN(len(hops))]},
				Created: now.Add(-time.Hour), NextAttempt: now.Add(time.Duration(r.IntN(3600)) * time.Second)})
			if err != nil {
				return err
			}
		}
		return nil
	}
}

func heapInUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkLoadMillion loads 1,000,000 items of 10,000 destinations; bytes/item
// is what stays in memory.
func BenchmarkLoadMillion(b *testing.B) {
	scan := million(1_000_000)
	for b.Loop() {
		b.StopTimer()
		before := heapInUse()
		b.StartTimer()
		s := testScheduler()
		now := time.Now()
		s.loading = true
		scan(func(e Entry) error { s.add(e, now); return nil })
		s.loadDone()
		b.StopTimer()
		after := heapInUse()
		b.ReportMetric(float64(after-before)/1e6, "bytes/item")
		if s.t.used != 1_000_000 {
			b.Fatal(s.t.used)
		}
		b.StartTimer()
	}
}

// BenchmarkTakeFinish is the scheduler's share of one attempt with a million
// others waiting.
func BenchmarkTakeFinish(b *testing.B) {
	s := testScheduler()
	now := time.Now()
	million(1_000_000)(func(e Entry) error { s.add(e, now); return nil })
	s.wake(now.Add(time.Hour), 1<<30)
	b.ReportAllocs()
	for b.Loop() {
		sl, ok := s.take()
		if !ok {
			b.Fatal("nothing to do")
		}
		s.schedule(sl.h, now.Add(time.Minute), now)
		s.finish(sl, contactGood, now)
		if s.totals[placeReady] == 0 {
			s.wake(now.Add(time.Hour), 1<<30)
		}
	}
}
