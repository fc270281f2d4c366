package textview

import (
	"strings"
)

// sheet is the rules of style sheets under plain selectors: "td", ".x", "#x",
// "td.x".
type sheet map[string]style

// maxRules bounds how many rules of a document count.
const maxRules = 2000

// read adds a style sheet. Rules for media and the like are skipped: they
// show as often what others hide as the reverse.
func (s sheet) read(css string) {
	if strings.Contains(css, "/*") {
		css = dropComments(css)
	}
	for len(s) < maxRules {
		i := strings.IndexByte(css, '{')
		if i < 0 {
			return
		}
		selectors := strings.TrimSpace(css[:i])
		css = css[i+1:]
		if strings.HasPrefix(selectors, "@") && !strings.HasPrefix(selectors, "@font-face") {
			css = css[blockEnd(css):]
			continue
		}
		body, rest, _ := strings.Cut(css, "}")
		css = rest
		s.rule(selectors, body)
	}
}

// blockEnd returns where a block with blocks in it ends.
func blockEnd(css string) int {
	depth := 1
	for i := range len(css) {
		switch css[i] {
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return len(css)
}

func (s sheet) rule(selectors, body string) {
	st := parseStyle(body)
	if st == (style{}) {
		return
	}
	n := 0
	for sel := range strings.SplitSeq(strings.ToLower(selectors), ",") {
		if n++; n > maxDeclarations || len(s) >= maxRules {
			return
		}
		sel = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(sel), "<!--"))
		if sel == "" || len(sel) > 200 {
			continue
		}
		if strings.ContainsAny(sel, " >+~:[*") {
			// What depends on where an element stands is not followed; but its
			// background can no longer be known.
			if st.hasBg {
				last := sel[strings.LastIndexAny(sel, " >+~")+1:]
				last, _, _ = strings.Cut(last, ":")
				s[last] = s[last].merge(style{bg: anyColour, hasBg: true})
			}
			continue
		}
		s[sel] = s[sel].merge(st)
	}
}

// of returns the rules for an element.
func (s sheet) of(tag, id, class string) style {
	var out style
	if len(s) == 0 {
		return out
	}
	out = out.merge(s[tag])
	n := 0
	for c := range strings.FieldsSeq(strings.ToLower(class)) {
		if n++; n > 20 {
			break
		}
		out = out.merge(s["."+c]).merge(s[tag+"."+c])
	}
	if id != "" {
		id = strings.ToLower(id)
		out = out.merge(s["#"+id]).merge(s[tag+"#"+id])
	}
	return out
}

// styleURLs calls fn with every address in declarations: url(…) and @import.
func styleURLs(css string, fn func(raw string)) {
	for range maxRules {
		i := indexFold(css, "url(")
		if i < 0 {
			break
		}
		css = css[i+len("url("):]
		end := strings.IndexByte(css[:min(len(css), maxURL)], ')')
		if end < 0 {
			continue
		}
		fn(strings.Trim(css[:end], " \t\r\n\"'"))
		css = css[end:]
	}
}

// indexFold is strings.Index for a lower-case ASCII pattern, in any case.
func indexFold(s, pattern string) int {
	first := pattern[0]
	for i := 0; i+len(pattern) <= len(s); i++ {
		if s[i]|0x20 == first && strings.EqualFold(s[i:i+len(pattern)], pattern) {
			return i
		}
	}
	return -1
}
