package script

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.starlark.net/starlark"
)

// maxFilled bounds what a template becomes, in bytes.
const maxFilled = 8 << 10

// splitParams takes the values of a template out of the keyword arguments.
func splitParams(kwargs []starlark.Tuple, known ...string) (own []starlark.Tuple, values map[string]string, err error) {
	for _, kw := range kwargs {
		name, _ := starlark.AsString(kw[0])
		if slices.Contains(known, name) {
			own = append(own, kw)
			continue
		}
		var text string
		switch v := kw[1].(type) {
		case starlark.String:
			text = string(v)
		case starlark.Int, starlark.Float, starlark.Bool:
			text = v.String()
		default:
			return nil, nil, fmt.Errorf("%s: want a string or a number, got %s", name, v.Type())
		}
		if len(text) > maxFilled {
			return nil, nil, fmt.Errorf("%s is longer than %d bytes", name, maxFilled)
		}
		if values == nil {
			values = map[string]string{}
		}
		values[name] = text
	}
	return own, values, nil
}

// fill puts the values, escaped, into the places {name} of a template. Every place
// needs a value and every value a place; a template without values stays as it is.
func fill(template string, values map[string]string, escape func(string) string) (string, error) {
	if len(template) > maxFilled {
		return "", fmt.Errorf("longer than %d bytes", maxFilled)
	}
	if values == nil {
		return template, nil
	}
	var b strings.Builder
	used := map[string]bool{}
	for rest := template; ; {
		before, after, ok := strings.Cut(rest, "{")
		b.WriteString(before)
		if !ok {
			break
		}
		name, behind, ok := strings.Cut(after, "}")
		value, known := values[name]
		if !ok || !known {
			return "", fmt.Errorf("no value for {%s}", short(name))
		}
		used[name] = true
		b.WriteString(escape(value))
		if rest = behind; b.Len() > maxFilled {
			return "", fmt.Errorf("longer than %d bytes", maxFilled)
		}
	}
	for name := range values {
		if !used[name] {
			return "", fmt.Errorf("the text has no place {%s}", name)
		}
	}
	return b.String(), nil
}

// escaper writes every byte that is not plain in another way.
func escaper(plain string, write func(*strings.Builder, byte)) func(string) string {
	return func(s string) string {
		var b strings.Builder
		for i := range len(s) {
			c := s[i]
			if c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || strings.IndexByte(plain, c) >= 0 {
				b.WriteByte(c)
				continue
			}
			write(&b, c)
		}
		return b.String()
	}
}

func hex(mark string) func(*strings.Builder, byte) {
	return func(b *strings.Builder, c byte) {
		const digits = "0123456789ABCDEF"
		b.WriteString(mark)
		b.WriteByte(digits[c>>4])
		b.WriteByte(digits[c&15])
	}
}

// escapeURL is for a path segment or a query alike: nothing in it means anything
// (RFC 3986 §2.3 has what stays).
func escapeURL(s string) string { return escaper("-._~", hex("%"))(s) }

// escapeFilter is for a value in a filter (RFC 4515 §3).
func escapeFilter(s string) string { return escaper(" @.-_+=", hex(`\`))(s) }

// escapeDN is for a value in a distinguished name (RFC 4514 §2.4); what stays also
// leaves user@domain alone.
func escapeDN(s string) string { return escaper("@.-_", hex(`\`))(s) }

// parseTemplate checks the template of a URL: who is asked must be written out.
func parseTemplate(s string) (string, error) {
	fail := func(why string) (string, error) { return "", fmt.Errorf("http: %q: %s", short(s), why) }
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok || scheme != "https" && scheme != "http" {
		return fail("want https://… or http://…")
	}
	host := rest
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		host = rest[:i]
	}
	if strings.ContainsAny(host, "{}@") || host == "" {
		return fail("the host must be written out, without a user in front")
	}
	if strings.Contains(rest, "#") {
		return fail("a fragment is not sent")
	}
	if _, err := url.Parse(strings.NewReplacer("{", "", "}", "").Replace(s)); err != nil {
		return fail("it is no URL")
	}
	return s, nil
}

// parseRate reads "10/m", "5/30s", "100/h", "1000/d".
func parseRate(s string) (n int, per time.Duration, err error) {
	bad := func() (int, time.Duration, error) {
		return 0, 0, fmt.Errorf("%q is no rate: write 10/m, 5/30s, 100/h or 1000/d", short(s))
	}
	count, unit, ok := strings.Cut(s, "/")
	n, err = strconv.Atoi(strings.TrimSpace(count))
	unit = strings.TrimSpace(unit)
	if !ok || err != nil || n < 1 || n > 1e9 || unit == "" {
		return bad()
	}
	times := 1
	if digits := unit[:len(unit)-1]; digits != "" {
		if times, err = strconv.Atoi(digits); err != nil || times < 1 || times > 1e5 {
			return bad()
		}
	}
	units := map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour}
	one, ok := units[unit[len(unit)-1]]
	if !ok {
		return bad()
	}
	return n, time.Duration(times) * one, nil
}
