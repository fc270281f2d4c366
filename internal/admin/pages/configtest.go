package pages

import (
	"errors"
	"net/http"

	"gatepost/internal/admin"
	"gatepost/internal/config/change"
	"gatepost/internal/config/edit"
)

// testWebhook sends a test event to a webhook as the form describes it, saved or not,
// and shows the form again.
func (c *configPages) testWebhook(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	s := c.find("admin")
	d, err := c.readDraft(r)
	if err == nil {
		err = c.readItem(r, d, s, "")
	}
	if err != nil {
		c.failed(w, r, a, err)
		return
	}
	x := c.item(d, s, "")
	list, _, _ := cutLast(r.PostFormValue("do"))
	name, _ := textAt(d.doc, pathOf(x.path, list).At(indexOf(r.PostFormValue("do"))).With("name"))
	a.Note(name)
	what := change.Change{}
	if d.Changed() {
		what = d.change()
	}
	var invalid *change.InvalidError
	switch err = c.config.TestWebhook(r.Context(), what, name); {
	case errors.As(err, &invalid):
		x.Problems = blame(x.More, x.prefix, blame(x.Fields, x.prefix, invalid.Checked.Problems))
		err = errors.New("it cannot be tested like this")
	case err == nil:
		x.Tested = "The webhook " + name + " has taken a test event."
	}
	c.itemPage(w, r, a, x, err)
}

// testScript runs the tests of a script as it is in the editor.
func (c *configPages) testScript(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	f, err := c.config.File(r.PostFormValue("path"))
	if err == nil && (f.Secret || f.Elsewhere != "") {
		err = &change.BadError{Text: "this is no script"}
	}
	if err != nil {
		c.failed(w, r, a, err)
		return
	}
	a.Note(f.Path)
	text := edit.LineEnds(r.PostFormValue("raw"), f.Text)
	what := change.Change{Files: []change.FileText{{Path: f.Path, Base: r.PostFormValue("base"), Text: text}}}
	tests, err := c.config.TestScript(r.Context(), what, f.Path)
	if err != nil {
		c.failed(w, r, a, err)
		return
	}
	f.Text, f.Version = text, r.PostFormValue("base")
	form := fileForm{Opened: f, Tests: tests}
	for _, m := range tests.Mistakes {
		form.Problems = append(form.Problems, change.Problem{Severity: "error", File: f.Path, Line: m.Line, Column: m.Column, Message: m.Text})
	}
	c.filePage(w, r, a, form)
}
