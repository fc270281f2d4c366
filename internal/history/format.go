package history

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sort"

	"github.com/klauspost/compress/zstd"

	"gatepost/internal/mail"
)

// A segment is: blocks of events, one line of JSON each, compressed; pages of terms,
// each with the numbers of the events that have it; and a head that says where what
// is. Events are numbered from 0 in the order of their IDs.

const (
	// headVersion is the first byte of a head.
	headVersion = 1
	// blockSize is from where a block is full, before compression.
	blockSize = 64 << 10
	// pageSize is from where a page of terms is full.
	pageSize = 8 << 10
	// longList is from how many bytes a list of numbers is a blob of its own.
	longList = 2 << 10
	// maxBlock bounds what a block is unpacked to: what a damaged one claims.
	maxBlock = 64 << 20
)

var errDamaged = errors.New("the history is damaged")

// blockInfo is a block as the head describes it.
type blockInfo struct {
	first  uint32 // number of its first event
	events uint32
	raw    uint32 // bytes before compression
	id     mail.ID
}

// pageInfo is a page as the head describes it.
type pageInfo struct {
	first term
	blob  uint32
}

// head is the table of contents of a segment. Block n is blob n.
type head struct {
	events uint32
	blocks []blockInfo
	pages  []pageInfo
}

func (h *head) encode() []byte {
	b := []byte{headVersion}
	b = binary.AppendUvarint(b, uint64(len(h.blocks)))
	for i := range h.blocks {
		b = binary.AppendUvarint(b, uint64(h.blocks[i].events))
		b = binary.AppendUvarint(b, uint64(h.blocks[i].raw))
		b = append(b, h.blocks[i].id[:]...)
	}
	b = binary.AppendUvarint(b, uint64(len(h.pages)))
	for i := range h.pages {
		b = binary.BigEndian.AppendUint64(b, uint64(h.pages[i].first))
		b = binary.AppendUvarint(b, uint64(h.pages[i].blob))
	}
	return b
}

func parseHead(b []byte) (*head, error) {
	if len(b) == 0 || b[0] != headVersion {
		return nil, fmt.Errorf("%w: unknown version of a segment", errDamaged)
	}
	r := reader{b: b[1:]}
	h := &head{}
	for range r.count(18) {
		bl := blockInfo{first: h.events, events: r.uint32(), raw: r.uint32()}
		copy(bl.id[:], r.bytes(len(bl.id)))
		h.events += bl.events
		h.blocks = append(h.blocks, bl)
	}
	for range r.count(9) {
		h.pages = append(h.pages, pageInfo{first: term(binary.BigEndian.Uint64(r.bytes(8))), blob: r.uint32()})
	}
	if r.bad || len(r.b) != 0 {
		return nil, fmt.Errorf("%w: the head of a segment does not parse", errDamaged)
	}
	return h, nil
}

// page is the one that holds a term, if any does.
func (h *head) page(t term) (pageInfo, bool) {
	i := sort.Search(len(h.pages), func(i int) bool { return h.pages[i].first > t })
	if i == 0 {
		return pageInfo{}, false
	}
	return h.pages[i-1], true
}

// block is the number of the one that holds an event.
func (h *head) block(event uint32) int {
	return sort.Search(len(h.blocks), func(i int) bool { return h.blocks[i].first > event }) - 1
}

// reader reads what a head or a page holds. What is not there is zero, and bad.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) uint32() uint32 {
	v := r.uvarint()
	r.bad = r.bad || v > 1<<32-1
	return uint32(v)
}

// count reads how many items of at least so many bytes follow.
func (r *reader) count(size int) int {
	v := r.uvarint()
	if v > uint64(len(r.b)/size) {
		r.bad, r.b = true, nil
		return 0
	}
	return int(v)
}

