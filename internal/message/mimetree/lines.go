package mimetree

import (
	"bytes"
	"hash/maphash"
)

// mark is a line that begins with two hyphens, as delimiters do.
type mark struct {
	start  int64 // of the line
	next   int64 // of the line after it
	before int64 // end of what stands in front, without the line end that belongs to the delimiter (RFC 2046 §5.1.1)
	text   uint64
	core   uint64 // text without two hyphens at its end; as text where there are none
	flags  markFlags
}

type markFlags uint8

const (
	// closing: two hyphens at the end.
	closing markFlags = 1 << iota
	// followed: the lines behind it look like the header of a part.
	followed
	// odd: something stands in front of the hyphens, or the line begins behind a
	// CR without LF; only some programs take it for a line of its own.
	odd
)

// embed is a line that begins a file inside of text.
type embed struct {
	kind  string // Uuencode, "base64" for begin-base64, YEnc or BinHex
	start int64
	next  int64
	name  string
}

// lineFacts is what the first pass notes.
type lineFacts struct {
	marks      []mark
	embeds     []embed
	embedsLost bool // there were more than maxEmbeds
	// lost says that there were more marks than the limit.
	lost           bool
	byText, byCore map[uint64][]int32
}

// lineScanner is the first pass over a source.
type lineScanner struct {
	facts    lineFacts
	seed     maphash.Seed
	maxMarks int

	lineEnd  int // length of the line end before the present line
	midLine  bool
	afterCR  bool
	pending  int // index of the mark whose followers are being looked at, -1 for none
	lines    int // seen behind it
	fields   bool
	maybe    embed // a beginning that the next line has to confirm
	hasMaybe bool
}

// maxEmbeds bounds the files inside of the text of one source.
const maxEmbeds = 1000

// scanLines makes the first pass over the bytes up to end.
func scanLines(w *window, seed maphash.Seed, maxMarks int) (*lineFacts, error) {
	s := lineScanner{seed: seed, maxMarks: maxMarks, pending: -1}
	for pos := int64(0); pos < w.size; {
		data, err := w.most(pos, w.size)
		if err != nil {
			return nil, err
		}
		used := bytes.LastIndexByte(data, '\n') + 1
		last := pos+int64(len(data)) == w.size
		if used == 0 && !last && pos != w.off {
			if err := w.fill(pos); err != nil {
				return nil, err
			}
			continue
		}
		if used == 0 || last {
			used = len(data)
		}
		if used > 1 && !last && data[used-1] == '\r' {
			used-- // a line longer than the window; the LF may follow
		}
		s.scan(data[:used], pos)
		pos += int64(used)
	}
	s.index()
	return &s.facts, nil
}

// scan takes whole lines, or a piece of a line that is longer than a window.
func (s *lineScanner) scan(data []byte, pos int64) {
	for at := 0; at < len(data); {
		n := bytes.IndexByte(data[at:], '\n') + 1
		if n == 0 {
			s.crLines(data[at:], pos+int64(at), 0)
			s.midLine = data[len(data)-1] != '\r'
			return
		}
		line := data[at : at+n]
		end := 1
		if n > 1 && line[n-2] == '\r' {
			end = 2
		}
		if bytes.IndexByte(line[:n-end], '\r') < 0 {
			s.line(line[:n-end], pos+int64(at), end)
		} else {
			s.crLines(line[:n-end], pos+int64(at), end)
		}
		at += n
	}
}

// crLines takes each CR without LF for a line end as well.
func (s *lineScanner) crLines(text []byte, pos int64, end int) {
	for {
		i := bytes.IndexByte(text, '\r')
		if i < 0 {
			s.line(text, pos, end)
			s.afterCR = false
			return
		}
		s.line(text[:i], pos, 1)
		s.afterCR = true
		text, pos = text[i+1:], pos+int64(i)+1
	}
}

