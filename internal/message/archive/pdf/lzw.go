package pdf

import (
	"bufio"
	"io"
)

// The codes of LZW (ISO 32000-1 §7.4.4.2) that are no data.
const (
	lzwClear = 256
	lzwEnd   = 257
	lzwFirst = 258
	lzwBits  = 12
)

// lzw decodes LZWDecode with the usual early change of the code length, which the
// standard library's compress/lzw does not know.
type lzw struct {
	in     *bufio.Reader
	acc    uint32
	bits   uint
	width  uint
	next   int // code that comes next
	last   int // code that came before, -1 for none
	prefix [1 << lzwBits]uint16
	suffix [1 << lzwBits]byte
	out    []byte // not read yet
	buf    [1 << lzwBits]byte
	done   bool
}

func newLZW(in *bufio.Reader) *lzw { return &lzw{in: in, width: 9, next: lzwFirst, last: -1} }

func (l *lzw) Read(p []byte) (int, error) {
	for len(l.out) == 0 {
		if l.done {
			return 0, io.EOF
		}
		if err := l.step(); err != nil {
			return 0, err
		}
	}
	n := copy(p, l.out)
	l.out = l.out[n:]
	return n, nil
}

// code reads the next code.
func (l *lzw) code() (int, error) {
	for l.bits < l.width {
		b, err := l.in.ReadByte()
		if err != nil {
			return 0, err
		}
		l.acc = l.acc<<8 | uint32(b)
		l.bits += 8
	}
	l.bits -= l.width
	return int(l.acc >> l.bits & (1<<l.width - 1)), nil
}

// step decodes one code.
func (l *lzw) step() error {
	c, err := l.code()
	if err != nil {
		return err
	}
	switch {
	case c == lzwClear:
		l.width, l.next, l.last = 9, lzwFirst, -1
		return nil
	case c == lzwEnd:
		l.done = true
		return nil
	case c > l.next || c == l.next && l.last < 0:
		return io.ErrUnexpectedEOF
	}
	// The string of a code is found from its end.
	at, walk := len(l.buf), c
	if c == l.next {
		at--
		walk = l.last
	}
	for walk >= lzwFirst && at > 1 {
		at--
		l.buf[at] = l.suffix[walk]
		walk = int(l.prefix[walk])
	}
	at--
	l.buf[at] = byte(walk)
	if c == l.next {
		l.buf[len(l.buf)-1] = byte(walk)
	}
	if l.last >= 0 && l.next < 1<<lzwBits {
		l.prefix[l.next], l.suffix[l.next] = uint16(l.last), byte(walk)
		l.next++
		if l.next+1 >= 1<<l.width && l.width < lzwBits {
			l.width++
		}
	}
	l.last = c
	l.out = l.buf[at:]
	return nil
}
