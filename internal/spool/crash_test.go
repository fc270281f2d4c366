package spool

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"gatepost/internal/mail"
)

// crasher takes a copy of the file system as a crash would leave it before each
// write operation, or each step-th, and checks it.
type crasher struct {
	t       *testing.T
	fs      *vfs.MemFS
	m       *model
	percent int // how much of what was not synced survives; below 0: by turns
	step    int64

	on      atomic.Bool
	ops     atomic.Int64
	crashes atomic.Int64
	mu      sync.Mutex // one check at a time
}

// MaybeError implements errorfs.Injector. It never fails an operation.
func (c *crasher) MaybeError(op errorfs.Op) error {
	if !c.on.Load() || op.Kind.ReadOrWrite() != errorfs.OpIsWrite {
		return nil
	}
	n := c.ops.Add(1)
	if n%c.step == 0 {
		c.crash(n)
	}
	return nil
}

func (c *crasher) String() string { return "crasher" }

func (c *crasher) crash(n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.t.Failed() {
		return
	}
	known := c.m.snapshot()
	percent := c.percent
	if percent < 0 {
		percent = int(n%2) * 100
	}
	clone := c.fs.CrashClone(vfs.CrashCloneCfg{
		UnsyncedDataPercent: percent,
		RNG:                 rand.New(rand.NewPCG(2, uint64(n))),
	})
	c.crashes.Add(1)
	// The workers go on meanwhile, and only the write that brought us here waits: what
	// was finished between the first look and the copy may be gone in the copy.
	known = doubted(known, c.m.snapshot())
	if err := verify(clone, known, false); err != nil {
		c.t.Errorf("crash before operation %d: %v", n, err)
	}
}

// work runs a random life of a spool: messages of all sizes, some with several
// items, updates, and half of the items done.
func work(t *testing.T, s *Spool, m *model, rng *rand.Rand, rounds int) {
	var open []mail.QueueID
	for range rounds {
		size := rng.IntN(8 << 10)
		switch rng.IntN(12) {
		case 0:
			size = chunkSize + rng.IntN(chunkSize)
		case 1:
			size = keepSize + rng.IntN(keepSize)
		}
		items := 1 + rng.IntN(3)/2*rng.IntN(3)
		id, err := m.commit(s, testBody(size), items)
		if err != nil {
			t.Errorf("commit: %v", err)
			return
		}
		for i := range items {
			open = append(open, mail.QueueID{Message: id, N: uint16(i + 1)})
		}
		k := rng.IntN(len(open))
		q := open[k]
		if rng.IntN(2) == 0 {
			it, err := s.Item(q)
			if err == nil {
				it.Attempts++
				err = s.Update(it)
			}
			if err != nil {
				t.Errorf("update: %v", err)
			}
			continue
		}
		open[k] = open[len(open)-1]
		open = open[:len(open)-1]
		if err := m.finish(s, q); err != nil {
			t.Errorf("done: %v", err)
		}
	}
}

func TestNoAcknowledgedMessageIsLostByACrashAtAnyWrite(t *testing.T) {
	for _, c := range []struct {
		name    string
		percent int
		step    int64
		workers int
	}{
		{"power cut: nothing that was not synced survives", 0, 1, 1},
		{"power cut: half of it survives", 50, 6, 1}, // Pebble takes its time over torn blocks
		{"kill: all of it survives", 100, 1, 1},
		{"power cut with four writers", 0, 3, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			fs := vfs.NewCrashableMem()
			crash := &crasher{t: t, fs: fs, m: newModel(), percent: c.percent, step: c.step * stride()}
			o := memOptions(errorfs.Wrap(fs, crash))
			o.MemTableSize = 1 << 20
			s := openTest(t, o)
			crash.on.Store(true)
			var wg sync.WaitGroup
			for i := range c.workers {
				wg.Go(func() { work(t, s, crash.m, rand.New(rand.NewPCG(uint64(i), uint64(c.percent))), 60) })
			}
			wg.Wait()
			noError(t, s.Close())
			crash.on.Store(false)
			if crash.crashes.Load() == 0 {
				t.Error("no crash")
			}
			t.Logf("%d crashes", crash.crashes.Load())
			crash.crash(-1)
		})
	}
}
