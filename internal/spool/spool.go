package spool

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"gatepost/internal/mail"
)

// Options of a Spool. Only Dir is required.
type Options struct {
	// Dir is the directory of the store, created with mode 0700. Nothing else may
	// write in it.
	Dir string
	// FS is the file system; nil is the disk.
	FS vfs.FS
	// Reserve is how many bytes must stay free on the disk: what would go below
	// is refused with ErrNoSpace. 0 reserves nothing.
	Reserve int64
	// FreeSpace returns the bytes that are free. Nil asks the disk, or means
	// unlimited space where FS is set.
	FreeSpace func() (int64, error)
	Log       *slog.Logger // nil: no log
	Observer  Observer     // nil: nobody

	// MemTableSize and CacheSize bound the memory, which is at most five times
	// the first plus the second. Defaults: 32 MiB and 32 MiB.
	MemTableSize int64
	CacheSize    int64
	// MaxOpenFiles bounds the table files that are kept open; below 74 counts as
	// 74. Default: 200.
	MaxOpenFiles int
	// SyncInterval is how long Update, Done and Abort may take to become durable.
	// Default: 500 ms.
	SyncInterval time.Duration

	// retryPause, in tests, takes the place of the pauses between attempts to write.
	retryPause time.Duration
}

// Observer is told about each commit: how long it took, sync included, and
// whether it failed.
type Observer interface {
	Committed(d time.Duration, err error)
}

const (
	// chunkSize is the most that one record of a body holds. It is what a session
	// holds in memory, too.
	chunkSize = 64 << 10
	// walSubdir and corruptSubdir lie in Options.Dir.
	walSubdir     = "wal"
	corruptSubdir = "corrupt"
	// layoutVersion is stored under famVersion.
	layoutVersion = 1
	// closePatience is how long Close waits for a disk that does not answer.
	closePatience = 20 * time.Second
)

// Spool is an open store. Its methods may be called by many goroutines; see the
// package comment for what must not overlap.
type Spool struct {
	o     Options
	guard *guardFS
	db    *pebble.DB
	lock  *pebble.Lock
	h     *health
	space space
	aside aside
	// torn is what checkManifest found.
	torn bool

	encoders sync.Pool // *jsonEncoder
	buffers  sync.Pool // *[]byte of chunkSize

	dirty  atomic.Bool
	dirtyC chan struct{}
	kept   chan struct{}      // closed when the keeper has ended
	finish context.CancelFunc // ends the keeper
}

func (o *Options) setDefaults() {
	o.Dir = filepath.Clean(o.Dir)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.MemTableSize <= 0 {
		o.MemTableSize = 32 << 20
	}
	if o.CacheSize <= 0 {
		o.CacheSize = 32 << 20
	}
	if o.MaxOpenFiles <= 0 {
		o.MaxOpenFiles = 200
	}
	if o.SyncInterval <= 0 {
		o.SyncInterval = 500 * time.Millisecond
	}
	if o.FS == nil {
		o.FS = diskFS{vfs.Default}
		if o.FreeSpace == nil {
			o.FreeSpace = func() (int64, error) { return diskFree(o.Dir) }
		}
	}
}

