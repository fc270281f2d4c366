// Package xzfile reads the container of .xz files: streams of blocks, each with
// filters of its own. The blocks are decoded by the LZMA2 decoder of
// ulikunitz/xz; its own reader of the container is not used because it allocates
// whatever dictionary a block asks for, up to 4 GiB, and cannot be told not to.
//
// Invariants:
//   - No memory is taken for a dictionary before Config.Dictionary has agreed.
//   - Check sums are verified; the content up to a wrong one has been given.
//   - Bytes are consumed one structure at a time, so that after io.EOF the reader
//     stands behind the last stream.
package xzfile

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"

	"github.com/ulikunitz/xz/lzma"
)

// Errors of the container.
var (
	// ErrFilter says that a block uses a filter other than LZMA2.
	ErrFilter = errors.New("xz: unknown filter")
	// ErrDictionary says that a block cannot be decoded with the dictionary that
	// was allowed.
	ErrDictionary = errors.New("xz: dictionary too large")
	errCorrupt    = errors.New("xz: corrupt")
)

// Config says what a Reader may use.
type Config struct {
	// Dictionary is asked with the size that a block wants and returns what it
	// gets, in bytes; less is tried all the same, since few files need what they
	// ask for. 0 refuses.
	Dictionary func(want int64) int64
}

// Reader decodes all streams of a file, one after the other.
type Reader struct {
	config Config
	in     counter

	block   io.Reader
	sum     hash.Hash
	flags   byte
	clipped bool
	started bool
	start   int64 // of the block's packed data
	err     error
}

// NewReader returns a Reader; in stands at a stream header.
func NewReader(in *bufio.Reader, c Config) *Reader {
	return &Reader{config: c, in: counter{r: in}}
}