// line looks at one line without its line end, which has end bytes.
func (s *lineScanner) line(text []byte, pos int64, end int) {
	next := pos + int64(len(text)+end)
	before := pos - int64(s.lineEnd)
	s.lineEnd = end
	if s.midLine {
		s.midLine = false
		return
	}
	if s.hasMaybe {
		s.confirm(text)
	}
	if s.pending >= 0 {
		s.follow(text)
	}
	if len(text) > 0 {
		s.classify(text, pos, next, before)
	}
}

func (s *lineScanner) classify(text []byte, pos, next, before int64) {
	switch text[0] {
	case '-':
		if len(text) > 1 && text[1] == '-' {
			s.mark(text[2:], mark{start: pos, next: next, before: before})
		}
	case 'b', '=', '(':
		if e, ok := embedStart(text); ok {
			e.start, e.next = pos, next
			s.maybe, s.hasMaybe = e, true
		}
	default:
		if text[0] > ' ' {
			return
		}
		if rest := bytes.TrimLeft(text[:min(len(text), 80)], "\x00\t\n\v\f\r "); bytes.HasPrefix(rest, []byte("--")) {
			s.mark(text[len(text[:min(len(text), 80)])-len(rest)+2:], mark{start: pos, next: next, before: before, flags: odd})
		}
	}
}

func (s *lineScanner) mark(text []byte, m mark) {
	if s.afterCR {
		m.flags |= odd
	}
	if len(s.facts.marks) >= s.maxMarks {
		s.facts.lost = true
		s.pending = -1
		return
	}
	text = trimRight(text)
	m.text = maphash.Bytes(s.seed, text)
	m.core = m.text
	if bytes.HasSuffix(text, []byte("--")) {
		m.flags |= closing
		m.core = maphash.Bytes(s.seed, trimRight(text[:len(text)-2]))
	}
	s.facts.marks = append(s.facts.marks, m)
	s.pending, s.lines, s.fields = len(s.facts.marks)-1, 0, false
}

// maxFollowers is how many lines that are no fields may stand between a delimiter
// and a Content- field.
const maxFollowers = 24

// follow looks for a Content- field behind the pending mark.
func (s *lineScanner) follow(text []byte) {
	start := text[:min(len(text), 200)]
	rest := bytes.TrimLeft(start, "\x00\t\n\v\f\r :\xef\xbb\xbf")
	colon := bytes.IndexByte(rest, ':')
	switch {
	case contentField(rest) != "":
		s.facts.marks[s.pending].flags |= followed
		s.pending = -1
	case len(rest) == 0 && s.fields:
		s.pending = -1
	case len(rest) == len(start) && colon > 0 && isName(bytes.TrimRight(rest[:colon], " \t")):
		s.fields = true
	case s.fields && len(rest) < len(start):
		// a folded field
	default:
		if s.lines++; s.lines > maxFollowers {
			s.pending = -1
		}
	}
}

// confirm keeps the beginning of a file if this line can be a part of it.
func (s *lineScanner) confirm(text []byte) {
	e := s.maybe
	s.hasMaybe = false
	switch e.kind {
	case Uuencode:
		if !isUuLine(text) {
			return
		}
	case BinHex:
		if len(bytes.TrimSpace(text)) == 0 {
			s.hasMaybe = true // empty lines may stand between
			return
		}
		if bytes.TrimSpace(text)[0] != ':' {
			return
		}
	}
	if len(s.facts.embeds) >= maxEmbeds {
		s.facts.embedsLost = true
		return
	}
	s.facts.embeds = append(s.facts.embeds, e)
}

// index makes the marks findable by what stands behind their hyphens.
func (s *lineScanner) index() {
	f := &s.facts
	f.byText = make(map[uint64][]int32, len(f.marks))
	f.byCore = make(map[uint64][]int32)
	for i, m := range f.marks {
		f.byText[m.text] = append(f.byText[m.text], int32(i))
		if m.core != m.text {
			f.byCore[m.core] = append(f.byCore[m.core], int32(i))
		}
	}
}

// trimRight cuts what mail programs ignore at the end of a delimiter
// (RFC 2046 §5.1.1 has it as transport padding).
func trimRight(b []byte) []byte { return bytes.TrimRight(b, " \t\v\f\r\x00") }
