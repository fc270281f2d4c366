package pop3

import (
	"bytes"
	"errors"
	"io"
)

// ErrLineTooLong is a line over the limit: where the next one begins is not known.
var ErrLineTooLong = errors.New("line too long")

// Reader reads lines, and gives access to what is buffered in between. It holds one
// small buffer, and can work on a borrowed larger one for bulk data.
type Reader struct {
	src   io.Reader
	small []byte
	buf   []byte // in use: small, a grown one, or a borrowed one
	r, w  int    // buf[r:w] is unread
	lent  bool
}

// NewReader returns a reader with a buffer of size bytes.
func NewReader(src io.Reader, size int) *Reader {
	small := make([]byte, size)
	return &Reader{src: src, small: small, buf: small}
}

// Buffered returns what was read and not yet taken, valid until the next call of
// another method.
func (r *Reader) Buffered() []byte { return r.buf[r.r:r.w] }

// HasLine reports whether ReadLine would return without reading.
func (r *Reader) HasLine() bool { return bytes.IndexByte(r.Buffered(), '\n') >= 0 }

// Discard takes n buffered bytes.
func (r *Reader) Discard(n int) { r.r += n }

// Fill reads once into the free part of the buffer.
func (r *Reader) Fill() (int, error) {
	if r.r == r.w {
		r.r, r.w = 0, 0
		if !r.lent {
			r.buf = r.small
		}
	} else if r.w == len(r.buf) {
		r.w = copy(r.buf, r.buf[r.r:r.w])
		r.r = 0
	}
	if r.w == len(r.buf) {
		return 0, io.ErrShortBuffer
	}
	n, err := r.src.Read(r.buf[r.w:])
	r.w += n
	if n > 0 {
		return n, nil // the error, if any, comes again
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return 0, err
}

// Borrow makes the reader work on big, which must be longer than what is buffered,
// until Release. It does nothing when a buffer is borrowed already.
func (r *Reader) Borrow(big []byte) {
	if r.lent || r.w-r.r > len(big) {
		return
	}
	r.w = copy(big, r.buf[r.r:r.w])
	r.r, r.buf, r.lent = 0, big, true
}

// Borrowed reports whether the reader works on a borrowed buffer.
func (r *Reader) Borrowed() bool { return r.lent }

// Release gives the borrowed buffer back, or nil if there is none or if it holds more
// than the reader's own could.
func (r *Reader) Release() []byte {
	if !r.lent || r.w-r.r > len(r.small) {
		return nil
	}
	big := r.buf
	r.w = copy(r.small, r.buf[r.r:r.w])
	r.r, r.buf, r.lent = 0, r.small, false
	return big
}

// ReadLine returns the next line of up to limit bytes with its end, without that end:
// CRLF, or the bare LF that some clients and servers send. bare says which. The slice is
// valid until the next call of another method. After an error of the source it can be
// called again: what was read is kept.
func (r *Reader) ReadLine(limit int) (line []byte, bare bool, err error) {
	for {
		unread := r.Buffered()
		i := bytes.IndexByte(unread, '\n')
		if i+1 > limit || i < 0 && len(unread) >= limit {
			return nil, false, ErrLineTooLong
		}
		if i >= 0 {
			r.r += i + 1
			line = unread[:i]
			if i > 0 && line[i-1] == '\r' {
				return line[:i-1], false, nil
			}
			return line, true, nil
		}
		if len(unread) == len(r.buf) {
			r.grow(limit)
		}
		if _, err := r.Fill(); err != nil {
			return nil, false, err
		}
	}
}

// grow moves to a buffer that can hold the longest line.
func (r *Reader) grow(limit int) {
	bigger := make([]byte, max(limit, len(r.buf)+1))
	r.w = copy(bigger, r.buf[r.r:r.w])
	r.r, r.buf, r.lent = 0, bigger, false
}
