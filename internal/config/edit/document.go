package edit

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// Document is a TOML file. Its operations change it all at once or, with an error,
// not at all. It must not be used by several goroutines at once.
type Document struct {
	text     string
	newline  string
	sections []*section
	root     *node
	values   map[string]any
}

// Errors that callers tell apart.
var (
	ErrNotFound = errors.New("there is no such key")
	ErrSyntax   = errors.New("this is not TOML")
)

// Parse reads a document.
func Parse(text string) (*Document, error) {
	d := &Document{text: text, newline: "\n"}
	if i := strings.IndexByte(text, '\n'); i > 0 && text[i-1] == '\r' {
		d.newline = "\r\n"
	}
	if err := toml.Unmarshal([]byte(text[bomLen(text):]), &d.values); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSyntax, err)
	}
	var err error
	if d.sections, err = (&scanner{text: text}).sections(); err != nil {
		return nil, err
	}
	d.root, err = tree(d.sections)
	return d, err
}

// Text is the document as it stands in the file.
func (d *Document) Text() string { return d.text }

// Get returns the value at a path: string, bool, int64, float64, []any,
// map[string]any, or one of the types of package toml for times.
func (d *Document) Get(p Path) (any, bool) {
	n := d.root
	var v any = d.values
	for _, s := range p {
		m, ok := v.(map[string]any)
		if n = n.kids[s.Key]; n == nil || !ok {
			return nil, false
		}
		v = m[s.Key]
		if !s.Elem {
			continue
		}
		list, ok := v.([]any)
		i := s.find(n)
		if !ok || i < 0 || i >= len(list) {
			return nil, false
		}
		v, n = list[i], n.elems[i]
	}
	return v, true
}

// Len is the number of elements of the list at a path, 0 where there is none.
func (d *Document) Len(p Path) int {
	v, _ := d.Get(p)
	list, _ := v.([]any)
	return len(list)
}

// splice replaces text[start:end].
type splice struct {
	start, end int
	text       string
}

// apply makes the document what the splices make of its text. Whatever they say, the
// result is TOML, or nothing has changed.
func (d *Document) apply(splices ...splice) error {
	slices.SortStableFunc(splices, func(a, b splice) int { return a.start - b.start })
	var b strings.Builder
	at := 0
	for _, s := range splices {
		if s.start < at || s.end < s.start {
			return errShape
		}
		b.WriteString(d.text[at:s.start])
		b.WriteString(s.text)
		at = s.end
	}
	b.WriteString(d.text[at:])
	next, err := Parse(b.String())
	if err != nil {
		return fmt.Errorf("the change does not fit into the file: %w", err)
	}
	next.newline = d.newline
	*d = *next
	return nil
}

// try runs an operation of several steps: all or nothing.
func (d *Document) try(op func() error) error {
	before := *d
	if err := op(); err != nil {
		*d = before
		return err
	}
	return nil
}

// node finds what a path leads to.
func (d *Document) node(p Path) (*node, error) {
	n := d.root
	for _, s := range p {
		if n = n.kids[s.Key]; n == nil {
			return nil, fmt.Errorf("%w: %s", ErrNotFound, p)
		}
		if !s.Elem {
			continue
		}
		i := s.find(n)
		if i < 0 {
			return nil, fmt.Errorf("%w: %s", ErrNotFound, p)
		}
		n = n.elems[i]
	}
	return n, nil
}

// Set gives the key or element at a path a value. A table in braces that is not there
// yet is made on the way, and at the top of the file a section. Of a list only those
// elements change that differ.
func (d *Document) Set(p Path, v any) error {
	if len(p) == 0 {
		return errPath
	}
	if _, err := encode(v); err != nil {
		return fmt.Errorf("%s: %w", p, err)
	}
	return d.try(func() error { return d.set(p, v) })
}

func (d *Document) set(p Path, v any) error {
	have, ok := d.Get(p)
	if ok && reflect.DeepEqual(plain(have), plain(v)) {
		return nil
	}
	if !ok {
		return d.create(p, v)
	}
	n, err := d.node(p)
	if err != nil {
		return err
	}
	switch {
	case n.kind == tableValue && isTable(v):
		return d.setTable(p, n, v)
	case n.val == nil:
		return fmt.Errorf("%s is made of sections: change what is in them", p)
	case n.kind == listValue && !p[len(p)-1].Elem && !slices.ContainsFunc(n.elems, func(e *node) bool { return e.kind == listValue }):
		if list, ok := plain(v).([]any); ok && len(list) > 0 && len(n.elems) > 0 {
			return d.setList(p, list, v)
		}
	}
	text, err := encode(v)
	if err != nil {
		return err
	}
	return d.apply(splice{n.val.start, n.val.end, text})
}

// setTable changes those keys of a table that differ, and removes those that v lacks.
func (d *Document) setTable(p Path, n *node, v any) error {
	t, ok := v.(Table)
	if !ok {
		t = ordered(v.(map[string]any))
	}
	for _, name := range slices.Clone(n.names) {
		if !slices.ContainsFunc(t, func(e Entry) bool { return e.Key == name }) {
			if err := d.Remove(p.With(name)); err != nil {
				return err
			}
		}
	}
	for _, e := range t {
		if err := d.set(p.With(e.Key), e.Value); err != nil {
			return err
		}
	}
	return nil
}

