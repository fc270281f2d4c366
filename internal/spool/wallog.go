package spool

import (
	"encoding/binary"
	"hash/crc32"
)

// A log file consists of blocks of 32 KiB that hold chunks. The header of a chunk
// is checksum (4 bytes), length (2), type (1), log number (4) and, for the types
// from 9, an offset up to which the log was synced (8). Types 5 to 8 and 9 to 12
// mean full, first, middle and last chunk of a record; a record is a batch. What
// follows the end of the log is left over from an earlier use of the file and
// bears another log number.
const (
	logBlock      = 32 << 10
	logHeader     = 11
	logSyncHeader = 19
	logMinHeader  = 7
	firstLogType  = 5
	firstSyncType = 9
	lastSyncType  = 12
	kinds         = 4 // of chunks: type minus first type, modulo kinds
	kindFull      = 0
	kindFirst     = 1
	kindLast      = 3
)

// logScan reads a log file that Pebble would stop reading at the first damage.
type logScan struct {
	data []byte
	num  uint32 // the log number that its chunks bear

	bad    int  // offset of the first damage, -1 for none
	torn   bool // what stands there was part of this log, not left over
	clean  bool // the log was closed in order
	behind int  // whole records behind the damage
	// proven says that the damage was synced once, so that it is no trace of a
	// crash in the middle of a write.
	proven bool
}

type logChunk struct {
	kind    int
	payload []byte
	size    int // with the header
	synced  uint64
}

// scan calls fn with each record that is whole.
func (l *logScan) scan(fn func(batch []byte) error) error {
	l.bad = -1
	var rec []byte
	inside := false // a record was begun
	for pos := 0; pos < len(l.data); {
		if l.padding(pos) {
			pos += logBlock - pos%logBlock
			continue
		}
		c, ok := l.chunk(pos)
		if !ok {
			if l.end(pos) && !inside {
				l.clean = l.bad < 0
				return nil
			}
			if l.bad < 0 {
				l.bad, l.torn = pos, inside || l.ours(pos)
			}
			inside = false
			if pos = l.next(pos + 1); pos < 0 {
				return nil
			}
			continue
		}
		pos += c.size
		l.proven = l.proven || l.bad >= 0 && c.synced > uint64(l.bad)
		switch {
		case c.kind == kindFull || c.kind == kindFirst:
			rec, inside = rec[:0], true
		case !inside:
			continue
		}
		rec = append(rec, c.payload...)
		if c.kind != kindFull && c.kind != kindLast {
			continue
		}
		inside = false
		if l.bad >= 0 {
			l.behind++
		}
		if err := fn(rec); err != nil {
			return err
		}
	}
	l.clean = l.bad < 0 && !inside
	return nil
}

// padding says whether the rest of the block at pos is too short for a chunk.
func (l *logScan) padding(pos int) bool {
	left := logBlock - pos%logBlock
	if left < logMinHeader {
		return true
	}
	if left >= logSyncHeader {
		return false
	}
	for _, c := range l.data[pos:min(pos+left, len(l.data))] {
		if c != 0 {
			return false
		}
	}
	return true
}

// chunk returns the chunk of this log at pos, if it checks out.
func (l *logScan) chunk(pos int) (c logChunk, ok bool) {
	end := min(pos-pos%logBlock+logBlock, len(l.data))
	if end-pos < logHeader {
		return c, false
	}
	h := l.data[pos:end]
	typ := h[6]
	if typ < firstLogType || typ > lastSyncType || binary.LittleEndian.Uint32(h[7:]) != l.num {
		return c, false
	}
	head := logHeader
	if typ >= firstSyncType {
		head = logSyncHeader
	}
	n := int(binary.LittleEndian.Uint16(h[4:]))
	if head+n > len(h) {
		return c, false
	}
	if binary.LittleEndian.Uint32(h) != maskSum(crc32.Checksum(h[6:head+n], castagnoli)) {
		return c, false
	}
	c = logChunk{kind: int(typ-firstLogType) % kinds, payload: h[head : head+n], size: head + n}
	if head == logSyncHeader {
		c.synced = binary.LittleEndian.Uint64(h[logHeader:])
	}
	return c, true
}

// ours says whether what stands at pos looks like a chunk of this log.
func (l *logScan) ours(pos int) bool {
	h := l.data[pos:]
	return len(h) >= logHeader && h[6] >= firstLogType && h[6] <= lastSyncType &&
		binary.LittleEndian.Uint32(h[7:]) == l.num
}

// end says whether the mark of an orderly end stands at pos: a chunk of the next log.
func (l *logScan) end(pos int) bool {
	h := l.data[pos:]
	return len(h) >= logHeader && h[6] >= firstLogType && h[6] <= lastSyncType &&
		binary.LittleEndian.Uint32(h[7:]) == l.num+1
}

// next returns the offset of the next chunk that checks out, -1 for none.
func (l *logScan) next(pos int) int {
	for ; pos+logHeader <= len(l.data); pos++ {
		if binary.LittleEndian.Uint32(l.data[pos+7:]) != l.num {
			continue
		}
		if _, ok := l.chunk(pos); ok {
			return pos
		}
	}
	return -1
}
