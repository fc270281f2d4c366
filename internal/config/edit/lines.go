package edit

import (
	"fmt"
	"strings"
)

// create adds a key that is not there, and the tables on the way to it.
func (d *Document) create(p Path, v any) error {
	if p[len(p)-1].Elem {
		return fmt.Errorf("%w: %s", ErrNotFound, p)
	}
	table, i := d.root, 0
	for ; i < len(p)-1; i++ {
		kid := table.kids[p[i].Key]
		if kid == nil && !p[i].Elem {
			break
		}
		if kid == nil || p[i].Elem && p[i].find(kid) < 0 {
			return fmt.Errorf("%w: %s", ErrNotFound, p)
		}
		if table = kid; p[i].Elem {
			table = kid.elems[p[i].find(kid)]
		}
	}
	if table.kind != tableValue {
		return fmt.Errorf("%s is no table", p[:i])
	}
	if i == 0 && len(p) > 1 {
		// A section of its own; what lies deeper goes into braces.
		return d.appendSection(p[:1], wrap(p[1:], v), false)
	}
	if i == 0 && isTable(v) {
		return d.appendSection(p, v, false)
	}
	e := wrap(p[i:], v)[0]
	if table.own == nil && table.val == nil && table.dots == 0 {
		// [a.b] made it on the way; TOML lets [a] follow.
		text, err := d.sectionText(p[:i], Table{e}, false)
		if err != nil {
			return err
		}
		return d.apply(d.paragraph(d.lead(table.sections[0]), text))
	}
	return d.addPair(table, e)
}

// wrap is the entry for p[0] that holds v at the path p.
func wrap(p Path, v any) Table {
	if len(p) > 1 {
		v = wrap(p[1:], v)
	}
	return Table{{p[0].Key, v}}
}

// addPair writes a new key behind the others of its table.
func (d *Document) addPair(table *node, e Entry) error {
	if table.val != nil {
		return d.addInBraces(table, e)
	}
	prefix, pairs := "", []*pair(nil)
	if table.own != nil {
		pairs = table.own.pairs
	} else {
		pairs = table.pairs
		k := pairs[len(pairs)-1].key
		prefix = d.text[k[0].start:k[table.dots-1].end] + "."
		if pairs[0].inline {
			return d.addDotted(pairs[len(pairs)-1], prefix, e)
		}
	}
	line, err := encodeLine(e, d.newline)
	if err != nil {
		return err
	}
	line = prefix + line + d.newline
	if len(pairs) == 0 {
		return d.addFirst(table.own, line)
	}
	last := pairs[len(pairs)-1]
	indent := d.text[lineStart(d.text, last.start()):last.start()]
	return d.apply(d.newLine(lineEnd(d.text, last.end()), indent+line))
}

// newLine is a splice that puts a line at the beginning of one, or behind a last line
// that has no end.
func (d *Document) newLine(at int, line string) splice {
	if at > 0 && at == len(d.text) && d.text[at-1] != '\n' && at > bomLen(d.text) {
		line = d.newline + line
	}
	return splice{at, at, line}
}

// addFirst writes the first key of a section: below its header, or at the top of the
// file, below the comment with which it begins.
func (d *Document) addFirst(sec *section, line string) error {
	if len(sec.key) > 0 {
		return d.apply(d.newLine(sec.head, line))
	}
	at := sec.end
	if len(d.sections) > 1 {
		at = d.lead(d.sections[1])
		line += d.newline
	}
	return d.apply(d.newLine(at, line))
}

// addInBraces adds a key to { … }.
func (d *Document) addInBraces(table *node, e Entry) error {
	text, err := encodePair(e)
	if err != nil {
		return err
	}
	v := table.val
	if len(v.pairs) == 0 {
		return d.apply(splice{v.start, v.end, "{ " + text + " }"})
	}
	end := v.pairs[len(v.pairs)-1].end()
	return d.apply(splice{end, end, ", " + text})
}

// addDotted adds a key to a table in braces that is opened by a dotted key.
func (d *Document) addDotted(last *pair, prefix string, e Entry) error {
	text, err := encodePair(e)
	if err != nil {
		return err
	}
	return d.apply(splice{last.end(), last.end(), ", " + prefix + text})
}

// cutPair removes a key: its line, or in braces what stands between the commas.
func (d *Document) cutPair(at Path, p *pair) splice {
	if !p.inline {
		return splice{lineStart(d.text, p.start()), lineEnd(d.text, p.end()), ""}
	}
	siblings := d.siblings(at, p)
	for i, s := range siblings {
		switch {
		case s != p:
		case i > 0:
			return splice{siblings[i-1].end(), p.end(), ""}
		case len(siblings) > 1:
			return splice{p.start(), siblings[1].start(), ""}
		}
	}
	return splice{p.start(), p.end(), ""}
}

// siblings are the pairs of the braces that hold p.
func (d *Document) siblings(at Path, p *pair) []*pair {
	for i := len(at) - 1; i >= 0; i-- {
		if n, err := d.node(at[:i]); err == nil && n.val != nil {
			for _, s := range n.val.pairs {
				if s == p {
					return n.val.pairs
				}
			}
		}
	}
	return nil
}

// lead is where a section begins with the comment right above its header. A ruler ends
// such a comment: it is about what follows, not about this section.
func (d *Document) lead(sec *section) int {
	at := sec.start
	for at > 0 {
		start := lineStart(d.text, at-1)
		line := strings.TrimSpace(d.text[start:at])
		if !strings.HasPrefix(line, "#") || isRuler(line) {
			break
		}
		at = start
	}
	return max(at, bomLen(d.text))
}

// isRuler tells a comment that draws a line.
func isRuler(line string) bool {
	for _, mark := range []string{"---", "===", "###", "***", "~~~", "───"} {
		if strings.Contains(line, mark) {
			return true
		}
	}
	return false
}

// tail is where a section ends, with the comments right below its last key.
func (d *Document) tail(sec *section) int {
	at := sec.head
	if len(sec.pairs) > 0 {
		at = lineEnd(d.text, sec.pairs[len(sec.pairs)-1].end())
	}
	limit := sec.end
	if next := d.after(sec); next != nil {
		limit = d.lead(next)
	}
	for at < limit {
		end := lineEnd(d.text, at)
		line := strings.TrimSpace(d.text[at:end])
		if !strings.HasPrefix(line, "#") || isRuler(line) {
			break
		}
		at = end
	}
	return at
}

// after is the section that follows, or nil.
func (d *Document) after(sec *section) *section {
	for i, s := range d.sections {
		if s == sec && i+1 < len(d.sections) {
			return d.sections[i+1]
		}
	}
	return nil
}

// cutSection removes a section with its comments and one of the gaps around it.
func (d *Document) cutSection(sec *section) splice {
	cut := splice{start: d.lead(sec), end: d.tail(sec)}
	for cut.end < len(d.text) {
		end := lineEnd(d.text, cut.end)
		if strings.TrimSpace(d.text[cut.end:end]) != "" {
			break
		}
		cut.end = end
	}
	return cut
}
