package message

import (
	"fmt"
	"io"
	"mime"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/encoding/htmlindex"
)

// maxTextInput bounds how much of a hostile header value is looked at, in bytes.
const maxTextInput = 8 << 10

// SafeText returns s as one printable line of at most limit bytes, for logs and
// lists. Encoded words (RFC 2047) are decoded; control characters and broken
// UTF-8 become "?"; characters that are invisible or change the direction of
// the text are shown by their code (\u202e), so that nothing reads otherwise
// than it is. What does not fit is cut between characters and ends with "…".
func SafeText(s string, limit int) string {
	if len(s) <= limit && isPlainText(s) {
		// The clone lets go of the header section that s is a part of.
		return strings.Clone(s)
	}
	s = s[:min(len(s), maxTextInput)]
	return cutText(printable(decodeWords(s)), limit)
}

// isPlainText reports that s is printable ASCII without an encoded word.
func isPlainText(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] >= 0x7f || s[i] == '=' && strings.HasPrefix(s[i:], "=?") {
			return false
		}
	}
	return true
}

// decodeWords decodes RFC 2047 words; s is returned as it is where one of them
// is in an unknown charset.
func decodeWords(s string) string {
	if !strings.Contains(s, "=?") {
		return s
	}
	decoder := mime.WordDecoder{CharsetReader: charsetReader}
	decoded, err := decoder.DecodeHeader(s)
	if err != nil {
		return s
	}
	return decoded
}

func charsetReader(charset string, in io.Reader) (io.Reader, error) {
	enc, err := htmlindex.Get(charset)
	if err != nil {
		return nil, fmt.Errorf("find charset %q: %w", charset, err)
	}
	return enc.NewDecoder().Reader(in), nil
}

func printable(s string) string {
	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			b.WriteByte('?')
		case r == '\t', unicode.Is(unicode.Zs, r):
			b.WriteByte(' ')
		case unicode.IsControl(r):
			b.WriteByte('?')
		case unicode.IsPrint(r), isJoiner(r):
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
		i += n
	}
	return b.String()
}

// isJoiner reports the two invisible characters that Persian, Indic scripts and
// emoji cannot do without.
func isJoiner(r rune) bool { return r == '\u200c' || r == '\u200d' }

// cutText shortens s to limit bytes.
func cutText(s string, limit int) string {
	const mark = "…"
	if len(s) <= limit {
		return s
	}
	end := max(0, limit-len(mark))
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	if limit < len(mark) {
		return s[:end]
	}
	return s[:end] + mark
}
