package smtp

import (
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"
)

// ErrXText says that a string is not xtext, or that it hides a control character.
var ErrXText = errors.New("malformed xtext")

const upperHex = "0123456789ABCDEF"

// EncodeXText writes s as xtext (RFC 3461 §4): every byte outside "!" to "~",
// and "+" and "=", becomes "+" with two hexadecimal digits.
func EncodeXText(s string) string {
	var b strings.Builder
	b.Grow(len(s))
	for i := range len(s) {
		if c := s[i]; isXChar(c) {
			b.WriteByte(c)
		} else {
			b.WriteByte('+')
			b.WriteByte(upperHex[c>>4])
			b.WriteByte(upperHex[c&15])
		}
	}
	return b.String()
}

// DecodeXText reads xtext. The result holds only printable ASCII and spaces: what
// hides a control character or an 8-bit byte behind "+XX" is ErrXText, because a
// decoded value goes into header lines, reports and logs.
func DecodeXText(s string) (string, error) { return decodeXText(s, '~') }

// decodeXTextUTF8 is DecodeXText, but also takes UTF-8 behind "+XX": Postfix
// writes the ORCPT of an internationalised address so.
func decodeXTextUTF8(s string) (string, error) {
	out, err := decodeXText(s, 0xff)
	if err != nil || !utf8.ValidString(out) {
		return "", ErrXText
	}
	for _, r := range out {
		if !isTextRune(r) {
			return "", ErrXText
		}
	}
	return out, nil
}

// decodeXText reads xtext whose encoded bytes are at most last.
func decodeXText(s string, last byte) (string, error) {
	if strings.IndexByte(s, '+') < 0 {
		for i := range len(s) {
			if !isXChar(s[i]) {
				return "", ErrXText
			}
		}
		return s, nil
	}
	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '+' {
			if i+2 >= len(s) {
				return "", ErrXText
			}
			hi, lo := hexDigit(s[i+1]), hexDigit(s[i+2])
			if hi < 0 || lo < 0 {
				return "", ErrXText
			}
			if c = byte(hi<<4 | lo); c < ' ' || c > last {
				return "", ErrXText
			}
			i += 2
		} else if !isXChar(c) {
			return "", ErrXText
		}
		b.WriteByte(c)
	}
	return b.String(), nil
}

// isXChar reports whether c stands for itself in xtext.
func isXChar(c byte) bool { return '!' <= c && c <= '~' && c != '+' && c != '=' }

// hexDigit returns the value of an upper-case hexadecimal digit (RFC 3461 §4
// allows no other), -1 for anything else.
func hexDigit(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// DecodeUTF8AddrXText reads the address of an ORCPT of type "utf-8" (RFC 6533 §3):
// characters stand for themselves or as \x{HEX}. The result is valid UTF-8
// without control characters.
func DecodeUTF8AddrXText(s string) (string, error) {
	var b strings.Builder
	b.Grow(len(s))
	for s != "" {
		if rest, ok := strings.CutPrefix(s, `\x{`); ok {
			hex, after, closed := strings.Cut(rest, "}")
			if !closed || len(hex) < 2 || len(hex) > 6 {
				return "", ErrXText
			}
			n, err := strconv.ParseUint(hex, 16, 32)
			if err != nil || n > utf8.MaxRune || !isTextRune(rune(n)) {
				return "", ErrXText
			}
			b.WriteRune(rune(n))
			s = after
			continue
		}
		r, size := utf8.DecodeRuneInString(s)
		// RFC 6533 §3 QCHAR: these three only in their \x{} form.
		if r == utf8.RuneError && size < 2 || r == ' ' || r == '\\' || r == '+' || r == '=' || !isTextRune(r) {
			return "", ErrXText
		}
		b.WriteString(s[:size])
		s = s[size:]
	}
	return b.String(), nil
}

// isTextRune reports whether r may stand in a line of text: no C0 or C1 control,
// no line or paragraph separator, no surrogate.
func isTextRune(r rune) bool {
	return r >= ' ' && (r < 0x7f || r > 0x9f) && r != '\u2028' && r != '\u2029' && utf8.ValidRune(r)
}
