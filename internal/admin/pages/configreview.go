package pages

import (
	"encoding/base64"
	"errors"
	"net/http"
	"strings"

	"gatepost/internal/admin"
	"gatepost/internal/config/change"
	"gatepost/internal/config/edit"
)

// reviewed is a change whose consequences are shown before it is made.
type reviewed struct {
	Change  change.Change
	Checked *change.Checked
	// Text and Files are the change for hidden fields, exactly as it is.
	Text  string
	Files []change.FileText
	// Return is where to go afterwards, Cancel where to go without.
	Return string
	Diffs  []reviewedDiff
	Why    string
}

type reviewedDiff struct {
	Path   string
	Secret bool
	Lines  []diffLine
}

func shownDiffs(diffs []change.FileDiff) []reviewedDiff {
	var list []reviewedDiff
	for _, d := range diffs {
		list = append(list, reviewedDiff{d.Path, d.Secret, diffLines(d.Diff)})
	}
	return list
}

// review shows what a change would do, and asks for the reason.
func (c *configPages) review(w http.ResponseWriter, r *http.Request, a *admin.Actor, what change.Change, back string) {
	checked, err := c.config.Check(what)
	if err != nil {
		c.failed(w, r, a, err)
		return
	}
	v := reviewed{Change: what, Checked: checked, Return: back, Diffs: shownDiffs(checked.Diffs)}
	if what.Text != nil {
		v.Text = base64.StdEncoding.EncodeToString([]byte(*what.Text))
	}
	v.Files = encoded(what.Files)
	status := http.StatusOK
	if !checked.OK {
		status = http.StatusUnprocessableEntity
	}
	c.show(w, r, a, page{Template: "config-review.html", Title: "Review the change", Status: status, Data: v})
}

// encoded are files for hidden fields.
func encoded(files []change.FileText) []change.FileText {
	var list []change.FileText
	for _, f := range files {
		list = append(list, change.FileText{Path: f.Path, Base: f.Base, Text: base64.StdEncoding.EncodeToString([]byte(f.Text))})
	}
	return list
}

// damaged is what is said of a form that no page has sent.
func damaged() error { return &change.BadError{Text: "the form is damaged; open the page again"} }

// readFiles are the files that a form carries in hidden fields.
func readFiles(r *http.Request) ([]change.FileText, error) {
	if r.Method != http.MethodPost {
		return nil, nil
	}
	if err := r.ParseForm(); err != nil {
		return nil, damaged()
	}
	paths, bases, texts := r.PostForm["file"], r.PostForm["file-base"], r.PostForm["file-text"]
	if len(bases) != len(paths) || len(texts) != len(paths) {
		return nil, damaged()
	}
	var list []change.FileText
	for i, path := range paths {
		text, err := base64.StdEncoding.DecodeString(texts[i])
		if err != nil {
			return nil, damaged()
		}
		list = append(list, change.FileText{Path: path, Base: bases[i], Text: string(text)})
	}
	return list, nil
}

// readChange is the change that the form of a review carries.
func readChange(r *http.Request) (what change.Change, err error) {
	what.Why = strings.TrimSpace(r.PostFormValue("why"))
	what.Later = r.PostFormValue("later") != ""
	if text := r.PostFormValue("text"); text != "" {
		decoded, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return what, damaged()
		}
		was := string(decoded)
		what.Base, what.Text = r.PostFormValue("base"), &was
	}
	if what.Files, err = readFiles(r); err != nil {
		return what, err
	}
	if len(what.Why) > maxWhy || strings.ContainsAny(what.Why, "\r\n\x00") {
		err = &change.BadError{Text: "the reason is one line of at most 500 bytes"}
	}
	return what, err
}

// apply makes the change of a review.
func (c *configPages) apply(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	what, err := readChange(r)
	if err != nil {
		c.failed(w, r, a, err)
		return
	}
	what.By = a.Name
	done, err := c.config.Apply(r.Context(), what)
	admin.NoteChange(a, done, what.Why)
	c.applied(w, r, a, done, err)
}

// applied ends a form that has made a change.
func (c *configPages) applied(w http.ResponseWriter, r *http.Request, a *admin.Actor, done *change.Applied, err error) {
	if err != nil {
		c.failed(w, r, a, err)
		return
	}
	said := "config-applied"
	switch {
	case done.Revision == 0:
		said = "config-same"
	case done.State == change.Waiting:
		said = "config-waiting"
	}
	c.back(w, r, ownPath(r.PostFormValue("return")), said)
}

// ownPath keeps what a form says about where to go inside of these pages.
func ownPath(path string) string {
	if path == "/config" || strings.HasPrefix(path, "/config/") && !strings.ContainsAny(path, "\\\r\n") {
		return path
	}
	return "/config"
}

// showRaw shows the text of the file.
func (c *configPages) showRaw(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	now, err := c.config.Status()
	if err != nil {
		c.failed(w, r, a, err)
		return
	}
	c.rawPage(w, r, a, rawForm{Base: now.Version, Text: now.Text}, nil)
}

// rawForm is the editor of the whole text.
type rawForm struct {
	Base, Text string
	Checked    *change.Checked
	Diffs      []reviewedDiff
}

func (c *configPages) rawPage(w http.ResponseWriter, r *http.Request, a *admin.Actor, f rawForm, failed error) {
	p := page{Template: "config-raw.html", Title: "The file", Data: f}
	if failed != nil {
		p.Status, p.Failed = http.StatusUnprocessableEntity, sentence(failed.Error())
	}
	c.show(w, r, a, p)
}

// editRaw goes on in the editor with a draft that a form carries.
func (c *configPages) editRaw(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	what, err := readChange(r)
	if err != nil || what.Text == nil {
		c.failed(w, r, a, errors.Join(err, &change.BadError{Text: "there is no draft"}))
		return
	}
	c.rawPage(w, r, a, rawForm{Base: what.Base, Text: *what.Text}, nil)
}

// reviewRaw checks the text of the editor, and with "review" goes on to the review.
func (c *configPages) reviewRaw(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	now, err := c.config.Status()
	if err != nil {
		c.failed(w, r, a, err)
		return
	}
	text := edit.LineEnds(r.PostFormValue("raw"), now.Text)
	f := rawForm{Base: r.PostFormValue("base"), Text: text}
	what := change.Change{Base: f.Base, Text: &text}
	checked, err := c.config.Check(what)
	switch {
	case err != nil:
		c.rawPage(w, r, a, f, err)
		return
	case checked.OK && r.PostFormValue("do") == "review":
		c.review(w, r, a, what, "/config/raw")
		return
	}
	f.Checked, f.Diffs = checked, shownDiffs(checked.Diffs)
	c.rawPage(w, r, a, f, nil)
}
