package edit

// node is a value as the document means it, wherever its parts stand.
type node struct {
	kind valueKind
	// val is set for what stands behind a "=" or in a list.
	val *value
	// sections are those whose header opens the node or something in it, pairs those
	// whose key leads to it or through it. Together they are all of it.
	sections []*section
	pairs    []*pair
	// own is the section whose header opens exactly this table.
	own *section
	// dots is how many parts of the key of its pairs lead to it, where it is opened by
	// dotted keys only.
	dots int

	names []string
	kids  map[string]*node
	elems []*node
}

func newTable() *node { return &node{kind: tableValue, kids: map[string]*node{}} }

func (n *node) add(name string, kid *node) {
	if n.kids == nil {
		n.kids = map[string]*node{}
	}
	if n.kids[name] == nil {
		n.names = append(n.names, name)
	}
	n.kids[name] = kid
}

// tree joins the sections of a document to what they mean.
func tree(all []*section) (*node, error) {
	root := newTable()
	for i, sec := range all {
		table := root
		if i > 0 {
			var err error
			if table, err = open(root, sec); err != nil {
				return nil, err
			}
		}
		table.own = sec
		for _, p := range sec.pairs {
			if err := place(table, p); err != nil {
				return nil, err
			}
		}
	}
	return root, nil
}

// open finds or makes the table that a header names.
func open(root *node, sec *section) (*node, error) {
	table := root
	for i, k := range sec.key {
		last := i == len(sec.key)-1
		kid := table.kids[k.name]
		if kid == nil {
			if kid = newTable(); last && sec.many {
				kid = &node{kind: listValue}
			}
			table.add(k.name, kid)
		}
		kid.sections = append(kid.sections, sec)
		switch {
		case kid.val != nil:
			return nil, errShape
		case kid.kind == listValue && last && sec.many:
			kid.elems = append(kid.elems, newTable())
			fallthrough
		case kid.kind == listValue:
			kid = kid.elems[len(kid.elems)-1]
			kid.sections = append(kid.sections, sec)
		}
		table = kid
	}
	return table, nil
}

// place puts a pair into a table.
func place(table *node, p *pair) error {
	for i, k := range p.key[:len(p.key)-1] {
		kid := table.kids[k.name]
		if kid == nil {
			kid = newTable()
			kid.dots = i + 1
			table.add(k.name, kid)
		}
		if kid.kind != tableValue || kid.val != nil {
			return errShape
		}
		kid.pairs = append(kid.pairs, p)
		table = kid
	}
	last := p.key[len(p.key)-1]
	if table.kids[last.name] != nil {
		return errShape
	}
	n, err := meaning(p.value)
	if err != nil {
		return err
	}
	n.pairs = []*pair{p}
	table.add(last.name, n)
	return nil
}

// meaning is the node of a value.
func meaning(v *value) (*node, error) {
	n := &node{kind: v.kind, val: v}
	for _, e := range v.elems {
		kid, err := meaning(e.value)
		if err != nil {
			return nil, err
		}
		n.elems = append(n.elems, kid)
	}
	for _, p := range v.pairs {
		if err := place(n, p); err != nil {
			return nil, err
		}
	}
	return n, nil
}
