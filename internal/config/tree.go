package config

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2/unstable"
)

// kind is what a node of the tree is.
type kind uint8

const (
	kindTable kind = iota
	kindArray
	kindString
	kindInteger
	kindFloat
	kindBool
	kindTime
)

// String names the kind with its article, for "is a number, …".
func (k kind) String() string {
	return [...]string{"a table", "a list", "a string", "a number", "a number with a fraction", "true or false", "a date or time"}[k]
}

// pos is a place in the file, counted from 1, columns in characters.
type pos struct{ line, col int }

// node is a value with its place. The library's own decoder stops at the first
// error and forgets places, so the file becomes this tree first.
type node struct {
	kind kind
	pos  pos    // of the value; of the header's last key for [tables]
	key  pos    // of the key that names the node
	text string // of a scalar, decoded

	names []string // keys of a table in the order of the file
	kids  map[string]*node
	elems []*node // of an array

	inline  bool // a value in braces or brackets: nothing can be added
	defined bool // a table that a header or a dotted key has opened
	dotted  bool // opened by a dotted key
}

func newTable(p pos) *node { return &node{kind: kindTable, pos: p, key: p, kids: map[string]*node{}} }

func (n *node) add(name string, kid *node) {
	n.names = append(n.names, name)
	n.kids[name] = kid
}

// treeBuilder turns the library's syntax tree into nodes.
type treeBuilder struct {
	parser *unstable.Parser
	data   []byte
	lines  []int // offset of each line
	dups   []duplicate
}

// duplicate is a key or table that stands in the file a second time.
type duplicate struct {
	at    pos
	path  string
	first pos
	what  string
}

// syntaxError is where the file stops to be TOML.
type syntaxError struct {
	at      pos
	message string
}

// parseTree reads a TOML document. data must not be changed afterwards.
func parseTree(data []byte) (*node, []duplicate, *syntaxError) {
	b := &treeBuilder{parser: &unstable.Parser{}, data: data, lines: []int{0}}
	for i, c := range data {
		if c == '\n' {
			b.lines = append(b.lines, i+1)
		}
	}
	root := newTable(pos{1, 1})
	root.defined = true
	current, prefix := root, []string(nil)
	b.parser.Reset(data)
	for b.parser.NextExpression() {
		e := b.parser.Expression()
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			current, prefix = b.header(root, e)
		case unstable.KeyValue:
			b.keyValue(current, e, prefix)
		}
	}
	if err := b.parser.Error(); err != nil {
		return nil, nil, b.syntax(err)
	}
	return root, b.dups, nil
}

func (b *treeBuilder) syntax(err error) *syntaxError {
	var pe *unstable.ParserError
	if !errors.As(err, &pe) {
		return &syntaxError{at: pos{1, 1}, message: err.Error()}
	}
	offset := cap(b.data) - cap(pe.Highlight)
	return &syntaxError{at: b.pos(max(0, min(offset, len(b.data)))), message: pe.Message}
}

// pos of a byte offset.
func (b *treeBuilder) pos(offset int) pos {
	lo, hi := 0, len(b.lines)
	for hi-lo > 1 {
		mid := (lo + hi) / 2
		if b.lines[mid] <= offset {
			lo = mid
		} else {
			hi = mid
		}
	}
	return pos{lo + 1, utf8.RuneCount(b.data[b.lines[lo]:offset]) + 1}
}

func (b *treeBuilder) duplicate(at pos, path []string, first pos, what string) {
	b.dups = append(b.dups, duplicate{at: at, path: joinPath(path), first: first, what: what})
}

type keyPart struct {
	name string
	at   pos
}

func (b *treeBuilder) keyParts(it unstable.Iterator) []keyPart {
	var parts []keyPart
	for it.Next() {
		k := it.Node()
		parts = append(parts, keyPart{string(k.Data), b.pos(int(k.Raw.Offset))})
	}
	return parts
}

// header opens [a.b] or [[a.b]] and returns the table that its keys go into,
// and its path. After a duplicate that is a table that hangs nowhere, so that
// what stands in it is not reported again.
func (b *treeBuilder) header(root *node, e *unstable.Node) (*node, []string) {
	parts := b.keyParts(e.Key())
	table := root
	var path []string
	for _, p := range parts[:len(parts)-1] {
		path = append(path, p.name)
		if table = b.descend(table, p, path); table == nil {
			return newTable(p.at), path
		}
	}
	last := parts[len(parts)-1]
	path = append(path, last.name)
	have := table.kids[last.name]
	if e.Kind == unstable.ArrayTable {
		return b.appendTable(table, have, last, path), path
	}
	switch {
	case have == nil:
		have = newTable(last.at)
		table.add(last.name, have)
	case have.kind != kindTable || have.inline || have.defined:
		b.duplicate(last.at, path, have.key, "table")
		return newTable(last.at), path
	}
	have.defined, have.pos, have.key = true, last.at, last.at
	return have, path
}

