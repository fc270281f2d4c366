package edit

import "strings"

// lines are the lines that an element of a list has for itself: from the comments right
// above it to the comment behind it. ok is false where it shares a line.
func (d *Document) lines(list *value, i int) (start, end int, ok bool) {
	e := list.elems[i]
	start = lineStart(d.text, e.start)
	// What stands before it on its line may only be white space.
	if strings.TrimSpace(d.text[start:e.start]) != "" {
		return 0, 0, false
	}
	last := e.end
	if e.comma >= 0 {
		last = e.comma + 1
		if strings.TrimSpace(d.text[e.end:e.comma]) != "" {
			return 0, 0, false // a comment stands before the comma
		}
	}
	end = lineEnd(d.text, last)
	if rest := strings.TrimSpace(d.text[last:end]); rest != "" && rest[0] != '#' || end > list.end {
		return 0, 0, false
	}
	floor := list.start + 1
	if i > 0 {
		floor = list.elems[i-1].end
	}
	for start > 0 {
		above := lineStart(d.text, start-1)
		if line := strings.TrimSpace(d.text[above:start]); above <= floor || !strings.HasPrefix(line, "#") {
			break
		}
		start = above
	}
	return start, end, true
}

// lined reports whether every element of a list has lines of its own.
func (d *Document) lined(list *value) bool {
	for i := range list.elems {
		if _, _, ok := d.lines(list, i); !ok {
			return false
		}
	}
	return len(list.elems) > 0
}

// cutItem removes an element of a list in brackets.
func (d *Document) cutItem(list *value, i int) []splice {
	if start, end, ok := d.lines(list, i); ok {
		return []splice{{start, end, ""}}
	}
	e := list.elems[i]
	if e.comma < 0 {
		// The last one. The comma before it goes, where nothing stands between.
		if i > 0 {
			before := list.elems[i-1]
			if strings.TrimSpace(d.text[before.comma+1:e.start]) == "" && strings.IndexByte(d.text[before.comma:e.start], '\n') < 0 {
				return []splice{{before.comma, e.end, ""}}
			}
		}
		return []splice{{e.start, e.end, ""}}
	}
	after := e.comma + 1
	for after < len(d.text) && (d.text[after] == ' ' || d.text[after] == '\t') {
		after++
	}
	if strings.TrimSpace(d.text[e.end:e.comma]) == "" {
		return []splice{{e.start, after, ""}}
	}
	return []splice{{e.start, e.end, ""}, {e.comma, e.comma + 1, ""}}
}

// putItem puts an element into a list in brackets, before the one at i.
func (d *Document) putItem(list *value, i int, text string) []splice {
	switch n := len(list.elems); {
	case n == 0:
		return d.putFirst(list, text)
	case i < n:
		if start, _, ok := d.lines(list, i); ok && d.lined(list) {
			return []splice{{start, start, d.indent(list, i) + text + "," + d.newline}}
		}
		at := list.elems[i].start
		return []splice{{at, at, text + ", "}}
	default:
		return d.putLast(list, text)
	}
}

// putLast puts an element behind the last one.
func (d *Document) putLast(list *value, text string) []splice {
	last := list.elems[len(list.elems)-1]
	_, end, ok := d.lines(list, len(list.elems)-1)
	if !ok || !d.lined(list) {
		if last.comma >= 0 {
			return []splice{{last.comma + 1, last.comma + 1, " " + text}}
		}
		return []splice{{last.end, last.end, ", " + text}}
	}
	line := splice{end, end, d.indent(list, len(list.elems)-1) + text + "," + d.newline}
	if last.comma >= 0 {
		return []splice{line}
	}
	return []splice{{last.end, last.end, ","}, line}
}

// putFirst puts an element into a list without any.
func (d *Document) putFirst(list *value, text string) []splice {
	close := list.end - 1
	start := lineStart(d.text, close)
	outer := d.text[lineStart(d.text, list.start):list.start]
	outer = outer[:len(outer)-len(strings.TrimLeft(outer, " \t"))]
	switch {
	case start > list.start && strings.TrimSpace(d.text[start:close]) == "":
		return []splice{{start, start, outer + "  " + text + "," + d.newline}}
	case strings.HasPrefix(text, "{") && strings.TrimSpace(d.text[list.start+1:close]) == "" && !d.inBraces(list):
		return []splice{{list.start, list.end, "[" + d.newline + outer + "  " + text + "," + d.newline + outer + "]"}}
	default:
		return []splice{{list.start + 1, list.start + 1, text}}
	}
}

// inBraces reports whether a list lies in a table in braces, which stays on one line.
func (d *Document) inBraces(list *value) bool {
	var within func(v *value) bool
	within = func(v *value) bool {
		for _, e := range v.elems {
			if within(e.value) {
				return true
			}
		}
		for _, p := range v.pairs {
			if p.value.start <= list.start && list.end <= p.value.end {
				return true
			}
		}
		return false
	}
	for _, sec := range d.sections {
		for _, p := range sec.pairs {
			if within(p.value) {
				return true
			}
		}
	}
	return false
}

// indent is the white space before an element.
func (d *Document) indent(list *value, i int) string {
	at := list.elems[i].start
	return d.text[lineStart(d.text, at):at]
}

// moveItem moves an element of a list in brackets: with its lines and comments where
// every element has its own, else by itself.
func (d *Document) moveItem(p Path, from, to int) error {
	n, err := d.node(p)
	if err != nil {
		return err
	}
	if !d.lined(n.val) {
		e := n.val.elems[from]
		text := d.text[e.start:e.end]
		if err := d.apply(d.cutItem(n.val, from)...); err != nil {
			return err
		}
		if n, err = d.node(p); err != nil {
			return err
		}
		return d.apply(d.putItem(n.val, to, text)...)
	}
	if last := n.val.elems[len(n.val.elems)-1]; last.comma < 0 {
		if err := d.apply(splice{last.end, last.end, ","}); err != nil {
			return err
		}
		if n, err = d.node(p); err != nil {
			return err
		}
	}
	start, end, _ := d.lines(n.val, from)
	at, behind, _ := d.lines(n.val, to)
	if to > from {
		at = behind
	}
	return d.apply(splice{start, end, ""}, splice{at, at, d.text[start:end]})
}
