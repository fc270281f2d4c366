package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// place is where a field of a Config stands in the file.
type place struct {
	pos
	path string
	// set says that the file has the key; otherwise pos is that of the table.
	set bool
	// bad says that a problem with the value was reported, so that what follows
	// from it is not.
	bad bool
}

// binder fills a Config from the tree. It goes on after each problem, and it
// remembers the place of every field under a pointer to the field, so that the
// checks that come later can say where.
type binder struct {
	file     string // as problems name it
	dir      string // for relative paths
	problems []Problem
	places   map[any]*place
	stage    string // of the flow that is being bound
}

func (b *binder) problem(at pos, path string, f *fault) {
	b.problems = append(b.problems, Problem{
		Rule: string(f.rule), File: b.file, Line: at.line, Column: at.col,
		Path: path, Message: f.message, Hint: f.hint,
	})
}

// key is one field of a struct type with its tags.
type key struct {
	name  string
	index int
	tag   reflect.StructTag
}

// keysOf lists the keys of a struct type in their order.
func keysOf(t reflect.Type) []key {
	var keys []key
	for i := range t.NumField() {
		f := t.Field(i)
		if name, ok := f.Tag.Lookup("toml"); ok {
			keys = append(keys, key{name, i, f.Tag})
		}
	}
	return keys
}

// scope is the table that is being bound.
type scope struct {
	schema string // "listener": without labels, for the tables of keys
	path   string // "listener.inbound": for people
	at     pos
}

func (s scope) sub(name string) (schema, path string) {
	if s.schema == "" {
		return name, quoteKey(name)
	}
	return s.schema + "." + name, s.path + "." + quoteKey(name)
}

// table binds the keys of n, which may be nil where the file has no such table.
func (b *binder) table(v reflect.Value, n *node, s scope) {
	if v.Type() == reflect.TypeFor[Flow]() {
		b.stage = stageText(n)
	}
	keys, known := b.restOf(v, n, s, b.keys(v, n, s))
	if n == nil || !known {
		return
	}
	for _, name := range n.names {
		if !slices.ContainsFunc(keys, func(k key) bool { return k.name == name }) {
			b.unknown(n.kids[name], name, s, keys)
		}
	}
}

// stageText is the stage of a flow, which its blocks depend on wherever it stands.
func stageText(n *node) string {
	if n == nil || n.kids["stage"] == nil {
		return ""
	}
	return n.kids["stage"].text
}

// keys binds the keys that the fields of v have.
func (b *binder) keys(v reflect.Value, n *node, s scope) []key {
	keys := keysOf(v.Type())
	for _, k := range keys {
		field := v.Field(k.index)
		schema, path := s.sub(k.name)
		at := place{pos: s.at, path: path}
		var kid *node
		if n != nil {
			kid = n.kids[k.name]
		}
		if kid != nil {
			at.pos, at.set = kid.pos, true
		}
		p := &at
		b.places[field.Addr().Interface()] = p
		b.field(field, kid, k, scope{schema, path, at.pos}, p)
	}
	return keys
}

// field binds one key, or its default where the file does not have it.
func (b *binder) field(v reflect.Value, n *node, k key, s scope, p *place) {
	t := v.Type()
	switch {
	case isTable(t):
		if n != nil && n.kind != kindTable {
			b.wrongType(n, t, s, p)
			b.defaults(v, s)
			return
		}
		b.table(v, n, s)
	case t.Kind() == reflect.Pointer:
		if n == nil {
			return
		}
		v.Set(reflect.New(t.Elem()))
		b.field(v.Elem(), n, k, s, p)
	case n == nil:
		b.absent(v, k, s, p)
	case t == reflect.TypeFor[Conditions]():
		b.conditions(v.Addr().Interface().(*Conditions), n, s, p)
	case t.Kind() == reflect.Map:
		b.pairs(v, n, k, s, p)
	case t.Kind() == reflect.Slice && isTable(t.Elem()):
		b.tables(v, n, s, p)
	case t.Kind() == reflect.Slice:
		b.list(v, n, k, s, p)
	default:
		b.scalar(v, n, k, s, p)
	}
}

// defaults fills a table that could not be read. That its required keys are
// missing is no news.
func (b *binder) defaults(v reflect.Value, s scope) {
	n := len(b.problems)
	b.table(v, nil, s)
	b.problems = b.problems[:n]
}

// absent sets the default; a required key is a problem.
func (b *binder) absent(v reflect.Value, k key, s scope, p *place) {
	if k.tag.Get("required") == "true" {
		p.bad = true
		f := &fault{ruleRequired, "is missing", ""}
		if example := k.tag.Get("example"); example != "" {
			f.hint = "such as " + k.name + " = " + exampleLiteral(v.Type(), example)
		} else if enum := k.tag.Get("enum"); enum != "" {
			f.hint = "one of " + quotedList(strings.Split(enum, ","))
		}
		b.problem(p.pos, s.path, f)
		return
	}
	if text := k.tag.Get("default"); text != "" && !strings.HasPrefix(text, "(") {
		setDefault(v, k)
	}
}

