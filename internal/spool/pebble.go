package spool

import (
	"fmt"
	"log/slog"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Settings of the store. The sizes that bound memory come from Options.
const (
	// formatVersion of the files; to be raised on purpose only.
	formatVersion = pebble.FormatTableFormatV6
	// memTables is how many full memory tables may wait to be written before
	// writers wait for the disk.
	memTables = 3
	// l0Files is where compactions start; l0Stop, where writers would be stopped,
	// is out of reach: the guard refuses mail long before.
	l0Files = 4
	l0Stop  = 1000
	// tableSize of the first level; it doubles with each level.
	tableSize = 16 << 20
	// maxManifest bounds the file, which the guard keeps in memory.
	maxManifest = 1 << 20
	// blockSize of table files. A chunk of a body fills a block of its own.
	blockSize = 16 << 10
	// bytesPerSync keeps a long stream of chunks from piling up dirty pages that
	// the next sync of somebody else's small message would have to wait for.
	bytesPerSync = 1 << 20
)

// pebbleOptions are the options of the store over the file system fs.
func pebbleOptions(o *Options, fs vfs.FS, h *health, damage func(pebble.DataCorruptionInfo)) *pebble.Options {
	po := &pebble.Options{
		FS:                          fs,
		WALDir:                      fs.PathJoin(o.Dir, walSubdir),
		FormatMajorVersion:          formatVersion,
		Logger:                      pebbleLogger{h: h, log: o.Log},
		EventListener:               listener(h, o.Log, damage),
		MemTableSize:                uint64(o.MemTableSize),
		MemTableStopWritesThreshold: memTables,
		// Pebble takes its memory tables out of the cache: one in use and one that is
		// written or recycled are normal.
		CacheSize:             o.CacheSize + 2*o.MemTableSize,
		MaxOpenFiles:          o.MaxOpenFiles,
		L0CompactionThreshold: l0Files,
		L0StopWritesThreshold: l0Stop,
		MaxManifestFileSize:   maxManifest,
		BytesPerSync:          bytesPerSync,
		WALBytesPerSync:       bytesPerSync,
	}
	po.TargetFileSizes[0] = tableSize
	for i := range po.Levels {
		po.Levels[i].BlockSize = blockSize
		po.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	// What waits in the queue is read back once or never: compression would cost
	// more than it saves.
	po.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionNone })
	// The spool has no hot ranges that would gain from compactions caused by reads.
	po.Experimental.ReadSamplingMultiplier = -1
	return po
}

// listener tells the health what Pebble's background work comes to.
func listener(h *health, log *slog.Logger, damage func(pebble.DataCorruptionInfo)) *pebble.EventListener {
	return &pebble.EventListener{
		BackgroundError: func(err error) {
			log.Debug("spool: background error", "error", err.Error())
		},
		DataCorruption: damage,
		FlushEnd: func(i pebble.FlushInfo) {
			if i.Err == nil {
				h.tableDone(true)
			}
		},
		CompactionEnd: func(i pebble.CompactionInfo) {
			if i.Err == nil {
				h.tableDone(false)
			}
		},
		WriteStallBegin: func(i pebble.WriteStallBeginInfo) {
			log.Warn("spool: writers wait for the disk", "reason", i.Reason)
		},
	}
}

// pebbleLogger passes Pebble's words on. Fatalf comes back, which Pebble does
// not expect: from then on the health refuses everything that would promise
// durability.
type pebbleLogger struct {
	h   *health
	log *slog.Logger
}

// Infof implements pebble.Logger.
func (l pebbleLogger) Infof(string, ...any) {}

// Errorf implements pebble.Logger.
func (l pebbleLogger) Errorf(format string, args ...any) {
	l.log.Warn("spool: store reports an error", "error", fmt.Sprintf(format, args...))
}

// Fatalf implements pebble.Logger.
func (l pebbleLogger) Fatalf(format string, args ...any) {
	l.h.die(fmt.Errorf(format, args...))
}
