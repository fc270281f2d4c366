package pages

import (
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"gatepost/internal/admin"
	"gatepost/internal/config"
	"gatepost/internal/config/change"
	"gatepost/internal/config/edit"
)

// item is the form of a section, or of one of many.
type item struct {
	*draft
	Section config.SchemaSection
	// Index is the number of the item, "new" for one that is not there yet, "" for a
	// section of which there is one.
	Index string
	Name  string
	// Fields are those that are set or must be, More the others.
	Fields, More []field
	Problems     []change.Problem
	Diff         []diffLine
	// Tested says what came of a test.
	Tested string
	// UsedBy are the places that name it.
	UsedBy []place
	// Conditions and Actions are what a filter may be made of.
	Conditions, Actions []string
	// Learned is what the Bayesian filter knows, for its section.
	Learned any
	// Stage, Blocks and Uses are of a flow.
	Stage  string
	Blocks []block
	Uses   []config.SchemaBlock

	path edit.Path
	// prefix is how problems begin that are about it.
	prefix string
}

// Action is the address of the form.
func (i *item) Action() string {
	index := i.Index
	if index == "" {
		index = "edit"
	}
	return "/config/" + slug(i.Section.Name) + "/" + index
}

// Lists reports whether values of the item may name lists in files.
func (i *item) Lists() bool {
	return i.Section.Name == "filter" || i.Section.Name == "domain" || i.Section.Name == "rewrite"
}

// Back is where the item stands in a list.
func (i *item) Back() string {
	if i.Index == "" {
		return "/config"
	}
	return "/config/" + slug(i.Section.Name)
}

// place is a place of the configuration, and the page where it is changed.
type place struct{ Where, Href string }

// places are references as a page shows them.
func places(d *edit.Document, list []change.Reference) []place {
	var shown []place
	for _, r := range list {
		first, href := r.Path[0], "/config/"+slug(r.Path[0].Key)
		if first.Elem {
			if first.Name != "" {
				first.Index = slices.Index(names(d, first.Key), first.Name)
			}
			href += "/" + strconv.Itoa(first.Index)
		}
		shown = append(shown, place{r.Where(), href})
	}
	return shown
}

// block is one element of a flow with the form of its parameters.
type block struct {
	Use, Label, Icon, Doc string
	Index                 int
	Fields, More          []field
	First, Last           bool
	// Name is what stands for it in buttons: "clamav", "script (our rules)".
	Name string
	Open bool
}

// listed is one item of a list of sections.
type listed struct {
	Index       int
	Name        string
	Facts       []string
	First, Last bool
}

// showSection shows a section: its form, or the list of them.
func (c *configPages) showSection(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	s := c.find(r.PathValue("section"))
	if s == nil {
		c.Refuse(w, r, a, http.StatusNotFound, "")
		return
	}
	d, err := c.readDraft(r)
	if err != nil {
		c.failed(w, r, a, err)
		return
	}
	if !s.Many {
		c.itemPage(w, r, a, c.item(d, s, ""), nil)
		return
	}
	var list []listed
	p := edit.Path{{Key: s.Name}}
	all := names(d.doc, s.Name)
	for i, name := range all {
		list = append(list, listed{i, name, facts(d.doc, s, p.At(i)), i == 0, i == len(all)-1})
	}
	c.show(w, r, a, page{Template: "config-list.html", Title: overviewSection{SchemaSection: *s}.Title(), Data: map[string]any{
		"Section": s, "Items": list, "Draft": d, "Slug": slug(s.Name), "Empty": nothingYet(s.Name),
	}})
}

// facts are what tells one item from another at a glance.
func facts(d *edit.Document, s *config.SchemaSection, at edit.Path) []string {
	var list []string
	for _, k := range s.Keys {
		if k.Name == "name" || len(list) == 4 {
			continue
		}
		v, ok := d.Get(at.With(k.Name))
		if !ok {
			continue
		}
		if blocks, isBlocks := v.([]any); isBlocks && k.Name == "blocks" {
			var uses []string
			for _, b := range blocks {
				if m, ok := b.(map[string]any); ok {
					uses = append(uses, fmt.Sprint(m["use"]))
				}
			}
			list = append(list, strings.Join(uses, " → "))
			continue
		}
		list = append(list, k.Name+": "+strings.ReplaceAll(textOf(v, kindOf(k)), "\n", ", "))
	}
	return list
}

