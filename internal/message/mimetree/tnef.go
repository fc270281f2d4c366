package mimetree

import (
	"encoding/binary"
	"errors"
	"fmt"

	"gatepost/internal/mail"
)

// Attributes of a winmail.dat, as [MS-OXTNEF] §2.1.3 numbers them: the type in
// the upper half, the number in the lower.
const (
	tnefMAPIProps  = 0x00069003
	tnefRendData   = 0x00069002 // begins an attachment
	tnefTitle      = 0x00018010
	tnefData       = 0x0006800f
	tnefAttachment = 0x00069005 // MAPI properties of an attachment
)

// MAPI properties ([MS-OXPROPS]) that hold names and content.
const (
	propAttachData     = 0x3701
	propAttachExt      = 0x3703
	propAttachName     = 0x3704
	propAttachLongName = 0x3707
	propTransportName  = 0x370c
	propDisplayName    = 0x3001
	propBodyHTML       = 0x1013
	propBody           = 0x1000
)

// MAPI property types whose values are not of a fixed size.
const (
	mapiObject  = 0x000d
	mapiString8 = 0x001e
	mapiUnicode = 0x001f
	mapiBinary  = 0x0102
	mapiMulti   = 0x1000 // flag
)

// tnefFile is one file in a winmail.dat.
type tnefFile struct {
	names []string
	spans []mail.Span
}

// errTNEF says that the structure does not hold.
var errTNEF = errors.New("broken structure")

// maxTNEF bounds the files and properties of one winmail.dat.
const (
	maxTNEFFiles = 500
	maxTNEFProps = 20_000
)

// tnefReader walks through a winmail.dat.
type tnefReader struct {
	body  mail.Body
	off   int64
	end   int64
	props int
	buf   [8]byte
	files []tnefFile
	// texts are bodies of the message itself.
	texts []mail.Span
}

// readTNEF lists what is in a winmail.dat. Errors of the body come back as they
// are; where the structure does not hold, what was found before comes with
// errTNEF.
func readTNEF(body mail.Body) (*tnefReader, error) {
	r := &tnefReader{body: body, off: 6, end: body.Size()}
	for r.off < r.end {
		if err := r.attribute(); err != nil {
			return r, err
		}
	}
	return r, nil
}

// uint reads a little-endian number of n bytes.
func (r *tnefReader) uint(n int) (uint32, error) {
	if r.off+int64(n) > r.end {
		return 0, errTNEF
	}
	clear(r.buf[:])
	if err := readFull(r.body, r.buf[:n], r.off); err != nil {
		return 0, err
	}
	r.off += int64(n)
	return binary.LittleEndian.Uint32(r.buf[:4]), nil
}

// take returns the span of the next n bytes.
func (r *tnefReader) take(n uint32) (mail.Span, error) {
	if int64(n) > r.end-r.off {
		return mail.Span{}, errTNEF
	}
	s := mail.Span{Start: r.off, End: r.off + int64(n)}
	r.off = s.End
	return s, nil
}

// attribute reads a level, a number, a length, that many bytes and a check sum.
func (r *tnefReader) attribute() error {
	if _, err := r.uint(1); err != nil {
		return err
	}
	id, err := r.uint(4)
	if err != nil {
		return err
	}
	size, err := r.uint(4)
	if err != nil {
		return err
	}
	data, err := r.take(size)
	if err != nil {
		// What is cut off may still be opened.
		data = mail.Span{Start: r.off, End: r.end}
		r.off = r.end
		if id == tnefData {
			r.addSpan(data)
		}
		return err
	}
	next := data.End + 2
	switch id {
	case tnefRendData:
		if len(r.files) >= maxTNEFFiles {
			return errTNEF
		}
		r.files = append(r.files, tnefFile{})
	case tnefTitle:
		if err = r.addName(data, false); err != nil {
			return err
		}
	case tnefData:
		r.addSpan(data)
	case tnefAttachment, tnefMAPIProps:
		if err = r.mapi(data, id == tnefAttachment); err != nil {
			return err
		}
	}
	r.off = next
	return nil
}

// file returns the file that attributes are about.
func (r *tnefReader) file() *tnefFile {
	if len(r.files) == 0 {
		r.files = append(r.files, tnefFile{})
	}
	return &r.files[len(r.files)-1]
}

func (r *tnefReader) addSpan(s mail.Span) { r.file().spans = append(r.file().spans, s) }

func (r *tnefReader) addName(s mail.Span, wide bool) error {
	b := make([]byte, min(s.End-s.Start, maxNameText))
	if err := readFull(r.body, b, s.Start); err != nil {
		return err
	}
	name := decodeCharset("", b)[0]
	if wide {
		name = decode16(b, true)
	}
	if name, _, _ = stringCut([]byte(name), 0); name != "" && len(r.file().names) < 16 {
		r.file().names = append(r.file().names, name)
	}
	return nil
}

