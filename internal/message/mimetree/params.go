package mimetree

import (
	"strings"
)

// param is one parameter of a structured field, its key in lower case.
type param struct{ key, value string }

// structured is the value of a structured field (RFC 2045 §5.1) as a careful
// reader takes it apart.
type structured struct {
	head   string // in front of the first semicolon, lower case
	params []param
	// odd says that careless readers would take it apart in another way.
	odd bool
}

// parseStructured takes a value apart. Comments are left out, quotes undone.
func parseStructured(value string) structured {
	var s structured
	clean := value
	if strings.ContainsAny(value, "(") {
		if clean = stripComments(value); clean != value {
			s.odd = true
		}
	}
	first := true
	for rest := clean; rest != "" || first; first = false {
		var piece string
		piece, rest = cutPiece(rest)
		if first {
			s.head = strings.ToLower(trimSpace(piece))
			s.odd = s.odd || strings.ContainsAny(s.head, `"\ =,`)
			continue
		}
		s.addParam(piece)
	}
	return s
}

func (s *structured) addParam(piece string) {
	key, value, ok := strings.Cut(piece, "=")
	if !ok {
		s.odd = s.odd || trimSpace(piece) != ""
		return
	}
	trimmed := trimSpace(key)
	s.odd = s.odd || strings.TrimLeft(key, " \t\r\n") != trimmed || strings.ContainsAny(trimmed, `"\'(), `)
	value = strings.TrimLeft(value, " \t\r\n")
	plain, clean := unquote(trimSpace(value))
	s.odd = s.odd || !clean
	for _, p := range s.params {
		if p.key == strings.ToLower(trimmed) {
			s.odd = true
		}
	}
	s.params = append(s.params, param{strings.ToLower(trimmed), plain})
}

// cutPiece returns what stands in front of the first semicolon outside of
// quotes, and what follows it.
func cutPiece(s string) (piece, rest string) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			quoted = !quoted
		case ';':
			if !quoted {
				return s[:i], s[i+1:]
			}
		}
	}
	return s, ""
}

// unquote undoes a quoted string and reports whether every reader would read it
// so. What follows the closing quote is left out.
func unquote(s string) (string, bool) {
	if !strings.HasPrefix(s, `"`) {
		return strings.ReplaceAll(s, `\`, ""), !strings.ContainsAny(s, "\"\\' ,()")
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), i == len(s)-1 && !strings.Contains(s, `\`)
		case '\\':
			if i++; i < len(s) {
				b.WriteByte(s[i])
			}
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String(), false
}

// stripComments cuts comments (RFC 5322 §3.2.2) that stand outside of quotes.
func stripComments(s string) string {
	if !strings.Contains(s, "(") {
		return s
	}
	var b strings.Builder
	depth, quoted := 0, false
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '\\' && i+1 < len(s):
			if depth == 0 {
				b.WriteString(s[i : i+2])
			}
			i++
			continue
		case c == '"' && depth == 0:
			quoted = !quoted
		case c == '(' && !quoted:
			depth++
			continue
		case c == ')' && depth > 0:
			depth--
			continue
		}
		if depth == 0 {
			b.WriteByte(c)
		}
	}
	return b.String()
}

func trimSpace(s string) string { return strings.Trim(s, " \t\r\n\v\f\x00") }

// maxValues bounds the readings of one parameter.
const maxValues = 48

// values is an ordered set of readings.
type values struct {
	list []string
	full bool
}

func (v *values) add(s string) {
	if s == "" {
		return
	}
	for _, have := range v.list {
		if have == s {
			return
		}
	}
	if len(v.list) >= maxValues {
		v.full = true
		return
	}
	v.list = append(v.list, s)
}

// soup adds what readers could take for the value of a key by merely looking for
// the key: whatever stands behind it, cut in every way that has been seen.
func (v *values) soup(text, key string) {
	noComments := stripComments(text)
	for _, s := range [...]string{text, noComments, strings.ReplaceAll(text, `\`, ""), strings.ReplaceAll(noComments, `\`, "")} {
		low := lowerASCII(s)
		for at, tries := 0, 0; tries < 8; tries++ {
			i := strings.Index(low[at:], key)
			if i < 0 {
				break
			}
			start := at + i
			at = start + len(key)
			if start > 0 && isTokenByte(low[start-1]) {
				continue
			}
			rest, ok := behindEqual(s[at:])
			if ok {
				v.cuts(rest)
			}
		}
	}
}

// lowerASCII leaves every byte in its place.
func lowerASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c | 0x20
		}
	}
	return string(b)
}

// behindEqual skips white space, comments, quotes and the marks of RFC 2231
// between a key and what stands behind its equal sign.
func behindEqual(s string) (string, bool) {
	for i := range len(s) {
		switch c := s[i]; {
		case c == '=':
			return s[i+1:], true
		case c > ' ' && c != '*' && !(c >= '0' && c <= '9') && !strings.ContainsRune(`"'()\`, rune(c)):
			return "", false
		}
	}
	return "", false
}

// cuts adds the ways to end a value.
func (v *values) cuts(rest string) {
	rest = trimSpace(rest)
	piece, _ := cutPiece(rest)
	upTo, _, _ := strings.Cut(rest, ";")
	v.add(trimSpace(upTo))
	v.add(trimSpace(piece))
	v.add(rest)
	if strings.HasPrefix(rest, `"`) {
		inside, after, ok := strings.Cut(rest[1:], `"`)
		v.add(inside)
		if ok {
			after, _, _ = strings.Cut(after, ";")
			v.add(inside + strings.Trim(after, "\" \t"))
		}
	}
	for _, s := range [...]string{upTo, piece, rest} {
		v.add(trimSpace(strings.NewReplacer(`"`, "", `\`, "").Replace(s)))
		v.add(strings.Trim(trimSpace(s), `'"`))
	}
	for _, stop := range [...]string{" ", ",", `"`, `\`, ")", "(", "\t"} {
		s, _, ok := strings.Cut(strings.Trim(rest, `"'`), stop)
		if ok {
			v.add(trimSpace(s))
		}
	}
}
