package edit

import (
	"slices"
	"strings"
)

// sectionText writes [path] or [[path]] with the keys of a table.
func (d *Document) sectionText(p Path, v any, many bool) (string, error) {
	t, ok := v.(Table)
	if !ok {
		t = ordered(v.(map[string]any))
	}
	names := make([]string, len(p))
	for i, s := range p {
		names[i] = quoteKey(s.Key)
	}
	text := "[" + strings.Join(names, ".") + "]"
	if many {
		text = "[" + text + "]"
	}
	text += d.newline
	for _, e := range t {
		line, err := encodeLine(e, d.newline)
		if err != nil {
			return "", err
		}
		text += line + d.newline
	}
	return text, nil
}

// appendSection writes a new section at the end of the file.
func (d *Document) appendSection(p Path, v any, many bool) error {
	text, err := d.sectionText(p, v, many)
	if err != nil {
		return err
	}
	return d.apply(d.paragraph(len(d.text), text))
}

// paragraph is a splice that puts text at the beginning of a line, with one empty line
// around it.
func (d *Document) paragraph(at int, text string) splice {
	before := d.text[bomLen(d.text):at]
	switch {
	case strings.TrimSpace(before) == "":
	case !strings.HasSuffix(before, "\n"):
		text = d.newline + d.newline + text
	case !strings.HasSuffix(before, d.newline+d.newline):
		text = d.newline + text
	}
	if rest := d.text[at:]; rest != "" && strings.TrimSpace(rest[:lineEnd(rest, 0)]) != "" {
		text += d.newline
	}
	return splice{at, at, text}
}

// putSection puts the text of an element of a list of sections before the one at i.
func (d *Document) putSection(list *node, i int, text string) splice {
	if i < len(list.elems) {
		return d.paragraph(d.lead(list.elems[i].sections[0]), text)
	}
	all := list.elems[i-1].sections
	return d.paragraph(d.tail(all[len(all)-1]), text)
}

// moveSection cuts an element of a list of sections out and puts it elsewhere.
func (d *Document) moveSection(p Path, from, to int) error {
	n, err := d.node(p)
	if err != nil {
		return err
	}
	var parts []string
	for _, sec := range n.elems[from].sections {
		part := d.text[d.lead(sec):d.tail(sec)]
		if !strings.HasSuffix(part, "\n") {
			part += d.newline
		}
		parts = append(parts, part)
	}
	if err := d.Remove(p.At(from)); err != nil {
		return err
	}
	if n, err = d.node(p); err != nil {
		return err
	}
	return d.apply(d.putSection(n, to, strings.Join(slices.Compact(parts), d.newline)))
}
