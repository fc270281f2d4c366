package textview

import (
	"strings"
)

// decodeUTF7 decodes RFC 2152, which no library here knows and some mail
// programs still do. It decodes more than it should rather than less.
func decodeUTF7(s string) string {
	var out strings.Builder
	out.Grow(len(s))
	for {
		i := strings.IndexByte(s, '+')
		if i < 0 {
			break
		}
		out.WriteString(s[:i])
		s = s[i+1:]
		n := 0
		for n < len(s) && value64(s[n]) >= 0 {
			n++
		}
		if n == 0 {
			out.WriteByte('+')
		} else {
			out.WriteString(decode16(bits64(s[:n]), false))
		}
		s = strings.TrimPrefix(s[n:], "-")
	}
	out.WriteString(s)
	return strings.ToValidUTF8(out.String(), "\ufffd")
}

// bits64 undoes base64 without padding; bits that fill no byte are dropped.
func bits64(s string) []byte {
	out := make([]byte, 0, len(s)*3/4)
	acc, bits := 0, 0
	for i := range len(s) {
		v := value64(s[i])
		if v < 0 {
			continue
		}
		acc, bits = (acc<<6|v)&0xffff, bits+6
		if bits >= 8 {
			bits -= 8
			out = append(out, byte(acc>>bits))
		}
	}
	return out
}

// value64 is the value of a character of base64, -1 for others. The characters
// of base64url are taken as well, but for the "-" that ends a run of UTF-7.
func value64(c byte) int {
	switch {
	case 'A' <= c && c <= 'Z':
		return int(c - 'A')
	case 'a' <= c && c <= 'z':
		return int(c-'a') + 26
	case '0' <= c && c <= '9':
		return int(c-'0') + 52
	case c == '+':
		return 62
	case c == '/', c == '_':
		return 63
	}
	return -1
}
