package main

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"gatepost/internal/admin"
	"gatepost/internal/config"
)

const (
	// storageLife is how long a look at the directories is good for, at least.
	storageLife = time.Minute
	// maxStorageFiles bounds the files of a directory that are looked at.
	maxStorageFiles = 50_000
)

// storageWatch knows what the directories take. It looks in the background, when
// somebody asks: a page never waits for a full spool to be walked.
type storageWatch struct {
	dir, logs string
	asked     chan struct{}

	mu   sync.Mutex
	uses []admin.StorageUse
}

func newStorageWatch(cfg *config.Config) *storageWatch {
	return &storageWatch{dir: string(cfg.DataDir), logs: string(cfg.LogDir), asked: make(chan struct{}, 1)}
}

// Storage is what was seen last; nothing at the very first.
func (w *storageWatch) Storage() []admin.StorageUse {
	select {
	case w.asked <- struct{}{}:
	default:
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.uses
}

// run looks once, and then whenever somebody asked, until the context ends.
func (w *storageWatch) run(ctx context.Context) {
	for {
		uses := w.measure()
		w.mu.Lock()
		w.uses = uses
		w.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-time.After(storageLife):
		}
		select {
		case <-ctx.Done():
			return
		case <-w.asked:
		}
	}
}

// measure adds up the files. The parts are those that grow with the mail.
func (w *storageWatch) measure() []admin.StorageUse {
	parts := []struct{ name, path string }{
		{"spool", filepath.Join(w.dir, "spool")}, {"store and quarantine", filepath.Join(w.dir, "records.db")},
		{"history", filepath.Join(w.dir, "history.db")}, {"configuration revisions", filepath.Join(w.dir, "revisions")}, {"logs", w.logs},
	}
	var uses []admin.StorageUse
	for _, p := range parts {
		if p.path == "" {
			continue
		}
		u := admin.StorageUse{Name: p.name, Path: p.path}
		if strings.HasSuffix(p.path, ".db") {
			for _, suffix := range []string{"", "-wal", "-shm"} {
				if fi, err := os.Stat(p.path + suffix); err == nil {
					u.Bytes += fi.Size()
				}
			}
		} else {
			u.Bytes, u.AtLeast = sizeOf(p.path)
		}
		if u.Bytes == 0 {
			continue // a database elsewhere, logs that go to the journal
		}
		var st unix.Statfs_t
		if unix.Statfs(filepath.Dir(p.path), &st) == nil {
			u.Free, u.Total = int64(st.Bavail)*st.Bsize, int64(st.Blocks)*st.Bsize
		}
		uses = append(uses, u)
	}
	return uses
}

// sizeOf adds up the files below a directory.
func sizeOf(dir string) (bytes int64, cut bool) {
	n := 0
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil // files come and go
		}
		if n++; n > maxStorageFiles {
			cut = true
			return fs.SkipAll
		}
		if fi, err := d.Info(); err == nil {
			bytes += fi.Size()
		}
		return nil
	})
	return bytes, cut
}
