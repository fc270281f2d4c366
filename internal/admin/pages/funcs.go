package pages

import (
	"fmt"
	"html/template"
	"strings"
	"time"

	"gatepost/internal/accounts"
	"gatepost/internal/admin"
)

// funcs are what templates may call.
func (s *Site) funcs() template.FuncMap {
	return template.FuncMap{
		"asset":  func(name string) string { return "/static/" + s.version + "/" + name },
		"when":   when,
		"size":   size,
		"join":   strings.Join,
		"may":    func(a *admin.Actor, p string) bool { return a.May(accounts.Permission(p)) },
		"roles":  accounts.Roles,
		"plural": plural,
		"dict":   dict,
		"depth":  depth,
		"waits":  waits,
		"doc":    doc,
		"told":   told,
		"tone":   tone,
		"find":   find,
	}
}

// when is a time in UTC, which the browser shows in the reader's zone.
func when(t time.Time) template.HTML {
	if t.IsZero() {
		return `<span class="faint">never</span>`
	}
	// Both forms have digits and punctuation only.
	return template.HTML(`<time datetime="` + t.UTC().Format(time.RFC3339) + `">` + t.UTC().Format("2006-01-02 15:04 UTC") + `</time>`)
}

// doc is a text of the reference, in which `code` stands in backquotes.
func doc(text string) template.HTML {
	var b strings.Builder
	for i, part := range strings.Split(text, "`") {
		if i%2 == 1 {
			b.WriteString("<code>" + template.HTMLEscapeString(part) + "</code>")
		} else {
			b.WriteString(template.HTMLEscapeString(part))
		}
	}
	return template.HTML(b.String())
}

// size is a number of bytes as people read it.
func size(n int64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	case n < 1<<30:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
}

// plural is "1 message", "2 messages".
func plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}

// dict makes a map of pairs, for parts of templates that take several values.
func dict(pairs ...any) (map[string]any, error) {
	if len(pairs)%2 != 0 {
		return nil, fmt.Errorf("dict: %d values are no pairs", len(pairs))
	}
	m := make(map[string]any, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		key, ok := pairs[i].(string)
		if !ok {
			return nil, fmt.Errorf("dict: %v is no name", pairs[i])
		}
		m[key] = pairs[i+1]
	}
	return m, nil
}