// item makes the form of an item of a draft.
func (c *configPages) item(d *draft, s *config.SchemaSection, index string) *item {
	x := &item{draft: d, Section: *s, Index: index, prefix: s.Name}
	f := &former{doc: d.doc, schema: c.schema, there: c.there(d)}
	if s.Name != "" {
		x.path = edit.Path{{Key: s.Name}}
	}
	if n, err := strconv.Atoi(index); err == nil {
		x.path = x.path.At(n)
		x.Name, _ = textAt(d.doc, x.path.With("name"))
		x.prefix = s.Name + "." + label(x.Name, n)
		x.UsedBy = places(d.doc, change.References(d.doc, c.schema, s.Name, x.Name))
	}
	if index == "new" {
		f.doc = empty()
	}
	x.Fields, x.More = sorted(f.fields(s.Keys, x.path, ""))
	switch {
	case s.Name == "flow" && index != "new":
		c.blocks(x, f)
	case s.Name == "filter":
		x.Conditions, x.Actions = c.schema.Conditions, c.schema.Actions
	}
	if d.Changed() {
		x.Diff = diffLines(edit.Diff("saved", d.was, "draft", d.doc.Text()))
	}
	return x
}

// there tells which files are there, or come along with a draft.
func (c *configPages) there(d *draft) func(string) bool {
	return func(path string) bool {
		if slices.ContainsFunc(d.Files, func(f change.FileText) bool { return f.Path == path }) {
			return true
		}
		f, err := c.config.File(path)
		return err == nil && f.Exists || filepath.IsAbs(path)
	}
}

// empty is a document without anything.
func empty() *edit.Document {
	d, err := edit.Parse("")
	if err != nil {
		return &edit.Document{}
	}
	return d
}

// label is how problems name one of many.
func label(name string, i int) string {
	if name == "" {
		return fmt.Sprintf("#%d", i+1)
	}
	return edit.Path{{Key: name}}.String()
}

func textAt(d *edit.Document, p edit.Path) (string, bool) {
	v, _ := d.Get(p)
	s, ok := v.(string)
	return s, ok
}

// sorted parts the fields that are set or must be from the others.
func sorted(all []field) (first, more []field) {
	for _, f := range all {
		if f.Set || f.Required || f.Name == "name" {
			first = append(first, f)
		} else {
			more = append(more, f)
		}
	}
	return first, more
}

// blocks adds the blocks of a flow to its form.
func (c *configPages) blocks(x *item, f *former) {
	x.Stage, _ = textAt(x.doc, x.path.With("stage"))
	for _, b := range c.schema.Blocks {
		if b.Stage == x.Stage {
			x.Uses = append(x.Uses, b)
		}
	}
	list := x.path.With("blocks")
	n := x.doc.Len(list)
	for i := range n {
		at := list.At(i)
		b := block{Index: i, First: i == 0, Last: i == n-1}
		b.Use, _ = textAt(x.doc, at.With("use"))
		b.Label, _ = textAt(x.doc, at.With("label"))
		b.Icon, _ = textAt(x.doc, at.With("icon"))
		if b.Name = b.Use; b.Label != "" {
			b.Name += " (" + b.Label + ")"
		}
		if kind := c.block(x.Stage, b.Use); kind != nil {
			b.Doc = kind.Doc
			b.Fields, b.More = sorted(f.fields(kind.Keys, at, fmt.Sprintf("b%d.", i)))
		}
		x.Blocks = append(x.Blocks, b)
	}
}

func (c *configPages) block(stage, use string) *config.SchemaBlock {
	i := slices.IndexFunc(c.schema.Blocks, func(b config.SchemaBlock) bool { return b.Stage == stage && b.Use == use })
	if i < 0 {
		return nil
	}
	return &c.schema.Blocks[i]
}

