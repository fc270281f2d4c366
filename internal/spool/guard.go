package spool

import (
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// guardFS stands between Pebble and the disk and decides, by kind of file, what
// becomes of an error:
//
//   - Write-ahead log: Pebble never learns of it. The health is told, and the
//     file takes no further byte (a record after a hole would make the log
//     unreadable at the next start).
//   - Manifest, its marker and the directory: repeated until it works, for a
//     manifest from memory into a new file that replaces the old one.
//   - Table files: Pebble hears of it, keeps the data in memory and tries again
//     with a new file; the guard only slows it down.
//   - The file in which Pebble writes down its options is not written at all:
//     Pebble needs none to open the store, but would fail over a damaged one.
//
// While the log is tainted new log files are not created at all, so that the one
// that failed stays the last on disk: Pebble allows only the last one to end in
// the middle of a record.
type guardFS struct {
	vfs.FS
	dir, walDir string
	h           *health

	mu     sync.Mutex
	lost   map[string]bool // log files that failed or never existed
	latest *walFile        // the one created last

	bad  badBlocks
	keep func(table string) // called before a table is removed; nil: nothing
}

func newGuardFS(base vfs.FS, dir, walDir string, h *health) *guardFS {
	return &guardFS{FS: base, dir: dir, walDir: walDir, h: h, lost: make(map[string]bool)}
}

// Create implements vfs.FS.
func (g *guardFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	base := g.PathBase(name)
	switch {
	case g.PathDir(name) == g.walDir:
		return g.createWAL(name, func() (vfs.File, error) { return g.FS.Create(name, category) })
	case strings.HasPrefix(base, "MANIFEST-"):
		f, err := g.createSurely(name, category)
		return &manifestFile{File: f, g: g, name: name}, err
	case strings.HasPrefix(base, "temporary."):
		f := &walFile{g: g, name: name}
		f.bad.Store(true)
		return f, nil
	case strings.HasPrefix(base, "marker."):
		return g.createSurely(name, category)
	case strings.HasSuffix(base, ".sst"):
		return g.createTable(name, category)
	}
	return g.FS.Create(name, category)
}

// createSurely repeats until the file exists or the spool closes.
func (g *guardFS) createSurely(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	for n := 0; ; n++ {
		f, err := g.FS.Create(name, category)
		if err == nil {
			if n > 0 {
				g.h.setManifest(nil)
			}
			return f, nil
		}
		g.h.setManifest(err)
		if !g.h.pause(n, err) {
			return nil, err
		}
	}
}

// createTable makes a table file.
func (g *guardFS) createTable(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	g.h.tablePause()
	flush := strings.Contains(string(category), "flush")
	f, err := g.FS.Create(name, category)
	if err != nil {
		g.h.tableFailed(flush, err)
		return nil, err
	}
	return &tableFile{File: f, h: g.h, flush: flush}, nil
}

// ReuseForWrite implements vfs.FS. Pebble uses it for old log files.
func (g *guardFS) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	g.mu.Lock()
	lost := g.lost[oldname]
	g.mu.Unlock()
	if !lost {
		return g.createWAL(newname, func() (vfs.File, error) {
			f, err := g.FS.ReuseForWrite(oldname, newname, category)
			if err == nil {
				return f, nil
			}
			return g.FS.Create(newname, category)
		})
	}
	// A file that failed once is not trusted again, and one that never existed
	// cannot be renamed.
	_ = g.Remove(oldname)
	return g.Create(newname, category)
}

// Remove implements vfs.FS.
func (g *guardFS) Remove(name string) error {
	g.mu.Lock()
	lost, keep := g.lost[name], g.keep
	delete(g.lost, name)
	g.mu.Unlock()
	if keep != nil && strings.HasSuffix(name, ".sst") {
		keep(name)
	}
	err := g.FS.Remove(name)
	if lost {
		return nil
	}
	return err
}

// keepTables has fn called before a table is removed.
func (g *guardFS) keepTables(fn func(string)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.keep = fn
}

// Rename implements vfs.FS. Pebble uses it for the options only.
func (g *guardFS) Rename(oldname, newname string) error {
	if strings.HasPrefix(g.PathBase(newname), "OPTIONS-") {
		return nil
	}
	return g.FS.Rename(oldname, newname)
}

