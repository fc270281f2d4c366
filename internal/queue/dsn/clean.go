package dsn

import (
	"bytes"
	"mime"
	"strings"
	"unicode"
	"unicode/utf8"

	"gatepost/internal/mail"
)

// maxValue bounds what one field takes over from outside, in bytes.
const maxValue = 900

// clean makes one printable line of s: everything that is not a printable
// character or a plain space becomes "?", and what is too long is cut.
func clean(s string) string {
	ok := len(s) <= maxValue
	for i := 0; ok && i < len(s); i++ {
		ok = s[i] >= ' ' && s[i] < 0x7f
	}
	if ok {
		return s
	}
	var b strings.Builder
	for _, c := range s {
		if b.Len()+utf8.RuneLen(c) > maxValue {
			break
		}
		if c == utf8.RuneError || !unicode.IsPrint(c) {
			c = '?'
		}
		b.WriteRune(c)
	}
	return b.String()
}

// cleanASCII is clean with a "?" for every character that is not ASCII.
func cleanASCII(s string) string {
	return strings.Map(func(c rune) rune {
		if c >= 0x7f {
			return '?'
		}
		return c
	}, clean(s))
}

// diagnostic is the text of a Diagnostic-Code. Where the report must be ASCII
// and the text is not, it becomes encoded words (RFC 2047 §5).
func (b *builder) diagnostic(s string) string {
	s = clean(s)
	if b.utf8 || mail.IsASCII(s) {
		return s
	}
	return mime.QEncoding.Encode("utf-8", s)
}

// fields is text that header fields are added to.
type fields struct{ bytes.Buffer }

// field writes a header field, folded at spaces into lines of about 76 bytes.
// The value is clean already.
func (b *fields) field(name, value string) {
	b.WriteString(name)
	b.WriteByte(':')
	column := len(name) + 1
	for i, word := range strings.Split(value, " ") {
		for len(word) > maxValue { // escapes made it longer than a line may be
			b.WriteString("\r\n " + word[:maxValue])
			word, column = word[maxValue:], maxValue+1
		}
		// A line of nothing but spaces would end the header in the eyes of some.
		if i > 0 && word != "" && column+1+len(word) > 76 {
			b.WriteString("\r\n")
			column = 0
		}
		b.WriteByte(' ')
		b.WriteString(word)
		column += 1 + len(word)
	}
	b.WriteString("\r\n")
}

// remoteHost is the name in "mx.example.org [192.0.2.1]:25", or its address if
// there is no name; "" where it could not stand in a field.
func remoteHost(host string) string {
	name, rest, _ := strings.Cut(host, " ")
	if strings.HasPrefix(name, "[") {
		if end := strings.IndexByte(name, ']'); end > 0 {
			name = name[:end+1]
		}
	} else if rest == "" {
		if h, _, ok := strings.Cut(name, ":"); ok {
			name = h
		}
	}
	for i := range len(name) {
		c := name[i]
		if c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || strings.IndexByte("-._[]:", c) >= 0 {
			continue
		}
		return ""
	}
	if len(name) > 255 {
		return ""
	}
	return name
}

// isStatus reports whether s is a status code, RFC 3463 §2.
func isStatus(s string) bool {
	parts := strings.Split(s, ".")
	if len(parts) != 3 || len(parts[0]) != 1 || strings.IndexByte("245", s[0]) < 0 {
		return false
	}
	for _, p := range parts[1:] {
		if p == "" || len(p) > 3 || strings.Trim(p, "0123456789") != "" {
			return false
		}
	}
	return true
}

// isMessageID reports whether s can be repeated as a message identifier.
func isMessageID(s string) bool {
	if len(s) < 5 || len(s) > 250 || s[0] != '<' || s[len(s)-1] != '>' {
		return false
	}
	for _, c := range []byte(s[1 : len(s)-1]) {
		if c <= ' ' || c >= 0x7f || c == '<' || c == '>' {
			return false
		}
	}
	return true
}

// isAtom reports whether s can be an address type.
func isAtom(s string) bool {
	if s == "" || len(s) > 32 {
		return false
	}
	for _, c := range []byte(s) {
		if c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || c == '-' {
			continue
		}
		return false
	}
	return true
}
