package pages

import (
	"encoding/base64"
	"errors"
	"net/http"
	"slices"
	"strings"

	"gatepost/internal/accounts"
	"gatepost/internal/admin"
	"gatepost/internal/config"
	"gatepost/internal/config/change"
	"gatepost/internal/config/edit"
)

// configPages is where the configuration is looked at and changed. A form makes a draft
// of the whole text, which travels with it; nothing is written before its diff was shown
// and confirmed, with the reason.
type configPages struct {
	*Site
	config admin.Configuration
	schema *config.Schema
}

// configuration are the pages of the configuration.
func (s *Site) configuration() section {
	if s.cfg.Configuration == nil || s.cfg.Keys == nil {
		return section{}
	}
	schema, err := config.NewSchema()
	if err != nil {
		s.cfg.Log.Error("pages of the configuration are left out", "error", err)
		return section{}
	}
	c := &configPages{Site: s, config: s.cfg.Configuration, schema: schema}
	read := func(path string, do admin.Handler) admin.Route {
		return admin.Route{Method: "GET", Path: path, Permission: accounts.ConfigRead, Do: do}
	}
	// What makes or shows a draft changes nothing yet.
	draft := func(path string, do admin.Handler) admin.Route {
		return admin.Route{Method: "POST", Path: path, Permission: accounts.ConfigWrite, Act: "draft of a change", Quiet: true, MaxBody: maxForm, Do: do}
	}
	write := func(path, act string, do admin.Handler) admin.Route {
		return admin.Route{Method: "POST", Path: path, Permission: accounts.ConfigWrite, Act: act, MaxBody: maxForm, Do: do}
	}
	entryOf := func(path, title string, order int) entry {
		return entry{Path: path, Title: title, Group: "Configuration", Order: order, permission: accounts.ConfigRead}
	}
	return section{
		nav: []entry{
			entryOf("/config", "Settings", 300), entryOf("/config/flow", "Flows", 305), entryOf("/config/files", "Files", 310), entryOf("/config/certificates", "Certificates", 315),
			entryOf("/config/dkim-keys", "DKIM keys", 320), entryOf("/config/revisions", "Revisions", 325), entryOf("/config/try", "Try it", 330),
		},
		said: map[string]string{
			"config-applied": "The change is in use.", "config-waiting": "The change is saved and comes into use with the next start.",
			"config-same": "It was so already; nothing was changed.", "config-discarded": "Nothing was changed.",
		},
		routes: []admin.Route{
			read("/config", c.overview), read("/config/{section}", c.showSection), read("/config/{section}/{index}", c.showItem),
			draft("/config/{section}/{index}", c.editItem),
			read("/config/raw", c.showRaw), draft("/config/raw", c.editRaw), draft("/config/review", c.reviewRaw),
			write("/config/apply", "change configuration", c.apply), write("/config/test-webhook", "test webhook", c.testWebhook), write("/config/test-script", "test script", c.testScript),
			read("/config/files", c.files), read("/config/file", c.showFile), draft("/config/file", c.editFile), write("/config/secret", "replace secret file", c.replaceSecret),
			read("/config/recipients", c.recipients), draft("/config/recipients", c.addRecipients),
			read("/config/revisions", c.revisions), read("/config/revisions/{id}", c.showRevision), write("/config/revisions/{id}", "roll configuration back", c.rollback),
			read("/config/try", c.showTry), draft("/config/try", c.try),
			read("/config/dkim-keys", c.dkimKeys), write("/config/dkim-keys", "make DKIM key", c.makeDKIM),
			read("/config/certificates", c.certificates), draft("/config/certificates", c.fetchCertificate), write("/config/certificate-pair", "replace certificate", c.replacePair),
		},
	}
}

// maxForm bounds a form: the text of the configuration, and of files.
const maxForm = 24 << 20

// maxWhy bounds a reason, in bytes.
const maxWhy = 500

// draft is a text of the configuration that is not applied.
type draft struct {
	// Base is the version that it was made from.
	Base string
	doc  *edit.Document
	// was is the text of the base, sent that of the form.
	was, sent string
	// Files come along with it.
	Files []change.FileText
}

// undo takes back what was done to the draft since it was sent.
func (d *draft) undo() {
	if doc, err := edit.Parse(d.sent); err == nil {
		*d.doc = *doc
	}
}

// Text is the draft for a hidden field of a form: exactly as it is, whatever browsers do
// to line ends.
func (d *draft) Text() string { return base64.StdEncoding.EncodeToString([]byte(d.doc.Text())) }

// Changed reports whether the draft differs from its base.
func (d *draft) Changed() bool { return d.doc.Text() != d.was || len(d.Files) > 0 }

// FileTexts are the files of the draft for hidden fields of a form.
func (d *draft) FileTexts() []change.FileText { return encoded(d.Files) }

// readDraft is the draft that a form carries, or where it carries none the text on disk.
func (c *configPages) readDraft(r *http.Request) (*draft, error) {
	now, err := c.config.Status()
	if err != nil {
		return nil, err
	}
	d := &draft{Base: now.Version, was: now.Text}
	text := now.Text
	if sent := r.PostFormValue("text"); sent != "" {
		raw, err := base64.StdEncoding.DecodeString(sent)
		if err != nil {
			return nil, &change.BadError{Text: "the form is damaged; open the page again"}
		}
		text, d.Base = string(raw), r.PostFormValue("base")
	}
	d.sent = text
	if d.Files, err = readFiles(r); err != nil {
		return nil, err
	}
	d.doc, err = edit.Parse(text)
	return d, err
}

// change is a draft as something to apply.
func (d *draft) change() change.Change {
	text := d.doc.Text()
	return change.Change{Base: d.Base, Text: &text, Files: d.Files}
}