func (c *configPages) itemPage(w http.ResponseWriter, r *http.Request, a *admin.Actor, x *item, failed error) {
	title := overviewSection{SchemaSection: x.Section}.Title()
	if x.Index == "new" {
		title = "New " + x.Section.Name
	} else if x.Name != "" {
		title = x.Section.Name + " " + x.Name
	}
	if x.Section.Name == "bayes" && c.cfg.Bayes != nil {
		if learned, err := c.cfg.Bayes(r.Context()); err == nil {
			x.Learned = learned
		}
	}
	p := page{Template: "config-item.html", Title: title, Data: x}
	if failed != nil {
		p.Status, p.Failed = http.StatusUnprocessableEntity, sentence(failed.Error())
	}
	c.show(w, r, a, p)
}

// showItem shows one of many, or the form for a new one.
func (c *configPages) showItem(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	s, d, ok := c.itemOf(w, r, a)
	if ok {
		c.itemPage(w, r, a, c.item(d, s, r.PathValue("index")), nil)
	}
}

// itemOf finds the section and item of an address.
func (c *configPages) itemOf(w http.ResponseWriter, r *http.Request, a *admin.Actor) (*config.SchemaSection, *draft, bool) {
	s, index := c.find(r.PathValue("section")), r.PathValue("index")
	d, err := c.readDraft(r)
	switch n, convErr := strconv.Atoi(index); {
	case s == nil:
	case err != nil:
		c.failed(w, r, a, err)
		return nil, nil, false
	case s.Many && index == "new", !s.Many && index == "edit":
		return s, d, true
	case s.Many && convErr == nil && n >= 0 && n < d.doc.Len(edit.Path{{Key: s.Name}}):
		return s, d, true
	}
	c.Refuse(w, r, a, http.StatusNotFound, "")
	return nil, nil, false
}

// editItem takes a form into the draft and does what its button says: goes on editing,
// or goes on to the review.
func (c *configPages) editItem(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	s, d, ok := c.itemOf(w, r, a)
	if !ok {
		return
	}
	index := r.PathValue("index")
	if !s.Many {
		index = ""
	}
	index, done, err := c.edit(r, d, s, index)
	if err != nil {
		c.itemPage(w, r, a, c.item(d, s, index), err)
		return
	}
	switch {
	case done && !d.Changed():
		c.back(w, r, (&item{Section: *s, Index: index}).Back(), "config-discarded")
	case done:
		c.checkItem(w, r, a, c.item(d, s, index))
	default:
		c.itemPage(w, r, a, c.item(d, s, index), nil)
	}
}

// checkItem goes on to the review, or back to the form with what is wrong.
func (c *configPages) checkItem(w http.ResponseWriter, r *http.Request, a *admin.Actor, x *item) {
	checked, err := c.config.Check(x.change())
	if err != nil {
		c.failed(w, r, a, err)
		return
	}
	if checked.OK || r.PostFormValue("do") != "review" {
		c.review(w, r, a, x.change(), x.Back())
		return
	}
	x.Problems = blame(x.Fields, x.prefix, checked.Problems)
	x.Problems = blame(x.More, x.prefix, x.Problems)
	for i := range x.Blocks {
		b := &x.Blocks[i]
		at := x.prefix + ".blocks." + label(b.Use, i)
		x.Problems = blame(b.Fields, at, x.Problems)
		x.Problems = blame(b.More, at, x.Problems)
	}
	c.itemPage(w, r, a, x, errors.New("it cannot be used like this"))
}

// edit takes the fields into the draft and carries out the button. done says that the
// draft is complete.
func (c *configPages) edit(r *http.Request, d *draft, s *config.SchemaSection, index string) (at string, done bool, err error) {
	do, argument, _ := strings.Cut(r.PostFormValue("do"), ":")
	list := edit.Path{{Key: s.Name}}
	if n, err := strconv.Atoi(index); err == nil {
		switch do {
		case "delete":
			return index, true, c.deleteItem(d, s, n)
		case "before":
			return index, true, d.doc.Move(list.At(n), n-1)
		case "after":
			return index, true, d.doc.Move(list.At(n), n+1)
		}
	}
	if index == "new" {
		name := strings.TrimSpace(r.PostFormValue("name"))
		if name == "" {
			return index, false, &change.BadError{Text: "give it a name"}
		}
		if err := d.doc.Insert(list, -1, edit.Table{{Key: "name", Value: name}}); err != nil {
			return index, false, err
		}
		index = strconv.Itoa(d.doc.Len(list) - 1)
	}
	if err := c.readItem(r, d, s, index); err != nil {
		return index, false, err
	}
	x := c.item(d, s, index)
	if handled, err := c.editRows(r, d, x, do, argument); handled {
		return index, false, err
	}
	done, err = c.editBlocks(r, d, x, do, argument)
	return index, done, err
}

