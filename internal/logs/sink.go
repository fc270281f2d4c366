package logs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

var (
	errClosed = errors.New("log is closed")
	errSlow   = errors.New("log file does not answer")
)

// retryAfter is how long a sink waits after a failed write.
const retryAfter = time.Second

// maxIdle is the largest buffer that a sink keeps for reuse, in bytes.
const maxIdle = 256 << 10

// sink takes lines from any goroutine and writes them to one output by a
// goroutine of its own, so that nobody who logs ever waits for a disk.
type sink struct {
	name       string
	limit      int
	flushEvery time.Duration
	patience   time.Duration
	alarm      io.Writer           // where trouble with the output itself is told
	notice     func(uint64) []byte // the line that says how many were lost

	mu     sync.Mutex // guards buf, spare and closed; never held across I/O
	buf    []byte     // whole lines that wait
	spare  []byte     // the buffer that was written last, for reuse
	closed bool

	wake  chan struct{} // buf is not empty any more
	hurry chan struct{} // there is enough in buf for a write of good size
	tasks chan task     // for the goroutine, which owns the output
	stop  chan struct{} // closed by close
	done  chan struct{} // closed when the goroutine ended
	lost  atomic.Uint64 // lines dropped since the start
	busy  atomic.Int64  // Unix nanoseconds since which a write is under way; 0 none
	fault atomic.Value  // of errorBox: the last write failed
}

// errorBox lets an atomic.Value hold a nil error.
type errorBox struct{ err error }

// task is something to do with the output between two writes.
type task struct {
	fn   func(*output) error
	done chan error // has room for one
}

func newSink(name string, out output, cfg Config, notice func(uint64) []byte) *sink {
	s := &sink{
		name: name, limit: cfg.Buffer, flushEvery: cfg.FlushEvery, patience: cfg.Patience,
		alarm: cfg.Stderr, notice: notice,
		wake: make(chan struct{}, 1), hurry: make(chan struct{}, 1), tasks: make(chan task),
		stop: make(chan struct{}), done: make(chan struct{}),
	}
	go s.run(out)
	return s
}

// write takes one line, which ends in '\n', or drops it.
func (s *sink) write(line []byte) {
	s.mu.Lock()
	if s.closed || len(s.buf)+len(line) > s.limit {
		s.mu.Unlock()
		s.lost.Add(1)
		return
	}
	before := len(s.buf)
	s.buf = append(s.buf, line...)
	after := len(s.buf)
	s.mu.Unlock()
	if before == 0 {
		signal(s.wake)
	}
	// Once per crossing, not once per line.
	if enough := min(s.limit/2, maxIdle/2); before < enough && after >= enough {
		signal(s.hurry)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// run is the sink's goroutine. It sleeps while nothing waits.
func (s *sink) run(out output) {
	defer close(s.done)
	w := writer{sink: s, out: out}
	for {
		select {
		case <-s.wake:
			if !w.gather() {
				return
			}
		case t := <-s.tasks:
			w.flush()
			t.done <- t.fn(&w.out)
		case <-s.stop:
			w.finish()
			return
		}
	}
}

// take returns the lines that wait and leaves an empty buffer.
func (s *sink) take() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.buf
	s.buf, s.spare = s.spare[:0], nil
	return p
}

// giveBack returns a buffer for reuse.
func (s *sink) giveBack(p []byte) {
	if cap(p) > maxIdle {
		return
	}
	s.mu.Lock()
	s.spare = p[:0]
	s.mu.Unlock()
}

// do runs fn with the output between two writes, after what waits was written.
func (s *sink) do(fn func(output) error, patience time.Duration) error {
	return s.ask(func(o *output) error { return fn(*o) }, patience)
}

// replace goes on with another output and closes the old one.
func (s *sink) replace(out output, patience time.Duration) error {
	return s.ask(func(o *output) error {
		old := *o
		*o = out
		return old.Close()
	}, patience)
}

func (s *sink) ask(fn func(*output) error, patience time.Duration) error {
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	t := task{fn: fn, done: make(chan error, 1)}
	select {
	case s.tasks <- t:
	case <-s.done:
		return fmt.Errorf("%s: %w", s.name, errClosed)
	case <-timeout.C:
		return fmt.Errorf("%s: %w", s.name, errSlow)
	}
	select {
	case err := <-t.done:
		return err
	case <-timeout.C:
		return fmt.Errorf("%s: %w", s.name, errSlow)
	}
}

// close ends the goroutine after a last write.
func (s *sink) close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	close(s.stop)
	timeout := time.NewTimer(s.patience)
	defer timeout.Stop()
	select {
	case <-s.done:
		return s.health()
	case <-timeout.C:
		return fmt.Errorf("%s: %w", s.name, errSlow)
	}
}

