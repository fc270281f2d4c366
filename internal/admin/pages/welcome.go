package pages

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"gatepost/internal/accounts"
	"gatepost/internal/admin"
	"gatepost/internal/config/change"
	"gatepost/internal/config/edit"
	"gatepost/internal/mail"
	"gatepost/internal/smtp"
)

// TestMail queues a message to somebody here.
type TestMail func(ctx context.Context, to mail.Address, by string) error

// welcome leads through what a new gateway needs: its name, the first domain and the
// server behind, a test mail. All else is on the pages of the configuration.
func (s *Site) welcome() section {
	if s.cfg.Configuration == nil {
		return section{}
	}
	write := func(path, act string, do admin.Handler) admin.Route {
		return admin.Route{Method: "POST", Path: path, Permission: accounts.ConfigWrite, Act: act, Do: do}
	}
	sec := section{
		nav: []entry{{Path: "/welcome", Title: "First steps", Group: "Configuration", Order: 299, permission: accounts.ConfigWrite}},
		said: map[string]string{
			"welcome-host": "Saved. New sessions are greeted with this name.",
			"welcome-mail": "Mail for this domain goes to this server from now on. Send a test mail next.",
			"welcome-sent": "The test mail is queued. It should be in the mailbox in a moment.",
			"welcome-same": "It was so already.",
		},
		routes: []admin.Route{
			{Method: "GET", Path: "/welcome", Permission: accounts.ConfigWrite, Do: s.showWelcome},
			write("/welcome/host", "set host name", s.setHost),
			write("/welcome/mail", "set first domain", s.setMail),
		},
	}
	if s.cfg.TestMail != nil {
		sec.routes = append(sec.routes, write("/welcome/test", "send test mail", s.sendTest))
	}
	return sec
}

// firstSteps is what the page shows and its forms send.
type firstSteps struct {
	Hostname, Domain, Server, To string
	// Fixed says why the server is not changed here.
	Fixed    string
	CanTest  bool
	Problems []change.Problem

	// domain and transport are where Domain and Server stand.
	domain, transport edit.Path
}

// readSteps reads what the configuration has: the first domain with a name, and the
// first server of its transport.
func readSteps(doc *edit.Document) firstSteps {
	var f firstSteps
	text := func(p edit.Path) string {
		v, _ := doc.Get(p)
		s, _ := v.(string)
		return s
	}
	f.Hostname = text(edit.MustPath("hostname"))
	domains := edit.MustPath("domain")
	for i := range doc.Len(domains) {
		if name := text(domains.At(i).With("name")); name != "" && name != "*" {
			f.Domain, f.domain = name, domains.At(i)
			break
		}
	}
	if f.domain == nil {
		f.Fixed = "There is no domain with a name; add one in the settings."
		return f
	}
	f.transport = edit.MustPath("transport").Named(text(f.domain.With("transport")))
	kind := text(f.transport.With("kind"))
	v, _ := doc.Get(f.transport.With("hosts"))
	if hosts, _ := v.([]any); len(hosts) > 0 {
		f.Server, _ = hosts[0].(string)
	}
	if kind != "smtp" && kind != "lmtp" {
		f.Fixed = fmt.Sprintf("Mail for %s goes by a transport of the kind %q; change it in the settings.", f.Domain, kind)
	}
	return f
}

// document is the configuration as it stands on disk, with its version.
func (s *Site) document() (*edit.Document, string, error) {
	now, err := s.cfg.Configuration.Status()
	if err != nil {
		return nil, "", err
	}
	doc, err := edit.Parse(now.Text)
	return doc, now.Version, err
}

func (s *Site) showWelcome(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	s.welcomePage(w, r, a, nil, nil)
}

// welcomePage shows the steps, with what was sent in place of what is where it failed.
func (s *Site) welcomePage(w http.ResponseWriter, r *http.Request, a *admin.Actor, sent func(*firstSteps), failed error) {
	doc, _, err := s.document()
	if err != nil {
		s.Refuse(w, r, a, http.StatusServiceUnavailable, sentence(err.Error()))
		return
	}
	f := readSteps(doc)
	f.CanTest = s.cfg.TestMail != nil
	if sent != nil {
		sent(&f)
	}
	p := page{Template: "welcome.html", Title: "First steps"}
	if failed != nil {
		p.Status, p.Failed = http.StatusUnprocessableEntity, sentence(failed.Error())
		var invalid *change.InvalidError
		if errors.As(failed, &invalid) {
			f.Problems = invalid.Checked.Problems
		}
	}
	p.Data = f
	s.show(w, r, a, p)
}

// changeSteps edits the text and applies it, and reports whether there was anything to change.
func (s *Site) changeSteps(r *http.Request, c change.Change, fn func(*edit.Document, firstSteps) error) (bool, error) {
	doc, version, err := s.document()
	if err != nil {
		return false, err
	}
	if err := fn(doc, readSteps(doc)); err != nil {
		return false, err
	}
	text := doc.Text()
	c.Base, c.Text = version, &text
	done, err := s.cfg.Configuration.Apply(r.Context(), c)
	return err == nil && done.Revision != 0, err
}

func (s *Site) setHost(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	name := strings.TrimSpace(r.PostFormValue("hostname"))
	a.Note(name)
	changed, err := s.changeSteps(r, change.Change{By: a.Name, Why: "first steps: the host's name"}, func(doc *edit.Document, f firstSteps) error {
		if f.Hostname == name {
			return nil
		}
		return doc.Set(edit.MustPath("hostname"), name)
	})
	s.afterStep(w, r, a, stepDone{"welcome-host", changed, err, func(f *firstSteps) { f.Hostname = name }})
}

func (s *Site) setMail(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	domain, server := strings.ToLower(strings.TrimSpace(r.PostFormValue("domain"))), strings.TrimSpace(r.PostFormValue("server"))
	a.Note(domain + " at " + server)
	changed, err := s.changeSteps(r, change.Change{By: a.Name, Why: "first steps: the first domain"}, func(doc *edit.Document, f firstSteps) error {
		if f.Fixed != "" {
			return errors.New(strings.TrimSuffix(f.Fixed, "."))
		}
		if f.Domain != domain {
			if err := doc.Set(f.domain.With("name"), domain); err != nil {
				return err
			}
		}
		if f.Server == server {
			return nil
		}
		v, _ := doc.Get(f.transport.With("hosts"))
		hosts, _ := v.([]any)
		hosts = slices.Clone(hosts)
		if len(hosts) == 0 {
			hosts = []any{""}
		}
		hosts[0] = server
		return doc.Set(f.transport.With("hosts"), hosts)
	})
	s.afterStep(w, r, a, stepDone{"welcome-mail", changed, err, func(f *firstSteps) { f.Domain, f.Server = domain, server }})
}

// stepDone is how a step went.
type stepDone struct {
	said    string
	changed bool
	err     error
	sent    func(*firstSteps)
}

func (s *Site) afterStep(w http.ResponseWriter, r *http.Request, a *admin.Actor, d stepDone) {
	switch {
	case d.err != nil:
		s.welcomePage(w, r, a, d.sent, d.err)
	case !d.changed:
		s.back(w, r, "/welcome", "welcome-same")
	default:
		s.back(w, r, "/welcome", d.said)
	}
}

func (s *Site) sendTest(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	text := strings.TrimSpace(r.PostFormValue("to"))
	a.Note("to " + text)
	to, err := smtp.ParseAddress(text)
	if err == nil {
		err = s.cfg.TestMail(r.Context(), to, a.Name)
	}
	s.afterStep(w, r, a, stepDone{"welcome-sent", true, err, func(f *firstSteps) { f.To = text }})
}
