package config

import "reflect"

// entry is the place of one value of a table whose keys are the administrator's own.
type entry struct {
	of   any // the pointer to the field
	name string
}

// pairs binds a table of values of one type: Scores and Texts.
func (b *binder) pairs(v reflect.Value, n *node, k key, s scope, p *place) {
	t := v.Type()
	if n.kind != kindTable {
		b.wrongType(n, t, s, p)
		return
	}
	v.Set(reflect.MakeMapWithSize(t, len(n.names)))
	for _, name := range n.names {
		kid := n.kids[name]
		at := &place{pos: kid.pos, path: s.path + "." + quoteKey(name), set: true}
		b.places[entry{v.Addr().Interface(), name}] = at
		elem := reflect.New(t.Elem()).Elem()
		b.scalar(elem, kid, key{name: name, tag: k.tag}, scope{s.schema, at.path, at.pos}, at)
		p.bad = p.bad || at.bad
		v.SetMapIndex(reflect.ValueOf(name), elem)
	}
}
