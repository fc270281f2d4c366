package route

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"gatepost/internal/recipients"
)

// settle is how old a change must be before it is read: an editor or a script
// may be in the middle of writing, and half a list would refuse the other half.
const settle = 2 * time.Second

// source is one recipient file. It is looked at again from time to time, by
// one of the sessions that use it; the others go on with what is known.
type source struct {
	path     string
	interval time.Duration
	log      *slog.Logger

	list atomic.Pointer[recipients.List]
	next atomic.Int64 // when to look again, Unix nanoseconds

	busy  atomic.Bool // whoever sets it looks, and owns what follows
	seen  fs.FileInfo // of the state that was read, or tried to
	fault string      // what the log was told last; "" for nothing
}

// sources makes one source for each file, however many domains use it.
type sources struct {
	cfg    Config
	byPath map[string]*source
}

func newSources(cfg Config) *sources {
	if cfg.CheckInterval <= 0 {
		cfg.CheckInterval = defaultInterval
	}
	if cfg.Log == nil {
		cfg.Log = discard()
	}
	return &sources{cfg: cfg, byPath: map[string]*source{}}
}

func (all *sources) get(path string) (*source, error) {
	if s := all.byPath[path]; s != nil {
		return s, nil
	}
	s := &source{path: path, interval: all.cfg.CheckInterval, log: all.cfg.Log}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read recipients: %w", err)
	}
	list, err := s.read()
	if err != nil {
		return nil, fmt.Errorf("read recipients: %w", err)
	}
	s.seen = info
	s.list.Store(list)
	s.next.Store(time.Now().Add(s.interval).UnixNano())
	all.byPath[path] = s
	return s, nil
}

// read reads the file; one bad line is an error, since nobody can know which
// recipients it should have named.
func (s *source) read() (*recipients.List, error) {
	list, bad, err := recipients.ReadFile(s.path)
	if err != nil {
		return nil, err
	}
	if len(bad) > 0 {
		return nil, fmt.Errorf("%s:%d: %s", s.path, bad[0].Number, bad[0].Message)
	}
	return list, nil
}

// current returns the list, after a look at the file where it is time for one.
func (s *source) current() *recipients.List {
	if now := time.Now(); now.UnixNano() >= s.next.Load() && s.busy.CompareAndSwap(false, true) {
		s.next.Store(now.Add(s.interval).UnixNano())
		s.look(now)
		s.busy.Store(false)
	}
	return s.list.Load()
}

// look reads the file again if it has changed. Whatever goes wrong, the list
// stays as it was.
func (s *source) look(now time.Time) {
	info, err := os.Stat(s.path)
	switch {
	case err != nil:
		s.seen = nil
		s.report(err)
		return
	case s.seen != nil && same(info, s.seen) || now.Sub(info.ModTime()).Abs() < settle:
		return
	}
	list, err := s.read()
	if after, statErr := os.Stat(s.path); statErr != nil || !same(info, after) {
		return // it changed while it was read: next time
	}
	s.seen = info
	if err != nil {
		s.report(err)
		return
	}
	s.fault = ""
	s.list.Store(list)
	s.log.Info("recipients read", "file", s.path, "entries", list.Len())
}

// report logs a fault once, not at every look.
func (s *source) report(err error) {
	if text := err.Error(); text != s.fault {
		s.fault = text
		s.log.Error("recipients not read, the last good list stays", "file", s.path, "error", causeOf(err))
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
