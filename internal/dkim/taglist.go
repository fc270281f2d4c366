package dkim

import (
	"encoding/base64"
	"strings"
	"unicode/utf8"
)

// fault is why a signature does not pass.
type fault struct {
	status Status
	reason string
}

// bad is the usual fault: what stands there cannot be used.
func bad(reason string) *fault { return &fault{PermError, reason} }

// maxTags bounds a tag list; the standards know of 13.
const maxTags = 100

// tagList is a list of tags (RFC 6376 §3.2), by name.
type tagList map[string]string

// parseTags reads a tag list whose lines are unfolded. Unknown tags are kept; the
// same name twice is a fault, and so is everything that the grammar lacks.
func parseTags(s string) (tagList, *fault) {
	tags := make(tagList, 12)
	for s != "" {
		spec, rest, more := strings.Cut(s, ";")
		s = rest
		name, value, ok := strings.Cut(spec, "=")
		name, value = trimSpace(name), trimSpace(value)
		switch {
		case !ok && !more && name == "" && len(tags) > 0:
			return tags, nil // what follows the last semicolon
		case !ok || !isTagName(name):
			return nil, bad("malformed tag list")
		case !isTagValue(value):
			return nil, bad("a character that a tag must not have")
		case len(tags) == maxTags:
			return nil, bad("too many tags")
		}
		if _, twice := tags[name]; twice {
			return nil, bad("a tag stands there twice")
		}
		tags[name] = value
	}
	if len(tags) == 0 {
		return nil, bad("empty tag list")
	}
	return tags, nil
}

func trimSpace(s string) string { return strings.Trim(s, " \t") }

func isTagName(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c|0x20 && c|0x20 <= 'z':
		case i > 0 && ('0' <= c && c <= '9' || c == '_'):
		default:
			return false
		}
	}
	return s != ""
}

// isTagValue also takes UTF-8 (RFC 8616 §5, by way of RFC 6532 §3.1).
func isTagValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return utf8.ValidString(s)
}

// withoutSpace removes the white space that folding left in a value.
func withoutSpace(s string) string {
	if !strings.ContainsAny(s, " \t") {
		return s
	}
	return strings.Map(func(r rune) rune {
		if r == ' ' || r == '\t' {
			return -1
		}
		return r
	}, s)
}

// decodeBase64 reads base64 with white space anywhere; the padding may be left
// out, as the grammar of RFC 6376 §2.10 has it.
func decodeBase64(s string) ([]byte, bool) {
	s = withoutSpace(s)
	s = strings.TrimSuffix(strings.TrimSuffix(s, "="), "=")
	b, err := base64.RawStdEncoding.DecodeString(s)
	return b, err == nil && len(b) > 0
}

// parseNumber reads 1 to digits decimal digits; one that is too big for anything
// is cut to a number that still is.
func parseNumber(s string, digits int) (n int64, ok bool) {
	if s == "" || len(s) > digits {
		return 0, false
	}
	const most = int64(1) << 60
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		if n = n*10 + int64(s[i]-'0'); n > most/10 {
			n = most / 10
		}
	}
	return n, true
}

// listItems returns the items of a list with colons, without the white space that
// may stand around them.
func listItems(s string) []string {
	items := strings.Split(s, ":")
	for i := range items {
		items[i] = trimSpace(items[i])
	}
	return items
}