// mapi reads a list of MAPI properties.
func (r *tnefReader) mapi(data mail.Span, attachment bool) error {
	sub := tnefReader{body: r.body, off: data.Start, end: data.End}
	count, err := sub.uint(4)
	if err != nil {
		return err
	}
	for range count {
		if r.props++; r.props > maxTNEFProps {
			return errTNEF
		}
		kind, err := sub.uint(2)
		if err != nil {
			return err
		}
		id, err := sub.uint(2)
		if err != nil {
			return err
		}
		if id >= 0x8000 {
			if err := sub.skipPropName(); err != nil {
				return err
			}
		}
		values, err := sub.propValues(kind)
		if err != nil {
			return err
		}
		if err := r.property(id, kind, values, attachment); err != nil {
			return err
		}
	}
	return nil
}

// skipPropName skips the GUID and the number or text that name a property.
func (r *tnefReader) skipPropName() error {
	if _, err := r.take(16); err != nil {
		return err
	}
	kind, err := r.uint(4)
	if err != nil {
		return err
	}
	n := uint32(4)
	if kind == 1 {
		if n, err = r.uint(4); err != nil {
			return err
		}
		n = padded(n)
	}
	_, err = r.take(n)
	return err
}

func padded(n uint32) uint32 { return n + (4-n%4)%4 }

// propValues returns the values of a property.
func (r *tnefReader) propValues(kind uint32) ([]mail.Span, error) {
	count, err := uint32(1), error(nil)
	base := kind &^ mapiMulti
	variable := base == mapiObject || base == mapiString8 || base == mapiUnicode || base == mapiBinary
	if variable || kind&mapiMulti != 0 {
		if count, err = r.uint(4); err != nil {
			return nil, err
		}
	}
	var list []mail.Span
	for i := uint32(0); i < count; i++ {
		n := fixedSize(base)
		if variable {
			if n, err = r.uint(4); err != nil {
				return nil, err
			}
		}
		if n == 0 && !variable {
			return nil, errTNEF
		}
		s, err := r.take(n)
		if err != nil {
			return nil, err
		}
		r.off = min(r.end, s.Start+int64(padded(n)))
		if len(list) < 16 {
			list = append(list, s)
		}
	}
	return list, nil
}

// fixedSize is the size of a value as it stands, padded; 0 for unknown types.
func fixedSize(kind uint32) uint32 {
	switch kind {
	case 0x0002, 0x0003, 0x0004, 0x000a, 0x000b:
		return 4
	case 0x0005, 0x0006, 0x0007, 0x0014, 0x0040:
		return 8
	case 0x0048:
		return 16
	}
	return 0
}

func (r *tnefReader) property(id, kind uint32, values []mail.Span, attachment bool) error {
	for _, s := range values {
		switch {
		case !attachment && (id == propBodyHTML || id == propBody):
			r.texts = append(r.texts, s)
		case !attachment:
		case id == propAttachData && kind == mapiObject:
			// A GUID stands in front of an object.
			r.addSpan(mail.Span{Start: min(s.Start+16, s.End), End: s.End})
		case id == propAttachData:
			r.addSpan(s)
		case id == propAttachExt, id == propAttachName, id == propAttachLongName, id == propTransportName, id == propDisplayName:
			if err := r.addName(s, kind == mapiUnicode); err != nil {
				return err
			}
		}
	}
	return nil
}

// tnefContent adds what is in a winmail.dat.
func (b *builder) tnefContent(s *source, p *Part, c *Content, depth int) error {
	if !b.room(entity{parent: p, depth: depth + 1}) || !b.spend(p, c.encodedSize()) {
		return nil
	}
	body, err := c.OpenAt(b.ctx)
	if err != nil {
		return err
	}
	r, err := readTNEF(body)
	if errors.Is(err, errTNEF) {
		b.note(symTNEF, p, "winmail.dat: %v", err)
	} else if err != nil {
		return fmt.Errorf("read winmail.dat: %w", err)
	}
	inner := &source{body: body, outer: c, parts: map[int64][]*Part{}, depth: depth + 1}
	for _, t := range r.texts {
		r.files = append(r.files, tnefFile{spans: []mail.Span{t}})
	}
	for _, f := range r.files {
		if err := b.tnefFile(inner, p, f); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) tnefFile(s *source, parent *Part, f tnefFile) error {
	for _, span := range f.spans {
		at := entity{start: span.Start, end: span.End, parent: parent, reading: Embedded, depth: s.depth}
		if !b.room(at) {
			return nil
		}
		p := b.newPart(s, at, span)
		p.Types = []string{octetStream}
		for _, name := range f.names {
			p.addName("tnef", name)
		}
		c := b.content(s, span, Identity)
		c.Main = true
		if !b.spend(p, c.encodedSize()) {
			return nil
		}
		p.Contents = append(p.Contents, c)
		if err := b.inspectSection(s, p, c); err != nil {
			return err
		}
	}
	return nil
}

// inspectSection looks at a file that is a stretch of a decoded content: a
// message or another winmail.dat.
func (b *builder) inspectSection(s *source, p *Part, c *Content) error {
	start, err := head(c, sniffSize)
	if err != nil || len(start) == 0 {
		return err
	}
	c.Types = Sniff(start)
	switch {
	case c.Types[0] == typeTNEF:
		return b.tnefContent(s, p, c, s.depth)
	case c.Types[0] == typeMessage || isMessageFile(p):
		body, err := c.OpenAt(b.ctx)
		if err != nil {
			return err
		}
		return b.inner(body, p, c, innerPlan{message: true, depth: s.depth + 1})
	}
	return nil
}