// tables binds [[name]].
func (b *binder) tables(v reflect.Value, n *node, s scope, p *place) {
	if n.kind != kindArray {
		hint := ""
		if n.kind == kindTable {
			hint = fmt.Sprintf("write [[%s]] in double brackets: there may be several", s.schema)
		}
		p.bad = true
		b.problem(n.key, s.path, &fault{ruleWrongType, "is " + n.kind.String() + ", not a list of tables", hint})
		return
	}
	// The slice has its final size before its elements are bound: places are
	// remembered by their address.
	v.Set(reflect.MakeSlice(v.Type(), len(n.elems), len(n.elems)))
	for i, e := range n.elems {
		path := s.path + label(e, i)
		elem := v.Index(i)
		b.places[elem.Addr().Interface()] = &place{pos: e.pos, path: path, set: true}
		if e.kind != kindTable {
			b.problem(e.pos, path, &fault{ruleWrongType, "is " + e.kind.String() + ", not a table", ""})
			continue
		}
		b.table(elem, e, scope{s.schema, path, e.pos})
	}
}

// label tells one [[table]] from the others: by its name if it has one, a block
// by its use.
func label(n *node, i int) string {
	for _, key := range []string{"name", "use"} {
		if name := n.kids[key]; name != nil && name.kind == kindString && name.text != "" {
			return "." + quoteKey(name.text)
		}
	}
	return fmt.Sprintf("#%d", i+1)
}

// list binds a list of scalars. What can't be read is left out.
func (b *binder) list(v reflect.Value, n *node, k key, s scope, p *place) {
	t := v.Type()
	if k.tag.Get("single") == "true" && n.kind != kindArray {
		n = &node{kind: kindArray, pos: n.pos, key: n.key, elems: []*node{n}}
	}
	if n.kind != kindArray {
		b.wrongType(n, t, s, p)
		return
	}
	v.Set(reflect.MakeSlice(t, len(n.elems), len(n.elems)))
	for i, e := range n.elems {
		elem := v.Index(i)
		at := &place{pos: e.pos, path: s.path, set: true}
		b.places[elem.Addr().Interface()] = at
		b.scalar(elem, e, k, s, at)
		p.bad = p.bad || at.bad
	}
	if len(n.elems) == 0 && k.tag.Get("required") == "true" {
		p.bad = true
		b.problem(n.pos, s.path, &fault{ruleRequired, "is empty", "such as " + exampleLiteral(t, k.tag.Get("example"))})
	}
}

func (b *binder) wrongType(n *node, t reflect.Type, s scope, p *place) {
	p.bad = true
	hint := "write " + wanted(t)
	switch {
	case t.Kind() == reflect.Slice && n.kind == kindString:
		hint = "write [" + n.literal() + "], in brackets"
	case isTable(t) && n.kind == kindArray && !n.inline:
		hint = fmt.Sprintf("write [%s] in single brackets: there is only one", s.schema)
	}
	b.problem(n.pos, s.path, &fault{ruleWrongType, "is " + n.kind.String() + ", not " + typeNoun(t), hint})
}

// unknown reports a key that no field has.
func (b *binder) unknown(n *node, name string, s scope, keys []key) {
	schema, path := s.sub(name)
	known := make([]string, 0, len(keys))
	for _, k := range keys {
		known = append(known, k.name)
	}
	f := &fault{rule: ruleUnknownKey, message: "there is no such key"}
	if hint := elsewhere(schema); hint != "" {
		f.hint = hint
	} else if meant := closest(name, known); meant != "" {
		f.hint = fmt.Sprintf("did you mean %s?", meant)
	} else if blocks := blocksWith(b.stage, name); s.schema == "flow.blocks" && len(blocks) > 0 {
		f.hint = "it is a parameter of " + quotedList(blocks)
	} else if home := sectionOf(name); home != "" {
		f.hint = "it belongs in " + home
	}
	b.problem(n.key, path, f)
}

// elsewhere is about keys that people look for where they can't be.
func elsewhere(schema string) string {
	switch schema {
	case "domain.flows.connect", "domain.flows.auth":
		return "it belongs in `flows` of a [[listener]]: which domain mail is for is not known yet at that stage"
	}
	return ""
}

func quotedList(values []string) string {
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = fmt.Sprintf("%q", v)
	}
	if len(quoted) < 2 {
		return strings.Join(quoted, "")
	}
	return strings.Join(quoted[:len(quoted)-1], ", ") + " or " + quoted[len(quoted)-1]
}

// shorten keeps a value from filling the screen.
func shorten(s string) string {
	const most = 60
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