// overviewSection is one section of the overview.
type overviewSection struct {
	config.SchemaSection
	// Count is how many there are of one that there may be many of, or how many keys are
	// set; Names are their names.
	Count int
	Names []string
}

// Title is the section as people call it.
func (o overviewSection) Title() string {
	titles := map[string]string{
		"": "General", "admin": "Administration", "store": "Database", "tls": "TLS", "dns": "DNS", "limits": "Limits", "queue": "Queue", "clamav": "ClamAV", "bayes": "Bayesian filter",
		"quarantine": "Quarantine", "users": "Users who log in", "rewrite": "Rewriting of addresses", "srs": "SRS", "listener": "Listeners", "domain": "Domains",
		"transport": "Transports", "dkim": "DKIM keys", "ldap": "Directories", "http": "Web services", "filter": "Filters", "flow": "Flows", "history": "History",
	}
	if t, ok := titles[o.Name]; ok {
		return t
	}
	return strings.ToUpper(o.Name[:1]) + strings.ReplaceAll(o.Name[1:], "_", " ")
}

// Written is the section as the file writes it.
func (o overviewSection) Written() string {
	switch {
	case o.Name == "":
		return "top of the file"
	case o.Many:
		return "[[" + o.Name + "]]"
	}
	return "[" + o.Name + "]"
}

// Slug is the section in addresses.
func (o overviewSection) Slug() string { return slug(o.Name) }

// slug names a section in addresses; the top of the file has no name of its own.
func slug(name string) string {
	if name == "" {
		return "general"
	}
	return name
}

// find returns the section of an address.
func (c *configPages) find(slugged string) *config.SchemaSection {
	i := slices.IndexFunc(c.schema.Sections, func(s config.SchemaSection) bool { return slug(s.Name) == slugged })
	if i < 0 {
		return nil
	}
	return &c.schema.Sections[i]
}

func (c *configPages) overview(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	now, err := c.config.Status()
	if err != nil {
		c.failed(w, r, a, err)
		return
	}
	data := map[string]any{"Status": now, "Recent": c.config.Revisions(0, 5)}
	d, err := edit.Parse(now.Text)
	if err != nil {
		// The file was broken by hand: there are no forms, but the text is there.
		data["Broken"] = sentence(err.Error())
		c.show(w, r, a, page{Template: "config.html", Title: "Settings", Data: data})
		return
	}
	var many, single []overviewSection
	for _, s := range c.schema.Sections {
		o := overviewSection{SchemaSection: s}
		if s.Many {
			o.Names = names(d, s.Name)
			o.Count = len(o.Names)
			many = append(many, o)
			continue
		}
		for _, k := range s.Keys {
			if _, ok := d.Get(keyPath(nil, s.Name, k.Name)); ok {
				o.Count++
			}
		}
		single = append(single, o)
	}
	data["Many"], data["Single"], data["Index"] = many, single, c.index(d)
	c.show(w, r, a, page{Template: "config.html", Title: "Settings", Data: data})
}

// keyPath is the path to a key of an item, of a section or at the top of the file.
func keyPath(item edit.Path, section, key string) edit.Path {
	if item == nil && section != "" {
		item = edit.Path{{Key: section}}
	}
	return item.With(key)
}

// names are those of all [[section]]s; one without a name has its number.
func names(d *edit.Document, section string) []string {
	p := edit.Path{{Key: section}}
	var list []string
	for i := range d.Len(p) {
		v, _ := d.Get(p.At(i).With("name"))
		name, _ := v.(string)
		list = append(list, name)
	}
	return list
}

// failed answers where something could not be done, with what is known of why.
func (c *configPages) failed(w http.ResponseWriter, r *http.Request, a *admin.Actor, err error) {
	status := http.StatusInternalServerError
	var (
		bad      *change.BadError
		conflict *change.ConflictError
		invalid  *change.InvalidError
		restart  *change.RestartError
		refused  *change.RefusedError
	)
	data := map[string]any{"Text": sentence(err.Error())}
	switch {
	case errors.Is(err, change.ErrNotFound):
		c.Refuse(w, r, a, http.StatusNotFound, "")
		return
	case errors.As(err, &conflict):
		status, data["Diff"] = http.StatusConflict, diffLines(conflict.Diff)
	case errors.As(err, &invalid):
		status, data["Problems"], data["Text"] = http.StatusUnprocessableEntity, invalid.Checked.Problems, "The configuration would not be valid."
	case errors.As(err, &restart):
		status = http.StatusConflict
	case errors.As(err, &refused), errors.As(err, &bad), errors.Is(err, change.ErrNothing), errors.Is(err, edit.ErrControl), errors.Is(err, edit.ErrSyntax):
		status = http.StatusUnprocessableEntity
	default:
		c.cfg.Log.Warn("configuration", "error", err)
	}
	c.show(w, r, a, page{Template: "config-failed.html", Title: "Not done", Status: status, Data: data})
}

// diffLine is a line of a diff with what it is: "add", "cut", "head" or "".
type diffLine struct{ Kind, Text string }

// diffLines takes a diff apart.
func diffLines(diff string) []diffLine {
	var lines []diffLine
	for text := range strings.Lines(diff) {
		l := diffLine{Text: strings.TrimRight(text, "\r\n")}
		switch {
		case strings.HasPrefix(text, "+++"), strings.HasPrefix(text, "---"), strings.HasPrefix(text, "@@"):
			l.Kind = "head"
		case strings.HasPrefix(text, "+"):
			l.Kind = "add"
		case strings.HasPrefix(text, "-"):
			l.Kind = "cut"
		}
		lines = append(lines, l)
	}
	return lines
}
