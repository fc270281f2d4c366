package pdf

import (
	"io"
	"strconv"
)

// Values of the object model (ISO 32000-1 §7.3). Numbers are int64 (reals are cut),
// null, booleans and unknown keywords are keyword.
type (
	name    string
	str     string
	array   []any
	dict    map[name]any
	ref     struct{ num, gen int }
	keyword string
)

// Limits of one object.
const (
	maxNesting = 64
	maxNodes   = 100_000
	maxString  = 1 << 20
	maxName    = 1 << 10
)

// lexer reads tokens from a place in the file, or in a decoded stream.
type lexer struct {
	r     io.ReaderAt
	buf   []byte
	at    int   // next byte in buf
	base  int64 // of buf
	eof   bool
	err   error // of r
	nodes int
}

func newLexer(r io.ReaderAt, off int64) *lexer {
	return &lexer{r: r, base: off, buf: make([]byte, 0, 4<<10)}
}

// seek goes to off.
func (l *lexer) seek(off int64) {
	if off >= l.base && off <= l.base+int64(len(l.buf)) {
		l.at = int(off - l.base)
		return
	}
	l.base, l.at, l.buf, l.eof = off, 0, l.buf[:0], false
}

func (l *lexer) pos() int64 { return l.base + int64(l.at) }

// peek returns the next byte, or -1 at the end.
func (l *lexer) peek() int {
	if l.at < len(l.buf) {
		return int(l.buf[l.at])
	}
	if l.eof || l.err != nil {
		return -1
	}
	l.base += int64(len(l.buf))
	n, err := l.r.ReadAt(l.buf[:cap(l.buf)], l.base)
	l.buf, l.at = l.buf[:n], 0
	l.eof = err == io.EOF
	if err != nil && err != io.EOF {
		l.err = err
	}
	if n == 0 {
		l.eof = true
		return -1
	}
	return int(l.buf[0])
}

func (l *lexer) next() int {
	c := l.peek()
	if c >= 0 {
		l.at++
	}
	return c
}

func isSpace(c int) bool {
	return c == ' ' || c == '\n' || c == '\r' || c == '\t' || c == '\f' || c == 0
}

func isDelimiter(c int) bool {
	switch c {
	case '(', ')', '<', '>', '[', ']', '{', '}', '/', '%':
		return true
	}
	return false
}

// skipSpace skips blanks and comments.
func (l *lexer) skipSpace() {
	for {
		c := l.peek()
		switch {
		case isSpace(c):
			l.at++
		case c == '%':
			for c >= 0 && c != '\n' && c != '\r' {
				c = l.next()
			}
		default:
			return
		}
	}
}

// closing marks the end of an array or dictionary.
type closing byte

// value reads one object; nil at the end of the input.
func (l *lexer) value(depth int) any {
	l.skipSpace()
	if l.nodes++; l.nodes > maxNodes || depth > maxNesting {
		return nil
	}
	c := l.next()
	switch {
	case c < 0:
		return nil
	case c == '/':
		return l.name()
	case c == '(':
		return l.literal()
	case c == '[':
		return l.array(depth)
	case c == ']':
		return closing(']')
	case c == '<':
		if l.peek() == '<' {
			l.at++
			return l.dict(depth)
		}
		return l.hex()
	case c == '>':
		if l.peek() == '>' {
			l.at++
		}
		return closing('>')
	case isDelimiter(c):
		return keyword(rune(c))
	}
	return l.word(byte(c))
}

// word reads a number or a keyword.
func (l *lexer) word(first byte) any {
	b := []byte{first}
	for c := l.peek(); c >= 0 && !isSpace(c) && !isDelimiter(c) && len(b) < 64; c = l.peek() {
		b = append(b, byte(c))
		l.at++
	}
	s := string(b)
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n
	}
	if f, err := strconv.ParseFloat(s, 64); err == nil {
		return int64(max(-1<<53, min(f, 1<<53)))
	}
	return keyword(s)
}

func (l *lexer) name() name {
	var b []byte
	for c := l.peek(); c >= 0 && !isSpace(c) && !isDelimiter(c); c = l.peek() {
		l.at++
		if c == '#' {
			hi := hexValue(l.peek())
			if hi >= 0 {
				l.at++
				if lo := hexValue(l.peek()); lo >= 0 {
					l.at++
					c = hi<<4 | lo
				}
			}
		}
		if len(b) < maxName {
			b = append(b, byte(c))
		}
	}
	return name(b)
}

func hexValue(c int) int {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	}
	return -1
}

// literal reads a string in parentheses.
func (l *lexer) literal() str {
	var b []byte
	for depth := 1; len(b) < maxString; {
		c := l.next()
		switch c {
		case -1:
			return str(b)
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return str(b)
			}
		case '\\':
			if c = l.escape(); c < 0 {
				continue
			}
		}
		b = append(b, byte(c))
	}
	return str(b)
}

// escape reads what follows a backslash; -1 is nothing.
func (l *lexer) escape() int {
	c := l.next()
	switch c {
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case '\r':
		if l.peek() == '\n' {
			l.at++
		}
		return -1
	case '\n':
		return -1
	}
	if c < '0' || c > '7' {
		return c
	}
	v := c - '0'
	for range 2 {
		d := l.peek()
		if d < '0' || d > '7' {
			break
		}
		v = v<<3 | (d - '0')
		l.at++
	}
	return v & 0xff
}

func (l *lexer) hex() str {
	var b []byte
	high := -1
	for len(b) < maxString {
		c := l.next()
		if c < 0 || c == '>' {
			break
		}
		v := hexValue(c)
		switch {
		case v < 0:
		case high < 0:
			high = v
		default:
			b, high = append(b, byte(high<<4|v)), -1
		}
	}
	if high >= 0 {
		b = append(b, byte(high<<4))
	}
	return str(b)
}

// list reads values up to a closing mark, and joins references.
func (l *lexer) list(depth int) []any {
	var list []any
	for {
		v := l.value(depth + 1)
		switch v := v.(type) {
		case nil:
			return list
		case closing:
			return list
		case keyword:
			if n := len(list); v == "R" && n >= 2 {
				num, ok1 := list[n-2].(int64)
				gen, ok2 := list[n-1].(int64)
				if ok1 && ok2 {
					list = append(list[:n-2], ref{int(num), int(gen)})
					continue
				}
			}
			if v == "endobj" || v == "stream" || v == "endstream" {
				// A closing mark is missing. The caller must see the keyword.
				l.seek(l.pos() - int64(len(v)))
				return list
			}
		}
		list = append(list, v)
	}
}

func (l *lexer) array(depth int) array { return l.list(depth) }

func (l *lexer) dict(depth int) dict {
	d := dict{}
	list := l.list(depth)
	for i := 0; i < len(list); {
		key, ok := list[i].(name)
		if !ok {
			i++
			continue
		}
		if i+1 < len(list) {
			if _, exists := d[key]; !exists {
				d[key] = list[i+1]
			} else {
				// Of two values readers take one or the other; both are looked at.
				d[key] = array{d[key], list[i+1]}
			}
		}
		i += 2
	}
	return d
}
