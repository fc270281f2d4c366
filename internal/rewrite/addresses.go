package rewrite

import "strings"

// maxAddress is more than any address has; RFC 5321 §4.5.3.1 ends at 320 or so.
const maxAddress = 512

// spot is the place of an address in the value of a field.
type spot struct {
	start, end int
	// text is the address without white space and line ends in it.
	text string
}

// addressesIn finds the addresses of a field (RFC 5322 §3.4), without the names
// and comments around them. What can't be read is left out.
func addressesIn(value string) []spot {
	s := scanner{value: value}
	s.run()
	return s.spots
}

// scanner reads the value of a field once, from left to right.
type scanner struct {
	value string
	at    int
	spots []spot
	spot  spot // the address that is being read; end 0: none
	// broken says that what is being read is no address: two words side by side, a
	// comment in the middle.
	broken bool
	gap    bool // white space stood before this
	torn   bool // a comment stood before this
	angle  bool // inside of < and >
	done   bool // the address of this member has been found
}

func (s *scanner) run() {
	for s.at < len(s.value) {
		start := s.at
		switch c := s.value[s.at]; c {
		case ' ', '\t', '\r', '\n':
			s.at++
			s.gap = true
		case '(':
			s.skipComment()
			s.torn = true
		case '<':
			s.at++
			s.clear()
			s.angle = true
		case '>':
			s.at++
			s.end()
			s.angle, s.done = false, true
		case ',', ';', ':':
			s.at++
			s.separator(c)
		case '"':
			s.skipQuoted()
			s.word(start)
		case '[':
			s.skipLiteral()
			s.word(start)
		default:
			s.at++
			for s.at < len(s.value) && strings.IndexByte(" \t\r\n(<>,;:\"[", s.value[s.at]) < 0 {
				s.at++
			}
			s.word(start)
		}
	}
	if !s.angle {
		s.end()
	}
}

// separator ends an address, the name of a group, or a source route.
func (s *scanner) separator(c byte) {
	if s.angle { // <@a.example,@b.example:user@c.example>
		s.clear()
		return
	}
	if c != ':' {
		s.end()
	}
	s.clear()
	s.done = false
}

// word adds what lies between start and here to the address.
func (s *scanner) word(start int) {
	text := s.value[start:s.at]
	if s.spot.end == 0 {
		s.spot = spot{start: start}
	} else if s.broken = s.broken || s.torn || len(s.spot.text) > maxAddress; s.broken {
		s.spot.end = s.at
		return // a phrase, which may be long
	} else if s.gap {
		// White space may stand around "@" and "." (RFC 5322 §4.4), and nowhere else.
		before, after := s.spot.text[len(s.spot.text)-1], text[0]
		s.broken = s.broken || before != '@' && before != '.' && after != '@' && after != '.'
	}
	s.spot.text += text
	s.spot.end = s.at
	s.gap, s.torn = false, false
}

// end keeps the address that was read.
func (s *scanner) end() {
	if s.spot.end > 0 && !s.broken && !s.done && strings.Contains(s.spot.text, "@") {
		s.spots = append(s.spots, s.spot)
	}
	s.clear()
}

func (s *scanner) clear() { s.spot, s.broken, s.gap, s.torn = spot{}, false, false, false }

// skipComment goes behind a comment, which may hold others.
func (s *scanner) skipComment() {
	depth := 0
	for ; s.at < len(s.value); s.at++ {
		switch s.value[s.at] {
		case '\\':
			s.at++
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				s.at++
				return
			}
		}
	}
	s.at = len(s.value)
}

func (s *scanner) skipQuoted() {
	for s.at++; s.at < len(s.value); s.at++ {
		switch s.value[s.at] {
		case '\\':
			s.at++
		case '"':
			s.at++
			return
		}
	}
	s.at = len(s.value)
}

func (s *scanner) skipLiteral() {
	if end := strings.IndexByte(s.value[s.at:], ']'); end >= 0 {
		s.at += end + 1
		return
	}
	s.at = len(s.value)
}
