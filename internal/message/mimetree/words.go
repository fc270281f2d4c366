package mimetree

import (
	"encoding/base64"
	"regexp"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/text/encoding/htmlindex"
)

// decodeWords decodes the encoded words of RFC 2047 wherever they stand, also in
// quotes, also where the end of a word is missing. Words of one charset that
// follow each other are joined before they are converted, because some programs
// cut them inside of a character. UTF-16 without a mark is taken for big endian.
func decodeWords(s string) string { return decodeWordsAs(s, 0) }

// decodeWordsAs takes the n-th reading of each word, or the last there is.
func decodeWordsAs(s string, n int) string {
	if !strings.Contains(s, "=?") {
		return s
	}
	var out strings.Builder
	var charset string
	var pending []byte
	flush := func() {
		if len(pending) > 0 {
			all := decodeCharset(charset, pending)
			out.WriteString(all[min(n, len(all)-1)])
		}
		pending = pending[:0]
	}
	for s != "" {
		i := strings.Index(s, "=?")
		if i < 0 {
			break
		}
		w, ok := cutWord(s[i+2:])
		if !ok {
			flush()
			out.WriteString(s[:i+2])
			s = s[i+2:]
			continue
		}
		if trimSpace(s[:i]) != "" || w.charset != charset {
			flush()
		}
		if trimSpace(s[:i]) != "" || out.Len() == 0 && len(pending) == 0 {
			out.WriteString(s[:i])
		}
		charset = w.charset
		pending = append(pending, w.text...)
		s = s[i+2+w.size:]
	}
	flush()
	out.WriteString(s)
	return out.String()
}

// betweenWords matches the seam between two words in base64.
var betweenWords = regexp.MustCompile(`\?=[ \t\r\n]*=\?[^? ]{1,64}\?[bB]\?`)

// joinWords makes one word of several in base64, for programs that join them
// before they decode them.
func joinWords(s string) string { return betweenWords.ReplaceAllString(s, "") }

// word is one encoded word.
type word struct {
	charset string
	text    []byte // decoded from base64 or Q, not converted
	size    int    // behind "=?"
}

// cutWord reads "charset?encoding?text?=".
func cutWord(s string) (word, bool) {
	charset, rest, ok := strings.Cut(s, "?")
	if !ok || len(charset) > 64 || strings.ContainsAny(charset, " \t=") || len(rest) < 2 || rest[1] != '?' {
		return word{}, false
	}
	text, _, closed := strings.Cut(rest[2:], "?=")
	w := word{charset: strings.ToLower(charset), size: len(charset) + 3 + len(text)}
	if closed {
		w.size += 2
	}
	// RFC 2231 §5 puts a language behind the charset.
	w.charset, _, _ = strings.Cut(w.charset, "*")
	switch rest[0] | 0x20 {
	case 'b':
		w.text = decodeLoose64(text)
	case 'q':
		w.text = decodeQ(text)
	default:
		return word{}, false
	}
	return w, true
}

// decodeLoose64 decodes what can be decoded.
func decodeLoose64(s string) []byte {
	s = strings.Map(func(r rune) rune {
		if r < 0x80 && base64Values[r] != 0 {
			return r
		}
		return -1
	}, s)
	if len(s)%4 == 1 {
		s = s[:len(s)-1]
	}
	b, err := base64.RawStdEncoding.DecodeString(s)
	if err != nil {
		return nil
	}
	return b
}

// decodeQ decodes the Q encoding, RFC 2047 §4.2.
func decodeQ(s string) []byte {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '_':
			out = append(out, ' ')
		case s[i] == '=' && i+2 < len(s) && unhex(s[i+1]) >= 0 && unhex(s[i+2]) >= 0:
			out = append(out, byte(unhex(s[i+1])<<4|unhex(s[i+2])))
			i += 2
		default:
			out = append(out, s[i])
		}
	}
	return out
}

func unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	}
	return -1
}

// decodeCharset converts bytes to UTF-8 in the ways that make sense, at least
// one: UTF-16 may be of either order, and what is not of its charset is shown
// byte by byte.
func decodeCharset(charset string, b []byte) []string {
	switch charset = strings.ToLower(charset); charset {
	case "utf-16", "utf16", "utf-16be", "utf-16le", "ucs-2", "unicode", "iso-10646-ucs-2":
		return []string{decode16(b, false), decode16(b, true)}
	case "utf-7", "utf7", "x-utf-7", "unicode-1-1-utf-7":
		return []string{decodeUTF7(string(b))}
	case "", "us-ascii", "utf-8", "utf8":
		if utf8.Valid(b) {
			return []string{string(b)}
		}
	default:
		enc, err := htmlindex.Get(charset)
		if err != nil {
			break
		}
		if s, err := enc.NewDecoder().Bytes(b); err == nil {
			return []string{string(s)}
		}
	}
	if utf8.Valid(b) {
		return []string{string(b)}
	}
	return []string{latin1(b)}
}

func latin1(b []byte) string {
	r := make([]rune, len(b))
	for i, c := range b {
		r[i] = rune(c)
	}
	return string(r)
}

func decode16(b []byte, little bool) string {
	if len(b) >= 2 && (b[0] == 0xff && b[1] == 0xfe || b[0] == 0xfe && b[1] == 0xff) {
		little = b[0] == 0xff
		b = b[2:]
	}
	units := make([]uint16, 0, len(b)/2)
	for ; len(b) >= 2; b = b[2:] {
		if little {
			units = append(units, uint16(b[0])|uint16(b[1])<<8)
		} else {
			units = append(units, uint16(b[0])<<8|uint16(b[1]))
		}
	}
	return string(utf16.Decode(units))
}

// decodeUTF7 decodes RFC 2152, which no library here knows.
func decodeUTF7(s string) string {
	var out strings.Builder
	for {
		i := strings.IndexByte(s, '+')
		if i < 0 {
			out.WriteString(s)
			return out.String()
		}
		out.WriteString(s[:i])
		s = s[i+1:]
		n := 0
		for n < len(s) && base64Values[s[n]] != 0 {
			n++
		}
		if n == 0 {
			out.WriteByte('+')
		} else {
			out.WriteString(decode16(decodeLoose64(s[:n]), false))
		}
		s = strings.TrimPrefix(s[n:], "-")
	}
}
