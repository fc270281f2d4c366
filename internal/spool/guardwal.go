package spool

import (
	"io"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// createWAL makes a log file, or one that goes nowhere.
func (g *guardFS) createWAL(name string, create func() (vfs.File, error)) (vfs.File, error) {
	f := &walFile{g: g, name: name}
	var err error
	if !g.h.inHole() {
		f.File, err = create()
	}
	if f.File == nil {
		f.bad.Store(true)
		g.setLost(name)
		if err != nil {
			g.h.taint("create log file", err)
		}
	}
	g.mu.Lock()
	g.latest = f
	g.mu.Unlock()
	return f, nil
}

func (g *guardFS) setLost(name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lost[name] = true
}

// walFile is a log file that is being written. After the first error, or if File
// is nil, it swallows everything.
type walFile struct {
	vfs.File
	g    *guardFS
	name string
	bad  atomic.Bool
}

// fail ends the life of the file and returns nil, which is what Pebble hears.
func (f *walFile) fail(op string, err error) error {
	if err == nil {
		return nil
	}
	f.bad.Store(true)
	f.g.setLost(f.name)
	f.g.h.taint(op, err)
	return nil
}

// Write implements vfs.File.
func (f *walFile) Write(p []byte) (int, error) {
	if !f.bad.Load() {
		n, err := f.File.Write(p)
		if err == nil && n < len(p) {
			err = io.ErrShortWrite
		}
		_ = f.fail("write log file", err)
	}
	return len(p), nil
}

// Sync implements vfs.File.
func (f *walFile) Sync() error {
	if f.bad.Load() {
		return nil
	}
	return f.fail("sync log file", f.File.Sync())
}

// SyncData implements vfs.File.
func (f *walFile) SyncData() error {
	if f.bad.Load() {
		return nil
	}
	return f.fail("sync log file", f.File.SyncData())
}

// SyncTo implements vfs.File.
func (f *walFile) SyncTo(length int64) (bool, error) {
	if f.bad.Load() {
		return true, nil
	}
	full, err := f.File.SyncTo(length)
	return full, f.fail("sync log file", err)
}

// Preallocate implements vfs.File. Without it the log merely grows as it is written.
func (f *walFile) Preallocate(offset, length int64) error {
	if f.bad.Load() {
		return nil
	}
	return f.File.Preallocate(offset, length)
}

// Stat implements vfs.File.
func (f *walFile) Stat() (vfs.FileInfo, error) {
	if f.File == nil {
		return holeInfo{f.name}, nil
	}
	info, err := f.File.Stat()
	if err != nil {
		return holeInfo{f.name}, f.fail("stat log file", err)
	}
	return info, nil
}

// Fd implements vfs.File.
func (f *walFile) Fd() uintptr {
	if f.File == nil {
		return vfs.InvalidFd
	}
	return f.File.Fd()
}

// Close implements vfs.File. Pebble syncs before it closes.
func (f *walFile) Close() error {
	if f.File == nil {
		return nil
	}
	err := f.File.Close()
	if f.bad.Load() {
		return nil
	}
	return f.fail("close log file", err)
}

// walDirFile is the directory of the log files.
type walDirFile struct {
	vfs.File
	g *guardFS
}

// Sync implements vfs.File. When it fails, the name of the latest log file may
// not be durable, so nothing that is written to it is.
func (d *walDirFile) Sync() error {
	err := d.File.Sync()
	if err == nil {
		return nil
	}
	d.g.mu.Lock()
	latest := d.g.latest
	d.g.mu.Unlock()
	if latest == nil {
		return err
	}
	return latest.fail("sync log directory", err)
}
