package textview

import (
	"strings"
)

// encodedWord is one word of RFC 2047, its charset not yet undone.
type encodedWord struct {
	charset string
	text    []byte
	size    int // in the field
}

// decodeWords decodes the value of a field as mail programs do: encoded words
// wherever they stand, also in quotes, also without an end, with spaces in them;
// neighbours of one charset are joined before they are converted, because many
// programs cut them inside of a character. What is not encoded may be 8-bit.
func decodeWords(s string) string {
	var out strings.Builder
	var charset string
	var pending []byte
	flush := func() {
		if len(pending) > 0 {
			out.WriteString(decode(pending, hint{charset: charset}).text)
			pending = nil
		}
	}
	for {
		i := strings.Index(s, "=?")
		if i < 0 {
			break
		}
		w, ok := cutEncodedWord(s[i:])
		if !ok {
			flush()
			out.WriteString(plain8(s[:i+2]))
			s = s[i+2:]
			continue
		}
		// RFC 2047 §6.2: white space between two words is not shown.
		blank := strings.Trim(s[:i], " \t\r\n") == ""
		if !blank || w.charset != charset {
			flush()
		}
		if !blank || charset == "" {
			out.WriteString(plain8(s[:i]))
		}
		charset, pending = w.charset, append(pending, w.text...)
		s = s[i+w.size:]
	}
	flush()
	out.WriteString(plain8(s))
	return out.String()
}

// plain8 decodes what stands in a field without being encoded.
func plain8(s string) string {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return decode([]byte(s), hint{}).text
		}
	}
	return s
}

// cutEncodedWord reads "=?charset?encoding?text?=" at the start of s.
func cutEncodedWord(s string) (encodedWord, bool) {
	const maxCharset = 64
	rest := s[2:]
	end := strings.IndexByte(rest[:min(len(rest), maxCharset)], '?')
	if end <= 0 || strings.ContainsAny(rest[:end], " \t=") || len(rest) < end+3 || rest[end+2] != '?' {
		return encodedWord{}, false
	}
	w := encodedWord{charset: strings.ToLower(rest[:end])}
	// RFC 2231 §5 puts a language behind the charset.
	w.charset, _, _ = strings.Cut(w.charset, "*")
	text, _, closed := strings.Cut(rest[end+3:], "?=")
	w.size = 2 + end + 3 + len(text)
	if closed {
		w.size += 2
	}
	switch rest[end+1] | 0x20 {
	case 'b':
		w.text = bits64(strings.ReplaceAll(text, "-", "+"))
	case 'q':
		w.text = unescape(strings.ReplaceAll(text, "_", " "), '=')
	default:
		return encodedWord{}, false
	}
	return w, true
}

// unescape replaces mark and two hexadecimal digits by the byte they stand for.
func unescape(s string, mark byte) []byte {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == mark && i+2 < len(s) && hexValue(s[i+1]) >= 0 && hexValue(s[i+2]) >= 0 {
			out = append(out, byte(hexValue(s[i+1])<<4|hexValue(s[i+2])))
			i += 2
			continue
		}
		out = append(out, s[i])
	}
	return out
}

func hexValue(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	}
	return -1
}