// health tells why lines are being lost, or nil.
func (s *sink) health() error {
	if box, ok := s.fault.Load().(errorBox); ok && box.err != nil {
		return fmt.Errorf("%s: %w (%d lines lost)", s.name, box.err, s.lost.Load())
	}
	if since := s.busy.Load(); since != 0 && time.Since(time.Unix(0, since)) > s.patience {
		return fmt.Errorf("%s: %w (%d lines lost)", s.name, errSlow, s.lost.Load())
	}
	return nil
}

// writer is the part of a sink that only its goroutine touches.
type writer struct {
	*sink
	out     output
	pending []byte // taken from the sink, not written yet
	whole   []byte // the buffer that pending is the tail of
	torn    bool   // the last write ended within a line; pending is its rest
	told    uint64 // lines lost when it was last logged
}

// gather waits a little for more lines, then writes them. It reports false when
// the sink is to end.
func (w *writer) gather() bool {
	wait := w.flushEvery
	for {
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-w.hurry:
			timer.Stop()
		case t := <-w.tasks:
			timer.Stop()
			w.flush()
			t.done <- t.fn(&w.out)
		case <-w.stop:
			timer.Stop()
			w.finish()
			return false
		}
		if w.flush() == nil {
			return true
		}
		wait = retryAfter
	}
}

// flush writes everything that waits. What could not be written is kept for the
// next time.
func (w *writer) flush() error {
	for {
		if len(w.pending) == 0 {
			w.whole = w.take()
			w.pending = w.whole
			if len(w.pending) == 0 {
				w.giveBack(w.whole)
				return nil
			}
		}
		if err := w.writePending(); err != nil {
			return err
		}
		w.giveBack(w.whole)
	}
}

func (w *writer) writePending() error {
	if lost := w.lost.Load(); lost != w.told && !w.torn {
		if _, err := w.attempt(w.notice(lost - w.told)); err != nil {
			return err
		}
		w.told = lost
	}
	for len(w.pending) > 0 {
		n, err := w.attempt(w.pending)
		w.pending = w.pending[n:]
		if err != nil {
			return err
		}
	}
	return nil
}

// attempt writes p once and keeps the books of faults.
func (w *writer) attempt(p []byte) (int, error) {
	w.busy.Store(time.Now().UnixNano())
	n, err := w.out.Write(p)
	w.busy.Store(0)
	if n > 0 {
		w.torn = p[n-1] != '\n'
	}
	w.note(err)
	return n, err
}

// note remembers a fault, and tells standard error when one begins or ends.
func (w *writer) note(err error) {
	box, _ := w.fault.Load().(errorBox)
	if (box.err == nil) == (err == nil) {
		return
	}
	w.fault.Store(errorBox{err})
	if err != nil {
		fmt.Fprintf(w.alarm, "gatepost: logging to %s fails: %v\n", w.name, err)
	} else {
		fmt.Fprintf(w.alarm, "gatepost: logging to %s works again, %d lines were lost so far\n", w.name, w.lost.Load())
	}
}

// finish writes what it can and closes the output.
func (w *writer) finish() {
	if w.flush() != nil {
		w.lost.Add(uint64(bytes.Count(w.pending, []byte{'\n'})))
	}
	if err := w.out.Close(); err != nil {
		w.note(err)
	}
}