// deleteItem removes one of many, unless something would then name what is not there.
func (c *configPages) deleteItem(d *draft, s *config.SchemaSection, n int) error {
	at := edit.Path{{Key: s.Name}}.At(n)
	name, _ := textAt(d.doc, at.With("name"))
	if err := d.doc.Remove(at); err != nil || change.Named(d.doc, s.Name, name) > 0 {
		return err
	}
	used := change.References(d.doc, c.schema, s.Name, name)
	if len(used) == 0 {
		return nil
	}
	var where []string
	for _, r := range used {
		where = append(where, r.Where())
	}
	d.undo()
	return &change.BadError{Text: fmt.Sprintf("%s %s is in use at %s: let these name another one first", s.Name, name, strings.Join(where, ", "))}
}

// rename follows a new name of an item: what names it names it so as well, if that is
// wanted. A name that another one has is not taken.
func (c *configPages) rename(r *http.Request, d *draft, s *config.SchemaSection, x *item) error {
	name, _ := textAt(d.doc, x.path.With("name"))
	if !s.Many || x.Name == "" || name == "" || name == x.Name {
		return nil
	}
	if change.Named(d.doc, s.Name, name) > 1 {
		err := d.doc.Set(x.path.With("name"), x.Name)
		return errors.Join(&change.BadError{Text: fmt.Sprintf("the name %q is taken", name)}, err)
	}
	if r.PostFormValue("follow") == "" {
		return nil
	}
	return change.Follow(d.doc, s.Name, change.References(d.doc, c.schema, s.Name, x.Name), x.Name, name)
}

// readItem takes the fields of the form into the draft.
func (c *configPages) readItem(r *http.Request, d *draft, s *config.SchemaSection, index string) error {
	x, f := c.item(d, s, index), &former{doc: d.doc, schema: c.schema}
	if err := f.read(r, slices.Concat(x.Fields, x.More), x.path); err != nil {
		return err
	}
	if err := c.rename(r, d, s, x); err != nil {
		return err
	}
	if err := errors.Join(along(r, d), c.contents(r, d, slices.Concat(x.Fields, x.More))); err != nil {
		return err
	}
	for _, b := range x.Blocks {
		if err := c.contents(r, d, slices.Concat(b.Fields, b.More)); err != nil {
			return err
		}
		if err := f.read(r, slices.Concat(b.Fields, b.More), x.path.With("blocks").At(b.Index)); err != nil {
			return err
		}
	}
	return nil
}

// editBlocks carries out a button about blocks.
func (c *configPages) editBlocks(r *http.Request, d *draft, x *item, do, argument string) (done bool, err error) {
	list := x.path.With("blocks")
	n, err := strconv.Atoi(argument)
	switch {
	case do == "review":
		return true, nil
	case do == "add":
		return false, c.addBlock(r, d, x)
	case err != nil || n < 0 || n >= len(x.Blocks):
		return false, nil
	case do == "remove":
		return false, d.doc.Remove(list.At(n))
	case do == "up" && n > 0:
		return false, d.doc.Move(list.At(n), n-1)
	case do == "down" && n < len(x.Blocks)-1:
		return false, d.doc.Move(list.At(n), n+1)
	}
	return false, nil
}

// addBlock adds a block with the parameters that it must have, for which the examples
// stand until somebody says better.
func (c *configPages) addBlock(r *http.Request, d *draft, x *item) error {
	use := r.PostFormValue("use")
	kind := c.block(x.Stage, use)
	if kind == nil {
		return &change.BadError{Text: "choose a block"}
	}
	t := edit.Table{{Key: "use", Value: use}}
	for _, k := range kind.Keys {
		if !k.Required || k.Example == "" {
			continue
		}
		v, err := edit.ParseValue(k.Example)
		if err != nil {
			return err
		}
		t = append(t, edit.Entry{Key: k.Name, Value: v})
	}
	return d.doc.Insert(x.path.With("blocks"), -1, t)
}
