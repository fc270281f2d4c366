package pages

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"gatepost/internal/config/change"
	"gatepost/internal/config/edit"
)

// pairsText writes a table that has whatever keys: "key = value" in each line. A key in
// which a "=" or a quotation mark stands is quoted.
func pairsText(m map[string]any) string {
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(m)) {
		if strings.ContainsAny(key, "=\"") || key != strings.TrimSpace(key) || key == "" {
			b.WriteString(strconv.Quote(key))
		} else {
			b.WriteString(key)
		}
		b.WriteString(" = " + textOf(m[key], "text") + "\n")
	}
	return strings.TrimRight(b.String(), "\n")
}

// pairs reads what pairsText writes.
func pairs(text, kind string) (edit.Table, error) {
	table := edit.Table{}
	for line := range strings.SplitSeq(text, "\n") {
		key, value, ok := strings.Cut(line, "=")
		if quoted, err := strconv.QuotedPrefix(line); err == nil {
			if key, err = strconv.Unquote(quoted); err != nil {
				return nil, fmt.Errorf("%q: the quotation is not closed", line)
			}
			value, ok = strings.CutPrefix(strings.TrimSpace(line[len(quoted):]), "=")
		} else {
			key = strings.TrimSpace(key)
		}
		if !ok || key == "" || strings.HasPrefix(line, `"`) && strings.HasPrefix(key, `"`) {
			return nil, fmt.Errorf("%q is not of the form key = value", line)
		}
		if slices.ContainsFunc(table, func(e edit.Entry) bool { return e.Key == key }) {
			return nil, fmt.Errorf("%q stands there twice", key)
		}
		table = append(table, edit.Entry{Key: key, Value: scalar(kind, strings.TrimSpace(value))})
	}
	return table, nil
}

// editRows carries out a button about one of several tables in an item: "row-add:oidc",
// "row-remove:oidc.0". handled says that it was one of these.
func (c *configPages) editRows(r *http.Request, d *draft, x *item, do, argument string) (handled bool, err error) {
	switch do {
	case "row-add":
		name := strings.TrimSpace(r.PostFormValue("new." + argument))
		f := findField(slices.Concat(x.Fields, x.More), argument)
		switch {
		case f == nil:
			return true, errors.New("there is no such list")
		case name == "":
			return true, &change.BadError{Text: "give it a name"}
		}
		return true, d.doc.Insert(pathOf(x.path, argument), -1, edit.Table{{Key: "name", Value: name}})
	case "row-remove":
		list, _, _ := cutLast(argument)
		i := indexOf(argument)
		f := findField(slices.Concat(x.Fields, x.More), list)
		if f == nil || i < 0 || i >= len(f.Rows) {
			return true, errors.New("there is no such element")
		}
		return true, d.doc.Remove(pathOf(x.path, list).At(i))
	}
	return false, nil
}

// findField finds the list of tables of a name in a form.
func findField(fields []field, id string) *field {
	for i := range fields {
		f := &fields[i]
		if f.ID == id && f.Kind == "tables" {
			return f
		}
		if found := findField(f.Fields, id); found != nil {
			return found
		}
	}
	return nil
}

// pathOf is the path of a field in a form, which has no lists on its way.
func pathOf(at edit.Path, id string) edit.Path {
	for key := range strings.SplitSeq(id, ".") {
		at = at.With(key)
	}
	return at
}

// indexOf is the number at the end of the name of an element, -1 where there is none.
func indexOf(id string) int {
	_, n, _ := cutLast(id)
	if i, err := strconv.Atoi(n); err == nil && i >= 0 {
		return i
	}
	return -1
}

func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, '.')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// contents are the texts of files that a form brings along: those of fields that name a
// file. One that is there already is not replaced here.
func (c *configPages) contents(r *http.Request, d *draft, fields []field) error {
	for i := range fields {
		f := &fields[i]
		if err := c.contents(r, d, f.Fields); err != nil {
			return err
		}
		for _, row := range f.Rows {
			if err := c.contents(r, d, slices.Concat(row.Fields, row.More)); err != nil {
				return err
			}
		}
		text := edit.LineEnds(r.PostFormValue("content."+f.ID), "")
		if !f.File || text == "" {
			continue
		}
		name := strings.TrimSpace(r.PostFormValue(f.ID))
		if name == "" {
			return &change.BadError{Text: f.ID + ": give the file a name, for what is to be in it"}
		}
		d.put(change.FileText{Path: name, Text: strings.TrimRight(text, "\n") + "\n"})
	}
	return nil
}

// along is the file that a form brings along which no key names by itself, but a value
// of one: "file:NAME" among recipients, in a table or in a condition.
func along(r *http.Request, d *draft) error {
	name, text := strings.TrimSpace(r.PostFormValue("along.name")), edit.LineEnds(r.PostFormValue("along.text"), "")
	switch {
	case text == "" && name == "":
		return nil
	case text == "" || name == "":
		return &change.BadError{Text: "a list needs both a name and what is in it"}
	}
	d.put(change.FileText{Path: name, Text: strings.TrimRight(text, "\n") + "\n"})
	return nil
}

// put adds a file to a draft.
func (d *draft) put(f change.FileText) {
	d.Files = slices.DeleteFunc(d.Files, func(x change.FileText) bool { return x.Path == f.Path })
	d.Files = append(d.Files, f)
}
