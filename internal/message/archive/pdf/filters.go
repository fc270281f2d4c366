package pdf

import (
	"bufio"
	"compress/flate"
	"encoding/ascii85"
	"errors"
	"fmt"
	"io"
)

// ErrFilter says that a stream is packed in a way that is not supported.
var ErrFilter = errors.New("pdf: filter not supported")

// maxFilters bounds how many filters a stream goes through, maxBetween what one
// may give to the next, in bytes.
const (
	maxFilters = 4
	maxBetween = 256 << 20
)

// filters returns the names of the filters of a stream.
func (d dict) filters() []name {
	v := d["Filter"]
	if v == nil {
		v = d["F"]
	}
	switch v := v.(type) {
	case name:
		return []name{v}
	case array:
		var list []name
		for _, n := range v {
			if n, ok := n.(name); ok {
				list = append(list, n)
			}
		}
		return list
	}
	return nil
}

// decode applies the filters of a stream (ISO 32000-1 §7.4). Those for images
// are not: what they give is no file.
func decode(r io.Reader, filters []name) (io.Reader, error) {
	if len(filters) > maxFilters {
		return nil, fmt.Errorf("%w: %d filters", ErrFilter, len(filters))
	}
	for i, f := range filters {
		if i > 0 {
			r = io.LimitReader(r, maxBetween)
		}
		in := bufio.NewReader(r)
		switch f {
		case "FlateDecode", "Fl":
			r = inflate(in)
		case "ASCIIHexDecode", "AHx":
			r = &hexReader{in: in}
		case "ASCII85Decode", "A85":
			r = ascii85.NewDecoder(&ascii85Text{in: in})
		case "RunLengthDecode", "RL":
			r = &runLength{in: in}
		case "LZWDecode", "LZW":
			r = newLZW(in)
		case "Crypt":
		default:
			return nil, fmt.Errorf("%w: %s", ErrFilter, f)
		}
	}
	return r, nil
}

// inflate reads zlib data (RFC 1950) without its check sum, which readers ignore.
func inflate(in *bufio.Reader) io.Reader {
	h, err := in.Peek(2)
	for err == nil && (h[0] == '\r' || h[0] == '\n') {
		// A line end too many before the data.
		_, _ = in.Discard(1)
		h, err = in.Peek(2)
	}
	if err == nil && h[0]&0x0f == 8 && (uint(h[0])<<8|uint(h[1]))%31 == 0 {
		_, _ = in.Discard(2)
	}
	return flate.NewReader(in)
}

// hexReader decodes ASCIIHexDecode.
type hexReader struct{ in *bufio.Reader }

func (h *hexReader) Read(p []byte) (int, error) {
	for i := range p {
		b, ok, err := h.pair()
		if err != nil {
			return i, err
		}
		if !ok {
			return i, io.EOF
		}
		p[i] = b
	}
	return len(p), nil
}

func (h *hexReader) pair() (b byte, ok bool, err error) {
	digits := 0
	for digits < 2 {
		c, err := h.in.ReadByte()
		if c == '>' || err == io.EOF {
			// An odd digit at the end has a zero behind it.
			return b << (4 * digits % 8), digits > 0, nil
		}
		if err != nil {
			return 0, false, err
		}
		if v := hexValue(int(c)); v >= 0 {
			b, digits = b<<4|byte(v), digits+1
		}
	}
	return b, true, nil
}

// ascii85Text drops what the decoder of the standard library does not know: the
// end mark and all that follows it.
type ascii85Text struct {
	in   *bufio.Reader
	done bool
}

func (a *ascii85Text) Read(p []byte) (int, error) {
	for i := range p {
		c, err := a.in.ReadByte()
		if err == nil && c == '~' {
			a.done = true
		}
		if a.done {
			return i, io.EOF
		}
		if err != nil {
			return i, err
		}
		p[i] = c
	}
	return len(p), nil
}

// runLength decodes RunLengthDecode.
type runLength struct {
	in   *bufio.Reader
	copy int // bytes to take as they are
	run  int // times that b comes
	b    byte
}

func (r *runLength) Read(p []byte) (int, error) {
	for i := range p {
		for r.copy == 0 && r.run == 0 {
			n, err := r.in.ReadByte()
			if err != nil {
				return i, err
			}
			const end = 128
			switch {
			case n == end:
				return i, io.EOF
			case n < end:
				r.copy = int(n) + 1
			default:
				r.run = 257 - int(n)
				if r.b, err = r.in.ReadByte(); err != nil {
					return i, err
				}
			}
		}
		if r.run > 0 {
			p[i] = r.b
			r.run--
			continue
		}
		b, err := r.in.ReadByte()
		if err != nil {
			return i, err
		}
		p[i] = b
		r.copy--
	}
	return len(p), nil
}
