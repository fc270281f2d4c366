package pages

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"gatepost/internal/admin"
	"gatepost/internal/config"
	"gatepost/internal/config/change"
	"gatepost/internal/config/edit"
)

// indexed is an entry of the index at the start: what people look for, by the name that
// they look for, and where it is.
type indexed struct{ Title, Href, Has string }

// index is the index of the configuration.
func (c *configPages) index(d *edit.Document) []indexed {
	counted := func(section string) string { return count(d.Len(edit.Path{{Key: section}})) }
	files := map[config.FileKind]int{}
	if list, err := c.config.Files(); err == nil {
		for _, f := range list {
			files[f.Kind]++
		}
	}
	lists := 0
	for _, kind := range fileGroups["lists"] {
		lists += files[kind]
	}
	aliases, sources := 0, 0
	for i := range d.Len(edit.Path{{Key: "domain"}}) {
		at := edit.Path{{Key: "domain"}}.At(i)
		aliases += d.Len(at.With("aliases"))
		sources += d.Len(at.With("recipients"))
	}
	admins := edit.Path{{Key: "admin"}}
	return []indexed{
		{"Listeners", "/config/listener", counted("listener")},
		{"Domains and aliases", "/config/domain", counted("domain") + ", " + strings.Replace(plural(aliases, "alias"), "aliass", "aliases", 1)},
		{"Recipients", "/config/recipients", count(sources)},
		{"Transports", "/config/transport", counted("transport")},
		{"Flows", "/config/flow", counted("flow")},
		{"Filters", "/config/filter", counted("filter")},
		{"Lists", "/config/files?kind=lists", count(lists)},
		{"Scripts", "/config/files?kind=scripts", count(files[config.FileScript])},
		{"Bayes", "/config/bayes", ""},
		{"DKIM keys", "/config/dkim-keys", counted("dkim")},
		{"Certificates", "/config/certificates", count(files[config.FileCertificate])},
		{"Files", "/config/files", ""},
		{"Users of these pages", "/users", ""},
		{"Logging in by OpenID Connect", "/config/admin#rows-oidc", count(d.Len(admins.With("oidc")))},
		{"Webhooks", "/config/admin#rows-webhook", count(d.Len(admins.With("webhook")))},
	}
}

func count(n int) string {
	if n == 0 {
		return "none yet"
	}
	return fmt.Sprint(n)
}

// fileGroups are kinds of files that people look for together.
var fileGroups = map[string][]config.FileKind{
	"scripts": {config.FileScript},
	"lists":   {config.FileList, config.FileClients, config.FileRecipients, config.FileTable, config.FileUsers},
}

// nothingYet says what to do where there is nothing, by section.
func nothingYet(section string) string {
	texts := map[string]string{
		"listener":   "Without a listener no mail comes in. Add one with an address such as 0.0.0.0:25.",
		"domain":     "Mail is taken for no domain yet. Add yours, with the transport that leads to its mail server.",
		"transport":  "A transport is a way on: to a mail server of yours, or by MX to the Internet. Domains name one.",
		"flow":       "A flow is a list of blocks that looks at connections, users, recipients or messages. Listeners and domains name the flows that they use.",
		"filter":     "A filter does something with messages on which its conditions hold. A block “filters” in a flow of the stage content runs them.",
		"dkim":       "A key signs what leaves. The page DKIM keys makes one, together with the record to publish.",
		"ldap":       "A directory knows recipients, aliases or users. Domains, flows and the rewriting of addresses name it.",
		"http":       "A web service knows recipients, aliases or users. Domains, flows and the rewriting of addresses name it.",
		"disclaimer": "A disclaimer is a text at the end of messages. The action disclaimer:NAME of a filter adds it.",
	}
	if t := texts[section]; t != "" {
		return t
	}
	return "Add the first one with the button above."
}

// recipientsOf are the recipients of a domain.
type recipientsOf struct {
	Index   int
	Domain  string
	Aliases []string
	Sources []recipientSource
}

type recipientSource struct{ Text, File, Href string }

// recipients shows who gets mail, by domain.
func (c *configPages) recipients(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	c.recipientsPage(w, r, a, nil)
}

func (c *configPages) recipientsPage(w http.ResponseWriter, r *http.Request, a *admin.Actor, failed error) {
	d, err := c.readDraft(r)
	if err != nil {
		c.failed(w, r, a, err)
		return
	}
	var list []recipientsOf
	for i, name := range names(d.doc, "domain") {
		at := edit.Path{{Key: "domain"}}.At(i)
		x := recipientsOf{Index: i, Domain: name, Aliases: texts(d.doc, at.With("aliases"))}
		for _, text := range texts(d.doc, at.With("recipients")) {
			s := recipientSource{Text: text}
			kind, arg, _ := strings.Cut(text, ":")
			switch kind {
			case "file":
				s.File = arg
			case "ldap", "http":
				s.Href = fmt.Sprintf("/config/%s/%d", kind, slices.Index(names(d.doc, kind), arg))
			}
			x.Sources = append(x.Sources, s)
		}
		list = append(list, x)
	}
	p := page{Template: "config-recipients.html", Title: "Recipients", Data: map[string]any{
		"List": list, "Domain": r.PostFormValue("domain"), "File": r.PostFormValue("name"), "Text": r.PostFormValue("raw"),
	}}
	if failed != nil {
		p.Status, p.Failed = http.StatusUnprocessableEntity, sentence(failed.Error())
	}
	c.show(w, r, a, p)
}

// texts are those of a list, or the one that stands there without brackets.
func texts(d *edit.Document, at edit.Path) []string {
	v, _ := d.Get(at)
	if one, ok := v.(string); ok {
		return []string{one}
	}
	var list []string
	all, _ := v.([]any)
	for _, e := range all {
		if text, ok := e.(string); ok {
			list = append(list, text)
		}
	}
	return list
}

// addRecipients makes a list of recipients in a file, and has a domain name it.
func (c *configPages) addRecipients(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	what, err := c.newRecipients(r)
	if err != nil {
		c.recipientsPage(w, r, a, err)
		return
	}
	c.review(w, r, a, what, "/config/recipients")
}

func (c *configPages) newRecipients(r *http.Request) (change.Change, error) {
	d, err := c.readDraft(r)
	if err != nil {
		return change.Change{}, err
	}
	domain, name := r.PostFormValue("domain"), strings.TrimSpace(r.PostFormValue("name"))
	i := slices.Index(names(d.doc, "domain"), domain)
	text := edit.LineEnds(r.PostFormValue("raw"), "")
	switch {
	case i < 0:
		return change.Change{}, &change.BadError{Text: "choose a domain"}
	case name == "":
		return change.Change{}, &change.BadError{Text: "give the file a name"}
	case strings.TrimSpace(text) == "":
		return change.Change{}, &change.BadError{Text: "write who gets mail, one in a line: with an empty list nobody does"}
	}
	if f, err := c.config.File(name); err == nil && f.Exists {
		return change.Change{}, &change.BadError{Text: name + " is there already: open it to add to it"}
	}
	if err := d.doc.Insert(edit.Path{{Key: "domain"}}.At(i).With("recipients"), -1, "file:"+name); err != nil {
		return change.Change{}, err
	}
	d.put(change.FileText{Path: name, Text: strings.TrimRight(text, "\n") + "\n"})
	return d.change(), nil
}
