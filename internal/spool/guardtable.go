package spool

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// badBlocks remembers which blocks of table files are damaged. When a checksum does
// not match, Pebble tries every single bit to find one that flipped, which takes
// a second of CPU for a large block. That is fine once, but compactions and
// readers come back to the block again and again.
type badBlocks struct {
	any atomic.Bool // spares the lock while all is well
	mu  sync.Mutex
	at  map[badBlock]bool
}

type badBlock struct {
	table  string
	offset int64
}

// maxBadBlocks bounds the memory for a disk that falls apart.
const maxBadBlocks = 10000

// learn reads from Pebble's words which block is damaged.
func (b *badBlocks) learn(i pebble.DataCorruptionInfo) {
	_, text, ok := strings.Cut(i.Details.Error(), "block ")
	if !ok {
		return
	}
	var offset, length int64
	if _, err := fmt.Sscanf(text, "%d/%d:", &offset, &length); err != nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.at == nil {
		b.at = make(map[badBlock]bool)
	}
	if len(b.at) < maxBadBlocks {
		b.at[badBlock{i.Path, offset}] = true
	}
	b.any.Store(true)
}

func (b *badBlocks) has(table string, offset int64) bool {
	if !b.any.Load() {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.at[badBlock{table, offset}]
}

// Open implements vfs.FS.
func (g *guardFS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := g.FS.Open(name, opts...)
	if !strings.HasSuffix(name, ".sst") {
		return f, err
	}
	if err != nil {
		// Short of file descriptors, most likely. Pebble asks again at once.
		g.h.pause(2, nil)
		return nil, err
	}
	return &tableReader{File: f, g: g, name: name}, nil
}

// tableReader is a table file that is being read.
type tableReader struct {
	vfs.File
	g    *guardFS
	name string
}

// ReadAt implements vfs.File. Pebble reads a block with one call.
func (r *tableReader) ReadAt(p []byte, off int64) (int, error) {
	if r.g.bad.has(r.name, off) {
		return 0, fmt.Errorf("%w: block %d/%d: known to be damaged", pebble.ErrCorruption, off, len(p))
	}
	return r.File.ReadAt(p, off)
}
