package oledoc

import (
	"bufio"
	"encoding/binary"
	"io"
)

// Object is an embedded file.
type Object struct {
	// Class is the class name of an OLE 1 object: "Package", "Equation.3".
	Class string
	// Names are the label and the paths that a package gives.
	Names []string
	// Linked says that the content stands elsewhere.
	Linked bool
	// Start and Size are where the content stands in what was read.
	Start, Size int64
}

// maxString bounds the strings of an object, in bytes.
const maxString = 4 << 10

// parser reads little-endian values and counts.
type parser struct {
	r   *bufio.Reader
	n   int64
	err error
}

func newParser(r io.Reader) *parser { return &parser{r: bufio.NewReader(r)} }

func (p *parser) bytes(n int) []byte {
	b := make([]byte, n)
	if p.err == nil {
		var got int
		got, p.err = io.ReadFull(p.r, b)
		p.n += int64(got)
	}
	return b
}

func (p *parser) uint32() int64 { return int64(binary.LittleEndian.Uint32(p.bytes(4))) }

// text reads up to a NUL.
func (p *parser) text() string {
	var b []byte
	for p.err == nil && len(b) < maxString {
		c := p.bytes(1)[0]
		if c == 0 {
			return string(b)
		}
		b = append(b, c)
	}
	if p.err == nil {
		p.err = ErrCorrupt
	}
	return ""
}

// counted reads a string with its length in front.
func (p *parser) counted() string {
	n := p.uint32()
	if n > maxString {
		p.err = ErrCorrupt
	}
	if p.err != nil || n == 0 {
		return ""
	}
	b := p.bytes(int(n))
	if b[n-1] == 0 {
		b = b[:n-1]
	}
	return string(b)
}

// Native reads the stream Ole10Native, or the native data of a package, which
// have the same form but for the size in front (withSize).
func Native(r io.Reader, size int64, withSize bool) (*Object, error) {
	p := newParser(r)
	if withSize {
		p.uint32()
	}
	head := p.n
	o := &Object{}
	if kind := binary.LittleEndian.Uint16(p.bytes(2)); p.err == nil && kind == 2 {
		o.add(p.text())
		o.add(p.text())
		p.bytes(4)
		o.add(p.counted())
		o.Size = p.uint32()
		o.Start = p.n
		if p.err == nil && o.Start+o.Size <= size {
			return o, nil
		}
		if p.err == nil && o.Start < size && len(o.Names) > 0 {
			o.Size = size - o.Start
			return o, nil
		}
	}
	if p.err != nil && p.err != io.EOF && p.err != io.ErrUnexpectedEOF && p.err != ErrCorrupt {
		return nil, p.err
	}
	// Some programs put the content there as it is.
	return &Object{Start: head, Size: max(0, size-head)}, nil
}

func (o *Object) add(name string) {
	if name != "" {
		o.Names = append(o.Names, name)
	}
}

// OLE1 reads an object as RTF holds it ([MS-OLEDS] §2.2.5): the presentation data
// that may follow is left out. Without an object at the beginning the error is
// ErrCorrupt.
func OLE1(r io.Reader, size int64) (*Object, error) {
	p := newParser(r)
	const linked, embedded = 1, 2
	p.uint32() // version, which readers ignore
	format := p.uint32()
	if p.err == nil && format != linked && format != embedded {
		return nil, ErrCorrupt
	}
	o := &Object{Class: p.counted(), Linked: format == linked}
	o.add(p.counted()) // topic: the file that is linked to
	o.add(p.counted()) // item
	if p.err != nil {
		return nil, orCorrupt(p.err)
	}
	if o.Linked {
		return o, nil
	}
	o.Size = p.uint32()
	o.Start = p.n
	if p.err != nil {
		return nil, orCorrupt(p.err)
	}
	o.Size = min(o.Size, size-o.Start)
	return o, nil
}

func orCorrupt(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return ErrCorrupt
	}
	return err
}
