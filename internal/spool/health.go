package spool

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A health knows what is going on inside the spool and whether the disk can be
// believed.
//
// Pebble treats an error of its write-ahead log or its manifest as the end of
// the process. The spool does not: guardFS hides these errors from Pebble and
// reports them here. From then on the log is tainted: commits in flight fail,
// new ones are refused, and what Pebble goes on writing to its log reaches no
// file. The keeper then has Pebble write everything it has in memory to a
// fresh table file, which is synced on its own, and start a fresh log (see
// keeper.go); only then commits are let in again. So a sync that succeeds on a
// file descriptor whose last sync failed is never taken for a success: Linux
// reports such an error once and then forgets it.
type health struct {
	log  *slog.Logger
	stop chan struct{} // closed when the spool closes: waiting retries give up
	wake chan struct{} // tells the keeper that the log is tainted

	mu      sync.Mutex
	idle    sync.Cond // active or commits became 0
	closed  bool
	active  int // operations inside
	commits int // those of them that promise durability

	epoch    uint64 // grows with every error of the log
	tainted  error  // the error, until healed
	hole     bool   // new log files go nowhere
	flush    error  // why memory could not be written to a table file
	manifest error  // why manifest or directory cannot be written
	dead     error  // Pebble gave up for good: a bug
	strain   int64  // bytes of unsynced changes taken in while unwell
	limit    int64  // bound of strain
	failures int    // table files that failed in a row

	opening chan error // during Open: says that the disk does not take writes

	probing atomic.Int32 // searches for the end of a damaged range

	firstPause, lastPause time.Duration // between attempts
}

func newHealth(log *slog.Logger, limit int64) *health {
	h := &health{
		log:     log,
		stop:    make(chan struct{}),
		wake:    make(chan struct{}, 1),
		opening: make(chan error, 1),
		limit:   limit,

		firstPause: firstPause,
		lastPause:  lastPause,
	}
	h.idle.L = &h.mu
	return h
}

// enter begins an operation that only reads.
func (h *health) enter() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return ErrClosed
	}
	h.active++
	return nil
}

// enterChange begins a change of n bytes whose durability is not promised. While
// the disk is unwell such changes are kept in memory, up to a limit.
func (h *health) enterChange(n int64) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return ErrClosed
	}
	if err := h.unwell(); err != nil {
		if h.strain+n > h.limit {
			return err
		}
		h.strain += n
	}
	h.active++
	return nil
}

// leave ends what enter or enterChange began.
func (h *health) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.active--; h.active == 0 {
		h.idle.Broadcast()
	}
}

// begin begins an operation that promises durability; end must follow, and
// verdict before it.
func (h *health) begin() (epoch uint64, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return 0, ErrClosed
	}
	if err := h.unwell(); err != nil {
		return 0, err
	}
	h.active++
	h.commits++
	return h.epoch, nil
}

func (h *health) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.active--
	h.commits--
	if h.commits == 0 {
		h.idle.Broadcast()
	}
}

// verdict says whether everything that was written and synced since the epoch
// is durable.
func (h *health) verdict(epoch uint64) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.dead != nil || h.tainted != nil {
		return h.unwell()
	}
	if h.epoch != epoch {
		return fmt.Errorf("%w: a write failed meanwhile", ErrNotDurable)
	}
	return nil
}

// unwell returns why nothing can be promised now. The caller holds mu.
func (h *health) unwell() error {
	for _, err := range []error{h.dead, h.tainted, h.manifest, h.flush} {
		if err != nil {
			return refusal(err)
		}
	}
	return nil
}

// state is unwell for those who do not hold mu.
func (h *health) state() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return ErrClosed
	}
	return h.unwell()
}

// refusal gives a disk error the SMTP reply that it deserves.
func refusal(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	return fmt.Errorf("%w: %w", ErrNotDurable, err)
}

// taint records an error of the write-ahead log.
func (h *health) taint(op string, err error) {
	h.mu.Lock()
	first := h.tainted == nil
	h.epoch++
	h.tainted = fmt.Errorf("%s: %w", op, err)
	h.hole = true
	h.mu.Unlock()
	select {
	case h.wake <- struct{}{}:
	default:
	}
	if first {
		h.log.Error("spool: the write-ahead log cannot be written; no mail is accepted until it can", "op", op, "error", err.Error())
	}
}

// inHole says whether a new log file must go nowhere.
func (h *health) inHole() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.hole
}

// tableFailed records that a table file could not be written.
func (h *health) tableFailed(flush bool, err error) {
	h.mu.Lock()
	h.failures++
	first := flush && h.flush == nil
	if flush {
		h.flush = err
	}
	h.mu.Unlock()
	if first {
		h.log.Error("spool: a table file cannot be written; no mail is accepted until it can", "error", err.Error())
	}
}

// tableDone records that table files were written.
func (h *health) tableDone(flush bool) {
	h.mu.Lock()
	h.failures = 0
	healed := flush && h.flush != nil
	if flush {
		h.flush = nil
		h.relax()
	}
	h.mu.Unlock()
	if healed {
		h.log.Info("spool: table files can be written again")
	}
}

// setManifest records whether manifest and directory can be written.
func (h *health) setManifest(err error) {
	h.mu.Lock()
	changed := (h.manifest == nil) != (err == nil)
	h.manifest = err
	h.relax()
	h.mu.Unlock()
	switch {
	case changed && err != nil:
		h.log.Error("spool: the manifest cannot be written; no mail is accepted until it can", "error", err.Error())
	case changed:
		h.log.Info("spool: the manifest can be written again")
	}
}

// die records that Pebble found itself in a state from which there is no way on.
func (h *health) die(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.dead == nil && !h.closed {
		h.dead = err
		h.log.Error("spool: the store gave up; restart", "error", err.Error())
	}
}

// relax forgets the strain when all is well. The caller holds mu.
func (h *health) relax() {
	if h.unwell() == nil {
		h.strain = 0
	}
}

// Bounds of the pauses between attempts to write what must be written.
const (
	firstPause = 20 * time.Millisecond
	lastPause  = 2 * time.Second
	// openAttempts is how often Open lets a write fail before it gives up.
	openAttempts = 5
)

// pause waits before the n-th repetition of a write that failed with err. It
// returns false when the spool is closing.
func (h *health) pause(n int, err error) bool {
	if n >= openAttempts && err != nil {
		select {
		case h.opening <- err:
		default:
		}
	}
	t := time.NewTimer(min(h.firstPause<<min(n, 10), h.lastPause))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-h.stop:
		return false
	}
}

// tablePause slows down Pebble, which repeats a failed flush or compaction at once.
func (h *health) tablePause() {
	h.mu.Lock()
	n, err := h.failures, h.flush
	h.mu.Unlock()
	if n > 0 {
		h.pause(n, err)
	}
}

// damagePause slows down Pebble, which repeats a compaction that met damage at once.
func (h *health) damagePause() {
	if h.probing.Load() == 0 {
		h.pause(2, nil)
	}
}

// drain waits until no commit is inside. The gate must be shut.
func (h *health) drain() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for h.commits > 0 {
		h.idle.Wait()
	}
}