func (b *treeBuilder) appendTable(table, have *node, last keyPart, path []string) *node {
	if have == nil {
		have = &node{kind: kindArray, pos: last.at, key: last.at}
		table.add(last.name, have)
	}
	t := newTable(last.at)
	t.defined = true
	if have.kind != kindArray || have.inline {
		b.duplicate(last.at, path, have.key, "table")
		return t
	}
	have.elems = append(have.elems, t)
	return t
}

// descend enters the table p of a header, or the last element of [[p]].
func (b *treeBuilder) descend(table *node, p keyPart, path []string) *node {
	kid := table.kids[p.name]
	switch {
	case kid == nil:
		kid = newTable(p.at)
		table.add(p.name, kid)
	case kid.kind == kindArray && !kid.inline && len(kid.elems) > 0:
		kid = kid.elems[len(kid.elems)-1]
	case kid.kind != kindTable || kid.inline:
		b.duplicate(p.at, path, kid.key, "key")
		return nil
	}
	return kid
}

// keyValue puts key = value into the table; path is where the table stands,
// for messages.
func (b *treeBuilder) keyValue(table *node, e *unstable.Node, path []string) {
	path = slices.Clip(path)
	parts := b.keyParts(e.Key())
	for _, p := range parts[:len(parts)-1] {
		path = append(path, p.name)
		kid := table.kids[p.name]
		switch {
		case kid == nil:
			kid = newTable(p.at)
			kid.defined, kid.dotted = true, true
			table.add(p.name, kid)
		case kid.kind != kindTable || kid.inline || kid.defined && !kid.dotted:
			b.duplicate(p.at, path, kid.key, "key")
			return
		}
		table = kid
	}
	last := parts[len(parts)-1]
	path = append(path, last.name)
	if have := table.kids[last.name]; have != nil {
		b.duplicate(last.at, path, have.key, "key")
		return
	}
	value := b.value(e.Value(), b.valuePos(e), path)
	value.key = last.at
	table.add(last.name, value)
}

// valuePos finds the first byte after "=": the library gives lists no place.
func (b *treeBuilder) valuePos(e *unstable.Node) pos {
	it := e.Key()
	end := int(e.Raw.Offset)
	for it.Next() {
		raw := it.Node().Raw
		end = int(raw.Offset + raw.Length)
	}
	for end < len(b.data) && bytes.IndexByte([]byte(" \t="), b.data[end]) >= 0 {
		end++
	}
	return b.pos(end)
}

func (b *treeBuilder) value(v *unstable.Node, at pos, path []string) *node {
	n := &node{pos: at, key: at, text: string(v.Data)}
	if v.Raw.Length > 0 {
		n.pos = b.pos(int(v.Raw.Offset))
	}
	switch v.Kind {
	case unstable.String:
		n.kind = kindString
	case unstable.Integer:
		n.kind = kindInteger
	case unstable.Float:
		n.kind = kindFloat
	case unstable.Bool:
		n.kind = kindBool
	case unstable.Array:
		n.kind, n.inline = kindArray, true
		for it := v.Children(); it.Next(); {
			n.elems = append(n.elems, b.value(it.Node(), n.pos, path))
		}
	case unstable.InlineTable:
		n.kind, n.inline, n.kids = kindTable, true, map[string]*node{}
		for it := v.Children(); it.Next(); {
			b.keyValue(n, it.Node(), path)
		}
	default:
		n.kind = kindTime
	}
	return n
}

// literal writes a value in TOML, shortly: for messages and for the comparison
// with harmless values.
func (n *node) literal() string {
	switch n.kind {
	case kindString:
		return fmt.Sprintf("%q", n.text)
	case kindArray:
		parts := make([]string, len(n.elems))
		for i, e := range n.elems {
			parts[i] = e.literal()
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case kindTable:
		parts := make([]string, len(n.names))
		for i, name := range n.names {
			parts[i] = quoteKey(name) + " = " + n.kids[name].literal()
		}
		return "{" + strings.Join(parts, ", ") + "}"
	}
	return n.text
}

// quoteKey writes one part of a path as TOML would.
func quoteKey(s string) string {
	for i := range len(s) {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' {
			continue
		}
		return fmt.Sprintf("%q", s)
	}
	if s == "" {
		return `""`
	}
	return s
}

func joinPath(parts []string) string {
	quoted := make([]string, len(parts))
	for i, p := range parts {
		quoted[i] = quoteKey(p)
	}
	return strings.Join(quoted, ".")
}
