package spool

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Pebble reads its manifest up to the first record that does not check out and
// takes that for the end, because a crash may leave a torn record there. A
// flipped bit in the middle would so make it forget table files, and delete
// them. checkManifest tells the two apart before Pebble looks: behind a torn
// record there is nothing that checks out.

// Format of the manifest: blocks of 32 KiB that hold chunks with a header of
// checksum (4 bytes), length (2) and type (1 to 4: full, first, middle, last).
const (
	manifestBlock  = 32 << 10
	manifestHeader = 7
	chunkFull      = 1
	chunkFirst     = 2
	chunkLast      = 4
)

// Tags at the head of a version edit.
const (
	tagComparer  = 1
	tagLogNumber = 2
)

// manifestScan is what checkManifest sees.
type manifestScan struct {
	data    []byte
	records int
	oldest  uint64 // the oldest log that is still needed
	bad     int    // offset of the first chunk that does not check out, -1 for none
}

// checkManifest returns an error if the manifest is damaged. torn says that its
// last record does not check out. Most likely a crash tore it, but it may have
// been damaged later; then every table file that the manifest names must be
// there, and those that it does not name are kept. oldest is the number of the
// oldest log that is still needed.
func checkManifest(fs vfs.FS, dir string) (oldest uint64, torn bool, err error) {
	desc, err := pebble.Peek(dir, fs)
	if err != nil {
		return 0, false, fmt.Errorf("look at the store: %w", err)
	}
	if !desc.Exists {
		return 0, false, checkFresh(fs, dir)
	}
	name := desc.ManifestFilename
	data, err := readFile(fs, name)
	if err != nil {
		return 0, false, manifestError(name, err)
	}
	m := manifestScan{data: data, bad: -1}
	m.scan()
	switch {
	case m.records == 0:
		return 0, false, manifestError(name, fmt.Errorf("%w: it holds no record", ErrCorrupt))
	case m.bad >= 0 && m.validAfter(m.bad+1):
		return 0, false, manifestError(name, fmt.Errorf("%w at offset %d", ErrCorrupt, m.bad))
	}
	return m.oldest, m.bad >= 0, nil
}

// manifestError says what an administrator can do.
func manifestError(name string, err error) error {
	return fmt.Errorf("manifest %s: %w. It says which files hold the mail; nothing was changed. "+
		"Copy the whole directory, then restore the manifest from a backup of the disk, "+
		"or move the directory away to begin with an empty spool", name, err)
}

// checkFresh refuses to begin a new store on top of the files of an old one.
func checkFresh(fs vfs.FS, dir string) error {
	names, err := fs.List(dir)
	if err != nil {
		return fmt.Errorf("list directory: %w", err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, ".sst") {
			return manifestError("marker.manifest.*", fmt.Errorf("%w: it is missing, yet there is %s", ErrCorrupt, name))
		}
	}
	return nil
}

// scan walks over the chunks up to the first that does not check out.
func (m *manifestScan) scan() {
	var rec []byte
	for pos := 0; pos < len(m.data); {
		if left := manifestBlock - pos%manifestBlock; left < manifestHeader {
			pos += left
			continue
		}
		kind, payload, ok := m.chunk(pos)
		if !ok {
			m.bad = pos
			return
		}
		if kind == chunkFull || kind == chunkFirst {
			rec = rec[:0]
		}
		rec = append(rec, payload...)
		if kind == chunkFull || kind == chunkLast {
			m.record(rec)
		}
		pos += manifestHeader + len(payload)
	}
}

// record reads the log number of a version edit, which stands at its head.
func (m *manifestScan) record(rec []byte) {
	m.records++
	tag, n := binary.Uvarint(rec)
	if n > 0 && tag == tagComparer {
		size, k := binary.Uvarint(rec[n:])
		if k <= 0 || uint64(len(rec)-n-k) < size {
			return
		}
		rec = rec[n+k+int(size):]
		tag, n = binary.Uvarint(rec)
	}
	if n > 0 && tag == tagLogNumber {
		if log, k := binary.Uvarint(rec[n:]); k > 0 && log > 0 {
			m.oldest = log
		}
	}
}

// chunk returns the chunk at pos if it checks out.
func (m *manifestScan) chunk(pos int) (kind byte, payload []byte, ok bool) {
	end := min(pos-pos%manifestBlock+manifestBlock, len(m.data))
	if end-pos < manifestHeader {
		return 0, nil, false
	}
	h := m.data[pos:]
	n := int(binary.LittleEndian.Uint16(h[4:]))
	kind = h[6]
	if kind < chunkFull || kind > chunkLast || manifestHeader+n > end-pos {
		return 0, nil, false
	}
	sum := crc32.Checksum(h[6:manifestHeader+n], castagnoli)
	if binary.LittleEndian.Uint32(h) != maskSum(sum) {
		return 0, nil, false
	}
	return kind, h[manifestHeader : manifestHeader+n], true
}

// maskSum is how LevelDB and its heirs store a CRC32C.
func maskSum(sum uint32) uint32 { return (sum>>15 | sum<<17) + 0xa282ead8 }

// validAfter says whether a chunk that checks out begins anywhere at or after pos.
func (m *manifestScan) validAfter(pos int) bool {
	for ; pos < len(m.data); pos++ {
		if _, p, ok := m.chunk(pos); ok && len(p) > 0 {
			return true
		}
	}
	return false
}

// maxManifestRead bounds what is read of a manifest: far above what maxManifest lets it become.
const maxManifestRead = 256 << 20

func readFile(fs vfs.FS, name string) ([]byte, error) {
	f, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxManifestRead))
}