// setList turns a list into another by removing and adding elements, so that those
// that stay keep their place and comments.
func (d *Document) setList(p Path, want []any, v any) error {
	have, _ := d.Get(p)
	keep := common(have.([]any), want)
	for i := len(have.([]any)) - 1; i >= 0; i-- {
		if !slices.ContainsFunc(keep, func(k [2]int) bool { return k[0] == i }) {
			if err := d.Remove(p.At(i)); err != nil {
				return err
			}
		}
	}
	for i := range want {
		if slices.ContainsFunc(keep, func(k [2]int) bool { return k[1] == i }) {
			continue
		}
		elem := want[i]
		if given, ok := v.([]any); ok {
			elem = given[i] // with the order of its keys
		}
		if err := d.Insert(p, i, elem); err != nil {
			return err
		}
	}
	return nil
}

// common lists the pairs of indexes of a longest common subsequence.
func common(a, b []any) [][2]int {
	length := make([][]int, len(a)+1)
	for i := range length {
		length[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if reflect.DeepEqual(a[i], b[j]) {
				length[i][j] = length[i+1][j+1] + 1
			} else {
				length[i][j] = max(length[i+1][j], length[i][j+1])
			}
		}
	}
	var keep [][2]int
	for i, j := 0, 0; i < len(a) && j < len(b); {
		switch {
		case reflect.DeepEqual(a[i], b[j]):
			keep = append(keep, [2]int{i, j})
			i, j = i+1, j+1
		case length[i+1][j] >= length[i][j+1]:
			i++
		default:
			j++
		}
	}
	return keep
}

// Remove removes a key with its line, a section, or an element of a list.
func (d *Document) Remove(p Path) error {
	if len(p) == 0 {
		return errPath
	}
	n, err := d.node(p)
	if err != nil {
		return err
	}
	last := p[len(p)-1]
	if last.Elem && n.val != nil {
		list, err := d.node(listOf(p))
		if err != nil {
			return err
		}
		return d.apply(d.cutItem(list.val, last.find(list))...)
	}
	if len(n.pairs) > 1 && n.pairs[0].inline {
		return d.try(func() error { return d.removeDotted(p) })
	}
	var cuts []splice
	for _, sec := range n.sections {
		// A section of a list that lies in another belongs to both.
		if !slices.ContainsFunc(cuts, func(c splice) bool { return c.start <= sec.start && sec.start < c.end }) {
			cuts = append(cuts, d.cutSection(sec))
		}
	}
	for _, pr := range n.pairs {
		cuts = append(cuts, d.cutPair(p, pr))
	}
	return d.apply(cuts...)
}

// removeDotted removes a table in braces that dotted keys open, key by key: what goes
// between the commas depends on what is left.
func (d *Document) removeDotted(p Path) error {
	for {
		n, err := d.node(p)
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		if err == nil {
			err = d.apply(d.cutPair(p, n.pairs[len(n.pairs)-1]))
		}
		if err != nil {
			return err
		}
	}
}

// listOf is the path to the list of the element that p leads to.
func listOf(p Path) Path {
	q := slices.Clone(p)
	q[len(q)-1] = Step{Key: q[len(q)-1].Key}
	return q
}

// Insert puts an element into the list at a path, before the one at index i, or with i
// at or behind the end, or negative, as the last. Where there is no list, it is made: a
// [[table]] for a table at the top of the file, a [[section.table]] for one in a section
// of which there is one, else one in brackets.
func (d *Document) Insert(p Path, i int, v any) error {
	if len(p) == 0 || p[len(p)-1].Elem {
		return errPath
	}
	if _, err := encode(v); err != nil {
		return fmt.Errorf("%s: %w", p, err)
	}
	n, err := d.node(p)
	switch {
	case errors.Is(err, ErrNotFound) && isTable(v) && d.sectioned(p):
		return d.appendSection(p, v, true)
	case errors.Is(err, ErrNotFound):
		return d.Set(p, []any{v})
	case err != nil:
		return err
	case n.kind != listValue:
		return fmt.Errorf("%s is no list", p)
	}
	if i < 0 || i > len(n.elems) {
		i = len(n.elems)
	}
	if n.val != nil {
		text, err := encode(v)
		if err != nil {
			return err
		}
		return d.apply(d.putItem(n.val, i, text)...)
	}
	if !isTable(v) {
		return fmt.Errorf("%s is a list of tables", p)
	}
	text, err := d.sectionText(p, v, true)
	if err != nil {
		return err
	}
	return d.apply(d.putSection(n, i, text))
}

// sectioned reports whether a new list at a path may be one of [[sections]]: what it
// stands in is not in braces, and no element of a list.
func (d *Document) sectioned(p Path) bool {
	if len(p) == 1 {
		return true
	}
	parent := d.root.kids[p[0].Key]
	return len(p) == 2 && !p[0].Elem && (parent == nil || parent.kind == tableValue && parent.val == nil && parent.dots == 0)
}

// Move makes the element that p leads to the one at index to of its list.
func (d *Document) Move(p Path, to int) error {
	if len(p) == 0 || !p[len(p)-1].Elem {
		return errPath
	}
	list, err := d.node(listOf(p))
	if err != nil {
		return err
	}
	from := p[len(p)-1].find(list)
	if from < 0 {
		return fmt.Errorf("%w: %s", ErrNotFound, p)
	}
	if to < 0 || to >= len(list.elems) {
		return fmt.Errorf("%s has no place %d", listOf(p), to)
	}
	if from == to {
		return nil
	}
	return d.try(func() error {
		if list.val != nil {
			return d.moveItem(listOf(p), from, to)
		}
		return d.moveSection(listOf(p), from, to)
	})
}
