package queue

import (
	"encoding/binary"

	"gatepost/internal/mail"
)

// place is where the scheduler keeps an item.
type place uint8

const (
	placeNone    place = iota
	placeReady         // in its destination's ready list
	placeWaiting       // in the heap of due times
	placeParked        // every recipient left is of a paused domain
	placeHeld          // on hold
	placeNew           // incoming: not to be delivered yet
	placeActive        // an attempt has it
	placeTaken         // an operation has it
	placeCount
)

// flags of a record.
const (
	// flagOverdue: an attempt was made since the delay warning fell due, so that
	// the item need not be let through to a dead destination for that.
	flagOverdue uint8 = 1 << iota
)

// handle names a record in the table; 0 is none.
type handle uint32

// record is what the scheduler keeps of an item. It holds no pointers, so that
// a million of them cost the garbage collector nothing.
type record struct {
	id      mail.ID
	due     int64  // Unix milliseconds; meaningful while waiting and ready
	created uint32 // Unix seconds
	dest    uint32 // number of the destination
	a, b    uint32 // ready: next and previous handle; waiting: a is the place in the heap
	n       uint16
	place   place
	flags   uint8
}

func (r *record) queueID() mail.QueueID { return mail.QueueID{Message: r.id, N: r.n} }

// table holds the records and finds them by ID. It is its own hash table over
// handles because a Go map from QueueID would take more memory than the records.
type table struct {
	chunks []*[chunkSize]record
	free   handle   // head of the list of free records, linked by a
	fresh  handle   // the first handle that was never used
	used   int      // records in use
	slots  []handle // open addressing, linear probing; the length is a power of 2
}

const chunkSize = 4096

func newTable() *table { return &table{fresh: 1, slots: make([]handle, 64)} }

// at returns the record of a handle in use. The pointer stays good for as long
// as the handle does.
func (t *table) at(h handle) *record { return &t.chunks[h/chunkSize][h%chunkSize] }

// find returns the handle of an item, 0 where it is not known.
func (t *table) find(id mail.QueueID) handle {
	mask := len(t.slots) - 1
	for i := hashID(&id.Message, id.N) & mask; t.slots[i] != 0; i = (i + 1) & mask {
		if r := t.at(t.slots[i]); r.n == id.N && r.id == id.Message {
			return t.slots[i]
		}
	}
	return 0
}

// insert makes a record for an item that is not in the table.
func (t *table) insert(id mail.QueueID) handle {
	if 4*(t.used+1) > 3*len(t.slots) {
		t.grow()
	}
	h := t.free
	if h != 0 {
		t.free = handle(t.at(h).a)
	} else {
		h = t.fresh
		t.fresh++
		if int(h/chunkSize) == len(t.chunks) {
			t.chunks = append(t.chunks, new([chunkSize]record))
		}
	}
	*t.at(h) = record{id: id.Message, n: id.N}
	t.used++
	t.link(h)
	return h
}

// remove frees the record of h.
func (t *table) remove(h handle) {
	r := t.at(h)
	mask := len(t.slots) - 1
	i := hashID(&r.id, r.n) & mask
	for t.slots[i] != h {
		i = (i + 1) & mask
	}
	t.unlink(i)
	*r = record{a: uint32(t.free)}
	t.free = h
	t.used--
	if t.used == 0 {
		*t = *newTable() // give the memory of a long queue back
	}
}

// link enters h into the slots.
func (t *table) link(h handle) {
	r := t.at(h)
	mask := len(t.slots) - 1
	i := hashID(&r.id, r.n) & mask
	for t.slots[i] != 0 {
		i = (i + 1) & mask
	}
	t.slots[i] = h
}

// unlink empties slot i and moves up those behind it that would not be found
// across the gap.
func (t *table) unlink(i int) {
	mask := len(t.slots) - 1
	for j := (i + 1) & mask; t.slots[j] != 0; j = (j + 1) & mask {
		r := t.at(t.slots[j])
		home := hashID(&r.id, r.n) & mask
		if (j-home)&mask >= (j-i)&mask {
			t.slots[i] = t.slots[j]
			i = j
		}
	}
	t.slots[i] = 0
}

func (t *table) grow() {
	old := t.slots
	t.slots = make([]handle, 2*len(old))
	for _, h := range old {
		if h != 0 {
			t.link(h)
		}
	}
}

// hashID mixes the halves of an ID: its last 80 bits are random, but nothing
// here depends on that.
func hashID(id *mail.ID, n uint16) int {
	x := binary.LittleEndian.Uint64(id[8:]) ^ uint64(n)<<48
	x ^= binary.LittleEndian.Uint64(id[:8]) * 0x9e3779b97f4a7c15
	x ^= x >> 32
	x *= 0xd6e8feb86659fd93
	x ^= x >> 32
	return int(x & (1<<62 - 1))
}