func (r *reader) bytes(n int) []byte {
	if n > len(r.b) {
		r.bad, r.b = true, nil
		return make([]byte, n)
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

// A term in a page: the difference to the one before (uvarint; the first is 0), then
// the number of bytes of its list times two, plus one where the list is in a blob of
// its own; then the list, or the number of that blob. A list is the number of the
// first event, then the differences.

// entry is a term in a page.
type entry struct {
	term term
	list []byte // nil where it is a blob
	blob uint32
}

// pageReader reads the terms of a page in their order.
type pageReader struct {
	r    reader
	last term
}

func newPageReader(info pageInfo, page []byte) pageReader {
	return pageReader{reader{b: page}, info.first}
}

// next returns the next term; ok is false at the end.
func (p *pageReader) next() (e entry, ok bool, err error) {
	if len(p.r.b) == 0 && !p.r.bad {
		return e, false, nil
	}
	p.last += term(p.r.uvarint())
	e.term = p.last
	n := p.r.uvarint()
	if n&1 == 1 {
		e.blob = p.r.uint32()
	} else {
		e.list = p.r.bytes(int(min(n>>1, maxBlock)))
	}
	if p.r.bad {
		return e, false, fmt.Errorf("%w: a page of terms does not parse", errDamaged)
	}
	return e, true, nil
}

// appendList appends the numbers, which ascend.
func appendList(b []byte, numbers []uint32) []byte {
	last := uint32(0)
	for _, n := range numbers {
		b = binary.AppendUvarint(b, uint64(n-last))
		last = n
	}
	return b
}

// readList appends the numbers of a list, each with base added.
func readList(numbers []uint32, list []byte, base uint32) ([]uint32, error) {
	n := base
	for len(list) > 0 {
		d, k := binary.Uvarint(list)
		if k <= 0 || d > 1<<32-1 {
			return nil, fmt.Errorf("%w: a list of events does not parse", errDamaged)
		}
		list = list[k:]
		n += uint32(d)
		numbers = append(numbers, n)
	}
	return numbers, nil
}

// termWriter writes pages.
type termWriter struct {
	put   func(data []byte) (uint32, error) // returns the number of the blob
	head  *head
	page  []byte
	first term
	last  term
	list  []byte
}

// add writes a term, greater than the one before.
func (w *termWriter) add(t term, numbers []uint32) error {
	w.list = appendList(w.list[:0], numbers)
	long := len(w.list) >= longList
	var blob uint32
	if long {
		var err error
		if blob, err = w.put(w.list); err != nil {
			return err
		}
	}
	if len(w.page) == 0 {
		w.first, w.last = t, t
	}
	w.page = binary.AppendUvarint(w.page, uint64(t-w.last))
	w.last = t
	if long {
		w.page = append(w.page, 1)
		w.page = binary.AppendUvarint(w.page, uint64(blob))
	} else {
		w.page = binary.AppendUvarint(w.page, uint64(len(w.list))<<1)
		w.page = append(w.page, w.list...)
	}
	if len(w.page) >= pageSize {
		return w.flush()
	}
	return nil
}

// flush writes the page that was begun.
func (w *termWriter) flush() error {
	if len(w.page) == 0 {
		return nil
	}
	blob, err := w.put(w.page)
	w.head.pages = append(w.head.pages, pageInfo{first: w.first, blob: blob})
	w.page = w.page[:0]
	return err
}

// codec packs and unpacks blocks.
type codec struct {
	enc *zstd.Encoder
	dec *zstd.Decoder
}

func newCodec() (*codec, error) {
	// One goroutine and the fastest level: an event costs microseconds. It halves the
	// block again and again at that.
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(blockSize<<1))
	if err != nil {
		return nil, err
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(2), zstd.WithDecoderMaxMemory(maxBlock))
	if err != nil {
		return nil, err
	}
	return &codec{enc, dec}, nil
}

func (c *codec) pack(raw []byte) []byte { return c.enc.EncodeAll(raw, nil) }

func (c *codec) unpack(packed []byte, into []byte) ([]byte, error) {
	raw, err := c.dec.DecodeAll(packed, into[:0])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	return raw, nil
}

func (c *codec) close() {
	c.dec.Close()
}

// blockWriter gathers lines into blocks.
type blockWriter struct {
	put    func(data []byte) (uint32, error)
	codec  *codec
	head   *head
	raw    []byte
	events uint32
	first  mail.ID
	last   mail.ID
}

// line adds an event.
func (w *blockWriter) line(id mail.ID, line []byte) error {
	if w.events == 0 {
		w.first = id
	}
	w.raw = append(append(w.raw, line...), '\n')
	w.events++
	w.last = id
	if len(w.raw) >= blockSize {
		return w.flush()
	}
	return nil
}

func (w *blockWriter) flush() error {
	if w.events == 0 {
		return nil
	}
	err := w.packed(blockInfo{events: w.events, raw: uint32(len(w.raw)), id: w.first}, w.codec.pack(w.raw))
	w.raw, w.events = w.raw[:0], 0
	return err
}

// packed adds a whole block.
func (w *blockWriter) packed(info blockInfo, data []byte) error {
	if _, err := w.put(data); err != nil {
		return err
	}
	info.first = w.head.events
	w.head.events += info.events
	w.head.blocks = append(w.head.blocks, info)
	return nil
}

// union joins lists that ascend.
func union(lists [][]uint32) []uint32 {
	if len(lists) == 0 {
		return nil
	}
	all := lists[0]
	for _, l := range lists[1:] {
		all = append(all, l...)
	}
	if len(lists) > 1 {
		slices.Sort(all)
		all = slices.Compact(all)
	}
	return all
}

// intersect keeps those of a that are in b; both ascend.
func intersect(a, b []uint32) []uint32 {
	if len(a) > len(b) {
		a, b = b, a
	}
	out := a[:0:0]
	for _, n := range a {
		// b is much longer where it matters.
		i := gallop(b, n)
		b = b[i:]
		if len(b) == 0 {
			break
		}
		if b[0] == n {
			out = append(out, n)
		}
	}
	return out
}

// subtract keeps those of a that are not in b.
func subtract(a, b []uint32) []uint32 {
	out := a[:0:0]
	for _, n := range a {
		b = b[gallop(b, n):]
		if len(b) == 0 || b[0] != n {
			out = append(out, n)
		}
	}
	return out
}

// gallop returns the index of the first that is not below n.
func gallop(b []uint32, n uint32) int {
	hi := 1
	for hi < len(b) && b[hi-1] < n {
		hi *= 2
	}
	lo := hi / 2
	hi = min(hi, len(b))
	if lo > hi {
		lo = hi
	}
	i, _ := slices.BinarySearch(b[lo:hi], n)
	return lo + i
}
