package lookup

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync/atomic"
	"time"
)

// settle is how old a change must be before it is read: an editor or a script
// may be in the middle of writing, and half a file would say half of the truth.
const settle = 2 * time.Second

// defaultInterval is how often a file is looked at.
const defaultInterval = 10 * time.Second

// FileConfig is what a File is made of.
type FileConfig[T any] struct {
	Path string
	// What is the name of the content in the log: "recipients".
	What string
	// Read reads the whole file. An error, also one about a single line, leaves
	// everything as it was.
	Read func(path string) (T, error)
	// Entries counts what was read, for the log.
	Entries func(T) int
	// Interval is how often the file is looked at; default 10 s.
	Interval time.Duration
	// Log gets a line when the file was read again, or can't be; nil: none.
	Log *slog.Logger
}

// File is what a file says, read again when it has changed. It is looked at from
// time to time by one of those who use it; the others go on with what is known.
type File[T any] struct {
	cfg FileConfig[T]

	content atomic.Pointer[T]
	next    atomic.Int64 // when to look again, Unix nanoseconds

	busy  atomic.Bool // whoever sets it looks, and owns what follows
	seen  fs.FileInfo // of the state that was read, or tried to
	fault string      // what the log was told last; "" for nothing
}

// OpenFile reads the file for the first time.
func OpenFile[T any](cfg FileConfig[T]) (*File[T], error) {
	if cfg.Interval <= 0 {
		cfg.Interval = defaultInterval
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	f := &File[T]{cfg: cfg}
	info, err := os.Stat(cfg.Path)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", cfg.What, err)
	}
	content, err := cfg.Read(cfg.Path)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", cfg.What, err)
	}
	f.seen = info
	f.content.Store(&content)
	f.next.Store(time.Now().Add(cfg.Interval).UnixNano())
	return f, nil
}

// Path is where the file is.
func (f *File[T]) Path() string { return f.cfg.Path }

// Current returns the content, after a look at the file where it is time for one.
func (f *File[T]) Current() T {
	if now := time.Now(); now.UnixNano() >= f.next.Load() && f.busy.CompareAndSwap(false, true) {
		f.next.Store(now.Add(f.cfg.Interval).UnixNano())
		f.look(now)
		f.busy.Store(false)
	}
	return *f.content.Load()
}

// look reads the file again if it has changed. Whatever goes wrong, the content
// stays as it was.
func (f *File[T]) look(now time.Time) {
	info, err := os.Stat(f.cfg.Path)
	switch {
	case err != nil:
		f.seen = nil
		f.report(err)
		return
	case f.seen != nil && same(info, f.seen) || now.Sub(info.ModTime()).Abs() < settle:
		return
	}
	content, err := f.cfg.Read(f.cfg.Path)
	if after, statErr := os.Stat(f.cfg.Path); statErr != nil || !same(info, after) {
		return // it changed while it was read: next time
	}
	f.seen = info
	if err != nil {
		f.report(err)
		return
	}
	f.fault = ""
	f.content.Store(&content)
	f.cfg.Log.Info(f.cfg.What+" read", "file", f.cfg.Path, "entries", f.cfg.Entries(content))
}

// report logs a fault once, not at every look.
func (f *File[T]) report(err error) {
	if text := err.Error(); text != f.fault {
		f.fault = text
		f.cfg.Log.Error(f.cfg.What+" not read, the last good state stays", "file", f.cfg.Path, "error", causeOf(err))
	}
}

// causeOf leaves out the path, which the log line has already.
func causeOf(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// same reports whether nothing was written between two looks.
func same(a, b fs.FileInfo) bool {
	return a.Size() == b.Size() && a.ModTime().Equal(b.ModTime()) && os.SameFile(a, b)
}
