package mimetree

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"gatepost/internal/mail"
)

// windowSize is how many bytes of a body are looked at together: all of an
// ordinary mail, and more than any line that matters.
const windowSize = 64 << 10

// windows recycles the buffers; it holds nothing between uses.
var windows = sync.Pool{New: func() any {
	b := make([]byte, windowSize)
	return &b
}}

// window shows stretches of a body through one buffer, so that a message that
// fits into it is read once, however often it is looked at.
type window struct {
	body mail.Body
	size int64
	buf  *[]byte
	off  int64 // of the first byte in buf
	n    int   // bytes in buf
}

func openWindow(body mail.Body) *window {
	return &window{body: body, size: body.Size(), buf: windows.Get().(*[]byte)}
}

func (w *window) close() { windows.Put(w.buf) }

// most returns as many bytes from off as the buffer happens to hold, up to end.
// They are good until the next call. There are none only where off is not before
// end.
func (w *window) most(off, end int64) ([]byte, error) {
	end = min(end, w.size)
	if off >= end {
		return nil, nil
	}
	if off < w.off || off >= w.off+int64(w.n) {
		if err := w.fill(off); err != nil {
			return nil, err
		}
	}
	i := int(off - w.off)
	return (*w.buf)[i:int(min(end-w.off, int64(w.n)))], nil
}

func (w *window) fill(off int64) error {
	n := int(min(int64(len(*w.buf)), w.size-off))
	w.n = 0
	if err := readFull(w.body, (*w.buf)[:n], off); err != nil {
		return err
	}
	w.off, w.n = off, n
	return nil
}

// readFull fills p from off; a body that ends early is an error.
func readFull(body mail.Body, p []byte, off int64) error {
	n, err := body.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read message at %d: %w", off, err)
}

// blockSize is the unit in which the spool keeps bodies: reading a part of one
// costs nearly as much as reading it whole.
const blockSize = 256 << 10

// cache keeps the blocks of a body that were read last, for all who read it.
type cache struct {
	body   mail.Body
	size   int64
	recent [2]atomic.Pointer[stretch]
	turn   atomic.Uint32
}

func newCache(body mail.Body) *cache { return &cache{body: body, size: body.Size()} }

// Size implements mail.Body.
func (c *cache) Size() int64 { return c.size }

// ReadAt implements io.ReaderAt.
func (c *cache) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read message at %d: negative offset", off)
	}
	n := 0
	for n < len(p) {
		if off >= c.size {
			return n, io.EOF
		}
		b, err := c.block(off - off%blockSize)
		if err != nil {
			return n, err
		}
		m := copy(p[n:], b.data[off-b.at:])
		n, off = n+m, off+int64(m)
	}
	return n, nil
}

func (c *cache) block(at int64) (*stretch, error) {
	for i := range c.recent {
		if b := c.recent[i].Load(); b != nil && b.at == at {
			return b, nil
		}
	}
	b := &stretch{at: at, data: make([]byte, min(blockSize, c.size-at))}
	if err := readFull(c.body, b.data, at); err != nil {
		return nil, err
	}
	c.recent[c.turn.Add(1)%uint32(len(c.recent))].Store(b)
	return b, nil
}
