package access

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// watched is something that is read from a file, and read again when the file is
// another one. The old one serves until the new one is complete, and stays where
// the new one cannot be read.
type watched[T any] struct {
	path  string
	cfg   Config
	parse func([]byte) (*T, error)

	current atomic.Pointer[T]
	// next is when the file is looked at again, in Unix nanoseconds. Whoever moves
	// it does the work; the others go on.
	next atomic.Int64

	mu    sync.Mutex
	stamp os.FileInfo // of what was read last, or could not be read
	gone  bool
}

func newWatched[T any](path string, cfg Config, parse func([]byte) (*T, error)) *watched[T] {
	return &watched[T]{path: path, cfg: cfg, parse: parse}
}

// first reads the file for the first time.
func (w *watched[T]) first() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.next.Store(time.Now().Add(w.cfg.CheckEvery).UnixNano())
	return w.load()
}

// get returns what the file holds, as it was a moment ago.
func (w *watched[T]) get() *T {
	now := time.Now()
	due := w.next.Load()
	if now.UnixNano() >= due && w.next.CompareAndSwap(due, now.Add(w.cfg.CheckEvery).UnixNano()) {
		w.refresh()
	}
	return w.current.Load()
}

// refresh reads the file again if it changed.
func (w *watched[T]) refresh() {
	if !w.mu.TryLock() {
		return // a large file is still being read
	}
	defer w.mu.Unlock()
	info, err := os.Stat(w.path)
	if err != nil {
		if !w.gone {
			w.gone = true
			w.cfg.Log.Error("list file cannot be read, the last one stays in use", slog.String("file", w.path), slog.String("error", err.Error()))
		}
		return
	}
	if !w.gone && same(info, w.stamp) {
		return
	}
	w.gone = false
	if err := w.load(); err != nil {
		w.stamp = info // say it once for each state of the file
		w.cfg.Log.Error("list file is bad, the last good one stays in use", slog.String("file", w.path), slog.String("error", err.Error()))
		return
	}
	w.cfg.Log.Info("list file read again", slog.String("file", w.path), slog.Int64("bytes", w.stamp.Size()))
}

// same reports that a file is the one that was seen before, untouched.
func same(a, b os.FileInfo) bool {
	return b != nil && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime()) && os.SameFile(a, b)
}

// load reads the file. The stamp is taken before, so that a change while it is
// read is seen the next time.
func (w *watched[T]) load() error {
	f, err := os.Open(w.path)
	if err != nil {
		return fmt.Errorf("open list: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("look at list: %w", err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("read %s: it is no regular file", w.path)
	}
	if info.Size() > w.cfg.MaxFileSize {
		return fmt.Errorf("read %s: %d bytes, at most %d", w.path, info.Size(), w.cfg.MaxFileSize)
	}
	b := make([]byte, info.Size())
	// A file that grows meanwhile is read again; one that shrinks is read as far
	// as it goes.
	n, err := io.ReadFull(f, b)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return fmt.Errorf("read list: %w", err)
	}
	v, err := w.parse(b[:n])
	if err != nil {
		return fmt.Errorf("read %s: %w", w.path, err)
	}
	w.stamp = info
	w.current.Store(v)
	return nil
}
