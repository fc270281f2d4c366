package smtp

import (
	"bytes"
	"errors"
	"io"
)

// Errors of LineReader.ReadLine. After ErrLineTooLong the reader stands at the
// start of the next line; after the others it is not known where commands start,
// so the session must end.
var (
	ErrLineTooLong  = errors.New("line too long")
	ErrLineFlood    = errors.New("line too long to skip")
	ErrStrayLineEnd = errors.New("bare CR or LF in line")
)

// maxSkip is how many bytes of an over-long line are read and thrown away in
// search of its end.
const maxSkip = 64 << 10

// LineReader reads command lines, and in between gives access to what is buffered
// so that mail data can be read without another copy. It holds one small buffer,
// which grows up to the line limit only while a longer line needs it, and can work
// on a borrowed larger one for bulk data.
type LineReader struct {
	src   io.Reader
	small []byte // its own buffer
	buf   []byte // the buffer in use: small, a grown one, or a borrowed one
	r, w  int    // buf[r:w] is unread
	limit int
	lent  bool // buf is borrowed
}

// NewLineReader returns a reader with a buffer of size bytes that takes lines of
// up to limit bytes, CRLF included.
func NewLineReader(src io.Reader, size, limit int) *LineReader {
	small := make([]byte, size)
	return &LineReader{src: src, small: small, buf: small, limit: max(limit, size)}
}

// SetLimit changes the longest line that ReadLine returns, CRLF included.
func (l *LineReader) SetLimit(n int) { l.limit = max(n, len(l.small)) }

// Buffered returns the bytes that were read from the source and not yet taken. The
// slice is valid until the next call of another method.
func (l *LineReader) Buffered() []byte { return l.buf[l.r:l.w] }

// HasLine reports whether ReadLine would return without reading from the source.
func (l *LineReader) HasLine() bool { return bytes.IndexByte(l.buf[l.r:l.w], '\n') >= 0 }

// Discard takes n buffered bytes.
func (l *LineReader) Discard(n int) { l.r += n }

// Fill reads once from the source into the free part of the buffer.
func (l *LineReader) Fill() (int, error) {
	if l.r == l.w {
		l.r, l.w = 0, 0
		if !l.lent {
			l.buf = l.small
		}
	} else if l.w == len(l.buf) {
		l.w = copy(l.buf, l.buf[l.r:l.w])
		l.r = 0
	}
	if l.w == len(l.buf) {
		return 0, io.ErrShortBuffer
	}
	n, err := l.src.Read(l.buf[l.w:])
	l.w += n
	if n > 0 {
		// The error, if any, comes again with the next read.
		return n, nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return 0, err
}

// Borrow makes the reader work on big, which must be longer than what is
// buffered, until Release. It does nothing when a buffer is borrowed already.
func (l *LineReader) Borrow(big []byte) {
	if l.lent {
		return
	}
	l.w = copy(big, l.buf[l.r:l.w])
	l.r, l.buf, l.lent = 0, big, true
}

// Borrowed reports whether the reader works on a borrowed buffer.
func (l *LineReader) Borrowed() bool { return l.lent }

// Release gives the borrowed buffer back, or nil if there is none or if it holds
// more than the reader's own buffer could.
func (l *LineReader) Release() []byte {
	if !l.lent || l.w-l.r > len(l.small) {
		return nil
	}
	big := l.buf
	l.w = copy(l.small, l.buf[l.r:l.w])
	l.r, l.buf, l.lent = 0, l.small, false
	return big
}

// ReadLine returns the next line without its CRLF. The slice is valid until the
// next call of another method. Only CRLF ends a line (RFC 5321 §2.3.8): a bare LF
// or a CR within the line is ErrStrayLineEnd, because another program on the way
// may have taken it for the end of a command.
func (l *LineReader) ReadLine() ([]byte, error) {
	for {
		unread := l.buf[l.r:l.w]
		if i := bytes.IndexByte(unread, '\n'); i >= 0 {
			l.r += i + 1
			if i+1 > l.limit {
				return nil, endOfLine(unread[:i+1], ErrLineTooLong)
			}
			return unread[:max(i-1, 0)], endOfLine(unread[:i+1], nil)
		}
		if len(unread) >= l.limit {
			return nil, l.skipLine()
		}
		if len(unread) == len(l.buf) {
			l.grow()
		}
		if _, err := l.Fill(); err != nil {
			return nil, err
		}
	}
}

// endOfLine returns err for a line that ends with the only CR and the only LF in
// it.
func endOfLine(line []byte, err error) error {
	if len(line) < 2 || bytes.IndexByte(line, '\r') != len(line)-2 {
		return ErrStrayLineEnd
	}
	return err
}

// grow moves to a buffer that can hold the longest line.
func (l *LineReader) grow() {
	bigger := make([]byte, max(l.limit, len(l.buf)+1))
	l.w = copy(bigger, l.buf[l.r:l.w])
	l.r, l.buf, l.lent = 0, bigger, false
}

// skipLine throws the rest of an over-long line away.
func (l *LineReader) skipLine() error {
	skipped, endsCR := 0, false
	for skipped < maxSkip {
		unread := l.buf[l.r:l.w]
		i := bytes.IndexByte(unread, '\n')
		part := unread
		if i >= 0 {
			part = unread[:i]
		}
		cr := bytes.IndexByte(part, '\r')
		if endsCR && len(part) > 0 || cr >= 0 && cr != len(part)-1 {
			l.r = l.w
			return ErrStrayLineEnd
		}
		endsCR = endsCR || cr >= 0
		if i >= 0 {
			l.r += i + 1
			if !endsCR {
				return ErrStrayLineEnd
			}
			return ErrLineTooLong
		}
		skipped += len(unread)
		l.r = l.w
		if _, err := l.Fill(); err != nil {
			return err
		}
	}
	return ErrLineFlood
}
