package pages

import (
	"net/http"
	"slices"
	"strings"

	"gatepost/internal/admin"
	"gatepost/internal/config"
	"gatepost/internal/config/change"
	"gatepost/internal/config/edit"
)

// fileForm is a file in an editor.
type fileForm struct {
	*change.Opened
	Checked  *change.Checked
	Problems []change.Problem
	// Tests is how the tests of a script went.
	Tests *admin.ScriptTests
	Help  string
}

// fileHelp says what a line of a file of a kind is.
func fileHelp(kind config.FileKind) string {
	switch kind {
	case config.FileScript:
		return "A script in Starlark: def content(m): … for content flows, def connect(s):, def recipient(s): or def auth(s): for the others."
	case config.FileUsers:
		return "One user in a line: name password, and behind it, if you like, what the user may send as. A password may be a hash (gatepost password makes one). Passwords are shown as marks; leave a mark to keep its password."
	case config.FileClients:
		return "One network, address or host name in a line, perhaps with a reason behind it; # begins a comment."
	case config.FileRecipients:
		return "One entry in a line: user@domain, user, or @domain; # begins a comment."
	case config.FileTable:
		return "One entry in a line: pattern result; # begins a comment."
	case config.FileList:
		return "One entry in a line; # begins a comment."
	case config.FileCertificate:
		return "Certificates in PEM form: for a service its own first, then those that lead to the authority."
	}
	return ""
}

func (c *configPages) files(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	list, err := c.config.Files()
	if err != nil {
		c.failed(w, r, a, err)
		return
	}
	p := page{Template: "config-files.html", Title: "Files"}
	group := r.URL.Query().Get("kind")
	kinds := fileGroups[group]
	if kinds == nil {
		group = ""
	} else {
		p.Title = strings.ToUpper(group[:1]) + group[1:]
		list = slices.DeleteFunc(slices.Clone(list), func(f change.File) bool { return !slices.Contains(kinds, f.Kind) })
	}
	p.Data = map[string]any{"List": list, "Group": group}
	c.show(w, r, a, p)
}

func (c *configPages) showFile(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	f, err := c.config.File(r.URL.Query().Get("path"))
	if err != nil {
		c.failed(w, r, a, err)
		return
	}
	c.filePage(w, r, a, fileForm{Opened: f})
}

func (c *configPages) filePage(w http.ResponseWriter, r *http.Request, a *admin.Actor, f fileForm) {
	f.Help = fileHelp(f.Kind)
	p := page{Template: "config-file.html", Title: f.Path, Data: f}
	if len(f.Problems) > 0 {
		p.Status = http.StatusUnprocessableEntity
	}
	c.show(w, r, a, p)
}

// editFile checks the text of the editor, and with "review" goes on to the review.
func (c *configPages) editFile(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	f, err := c.config.File(r.PostFormValue("path"))
	if err == nil && f.Secret {
		err = &change.BadError{Text: "a secret file is replaced as a whole"}
	}
	if err != nil {
		c.failed(w, r, a, err)
		return
	}
	text := edit.LineEnds(r.PostFormValue("raw"), f.Text)
	what := change.Change{Files: []change.FileText{{Path: f.Path, Base: r.PostFormValue("base"), Text: text}}}
	checked, err := c.config.Check(what)
	if err != nil {
		c.failed(w, r, a, err)
		return
	}
	if checked.OK && r.PostFormValue("do") == "review" {
		c.review(w, r, a, what, "/config/files")
		return
	}
	f.Text, f.Version = text, r.PostFormValue("base")
	form := fileForm{Opened: f, Checked: checked}
	for _, p := range checked.Problems {
		if p.Severity == "error" || p.File == f.Path {
			form.Problems = append(form.Problems, p)
		}
	}
	c.filePage(w, r, a, form)
}

// replaceSecret writes a key or a password at once: there is no diff to look at, and
// nothing of it goes back to the browser.
func (c *configPages) replaceSecret(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	f, err := c.config.File(r.PostFormValue("path"))
	if err == nil && !f.Secret {
		err = &change.BadError{Text: "this file is no secret"}
	}
	if err != nil {
		c.failed(w, r, a, err)
		return
	}
	what, err := readChange(r)
	if err != nil {
		c.failed(w, r, a, err)
		return
	}
	text := strings.TrimRight(edit.LineEnds(r.PostFormValue("raw"), ""), "\n") + "\n"
	if text == "\n" {
		c.failed(w, r, a, &change.BadError{Text: "there is nothing to write"})
		return
	}
	done, err := c.config.Apply(r.Context(), change.Change{
		By: a.Name, Why: what.Why, Files: []change.FileText{{Path: f.Path, Base: f.Version, Text: text}},
	})
	admin.NoteChange(a, done, what.Why)
	c.applied(w, r, a, done, err)
}