// OpenDir implements vfs.FS.
func (g *guardFS) OpenDir(name string) (vfs.File, error) {
	f, err := g.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	switch name {
	case g.walDir:
		return &walDirFile{File: f, g: g}, nil
	case g.dir:
		return &dirFile{File: f, g: g}, nil
	}
	return f, nil
}

// syncDir syncs the data directory through a handle of its own.
func (g *guardFS) syncDir() error {
	d, err := g.FS.OpenDir(g.dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}

// dirFile is the data directory.
type dirFile struct {
	vfs.File
	g *guardFS
}

// Sync repeats until the directory is synced or the spool closes.
func (d *dirFile) Sync() error {
	err := d.File.Sync()
	if err == nil {
		return nil
	}
	for n := 0; err != nil; n++ {
		d.g.h.setManifest(err)
		if !d.g.h.pause(n, err) {
			return err
		}
		err = d.g.syncDir()
	}
	d.g.h.setManifest(nil)
	return nil
}

// tableFile is a table file that is being written.
type tableFile struct {
	vfs.File
	h     *health
	flush bool
}

func (f *tableFile) note(err error) error {
	if err != nil {
		f.h.tableFailed(f.flush, err)
	}
	return err
}

// Write implements vfs.File.
func (f *tableFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	return n, f.note(err)
}

// Sync implements vfs.File.
func (f *tableFile) Sync() error { return f.note(f.File.Sync()) }

// SyncData implements vfs.File.
func (f *tableFile) SyncData() error { return f.note(f.File.SyncData()) }

// SyncTo implements vfs.File.
func (f *tableFile) SyncTo(length int64) (bool, error) {
	full, err := f.File.SyncTo(length)
	return full, f.note(err)
}

// Close implements vfs.File.
func (f *tableFile) Close() error { return f.note(f.File.Close()) }

// manifestFile is a manifest that is being written. It keeps what was written,
// so that the file can be written anew.
type manifestFile struct {
	vfs.File
	g       *guardFS
	name    string
	content []byte
	broken  error
}

// Write implements vfs.File. An error shows in Sync.
func (f *manifestFile) Write(p []byte) (int, error) {
	f.content = append(f.content, p...)
	if f.broken == nil {
		_, f.broken = f.File.Write(p)
	}
	return len(p), nil
}

// SyncData implements vfs.File.
func (f *manifestFile) SyncData() error { return f.Sync() }

// SyncTo implements vfs.File.
func (f *manifestFile) SyncTo(int64) (bool, error) { return true, f.Sync() }

// Sync repeats until the whole content is durable or the spool closes.
func (f *manifestFile) Sync() error {
	if f.broken == nil {
		f.broken = f.File.Sync()
	}
	if f.broken == nil {
		return nil
	}
	for n := 0; f.broken != nil; n++ {
		f.g.h.setManifest(f.broken)
		if !f.g.h.pause(n, f.broken) {
			return f.broken
		}
		f.broken = f.rewrite()
	}
	f.g.h.setManifest(nil)
	return nil
}

// rewrite puts a new file with the same content in the place of the old one.
func (f *manifestFile) rewrite() error {
	// Pebble removes files of this name when it starts.
	number := strings.TrimPrefix(f.g.PathBase(f.name), "MANIFEST-")
	tmp := f.g.PathJoin(f.g.dir, "temporary."+number+".dbtmp")
	nf, err := f.g.FS.Create(tmp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	if _, err = nf.Write(f.content); err == nil {
		err = nf.Sync()
	}
	if err == nil {
		err = f.g.FS.Rename(tmp, f.name)
	}
	if err == nil {
		err = f.g.syncDir()
	}
	if err != nil {
		_ = nf.Close()
		return err
	}
	_ = f.File.Close()
	f.File = nf
	return nil
}

// holeInfo describes a log file that does not exist.
type holeInfo struct{ name string }

func (i holeInfo) Name() string           { return filepath.Base(i.name) }
func (i holeInfo) Size() int64            { return 0 }
func (i holeInfo) Mode() fs.FileMode      { return 0o600 }
func (i holeInfo) ModTime() time.Time     { return time.Time{} }
func (i holeInfo) IsDir() bool            { return false }
func (i holeInfo) Sys() any               { return nil }
func (i holeInfo) DeviceID() vfs.DeviceID { return vfs.DeviceID{} }
