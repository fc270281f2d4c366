package mimetree

import (
	"bytes"
	"strings"
)

// The fields that shape a part, lower case.
const (
	fieldType        = "content-type"
	fieldEncoding    = "content-transfer-encoding"
	fieldDisposition = "content-disposition"
)

// field is a Content- field as some program would read it.
type field struct {
	name  string
	value string // unfolded, not trimmed of what is odd
	// clean says that every program sees the field, and sees it so.
	clean bool
}

// block is a header section and the places where its body may begin.
type block struct {
	fields []field
	// size is the number of bytes up to and including the first empty line, all
	// there is if there is none.
	size  int
	ended bool
	// others are further places where a program might let the body begin, each
	// with the place where that body would end, 0 for the end of the part.
	others [][2]int
	// known says that there was at least one line that is a field.
	known bool
	bare  bool // a CR without LF
	nul   bool
	junk  bool // a line that is no field
	cut   bool // a field was longer than the limit
}

// contentField returns which of the Content- fields begins the line, "" if none.
func contentField(line []byte) string {
	if len(line) < len(fieldType) || line[0]|0x20 != 'c' || line[7] != '-' {
		return ""
	}
	for _, name := range [...]string{fieldType, fieldEncoding, fieldDisposition} {
		if len(line) >= len(name) && strings.EqualFold(string(line[:len(name)]), name) {
			if len(line) == len(name) || !isTokenByte(line[len(name)]) {
				return name
			}
		}
	}
	return ""
}

func isTokenByte(c byte) bool {
	return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' || c == '-' || c == '_'
}

// blockParser reads one header section.
type blockParser struct {
	block
	limit int // of one field value
	// open are the fields that a continuation line adds to: the one that every
	// program sees, and one that is hidden in it.
	open   []int
	values [][]byte // of the fields
	// name is the name of the present field, whichever it is.
	name string
	// blank is where the body would begin behind a line of white space only, 0
	// for none; it counts only if no field follows.
	blank int
}

// parseBlock reads the header section at the start of data. It never fails: what
// is no header section holds no fields.
func parseBlock(data []byte, limit int) block {
	p := blockParser{limit: limit}
	p.nul = bytes.IndexByte(data, 0) >= 0
	at := 0
	for at < len(data) && !p.ended {
		n := bytes.IndexByte(data[at:], '\n') + 1
		if n == 0 {
			n = len(data) - at
		}
		line := bytes.TrimSuffix(bytes.TrimSuffix(data[at:at+n], []byte("\n")), []byte("\r"))
		if bytes.IndexByte(line, '\r') >= 0 {
			p.bareLine(line, at)
		} else {
			p.line(line, at, at+n)
		}
		at += n
	}
	p.size = at
	for i := range p.fields {
		p.fields[i].value = string(p.values[i])
	}
	for _, o := range p.others {
		if p.ended && o[0] < p.size {
			// What stands before the empty line may be all of the body, or only its
			// beginning.
			p.others = append(p.others, [2]int{o[0], p.size})
		}
	}
	return p.block
}

// line reads one line; at is its place and next that of the following line.
func (p *blockParser) line(line []byte, at, next int) {
	trimmed := bytes.TrimLeft(line, " \t")
	switch {
	case len(line) == 0:
		p.ended = true
	case len(bytes.TrimLeft(line, " \t\v\f\x00")) == 0:
		if p.blank == 0 {
			p.blank = next
		}
	case len(trimmed) < len(line):
		p.continued(line, trimmed, at)
	default:
		p.fieldLine(line, at)
	}
}

// afterBlank decides what a line of white space only was: a part of the header,
// or its end.
func (p *blockParser) afterBlank(fieldFollows bool) {
	if p.blank != 0 && !fieldFollows {
		p.other(p.blank)
	}
	p.blank = 0
}

// continued takes a line that begins with white space (RFC 5322 §2.2.3).
func (p *blockParser) continued(line, trimmed []byte, at int) {
	p.afterBlank(true)
	if !p.known {
		p.noField(at)
	}
	for _, i := range p.open {
		p.gather(i, line)
	}
	// The field that some programs see instead: white space ignored, or the line
	// above is none that could be continued.
	if !strings.HasSuffix(p.name, "signature") && !strings.HasPrefix(p.name, "arc-") {
		p.hidden(trimmed)
	}
}

