package archive

import (
	"sync"
	"time"
)

// Limits bound what one message may cost. A zero field takes its default.
type Limits struct {
	// Depth is how deep archives may be nested: a file in an archive is at depth
	// 1. Default 8.
	Depth int
	// Files is the number of members of all archives together. Default 5000.
	Files int
	// Bytes is the sum of the sizes of all members. Default 500 MiB.
	Bytes int64
	// Ratio is how many times its own size anything may expand to, and RatioFloor
	// the size below which that does not matter. Default 500 and 4 MiB: deflate
	// cannot exceed 1032, and what people send stays far below 500.
	Ratio      int64
	RatioFloor int64
	// Time is how long all walks together may take, from NewBudget on. Default 20 s.
	Time time.Duration
	// Memory is what decoders may hold for dictionaries at the same time, in
	// bytes. Default 128 MiB.
	Memory int64
	// Findings and Links are how many of them are kept of each walk. Default 200
	// and 1000.
	Findings int
	Links    int
}

func (l Limits) withDefaults() Limits {
	set(&l.Depth, 8)
	set(&l.Files, 5000)
	set(&l.Bytes, 500<<20)
	set(&l.Ratio, 500)
	set(&l.RatioFloor, 4<<20)
	set(&l.Time, 20*time.Second)
	set(&l.Memory, 128<<20)
	set(&l.Findings, 200)
	set(&l.Links, 1000)
	return l
}

func set[T ~int | ~int64](field *T, value T) {
	if *field <= 0 {
		*field = value
	}
}

// Budget is what is left of the limits of one message. Walks of the same message
// share it, also at the same time.
type Budget struct {
	limits   Limits
	deadline time.Time

	mu     sync.Mutex
	files  int
	bytes  int64
	memory int64
	churn  int64 // all memory that was ever reserved
}

// NewBudget returns a budget with all of l; its time starts now.
func NewBudget(l Limits) *Budget {
	l = l.withDefaults()
	return &Budget{limits: l, deadline: time.Now().Add(l.Time)}
}

// Usage is how much of a budget is gone.
type Usage struct {
	Files int
	Bytes int64
}

// Usage returns what was used so far.
func (b *Budget) Usage() Usage {
	b.mu.Lock()
	defer b.mu.Unlock()
	return Usage{Files: b.files, Bytes: b.bytes}
}

// takeFile counts a member.
func (b *Budget) takeFile() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.files >= b.limits.Files {
		return false
	}
	b.files++
	return true
}

// filesLeft is how many members may still come.
func (b *Budget) filesLeft() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.limits.Files - b.files
}

// takeBytes counts up to n bytes and returns how many of them the budget had.
func (b *Budget) takeBytes(n int64) int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	n = min(n, b.limits.Bytes-b.bytes)
	b.bytes += n
	return n
}

// bytesLeft is how many bytes may still come.
func (b *Budget) bytesLeft() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.limits.Bytes - b.bytes
}

// reserve takes n bytes of decoder memory, to be given back with release. Taking
// and giving back has an end too: thousands of tiny members, each with a large
// dictionary, would cost only memory bandwidth, but much of it.
func (b *Budget) reserve(n int64) bool {
	const often, perByte = 32, 8
	b.mu.Lock()
	defer b.mu.Unlock()
	if n < 0 || n > b.limits.Memory-b.memory || n > often*b.limits.Memory+perByte*b.bytes-b.churn {
		return false
	}
	b.memory += n
	b.churn += n
	return true
}

func (b *Budget) release(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.memory -= n
}

// memoryLeft is what could be reserved now.
func (b *Budget) memoryLeft() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.limits.Memory - b.memory
}

// expired reports that the time is up.
func (b *Budget) expired() bool { return !time.Now().Before(b.deadline) }

// meter compares what came out of something with what it took. Meters form a
// chain from a member over what holds it up to the input.
type meter struct {
	in, out int64
	outer   *meter
}

// add counts n bytes that came out and returns the first meter, from the inside,
// that is over the ratio, or nil.
func (m *meter) add(n int64, l *Limits) *meter {
	var over *meter
	for ; m != nil; m = m.outer {
		m.out += n
		if over == nil && m.out > l.RatioFloor && m.out/l.Ratio >= max(m.in, 1) {
			over = m
		}
	}
	return over
}
