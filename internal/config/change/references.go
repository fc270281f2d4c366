package change

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"gatepost/internal/config"
	"gatepost/internal/config/edit"
)

// Reference is a place that names something of the configuration.
type Reference struct {
	// Path leads to the value, Value is what it says: the name, perhaps behind a word.
	Path  edit.Path
	Value string
}

// Where is the place as people read it: `domain["example.com"].transport`.
func (r Reference) Where() string { return r.Path.String() }

// References lists the places of a document that name the [[section]] called name, by
// what the schema says of each key.
func References(d *edit.Document, s *config.Schema, section, name string) []Reference {
	if name == "" {
		return nil
	}
	w := &referenceWalk{doc: d, schema: s, section: section, name: name}
	for i := range s.Sections {
		x := &s.Sections[i]
		at := edit.Path{{Key: x.Name}}
		switch {
		case x.Name == "":
			w.keys(x.Keys, nil)
		case !x.Many:
			w.keys(x.Keys, at)
		default:
			for n := range d.Len(at) {
				w.keys(x.Keys, nameOrIndex(d, at, n))
			}
		}
	}
	return w.found
}

// Rename gives the [[section]] that at leads to another name, there and wherever it is
// named.
func Rename(d *edit.Document, s *config.Schema, at edit.Path, name string) error {
	was, _ := d.Get(at.With("name"))
	old, ok := was.(string)
	if len(at) != 1 || !at[0].Elem || !ok {
		return fmt.Errorf("%s has no name that could be changed", at)
	}
	if name == "" {
		return fmt.Errorf("%s needs a name", at)
	}
	if old == name {
		return nil
	}
	if Named(d, at[0].Key, name) > 0 {
		return fmt.Errorf("the name %q is taken", name)
	}
	list := References(d, s, at[0].Key, old)
	if err := d.Set(at.With("name"), name); err != nil {
		return err
	}
	return Follow(d, at[0].Key, list, old, name)
}

// Follow changes what places that named a [[section]] old say.
func Follow(d *edit.Document, section string, list []Reference, old, name string) error {
	for _, r := range list {
		p := r.Path
		if p[0].Elem && p[0].Key == section && p[0].Name == old {
			p = slices.Clone(p) // it stands in what has got the other name
			p[0].Name = name
		}
		if err := d.Set(p, strings.TrimSuffix(r.Value, old)+name); err != nil {
			return err
		}
	}
	return nil
}

// Do carries out operations: those of edit, and "rename", which gives the [[section]] at
// a path another name, there and wherever it is named.
func Do(d *edit.Document, ops ...edit.Op) error {
	for i, op := range ops {
		do := d.DoOne
		if op.Op == "rename" {
			do = func(op edit.Op) error { return doRename(d, op) }
		}
		if err := do(op); err != nil {
			return fmt.Errorf("operation %d: %w", i+1, err)
		}
	}
	return nil
}

func doRename(d *edit.Document, op edit.Op) error {
	var name string
	if err := json.Unmarshal(op.Value, &name); err != nil {
		return fmt.Errorf("%s: a name is a text", op.Path)
	}
	at, err := edit.ParsePath(op.Path)
	if err != nil {
		return err
	}
	s, err := config.NewSchema()
	if err != nil {
		return err
	}
	return Rename(d, s, at, name)
}

// Named counts the [[section]]s with a name.
func Named(d *edit.Document, section, name string) int {
	n, list := 0, edit.Path{{Key: section}}
	for i := range d.Len(list) {
		if v, _ := d.Get(list.At(i).With("name")); v == name {
			n++
		}
	}
	return n
}

// nameOrIndex is the path to an element of a list of sections, by its name where that
// is its own.
func nameOrIndex(d *edit.Document, list edit.Path, i int) edit.Path {
	v, _ := d.Get(list.At(i).With("name"))
	if name, ok := v.(string); ok && name != "" && Named(d, list[0].Key, name) == 1 {
		return list.Named(name)
	}
	return list.At(i)
}

type referenceWalk struct {
	doc           *edit.Document
	schema        *config.Schema
	section, name string
	found         []Reference
}

func (w *referenceWalk) keys(keys []config.SchemaKey, at edit.Path) {
	for i := range keys {
		w.key(&keys[i], at.With(keys[i].Name))
	}
}

func (w *referenceWalk) key(k *config.SchemaKey, at edit.Path) {
	v, ok := w.doc.Get(at)
	switch {
	case !ok:
	case at[0].Key == "flow" && k.Name == "blocks":
		w.blocks(at)
	case at[0].Key == "filter" && k.Name == "when":
		w.conditions(v, at)
	case len(k.Keys) > 0 && k.List:
		for i := range w.doc.Len(at) {
			w.keys(k.Keys, at.At(i))
		}
	case len(k.Keys) > 0:
		w.keys(k.Keys, at)
	case k.Names == w.section || slices.Contains(k.NamesAfter, w.section):
		w.values(k, v, at)
	}
}

// values looks at one value, or at those of a list.
func (w *referenceWalk) values(k *config.SchemaKey, v any, at edit.Path) {
	list, ok := v.([]any)
	if !ok {
		w.value(k, v, at)
		return
	}
	for i, one := range list {
		w.value(k, one, at.At(i))
	}
}

func (w *referenceWalk) value(k *config.SchemaKey, v any, at edit.Path) {
	text, ok := v.(string)
	if ok && (k.Names == w.section && text == w.name || slices.Contains(k.NamesAfter, w.section) && text == w.section+":"+w.name) {
		w.found = append(w.found, Reference{at, text})
	}
}

// blocks looks at the parameters of a flow's blocks.
func (w *referenceWalk) blocks(at edit.Path) {
	flow := slices.Clone(at[:1])
	stage, _ := w.doc.Get(flow.With("stage"))
	for i := range w.doc.Len(at) {
		use, _ := w.doc.Get(at.At(i).With("use"))
		for _, b := range w.schema.Blocks {
			if b.Stage == stage && b.Use == use {
				w.keys(b.Keys, at.At(i))
			}
		}
	}
}

// conditions looks for listeners, which the conditions of a filter name, also within
// `not` and `any`.
func (w *referenceWalk) conditions(v any, at edit.Path) {
	switch v := v.(type) {
	case map[string]any:
		for _, key := range keysInOrder(v) {
			if key == "listener" {
				w.values(&config.SchemaKey{Names: key}, v[key], at.With(key))
				continue
			}
			w.conditions(v[key], at.With(key))
		}
	case []any:
		for i := range v {
			w.conditions(v[i], at.At(i))
		}
	}
}

func keysInOrder(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
