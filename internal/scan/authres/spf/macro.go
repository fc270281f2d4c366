package spf

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// macros is a macro-string (RFC 7208 §7.1), in pieces.
type macros []piece

// piece is a text or, where letter is set, a macro.
type piece struct {
	text    string
	letter  byte // in lower case
	escape  bool // it was in upper case
	digits  int  // how many parts from the right; 0: all
	reverse bool
	delims  string
}

var macro = regexp.MustCompile(`^%\{([A-Za-z])([0-9]*)([rR]?)([-.+,/_=]*)\}`)

// parseMacros parses a macro-string of printable ASCII.
func parseMacros(s string) (macros, error) {
	m := macros{}
	for s != "" {
		n := strings.IndexByte(s, '%')
		if n < 0 {
			n = len(s)
		}
		if n > 0 {
			m = append(m, piece{text: s[:n]})
			s = s[n:]
			continue
		}
		p, size, err := parseMacro(s)
		if err != nil {
			return nil, err
		}
		m = append(m, p)
		s = s[size:]
	}
	return m, nil
}

// escapes are the macros without braces.
var escapes = map[byte]string{'%': "%", '_': " ", '-': "%20"}

// parseMacro parses the macro at the start of s and returns its length.
func parseMacro(s string) (piece, int, error) {
	if len(s) > 1 {
		if text, ok := escapes[s[1]]; ok {
			return piece{text: text}, 2, nil
		}
	}
	g := macro.FindStringSubmatch(s)
	if g == nil {
		return piece{}, 0, errors.New("malformed macro")
	}
	p := piece{letter: g[1][0] | 0x20, escape: g[1][0] < 'a', reverse: g[3] != "", delims: g[4]}
	// c, r and t are for explanations only, RFC 7208 §7.2.
	if !strings.ContainsRune("slodiphv", rune(p.letter)) {
		return piece{}, 0, errors.New("unknown macro")
	}
	if g[2] != "" {
		n, err := strconv.Atoi(g[2])
		if err != nil || n == 0 {
			return piece{}, 0, errors.New("malformed macro")
		}
		p.digits = n
	}
	return p, len(g[0]), nil
}

// topLabel is RFC 7208 §7.1: letters, digits and hyphens, but not digits alone.
var topLabel = regexp.MustCompile(`^(?:[A-Za-z0-9]*[A-Za-z][A-Za-z0-9]*|[A-Za-z0-9]+-[A-Za-z0-9-]*[A-Za-z0-9])$`)

// parseDomainSpec parses a domain-spec: a macro-string that ends with a macro or
// with a dot and a top label.
func parseDomainSpec(s string) (macros, error) {
	m, err := parseMacros(s)
	if err != nil {
		return nil, err
	}
	if len(m) == 0 {
		return nil, errors.New("a domain is missing")
	}
	end := m[len(m)-1]
	if end.letter != 0 || strings.HasSuffix(s, "%%") || strings.HasSuffix(s, "%_") || strings.HasSuffix(s, "%-") {
		return m, nil
	}
	tail := strings.TrimSuffix(end.text, ".")
	dot := strings.LastIndexByte(tail, '.')
	if dot < 0 || !topLabel.MatchString(tail[dot+1:]) {
		return nil, errors.New("malformed domain")
	}
	return m, nil
}

// expand returns the name that a domain-spec stands for; "" where it is none that
// can be asked for. What is too long loses labels on the left (RFC 7208 §7.3).
func (e *evaluation) expand(ctx context.Context, m macros, domain string) string {
	var b strings.Builder
	for i := range m {
		if m[i].letter == 0 {
			b.WriteString(m[i].text)
		} else {
			b.WriteString(m[i].transform(e.value(ctx, m[i].letter, domain)))
		}
	}
	name := strings.ToLower(strings.TrimSuffix(b.String(), "."))
	for len(name) > maxName {
		_, rest, ok := strings.Cut(name, ".")
		if !ok {
			return ""
		}
		name = rest
	}
	if !isName(name) {
		return ""
	}
	return name
}

// value is what a letter stands for, RFC 7208 §7.2.
func (e *evaluation) value(ctx context.Context, letter byte, domain string) string {
	switch letter {
	case 's':
		return e.local + "@" + e.sender
	case 'l':
		return e.local
	case 'o':
		return e.sender
	case 'd':
		return domain
	case 'h':
		return e.helo
	case 'p':
		return e.clientName(ctx, domain)
	case 'v':
		if e.client.Is4() {
			return "in-addr"
		}
		return "ip6"
	}
	if e.client.Is4() {
		return e.client.String()
	}
	const hex = "0123456789abcdef"
	var b []byte
	for _, c := range e.client.As16() {
		b = append(b, hex[c>>4], '.', hex[c&15], '.')
	}
	return string(b[:len(b)-1])
}

// transform splits, reverses, cuts and joins, in this order (RFC 7208 §7.3).
func (p *piece) transform(value string) string {
	if p.digits > 0 || p.reverse || p.delims != "" {
		delims := p.delims
		if delims == "" {
			delims = "."
		}
		parts := splitAny(value, delims)
		if p.reverse {
			slices.Reverse(parts)
		}
		if p.digits > 0 && p.digits < len(parts) {
			parts = parts[len(parts)-p.digits:]
		}
		value = strings.Join(parts, ".")
	}
	if p.escape {
		value = urlEscape(value)
	}
	return value
}

func splitAny(s, delims string) []string {
	var parts []string
	for {
		n := strings.IndexAny(s, delims)
		if n < 0 {
			return append(parts, s)
		}
		parts, s = append(parts, s[:n]), s[n+1:]
	}
}

// urlEscape escapes all but the unreserved characters of RFC 3986 §2.3.
func urlEscape(s string) string {
	const hex = "0123456789ABCDEF"
	b := make([]byte, 0, len(s))
	for i := range len(s) {
		c := s[i]
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0 {
			b = append(b, c)
		} else {
			b = append(b, '%', hex[c>>4], hex[c&15])
		}
	}
	return string(b)
}
