package mimetree

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// maxNameText is how much of a name is looked at, in bytes; what is longer is
// cut in the middle, because both ends may matter.
const maxNameText = 2048

// shownName is the length at which file systems and programs cut a name.
const shownName = 255

// NameKeys returns the forms under which a list of forbidden names or extensions
// has to be matched against a file name, lower case: full width and other
// look-alike forms as ASCII, without marks that are invisible or turn the text
// around, without the path, without the dots, spaces and stream names that
// Windows drops at the end, percent-decoded, and cut at a NUL or not.
func NameKeys(name string) []string {
	var v values
	if len(name) > maxNameText {
		name = name[:maxNameText/2] + name[len(name)-maxNameText/2:]
	}
	v.keys(name)
	if decoded := unpercent(name); decoded != name {
		v.keys(decodeCharset("", []byte(decoded))[0])
	}
	return v.list
}

func (v *values) keys(name string) {
	v.key(name)
	if before, after, ok := strings.Cut(name, "\x00"); ok {
		v.key(before)
		v.key(after)
	}
	if utf8.RuneCountInString(name) > shownName {
		v.key(string([]rune(name)[:shownName]))
	}
}

// key adds one name with and without its path and stream.
func (v *values) key(name string) {
	plain := plainName(name)
	whole := trimName(plain)
	for _, sep := range [...]string{`\`, "/"} {
		if i := strings.LastIndex(plain, sep); i >= 0 {
			v.base(plain[i+1:])
		}
	}
	v.base(plain)
	v.add(whole)
}

// base adds a name without path: as it is, and without what Windows takes for
// the name of a stream.
func (v *values) base(s string) {
	v.add(trimName(s))
	if before, after, ok := strings.Cut(s, ":"); ok && before != "" {
		v.add(trimName(before))
		v.add(trimName(after))
	}
}

// trimName cuts what Windows drops at the ends, and quotes, which no file name
// there can hold.
func trimName(s string) string {
	return strings.TrimRight(strings.TrimLeft(s, " \"'"), ". \"'")
}

// plainName folds what looks alike and drops what is not seen.
func plainName(s string) string {
	ascii := true
	for i := range len(s) {
		if s[i] < ' ' || s[i] >= 0x7f {
			ascii = false
			break
		}
	}
	if ascii {
		return strings.ToLower(s)
	}
	s = norm.NFKC.String(strings.ToValidUTF8(s, "\ufffd"))
	return norm.NFKC.String(strings.Map(func(r rune) rune {
		switch {
		case r == '。' || r == 'ꓸ':
			return '.'
		case r == '∕' || r == '⁄' || r == '⧸':
			return '/'
		case unicode.Is(unicode.Zs, r):
			return ' '
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r), unicode.Is(unicode.Mn, r), unicode.Is(unicode.Variation_Selector, r):
			return -1
		}
		return unicode.ToLower(r)
	}, s))
}

// extension returns the letters and digits behind the last dot of a key, "" for
// none.
func extension(key string) string {
	i := strings.LastIndexByte(key, '.')
	ext := key[i+1:]
	if n := strings.IndexFunc(ext, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }); n >= 0 {
		ext = ext[:n]
	}
	if i < 0 || len(ext) > 12 {
		return ""
	}
	return ext
}
