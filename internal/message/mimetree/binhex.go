package mimetree

import (
	"bytes"
	"encoding/binary"
)

// The forks of a BinHex file, as variants of the encoding.
const (
	binhexData     = ""
	binhexResource = "resource fork"
	binhexHeader   = "header"
)

// binhexValues has the value of each character of BinHex 4.0 plus one (RFC 1741 §4,
// appendix A).
var binhexValues = [256]byte{
	'!': 1, '"': 2, '#': 3, '$': 4, '%': 5, '&': 6, '\'': 7, '(': 8, ')': 9, '*': 10, '+': 11, ',': 12, '-': 13,
	'0': 14, '1': 15, '2': 16, '3': 17, '4': 18, '5': 19, '6': 20, '8': 21, '9': 22,
	'@': 23, 'A': 24, 'B': 25, 'C': 26, 'D': 27, 'E': 28, 'F': 29, 'G': 30, 'H': 31, 'I': 32, 'J': 33, 'K': 34, 'L': 35, 'M': 36, 'N': 37,
	'P': 38, 'Q': 39, 'R': 40, 'S': 41, 'T': 42, 'U': 43, 'V': 44, 'X': 45, 'Y': 46, 'Z': 47, '[': 48,
	'`': 49, 'a': 50, 'b': 51, 'c': 52, 'd': 53, 'e': 54, 'f': 55, 'h': 56, 'i': 57, 'j': 58, 'k': 59, 'l': 60, 'm': 61, 'p': 62, 'q': 63, 'r': 64,
}

// binhexMaxHeader is the longest header there is: a name of 255 bytes, and 22.
const binhexMaxHeader = 1 + 255 + 21

// binhexCodec decodes BinHex 4.0: characters of 6 bits, then runs, then a header,
// a data fork and a resource fork, each with a check sum. It gives one of them.
type binhexCodec struct {
	fork string

	begun   bool
	acc     uint32
	bits    int
	escaped bool // the last byte was 0x90
	prev    byte
	header  [binhexMaxHeader]byte
	at      int // bytes of the header so far
	data    int64
	rsrc    int64
	pos     int64 // behind the header
}

func (c *binhexCodec) clone() codec { d := *c; return &d }

func (c *binhexCodec) decode(dst, src []byte, _ bool) ([]byte, int, bool) {
	start := len(dst)
	for i, ch := range src {
		if !c.begun {
			// The text in front has no colon at the start of a line.
			c.begun = ch == ':' && (i == 0 || src[i-1] == '\n' || src[i-1] == '\r' || src[i-1] == ' ')
			continue
		}
		v := binhexValues[ch]
		if v == 0 {
			if ch == ':' {
				return dst, i + 1, true
			}
			continue
		}
		c.acc, c.bits = c.acc<<6|uint32(v-1), c.bits+6
		if c.bits < 8 {
			continue
		}
		c.bits -= 8
		var done bool
		if dst, done = c.unrun(dst, byte(c.acc>>c.bits)); done || len(dst)-start > maxExpansion {
			return dst, i + 1, done
		}
	}
	return dst, len(src), false
}

// unrun undoes runs: 0x90 and a count repeat the byte before, 0x90 and zero are
// 0x90 itself.
func (c *binhexCodec) unrun(dst []byte, b byte) (out []byte, done bool) {
	switch {
	case c.escaped && b == 0:
		c.escaped, c.prev = false, 0x90
		return c.put(dst, 0x90)
	case c.escaped:
		c.escaped = false
		for range int(b) - 1 {
			if dst, done = c.put(dst, c.prev); done {
				return dst, true
			}
		}
		return dst, false
	case b == 0x90:
		c.escaped = true
		return dst, false
	}
	c.prev = b
	return c.put(dst, b)
}

// put takes one byte of the file.
func (c *binhexCodec) put(dst []byte, b byte) (out []byte, done bool) {
	if c.at < c.headerSize() {
		c.header[c.at] = b
		c.at++
		if c.at == c.headerSize() {
			lengths := c.header[c.at-10:]
			c.data, c.rsrc = int64(binary.BigEndian.Uint32(lengths)), int64(binary.BigEndian.Uint32(lengths[4:]))
			if c.fork == binhexHeader {
				return append(dst, c.header[:c.at]...), true
			}
		}
		return dst, false
	}
	start, end := int64(0), c.data
	if c.fork == binhexResource {
		start, end = c.data+2, c.data+2+c.rsrc
	}
	if c.pos >= start && c.pos < end {
		dst = append(dst, b)
	}
	c.pos++
	return dst, c.pos >= end
}

// headerSize is the length of the name, the name, a version, type, creator,
// flags, two lengths and a check sum.
func (c *binhexCodec) headerSize() int {
	if c.at == 0 {
		return 1
	}
	return 1 + int(c.header[0]) + 1 + 4 + 4 + 2 + 4 + 4 + 2
}

// binhexInfo takes the header apart.
func binhexInfo(header []byte) (name string, resource bool) {
	n := int(header[0])
	name, _, _ = stringCut(header[1:1+n], 0)
	lengths := header[len(header)-10:]
	return name, binary.BigEndian.Uint32(lengths[4:]) > 0
}

func stringCut(b []byte, sep byte) (before, after string, found bool) {
	x, y, ok := bytes.Cut(b, []byte{sep})
	return string(x), string(y), ok
}
