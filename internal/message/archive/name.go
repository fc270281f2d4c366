package archive

import (
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/unicode/norm"
)

// maxName bounds a normalised name, maxRawName a raw one, in bytes.
const (
	maxName    = 1024
	maxRawName = 4 << 10
)

// CleanName returns the name by which a file would be known after it was saved:
// slashes between components, no way out of the directory, no drive, stream
// (::$DATA), trailing dots or blanks, invisible or direction-changing characters;
// compatibility forms such as full width folded (NFKC). It is cut in the middle
// at 1 KiB, so that its end, which says what the file is, stays. The result is ""
// where nothing is left.
func CleanName(raw string) string { return cleanName(raw, true) }

func cleanName(raw string, cutStream bool) string {
	if len(raw) > maxRawName {
		raw = raw[:maxRawName/2] + raw[len(raw)-maxRawName/2:]
	}
	raw = norm.NFKC.String(strings.ToValidUTF8(raw, "\ufffd"))
	raw = strings.Map(func(r rune) rune {
		switch {
		case r == '\\':
			return '/'
		case unicode.Is(unicode.Zs, r):
			return ' '
		case unicode.IsControl(r), isInvisible(r):
			return -1
		}
		return r
	}, raw)
	parts := strings.Split(raw, "/")
	kept := parts[:0]
	for i, p := range parts {
		if i == 0 && len(p) >= 2 && p[1] == ':' && isLetter(p[0]) {
			p = p[2:]
		}
		if cutStream {
			p, _, _ = strings.Cut(p, ":")
		}
		// Windows drops these when it makes the file; "..", "." and "" go with them.
		p = strings.TrimLeft(strings.TrimRight(p, ". "), " ")
		if p != "" {
			kept = append(kept, p)
		}
	}
	return shorten(strings.Join(kept, "/"), maxName)
}

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

// isInvisible reports characters that take no place or change the direction of
// the others: formats, variation selectors, fillers.
func isInvisible(r rune) bool {
	return unicode.In(r, unicode.Cf, unicode.Variation_Selector, unicode.Zl, unicode.Zp) ||
		r == 0x034f || r == 0x115f || r == 0x1160 || r == 0x3164 || r == 0xffa0
}

// shorten cuts s in the middle where it is longer than limit bytes.
func shorten(s string, limit int) string {
	const mark = "…"
	if len(s) <= limit {
		return s
	}
	head, tail := (limit-len(mark))/2, len(s)-(limit-len(mark))/2
	for head > 0 && !utf8.RuneStart(s[head]) {
		head--
	}
	for tail < len(s) && !utf8.RuneStart(s[tail]) {
		tail++
	}
	return s[:head] + mark + s[tail:]
}

// names returns every reading of the raw names that headers give, the most
// likely first.
func names(raws ...string) []string {
	var list []string
	add := func(s string) {
		if s != "" && !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	for _, raw := range raws {
		// A program in C reads up to the NUL, another all of it.
		before, _, hasNUL := strings.Cut(raw, "\x00")
		for _, reading := range decodings(before) {
			add(cleanName(reading, true))
			if strings.Contains(reading, ":") {
				add(cleanName(reading, false))
			}
			if plain, err := url.PathUnescape(reading); err == nil && plain != reading {
				add(cleanName(plain, true))
			}
		}
		if hasNUL {
			for _, reading := range decodings(raw) {
				add(cleanName(reading, true))
			}
		}
	}
	return list
}

// decodings returns the name in each encoding that a program might assume.
func decodings(raw string) []string {
	ascii := true
	for i := range len(raw) {
		if raw[i] >= utf8.RuneSelf {
			ascii = false
			break
		}
	}
	if ascii {
		return []string{raw}
	}
	var list []string
	if utf8.ValidString(raw) {
		list = append(list, raw)
	}
	// Zip and RAR without a flag mean the code page of the PC.
	if oem, err := charmap.CodePage437.NewDecoder().String(raw); err == nil {
		list = append(list, oem)
	}
	return list
}

// deceit says what is suspicious about a raw name, or "".
func deceit(raw string) string {
	for _, r := range raw {
		switch {
		case r == 0:
			return "NUL in the name"
		case r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069:
			return "direction marks in the name"
		}
	}
	slashed := strings.ReplaceAll(raw, `\`, "/")
	for part := range strings.SplitSeq(slashed, "/") {
		if part == ".." {
			return "the name leads out of the archive"
		}
	}
	switch {
	case strings.HasPrefix(slashed, "/"):
		return "absolute name"
	case len(raw) > 2 && raw[1] == ':' && isLetter(raw[0]) && slashed[2] == '/':
		return "name with a drive"
	case strings.Contains(raw, "::$"):
		return "name with a stream"
	case len(raw) > maxRawName:
		return "very long name"
	}
	return ""
}
