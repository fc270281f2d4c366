package filter

import (
	"context"
	"errors"
	"io"
	"maps"
	"mime"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/unicode/norm"
)

// anyField is the name that stands for every field: the expression is then
// matched against "Name: value".
const anyField = "*"

// headers compiles header = { NAME = … }.
func (c *compiler) headers(path string, v any) []condition {
	t, ok := v.(map[string]any)
	if !ok || len(t) == 0 {
		c.fail(path, errors.New("needs the name of a field: header.Subject = '…'"))
		return nil
	}
	var list []condition
	for _, name := range slices.Sorted(maps.Keys(t)) {
		list = append(list, c.header(path+"."+name, name, t[name]))
	}
	return list
}

// header compiles the expressions on one field. An empty expression matches
// wherever the field is there.
func (c *compiler) header(path, name string, v any) condition {
	if name == "" || name != anyField && strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == ':' }) {
		c.fail(path, errors.New("not the name of a field"))
	}
	list := c.expressions(path, v)
	what := "header." + name
	if strings.EqualFold(name, "subject") {
		what = "subject"
	}
	return condition{cost: costHeader, test: func(ctx context.Context, m *material) (answer, error) {
		for _, s := range m.field(name) {
			match, ok, err := findAny(ctx, list, s)
			if err != nil {
				return answer{}, err
			}
			if ok {
				return yes(found(what, match, s)), nil
			}
		}
		return answer{}, nil
	}}
}

// found says what matched, and in what where that is more.
func found(what, match, in string) string {
	text := what + " matched " + quote(match)
	if match != in {
		text += " in " + quote(in)
	}
	return text
}

// field returns every reading of every field of that name.
func (m *material) field(name string) []string {
	name = strings.ToLower(name)
	if readings, ok := m.fields[name]; ok {
		return readings
	}
	var all []string
	for _, f := range m.in.Header.Fields() {
		switch {
		case name == anyField && f.Name != "":
			for _, s := range readings(f.Value()) {
				all = append(all, f.Name+": "+s)
			}
		case f.Name != "" && strings.EqualFold(f.Name, name):
			all = append(all, readings(f.Value())...)
		}
	}
	if m.fields == nil {
		m.fields = map[string][]string{}
	}
	m.fields[name] = all
	return all
}

// readings returns a value as it stands, with its encoded words decoded, and as
// the eye takes it: without invisible characters, look-alike forms folded.
func readings(raw string) []string {
	if plainASCII(raw) {
		return []string{raw}
	}
	list := []string{raw}
	add := func(s string) {
		if !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	decoded := decodeWords(raw)
	add(decoded)
	add(norm.NFKC.String(strings.Map(visible, decoded)))
	return list
}

func plainASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x7f || s[i] < ' ' && s[i] != '\t' || s[i] == '=' && strings.HasPrefix(s[i:], "=?") {
			return false
		}
	}
	return true
}

// visible drops the characters that nobody sees.
func visible(r rune) rune {
	if unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Variation_Selector, r) || r == 0 {
		return -1
	}
	return r
}

// decodeWords decodes RFC 2047 words; a charset that nobody knows is read byte
// by byte, so that the ASCII in it can be matched.
func decodeWords(s string) string {
	decoder := mime.WordDecoder{CharsetReader: func(charset string, in io.Reader) (io.Reader, error) {
		enc, err := htmlindex.Get(charset)
		if err != nil {
			enc = charmap.Windows1252
		}
		return enc.NewDecoder().Reader(in), nil
	}}
	decoded, err := decoder.DecodeHeader(s)
	if err != nil {
		return s
	}
	return decoded
}
