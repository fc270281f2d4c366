package edit

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// value is a value with its place in the text.
type value struct {
	start, end int
	kind       valueKind
	text       string  // of a string, decoded
	elems      []*item // of a list
	pairs      []*pair // of a table in braces
}

type valueKind uint8

const (
	scalarValue valueKind = iota
	stringValue
	listValue
	tableValue
)

// item is an element of a list; comma is the place of the comma behind it, or -1.
type item struct {
	*value
	comma int
}

// keyPart is one part of a dotted key.
type keyPart struct {
	name       string
	start, end int
}

// pair is key = value; inline is true in braces, where comma is as for an item.
type pair struct {
	key    []keyPart
	value  *value
	inline bool
	comma  int
}

func (p *pair) start() int { return p.key[0].start }
func (p *pair) end() int   { return p.value.end }

// section is what one header opens; the first has no header and holds the keys at
// the top of the file.
type section struct {
	key   []keyPart
	many  bool
	start int // of the header's line
	head  int // end of the header's line, with its line end
	end   int // where the next section's line begins
	pairs []*pair
}

// scanner reads TOML that package toml has found valid. It returns errors all the
// same, rather than to trust that both read alike.
type scanner struct {
	text string
	at   int
	deep int
}

var errShape = errors.New("the text cannot be taken apart")

// maxDepth bounds how deep lists and tables may lie in each other.
const maxDepth = 100

func (s *scanner) fail() error { return fmt.Errorf("%w at byte %d", errShape, s.at) }

func (s *scanner) peek() byte {
	if s.at < len(s.text) {
		return s.text[s.at]
	}
	return 0
}

func (s *scanner) has(prefix string) bool { return strings.HasPrefix(s.text[s.at:], prefix) }

// blanks skips white space on a line.
func (s *scanner) blanks() {
	for s.at < len(s.text) && (s.text[s.at] == ' ' || s.text[s.at] == '\t') {
		s.at++
	}
}

// space skips white space, line ends and comments.
func (s *scanner) space() {
	for s.at < len(s.text) {
		switch s.text[s.at] {
		case ' ', '\t', '\r', '\n':
			s.at++
		case '#':
			s.line()
		default:
			return
		}
	}
}

// line goes to the beginning of the next line.
func (s *scanner) line() { s.at = lineEnd(s.text, s.at) }

// lineEnd is where the line that holds at ends, behind its line end.
func lineEnd(text string, at int) int {
	if i := strings.IndexByte(text[at:], '\n'); i >= 0 {
		return at + i + 1
	}
	return len(text)
}

// lineStart is where the line that holds at begins.
func lineStart(text string, at int) int { return strings.LastIndexByte(text[:at], '\n') + 1 }

// sections takes a document apart.
func (s *scanner) sections() ([]*section, error) {
	s.at = bomLen(s.text)
	current := &section{start: s.at, head: s.at}
	all := []*section{current}
	for s.space(); s.at < len(s.text); s.space() {
		if s.peek() != '[' {
			p, err := s.pair(false)
			if err != nil {
				return nil, err
			}
			current.pairs = append(current.pairs, p)
			s.line()
			continue
		}
		next, err := s.header()
		if err != nil {
			return nil, err
		}
		current.end = next.start
		current = next
		all = append(all, next)
	}
	current.end = len(s.text)
	return all, nil
}

// bomLen is the length of the byte order mark that some editors put in front.
func bomLen(text string) int {
	if strings.HasPrefix(text, "\xef\xbb\xbf") {
		return 3
	}
	return 0
}

func (s *scanner) header() (*section, error) {
	h := &section{start: lineStart(s.text, s.at)}
	s.at++
	if h.many = s.peek() == '['; h.many {
		s.at++
	}
	var err error
	if h.key, err = s.key(); err != nil {
		return nil, err
	}
	if s.peek() != ']' {
		return nil, s.fail()
	}
	s.line()
	h.head = s.at
	return h, nil
}

func (s *scanner) pair(inline bool) (*pair, error) {
	p := &pair{inline: inline, comma: -1}
	var err error
	if p.key, err = s.key(); err != nil {
		return nil, err
	}
	if s.peek() != '=' {
		return nil, s.fail()
	}
	s.at++
	s.blanks()
	p.value, err = s.value()
	return p, err
}

// key reads a key with dots, and the white space behind it.
func (s *scanner) key() ([]keyPart, error) {
	var parts []keyPart
	for {
		s.blanks()
		k := keyPart{start: s.at}
		switch c := s.peek(); {
		case c == '"' || c == '\'':
			v, err := s.quoted()
			if err != nil {
				return nil, err
			}
			k.name = v
		default:
			for s.at < len(s.text) && isBare(s.text[s.at]) {
				s.at++
			}
			if k.name = s.text[k.start:s.at]; k.name == "" {
				return nil, s.fail()
			}
		}
		k.end = s.at
		parts = append(parts, k)
		s.blanks()
		if s.peek() != '.' {
			return parts, nil
		}
		s.at++
	}
}

