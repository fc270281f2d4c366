// Package rtf reads what an RTF document hides between its groups: the data of
// embedded objects, field instructions and the template. It reads as Word does,
// not as the specification says: hexadecimal data may be broken by blanks, groups
// and control words, and headers of groups may be missing.
//
// Invariants:
//   - The document is read once as a stream; memory is bounded by maxDepth groups
//     and the text that is kept of one of them.
//   - Decoded data goes to the caller's writer as it comes; its error ends the
//     reading.
package rtf

import (
	"bufio"
	"io"
	"strconv"
	"strings"
)

// Events are called as things are found. Nil functions are not called.
type Events struct {
	// Object begins the data of an embedded object.
	Object func() (io.Writer, error)
	// End ends it. Class is what \objclass says, "" for nothing.
	End func(class string) error
	// Field is called with the instruction of a field.
	Field func(instruction string)
	// Template is called with the path of the document's template.
	Template func(path string)
}

// Limits of the parser.
const (
	maxDepth = 10_000
	maxText  = 8 << 10 // bytes kept of a text
	maxWord  = 64      // letters of a control word
)

// destination is what the text of a group is for.
type destination uint8

const (
	body     destination = iota
	ignored              // a destination that is not shown
	data                 // \objdata
	class                // \objclass
	field                // \fldinst
	template             // \template
)

// destinations maps control words to what follows them in their group.
var destinations = map[string]destination{
	"objdata": data, "objclass": class, "fldinst": field, "template": template,
	"fldrslt": body, "result": body, "objname": ignored,
}

type group struct {
	dest destination
	// opened says that the destination began with this group, so ends with it.
	opened bool
	// skip is how many characters follow each \u for older readers.
	skip int
}

type parser struct {
	in     *bufio.Reader
	events Events

	groups []group
	deeper int // groups below maxDepth
	now    group
	star   bool // \* came, and its control word comes next
	toSkip int  // characters that stand for a \u

	text  strings.Builder // of class, field or template
	class string

	out     io.Writer // of data
	high    int       // the first half of a byte, -1 for none
	pending []byte
}

// Read reads a document. Errors are those of r and of the events.
func Read(r io.Reader, e Events) error {
	p := &parser{in: bufio.NewReaderSize(r, 32<<10), events: e, now: group{skip: 1}, high: -1}
	for {
		c, err := p.in.ReadByte()
		if err == nil {
			err = p.char(c)
		}
		if err == io.EOF {
			// What is open at the end counts as closed.
			return p.leave()
		}
		if err != nil {
			return err
		}
	}
}

func (p *parser) char(c byte) error {
	switch c {
	case '{':
		p.star = false
		if len(p.groups) >= maxDepth {
			p.deeper++
			return nil
		}
		p.groups = append(p.groups, p.now)
		p.now.opened = false
		return nil
	case '}':
		p.star = false
		if p.deeper > 0 {
			p.deeper--
			return nil
		}
		return p.closeGroup()
	case '\\':
		return p.control()
	case '\r', '\n':
		return nil
	}
	return p.literal(c)
}

func (p *parser) closeGroup() error {
	if p.now.opened {
		if err := p.leave(); err != nil {
			return err
		}
	}
	if n := len(p.groups); n > 0 {
		p.now, p.groups = p.groups[n-1], p.groups[:n-1]
	}
	return nil
}

// literal takes a character of text.
func (p *parser) literal(c byte) error {
	if p.toSkip > 0 {
		p.toSkip--
		return nil
	}
	switch p.now.dest {
	case data:
		return p.hex(c)
	case class, field, template:
		if p.text.Len() < maxText {
			p.text.WriteByte(c)
		}
	}
	return nil
}

// hex takes one digit of the data of an object; whatever else stands there is
// skipped, as Word does.
func (p *parser) hex(c byte) error {
	v := hexValue(c)
	if v < 0 || p.out == nil {
		return nil
	}
	if p.high < 0 {
		p.high = v
		return nil
	}
	p.pending = append(p.pending, byte(p.high<<4|v))
	p.high = -1
	if len(p.pending) >= 4<<10 {
		return p.flush()
	}
	return nil
}