// counter counts what is taken from r.
type counter struct {
	r *bufio.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

func (c *counter) ReadByte() (byte, error) {
	b, err := c.r.ReadByte()
	if err == nil {
		c.n++
	}
	return b, err
}

func (r *Reader) Read(p []byte) (int, error) {
	for r.err == nil {
		if r.block == nil {
			r.err = r.next()
			continue
		}
		n, err := r.block.Read(p)
		r.sum.Write(p[:n])
		if err == io.EOF {
			r.block, err = nil, r.endBlock()
		} else if err != nil && r.clipped {
			err = fmt.Errorf("%w: %w", ErrDictionary, err)
		}
		r.err = err
		if n > 0 {
			return n, nil
		}
	}
	return 0, r.err
}

const magic = "\xfd7zXZ\x00"

// next goes on to the next block, over the ends and beginnings of streams.
func (r *Reader) next() error {
	if !r.started {
		return r.streamHeader()
	}
	size, err := r.in.ReadByte()
	if err != nil {
		return cut(err)
	}
	if size != 0 {
		return r.blockHeader(size)
	}
	if err := r.index(); err != nil {
		return err
	}
	r.started = false
	// Padding in fours, then another stream or the end.
	for {
		b, err := r.in.r.Peek(len(magic))
		switch {
		case len(b) >= 4 && string(b[:4]) == "\x00\x00\x00\x00":
			_, _ = io.CopyN(io.Discard, &r.in, 4) // it was peeked
		case string(b) == magic:
			return nil
		case err != nil && err != io.EOF:
			return err
		default:
			return io.EOF
		}
	}
}

func (r *Reader) streamHeader() error {
	var h [12]byte
	if _, err := io.ReadFull(&r.in, h[:]); err != nil {
		return cut(err)
	}
	if string(h[:6]) != magic || h[6] != 0 || crc32.ChecksumIEEE(h[6:8]) != binary.LittleEndian.Uint32(h[8:]) {
		return fmt.Errorf("%w stream header", errCorrupt)
	}
	r.flags, r.started = h[7], true
	return nil
}

// blockHeader reads the header whose first byte is given and opens the block.
func (r *Reader) blockHeader(size byte) error {
	h := make([]byte, (int(size)+1)*4)
	h[0] = size
	if _, err := io.ReadFull(&r.in, h[1:]); err != nil {
		return cut(err)
	}
	body := h[:len(h)-4]
	if crc32.ChecksumIEEE(body) != binary.LittleEndian.Uint32(h[len(h)-4:]) {
		return fmt.Errorf("%w block header", errCorrupt)
	}
	flags, fields := body[1], bytes.NewReader(body[2:])
	content := int64(-1)
	for _, bit := range []byte{0x40, 0x80} {
		if flags&bit == 0 {
			continue
		}
		v, err := binary.ReadUvarint(fields)
		if err != nil || v > 1<<62 {
			return fmt.Errorf("%w block header", errCorrupt)
		}
		if bit == 0x80 {
			content = int64(v)
		}
	}
	dict, err := filters(fields, int(flags&3)+1)
	if err != nil {
		return err
	}
	return r.openBlock(dict, content)
}

// filters returns the size of the dictionary of the only filter there may be.
func filters(fields *bytes.Reader, count int) (int64, error) {
	const lzma2 = 0x21
	if count == 0 {
		return 0, fmt.Errorf("%w filter", errCorrupt)
	}
	id, err := binary.ReadUvarint(fields)
	if err != nil {
		return 0, fmt.Errorf("%w filter", errCorrupt)
	}
	if id != lzma2 {
		return 0, fmt.Errorf("%w %#x", ErrFilter, id)
	}
	size, err1 := fields.ReadByte()
	property, err2 := fields.ReadByte()
	if errors.Join(err1, err2) != nil || size != 1 || count != 1 {
		return 0, fmt.Errorf("%w filter", errCorrupt)
	}
	dict, err := lzma.DecodeDictCap(property)
	if err != nil {
		return 0, fmt.Errorf("%w dictionary size", errCorrupt)
	}
	return dict, nil
}

func (r *Reader) openBlock(dict, content int64) error {
	want := dict
	if content >= 0 {
		// No distance reaches further back than the content is long.
		want = min(want, content)
	}
	want = max(want, lzma.MinDictCap)
	got := r.config.Dictionary(want)
	if got < lzma.MinDictCap {
		return ErrDictionary
	}
	r.clipped = got < want
	r.start = r.in.n
	r.sum = newSum(r.flags)
	block, err := lzma.Reader2Config{DictCap: int(min(got, want))}.NewReader2(&r.in)
	if err != nil {
		return err
	}
	r.block = block
	return nil
}

// Sizes of the check sums by the flags of the stream.
var sumSizes = [16]int{0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64}

// newSum returns the hash for a check, or one that is ignored.
func newSum(flags byte) hash.Hash {
	switch flags & 15 {
	case 4:
		return crc64.New(crc64.MakeTable(crc64.ECMA))
	case 10:
		return sha256.New()
	}
	return crc32.NewIEEE()
}

// endBlock reads the padding and the check sum.
func (r *Reader) endBlock() error {
	padding := int((4 - (r.in.n-r.start)%4) % 4)
	tail := make([]byte, padding+sumSizes[r.flags&15])
	if _, err := io.ReadFull(&r.in, tail); err != nil {
		return cut(err)
	}
	want, got := tail[padding:], r.sum.Sum(nil)
	switch r.flags & 15 {
	case 1, 4:
		// Both are stored with the low byte first, unlike Go's.
		for i := range len(got) / 2 {
			got[i], got[len(got)-1-i] = got[len(got)-1-i], got[i]
		}
	case 10:
	default:
		return nil
	}
	if !bytes.Equal(want, got) {
		return fmt.Errorf("%w: check sum does not match", errCorrupt)
	}
	return nil
}

// index skips the index and the footer: what they say was seen in the blocks.
func (r *Reader) index() error {
	start := r.in.n - 1
	count, err := binary.ReadUvarint(&r.in)
	if err != nil {
		return cut(err)
	}
	for range count {
		for range 2 {
			if _, err := binary.ReadUvarint(&r.in); err != nil {
				return cut(err)
			}
		}
	}
	const sum, footer = 4, 12
	padding := (4 - (r.in.n-start)%4) % 4
	if _, err := io.CopyN(io.Discard, &r.in, padding+sum+footer); err != nil {
		return cut(err)
	}
	return nil
}

func cut(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
