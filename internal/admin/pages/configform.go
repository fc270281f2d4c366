package pages

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"gatepost/internal/config"
	"gatepost/internal/config/change"
	"gatepost/internal/config/edit"
)

// field is one key in a form.
type field struct {
	config.SchemaKey
	// ID is its name in the form: the path below the item.
	ID string
	// Kind is how it is put in: "text", "number", "select", "lines", "checks", "pairs",
	// "literal", "group" for a table with Fields, or "tables" for several, with Rows.
	Kind string
	// Value is what is there, one line for each element of a list; Set says that the
	// file has the key.
	Value string
	Set   bool
	// Options are what can be chosen.
	Options []option
	Fields  []field
	Rows    []row
	// File says that it names a file, Missing that this is not there: its text may come
	// along.
	File, Missing bool
	// Problem is what is wrong with it.
	Problem string
}

// row is one of several tables.
type row struct {
	// ID is its name in the form, without the dot at the end.
	ID, Name     string
	Fields, More []field
}

type option struct {
	Value, Text string
	Chosen      bool
}

// former makes forms of a document and reads them back.
type former struct {
	doc    *edit.Document
	schema *config.Schema
	// there reports whether a file is there; nil: nobody knows.
	there func(path string) bool
}

// fields are those of the keys at a path; prefix stands in front of their names.
func (f *former) fields(keys []config.SchemaKey, at edit.Path, prefix string) []field {
	list := make([]field, 0, len(keys))
	for _, k := range keys {
		if k.Name == "blocks" && k.List {
			continue // blocks have a form of their own
		}
		list = append(list, f.field(k, at.With(k.Name), prefix+k.Name))
	}
	return list
}

func (f *former) field(k config.SchemaKey, at edit.Path, id string) field {
	x := field{SchemaKey: k, ID: id, Kind: kindOf(k)}
	v, set := f.doc.Get(at)
	x.Set = set
	if x.Kind == "group" {
		x.Fields = f.fields(k.Keys, at, id+".")
		return x
	}
	if x.Kind == "tables" {
		for i := range f.doc.Len(at) {
			r := row{ID: id + "." + strconv.Itoa(i)}
			r.Name, _ = textAt(f.doc, at.At(i).With("name"))
			r.Fields, r.More = sorted(f.fields(k.Keys, at.At(i), r.ID+"."))
			x.Rows = append(x.Rows, r)
		}
		return x
	}
	x.Value = textOf(v, x.Kind)
	x.File = k.Type == "path" && !k.List && strings.HasSuffix(k.Name, "file")
	x.Missing = x.File && f.there != nil && (x.Value == "" || !f.there(x.Value))
	x.Options = f.options(&x)
	return x
}

// Secret reports whether the file that it names is never shown.
func (x field) Secret() bool {
	return slices.ContainsFunc([]string{"password", "secret", "token", "key_file"}, func(w string) bool { return strings.Contains(x.Name, w) })
}

// kindOf is how a key is put in.
func kindOf(k config.SchemaKey) string {
	switch {
	case len(k.Keys) > 0 && !k.List:
		return "group"
	case len(k.Keys) > 0:
		return "tables"
	case k.Values != "" && !k.List:
		return "pairs"
	case k.Type == "table" || k.Type == "conditions":
		return "literal"
	case k.List && (k.Type == "choice" || k.Names != ""):
		return "checks"
	case k.List:
		return "lines"
	case k.Type == "choice" || k.Type == "boolean" || k.Names != "":
		return "select"
	case k.Type == "number" || k.Type == "decimal":
		return "number"
	}
	return "text"
}

// textOf writes a value for a form.
func textOf(v any, kind string) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		if kind != "literal" {
			return v
		}
	case map[string]any:
		if kind == "pairs" {
			return pairsText(v)
		}
	case []any:
		if kind == "lines" || kind == "checks" {
			lines := make([]string, len(v))
			for i, e := range v {
				lines[i] = textOf(e, "text")
			}
			return strings.Join(lines, "\n")
		}
	}
	text, err := edit.Literal(v)
	if err != nil {
		return fmt.Sprint(v) // a date, of which no key is one
	}
	return text
}