func hexValue(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

func (p *parser) flush() error {
	_, err := p.out.Write(p.pending)
	p.pending = p.pending[:0]
	return err
}

// control reads what follows a backslash.
func (p *parser) control() error {
	c, err := p.in.ReadByte()
	if err != nil {
		return err
	}
	switch {
	case isLetter(c):
		return p.word(c)
	case c == '\'':
		return p.quoted()
	case c == '*':
		p.star = true
		return nil
	case c == '\\', c == '{', c == '}':
		return p.literal(c)
	case c == '~':
		return p.literal(' ')
	}
	return nil
}

// quoted reads the two digits of \'xx. In the data of an object they are no data.
func (p *parser) quoted() error {
	v := 0
	for range 2 {
		b, err := p.in.Peek(1)
		if err != nil || hexValue(b[0]) < 0 {
			return nil
		}
		v = v<<4 | hexValue(b[0])
		_, _ = p.in.Discard(1) // it was peeked
	}
	if p.now.dest == data {
		return nil
	}
	return p.literal(byte(v))
}

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

// word reads a control word, its number and the blank that ends it.
func (p *parser) word(first byte) error {
	name := []byte{first}
	var number []byte
	for {
		b, err := p.in.Peek(1)
		if err != nil {
			break
		}
		c := b[0]
		switch {
		case isLetter(c) && number == nil:
			if len(name) < maxWord {
				name = append(name, c)
			}
		case c >= '0' && c <= '9' || c == '-' && number == nil:
			if len(number) < 12 {
				number = append(number, c)
			}
		case c == ' ':
			_, _ = p.in.Discard(1) // it was peeked
			return p.apply(string(name), number)
		default:
			return p.apply(string(name), number)
		}
		_, _ = p.in.Discard(1) // it was peeked
	}
	return p.apply(string(name), number)
}

// apply acts on a control word.
func (p *parser) apply(name string, number []byte) error {
	n, _ := strconv.Atoi(string(number)) // nothing is 0
	star := p.star
	p.star = false
	switch name {
	case "bin":
		return p.binary(n)
	case "u":
		p.toSkip = 0
		if err := p.unicode(n); err != nil {
			return err
		}
		p.toSkip = p.now.skip
		return nil
	case "uc":
		p.now.skip = min(max(n, 0), 16)
		return nil
	}
	dest, known := destinations[name]
	if !known {
		if star {
			dest, known = ignored, true
		} else {
			return nil
		}
	}
	return p.enter(dest)
}

// unicode takes a character that \u gives.
func (p *parser) unicode(n int) error {
	if p.now.dest == data {
		return nil
	}
	for _, c := range []byte(string(rune(uint16(n)))) {
		if err := p.literal(c); err != nil {
			return err
		}
	}
	return nil
}

// binary takes n bytes as they stand; only in the data of an object do they
// matter.
func (p *parser) binary(n int) error {
	if n <= 0 {
		return nil
	}
	if p.now.dest != data || p.out == nil {
		_, err := p.in.Discard(n)
		return err
	}
	if err := p.flush(); err != nil {
		return err
	}
	p.high = -1
	_, err := io.CopyN(p.out, p.in, int64(n))
	return err
}

// enter begins a destination in the present group.
func (p *parser) enter(d destination) error {
	if p.now.opened {
		if err := p.leave(); err != nil {
			return err
		}
	}
	// Inside a field everything belongs to its instruction, but for objects.
	if p.now.dest == field && d == body {
		return nil
	}
	if p.now.dest == field && p.text.Len() > 0 && p.events.Field != nil {
		// A field inside a field: the outer one's instruction began before it.
		p.events.Field(strings.TrimSpace(p.text.String()))
	}
	p.now.dest, p.now.opened = d, true
	p.text.Reset()
	if d != data || p.events.Object == nil {
		return nil
	}
	var err error
	p.out, err = p.events.Object()
	p.high = -1
	return err
}

// leave ends the destination of the present group.
func (p *parser) leave() error {
	dest := p.now.dest
	p.now.dest, p.now.opened = body, false
	text := strings.TrimSpace(p.text.String())
	switch {
	case dest == class:
		p.class = text
	case dest == field && p.events.Field != nil:
		p.events.Field(text)
	case dest == template && p.events.Template != nil:
		p.events.Template(text)
	case dest == data && p.out != nil:
		err := p.flush()
		p.out = nil
		name := p.class
		p.class = ""
		if err == nil && p.events.End != nil {
			err = p.events.End(name)
		}
		return err
	}
	return nil
}