// Open opens the store in o.Dir, creating it if it is not there. It returns
// ErrLocked if it is in use, and an error that says what to do if its manifest
// is damaged.
func Open(o Options) (*Spool, error) {
	if o.Dir == "" {
		return nil, errors.New("open spool: no directory")
	}
	o.setDefaults()
	h := newHealth(o.Log, o.MemTableSize/2)
	if o.retryPause > 0 {
		h.firstPause, h.lastPause = o.retryPause, o.retryPause
	}
	s := &Spool{
		o:        o,
		h:        h,
		space:    space{reserve: o.Reserve, free: o.FreeSpace},
		encoders: sync.Pool{New: newJSONEncoder},
		buffers:  sync.Pool{New: func() any { b := make([]byte, 0, chunkSize); return &b }},
		dirtyC:   make(chan struct{}, 1),
		kept:     make(chan struct{}),
	}
	s.guard = newGuardFS(o.FS, o.Dir, o.FS.PathJoin(o.Dir, walSubdir), h)
	s.aside.init(o.FS, o.FS.PathJoin(o.Dir, corruptSubdir), o.Log)
	if err := s.open(); err != nil {
		return nil, fmt.Errorf("open spool %s: %w", o.Dir, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.finish = cancel
	go s.keep(ctx)
	return s, nil
}

func (s *Spool) open() error {
	for _, dir := range []string{s.o.Dir, s.o.FS.PathJoin(s.o.Dir, walSubdir)} {
		if err := makeDir(s.o.FS, dir); err != nil {
			return err
		}
	}
	lock, err := pebble.LockDirectory(s.o.Dir, s.guard)
	if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES) {
		return fmt.Errorf("%w: stop the other gatepost that has this data_dir", ErrLocked)
	}
	if err != nil {
		return fmt.Errorf("lock directory: %w", err)
	}
	s.lock = lock
	if err := s.prepare(); err != nil {
		return errors.Join(err, lock.Close())
	}
	if err := s.openDB(); err != nil {
		return err
	}
	if err := s.afterOpen(); err != nil {
		close(s.h.stop)
		return errors.Join(err, s.db.Close(), lock.Close())
	}
	return nil
}

// prepare looks at the files before Pebble does.
func (s *Spool) prepare() error {
	if s.space.free != nil {
		if _, err := s.space.get(); err != nil {
			return err
		}
	}
	oldest, torn, err := checkManifest(s.o.FS, s.o.Dir)
	if err != nil {
		return err
	}
	s.torn = torn
	return s.checkLogs(oldest)
}

// afterOpen makes the store fit for use.
func (s *Spool) afterOpen() error {
	if err := s.checkLayout(); err != nil {
		return err
	}
	if err := s.salvage(); err != nil {
		return err
	}
	return s.sweep()
}

// openDB opens the store. When the disk does not take writes, Pebble would try
// for ever; then Open gives up, and what was half opened is closed in the
// background should the disk come back before the process ends.
func (s *Spool) openDB() error {
	type result struct {
		db  *pebble.DB
		err error
	}
	done := make(chan result, 1)
	po := pebbleOptions(&s.o, s.guard, s.h, s.onDataCorruption)
	po.Lock = s.lock
	// A missing or cut table must not keep the others from being read, unless the
	// manifest itself is in doubt.
	po.DisableConsistencyCheck = !s.torn
	if s.torn {
		s.guard.keepTables(s.keepTable)
		defer s.guard.keepTables(nil)
	}
	go func() {
		db, err := pebble.Open(s.o.Dir, po)
		done <- result{db, err}
	}()
	select {
	case r := <-done:
		if r.err != nil {
			return errors.Join(s.explain(r.err), s.lock.Close())
		}
		s.db = r.db
		return nil
	case err := <-s.h.opening:
		go func() {
			if r := <-done; r.err == nil {
				_ = r.db.Close()
			}
			_ = s.lock.Close()
		}()
		return fmt.Errorf("write to disk: %w", refusal(err))
	}
}

// explain adds what an administrator can do about an error of Pebble's Open.
func (s *Spool) explain(err error) error {
	if s.torn {
		return manifestError(s.o.FS.PathJoin(s.o.Dir, "MANIFEST-*"), fmt.Errorf("%w at its end: %w", ErrCorrupt, err))
	}
	if pebble.IsCorruptionError(err) {
		return fmt.Errorf("%w: %w (keep a copy of the whole directory before anything else)", ErrCorrupt, err)
	}
	return err
}

// checkLayout refuses a store of a later version and marks a new one.
func (s *Spool) checkLayout() error {
	key := []byte{famVersion}
	v, closer, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		rec := make([]byte, headerLen+2)
		binary.LittleEndian.PutUint16(rec[headerLen:], layoutVersion)
		seal(key, rec)
		return s.db.Set(key, rec, pebble.Sync)
	}
	if err != nil {
		if damaged(err) {
			return nil // every record has a version of its own
		}
		return fmt.Errorf("read layout version: %w", err)
	}
	defer closer.Close()
	p, err := unseal(key, v)
	if err == nil && len(p) == 2 && binary.LittleEndian.Uint16(p) > layoutVersion {
		return fmt.Errorf("the spool was written by a later version of gatepost (layout %d, this one knows %d)",
			binary.LittleEndian.Uint16(p), layoutVersion)
	}
	return nil
}