// options are what can be chosen for a field, with what is there even if it is no choice.
func (f *former) options(x *field) []option {
	if x.Kind != "select" && x.Kind != "checks" {
		return nil
	}
	choices := x.Choices
	switch {
	case x.Type == "boolean":
		choices = []string{"true", "false"}
	case x.Names != "":
		choices = names(f.doc, x.Names)
		if x.Names == "listener" && x.Default == `"*"` {
			choices = append([]string{"*"}, choices...)
		}
	}
	have := []string{x.Value}
	if x.Kind == "checks" {
		have = strings.Split(x.Value, "\n")
	}
	for _, h := range have {
		if h != "" && !slices.Contains(choices, h) {
			choices = append(slices.Clone(choices), h)
		}
	}
	var list []option
	if x.Kind == "select" {
		list = append(list, option{Text: "default" + strings.TrimSuffix(": "+strings.Trim(x.Default, `"`), ": ")})
	}
	for _, o := range choices {
		if o != "" {
			list = append(list, option{Value: o, Text: o, Chosen: slices.Contains(have, o)})
		}
	}
	return list
}

// read takes the fields of a form into the document. A field that says what was there
// touches nothing, one that was emptied removes its key.
func (f *former) read(r *http.Request, fields []field, at edit.Path) error {
	for i := range fields {
		x := &fields[i]
		here := at.With(x.Name)
		if x.Kind == "group" || x.Kind == "tables" {
			if err := f.readNested(r, x, here); err != nil {
				return err
			}
			continue
		}
		sent, ok := r.PostForm[x.ID]
		if !ok && x.Kind != "checks" || x.Kind == "checks" && r.PostForm["has."+x.ID] == nil {
			continue // not in this form
		}
		text := strings.Join(lines(strings.Join(sent, "\n"), x.Kind), "\n")
		if text == x.Value {
			continue
		}
		if err := f.put(x, here, text); err != nil {
			return &change.BadError{Text: x.ID + ": " + err.Error()}
		}
	}
	return nil
}

// readNested takes the fields of a table, or of several.
func (f *former) readNested(r *http.Request, x *field, at edit.Path) error {
	if err := f.read(r, x.Fields, at); err != nil {
		return err
	}
	for i := range x.Rows {
		if err := f.read(r, slices.Concat(x.Rows[i].Fields, x.Rows[i].More), at.At(i)); err != nil {
			return err
		}
	}
	return nil
}

// lines are those of a field without white space around them; of others but lists and
// literals there is one, whose line ends are refused later.
func lines(text, kind string) []string {
	if kind != "lines" && kind != "checks" && kind != "literal" && kind != "pairs" {
		return []string{strings.Trim(text, " \t")}
	}
	var list []string
	for line := range strings.SplitSeq(text, "\n") {
		if line = strings.TrimSpace(line); line != "" {
			list = append(list, line)
		}
	}
	return list
}

func (f *former) put(x *field, at edit.Path, text string) error {
	if text == "" {
		if !x.Set {
			return nil
		}
		return f.doc.Remove(at)
	}
	var v any
	switch x.Kind {
	case "literal":
		parsed, err := edit.ParseValue(strings.ReplaceAll(text, "\n", " "))
		if err != nil {
			return err
		}
		v = parsed
	case "pairs":
		pairs, err := pairs(text, x.Values)
		if err != nil {
			return err
		}
		v = pairs
	case "lines", "checks":
		list := []any{}
		for line := range strings.SplitSeq(text, "\n") {
			list = append(list, scalar(x.Type, line))
		}
		if v = list; x.Name == "then" && len(list) == 1 {
			v = list[0] // one action is written without brackets
		}
	default:
		v = scalar(x.Type, text)
	}
	return f.doc.Set(at, v)
}

// scalar is the value of a text. What is no number stays text: the check of the whole
// says so at its place.
func scalar(kind, text string) any {
	switch kind {
	case "boolean":
		if b, err := strconv.ParseBool(text); err == nil {
			return b
		}
	case "number":
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			return n
		}
	case "decimal":
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			return n
		}
		if n, err := strconv.ParseFloat(text, 64); err == nil {
			return n
		}
	}
	return text
}

// blame puts problems to the fields that they are about, whose paths begin with prefix,
// and returns the others.
func blame(fields []field, prefix string, problems []change.Problem) []change.Problem {
	var rest []change.Problem
	for _, p := range problems {
		if p.Severity != "error" || !blameOne(fields, prefix, &p) {
			rest = append(rest, p)
		}
	}
	return rest
}

func blameOne(fields []field, prefix string, p *change.Problem) bool {
	for i := range fields {
		x := &fields[i]
		if blameOne(x.Fields, prefix+"."+x.Name, p) {
			return true
		}
		for n, row := range x.Rows {
			at := prefix + "." + x.Name + "." + label(row.Name, n)
			if blameOne(row.Fields, at, p) || blameOne(row.More, at, p) {
				return true
			}
		}
		if x.Kind != "group" && p.Path == strings.TrimPrefix(prefix+"."+x.Name, ".") {
			x.Problem = strings.TrimSuffix(p.Message+"; "+p.Hint, "; ")
			return true
		}
	}
	return false
}