func isBare(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_'
}

func (s *scanner) value() (*value, error) {
	if s.deep++; s.deep > maxDepth {
		return nil, s.fail()
	}
	defer func() { s.deep-- }()
	v := &value{start: s.at}
	var err error
	switch s.peek() {
	case '"', '\'':
		v.kind = stringValue
		v.text, err = s.quoted()
	case '[':
		v.kind = listValue
		v.elems, err = s.list()
	case '{':
		v.kind = tableValue
		v.pairs, err = s.braces()
	default:
		end := s.at
		for s.at < len(s.text) && strings.IndexByte(",]}#\r\n", s.text[s.at]) < 0 {
			if s.at++; s.text[s.at-1] != ' ' && s.text[s.at-1] != '\t' {
				end = s.at
			}
		}
		if s.at = end; end == v.start {
			err = s.fail()
		}
	}
	v.end = s.at
	return v, err
}

func (s *scanner) list() ([]*item, error) {
	var elems []*item
	s.at++
	for {
		if s.space(); s.peek() == ']' {
			s.at++
			return elems, nil
		}
		v, err := s.value()
		if err != nil {
			return nil, err
		}
		e := &item{value: v, comma: -1}
		elems = append(elems, e)
		if s.space(); s.peek() == ',' {
			e.comma = s.at
			s.at++
		} else if s.peek() != ']' {
			return nil, s.fail()
		}
	}
}

func (s *scanner) braces() ([]*pair, error) {
	var pairs []*pair
	s.at++
	for {
		if s.space(); s.peek() == '}' {
			s.at++
			return pairs, nil
		}
		p, err := s.pair(true)
		if err != nil {
			return nil, err
		}
		pairs = append(pairs, p)
		if s.space(); s.peek() == ',' {
			p.comma = s.at
			s.at++
		} else if s.peek() != '}' {
			return nil, s.fail()
		}
	}
}

// quoted reads a string of any of the four kinds and returns what it stands for.
func (s *scanner) quoted() (string, error) {
	for _, mark := range []string{`"""`, `'''`} {
		if s.has(mark) {
			return s.multiline(mark)
		}
	}
	mark := s.peek()
	begin := s.at + 1
	for i := begin; i < len(s.text); i++ {
		switch c := s.text[i]; {
		case c == '\\' && mark == '"':
			i++
		case c == '\n':
			return "", s.fail()
		case c == mark:
			s.at = i + 1
			if mark == '\'' {
				return s.text[begin:i], nil
			}
			return unescape(s.text[begin:i], false)
		}
	}
	return "", s.fail()
}

// multiline reads a string in three quotes. Up to two more may stand before the end
// and belong to it.
func (s *scanner) multiline(mark string) (string, error) {
	begin := s.at + len(mark)
	for i := begin; i < len(s.text); i++ {
		if s.text[i] == '\\' && mark == `"""` {
			i++
			continue
		}
		if !strings.HasPrefix(s.text[i:], mark) {
			continue
		}
		for range 2 {
			if strings.HasPrefix(s.text[i+1:], mark) {
				i++
			}
		}
		s.at = i + len(mark)
		body := strings.TrimPrefix(strings.TrimPrefix(s.text[begin:i], "\r"), "\n")
		if mark == `'''` {
			return body, nil
		}
		return unescape(body, true)
	}
	return "", s.fail()
}

// unescape resolves the escapes of a string in double quotes.
func unescape(s string, multiline bool) (string, error) {
	if strings.IndexByte(s, '\\') < 0 {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		if i++; i >= len(s) {
			return "", errShape
		}
		switch c := s[i]; c {
		case 'b', 't', 'n', 'f', 'r', 'e', '"', '\\':
			b.WriteByte("\b\t\n\f\r\x1b\"\\"[strings.IndexByte(`btnfre"\`, c)])
		case 'u', 'U', 'x':
			n := map[byte]int{'u': 4, 'U': 8, 'x': 2}[c]
			if i+1+n > len(s) {
				return "", errShape
			}
			r, err := strconv.ParseUint(s[i+1:i+1+n], 16, 32)
			if err != nil || !utf8.ValidRune(rune(r)) {
				return "", errShape
			}
			b.WriteRune(rune(r))
			i += n
		default:
			// A backslash at the end of a line swallows it, and the white space after it.
			if !multiline {
				return "", errShape
			}
			i += len(s[i:]) - len(strings.TrimLeft(s[i:], " \t\r\n")) - 1
		}
	}
	return b.String(), nil
}