// Close syncs what is not durable yet and closes the store. Operations that
// begin afterwards return ErrClosed. A Spool must be closed once.
func (s *Spool) Close() error {
	s.h.mu.Lock()
	if s.h.closed {
		s.h.mu.Unlock()
		return ErrClosed
	}
	s.h.closed = true
	s.h.mu.Unlock()
	s.finish()
	if !s.awaitQuiet() {
		return fmt.Errorf("close spool: the disk does not answer; what was accepted is safe")
	}
	close(s.h.stop)
	err := errors.Join(s.db.Close(), s.lock.Close())
	if err != nil {
		return fmt.Errorf("close spool: %w", err)
	}
	return nil
}

// awaitQuiet waits until the keeper has ended and no operation is inside.
func (s *Spool) awaitQuiet() bool {
	quiet := make(chan struct{})
	go func() {
		<-s.kept
		s.h.mu.Lock()
		for s.h.active > 0 {
			s.h.idle.Wait()
		}
		s.h.mu.Unlock()
		close(quiet)
	}()
	t := time.NewTimer(closePatience)
	defer t.Stop()
	select {
	case <-quiet:
		return true
	case <-t.C:
		return false
	}
}

// Health returns nil when mail can be accepted, else why not.
func (s *Spool) Health() error {
	if err := s.h.state(); err != nil {
		return err
	}
	return s.space.check(0)
}

// CheckSpace returns ErrNoSpace if n more bytes would leave less than the
// reserve, or if the disk takes no writes at present. It is cheap: the file
// system is asked at most once a second.
func (s *Spool) CheckSpace(n int64) error {
	if err := s.h.state(); err != nil {
		return err
	}
	return s.space.check(n)
}

// get returns a copy of the value.
func (s *Spool) get(key []byte) ([]byte, error) {
	v, closer, err := s.db.Get(key)
	if err != nil {
		return nil, s.readError(key, err)
	}
	defer closer.Close()
	return append([]byte(nil), v...), nil
}

// readError names an error of reading a key.
func (s *Spool) readError(key []byte, err error) error {
	switch {
	case errors.Is(err, pebble.ErrNotFound):
		return fmt.Errorf("read %s: %w", keyName(key), ErrNotFound)
	case damaged(err):
		s.setAside(key, nil, err)
		return fmt.Errorf("read %s: %w: %w", keyName(key), ErrCorrupt, err)
	}
	return fmt.Errorf("read %s: %w", keyName(key), err)
}

// damaged says whether a read failed because of what is on the disk, and will
// fail again.
func damaged(err error) bool {
	return pebble.IsCorruptionError(err) || errors.Is(err, ErrCorrupt) || errors.Is(err, syscall.EIO)
}

// unsynced applies a batch whose durability may wait for SyncInterval.
func (s *Spool) unsynced(b *pebble.Batch) error {
	if err := s.db.Apply(b, pebble.NoSync); err != nil {
		return err
	}
	s.markDirty()
	return b.Close()
}

// markDirty makes the keeper sync soon.
func (s *Spool) markDirty() {
	if !s.dirty.Swap(true) {
		select {
		case s.dirtyC <- struct{}{}:
		default:
		}
	}
}

// synced runs fill on a new batch and makes it durable.
func (s *Spool) synced(fill func(*pebble.Batch) error) error {
	epoch, err := s.h.begin()
	if err != nil {
		return err
	}
	defer s.h.end()
	b := s.db.NewBatch()
	if err := fill(b); err != nil {
		return errors.Join(err, b.Close())
	}
	if err := s.db.Apply(b, pebble.Sync); err != nil {
		return err
	}
	if err := s.h.verdict(epoch); err != nil {
		return err
	}
	return b.Close()
}

var (
	_ io.Writer = (*Writer)(nil)
	_ mail.Body = (*Body)(nil)
)