func (p *blockParser) fieldLine(line []byte, at int) {
	colon := bytes.IndexByte(line, ':')
	name := bytes.TrimRight(line[:max(colon, 0)], " \t")
	if colon < 0 || !isName(name) {
		if p.known || !isMboxLine(line) {
			p.afterBlank(false)
			p.noField(at)
		}
		p.open, p.name = p.open[:0], ""
		p.hidden(line)
		return
	}
	p.afterBlank(true)
	p.known = true
	p.open, p.name = p.open[:0], strings.ToLower(string(name))
	if p.name != fieldType && p.name != fieldEncoding && p.name != fieldDisposition {
		return
	}
	value := line[colon+1:]
	p.add(field{name: p.name, clean: len(name) == colon && !bytes.HasPrefix(value, []byte(":"))}, bytes.TrimLeft(value, ":"))
}

// maxFields bounds the Content- fields of one part.
const maxFields = 32

func (p *blockParser) add(f field, value []byte) {
	if len(p.fields) >= maxFields {
		p.cut = true
		return
	}
	p.fields, p.values = append(p.fields, f), append(p.values, nil)
	p.open = append(p.open, len(p.fields)-1)
	p.gather(len(p.fields)-1, value)
}

// noField takes a line that is neither a field nor continues one. Some programs
// let the body begin here.
func (p *blockParser) noField(at int) {
	if !p.junk {
		p.other(at)
	}
	p.junk = true
}

// maxOthers bounds the places where the body of one part may begin.
const maxOthers = 4

func (p *blockParser) other(at int) {
	if len(p.others) < maxOthers {
		p.others = append(p.others, [2]int{at})
	}
}

// isMboxLine reports a line that mail stores leave in front of a message.
func isMboxLine(line []byte) bool {
	return bytes.HasPrefix(line, []byte("From ")) || bytes.HasPrefix(line, []byte(">From "))
}

func isName(name []byte) bool {
	for _, c := range name {
		if c <= ' ' || c == 0x7f {
			return false
		}
	}
	// A byte order mark hides a field from some programs only.
	return len(name) > 0 && !bytes.HasPrefix(name, []byte("\xef\xbb\xbf"))
}

// gather adds to the value of a field.
func (p *blockParser) gather(i int, text []byte) {
	if room := p.limit - len(p.values[i]); len(text) > room {
		text, p.cut = text[:room], true
	}
	p.values[i] = append(p.values[i], text...)
}

// hidden looks for a Content- field in a line where not every program sees one:
// white space or control characters in front, no colon or several.
func (p *blockParser) hidden(line []byte) {
	rest := bytes.TrimLeft(bytes.TrimPrefix(line, []byte("\xef\xbb\xbf")), " :\t")
	if bytes.IndexFunc(rest[:min(len(rest), 80)], isControl) >= 0 {
		rest = bytes.TrimLeft(bytes.Map(dropControl, rest), " :")
	}
	name := contentField(rest)
	if name == "" {
		return
	}
	value := bytes.TrimLeft(rest[len(name):], " \t:")
	if !plausible(name, value) {
		return
	}
	p.add(field{name: name}, value)
}

func isControl(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }

func dropControl(r rune) rune {
	if isControl(r) {
		return -1
	}
	return r
}

// plausible keeps lists of field names, as signatures have them, from being
// taken for fields.
func plausible(name string, value []byte) bool {
	switch name {
	case fieldType:
		return bytes.IndexByte(value, '/') > 0 || bytes.IndexByte(value, '=') > 0
	case fieldEncoding:
		return len(encodingsIn(string(value[:min(len(value), 200)]))) > 0
	}
	return bytes.IndexByte(value, '=') > 0 || bytes.HasPrefix(bytes.ToLower(value), []byte("attachment"))
}

// bareLine reads a line that holds CRs without LF: as one line, and as the lines
// that it is to programs for which a CR ends a line.
func (p *blockParser) bareLine(line []byte, at int) {
	p.bare = true
	whole := bytes.ReplaceAll(line, []byte("\r"), []byte(" "))
	p.line(whole, at, at+len(line)+2)
	for i := bytes.IndexByte(line, '\r'); i >= 0; i = bytes.IndexByte(line, '\r') {
		line, at = line[i+1:], at+i+1
		end := bytes.IndexByte(line, '\r')
		if end == 0 {
			p.other(at + 1)
		}
		if end < 0 {
			end = len(line)
		}
		p.hidden(line[:end])
	}
}
