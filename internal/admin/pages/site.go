package pages

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/microcosm-cc/bluemonday"

	"gatepost/internal/accounts"
	"gatepost/internal/admin"
)

//go:embed templates/*.html
var templateFiles embed.FS

//go:embed assets
var assetFiles embed.FS

// Config is what the pages are made from. Gate is required; a page whose part is nil
// is not there.
type Config struct {
	Gate *admin.Gate
	Log  *slog.Logger // default: discard
	// Configuration and Keys are for the pages of the configuration.
	Configuration admin.Configuration
	Keys          Keys
	// Quarantine, Queue and Greylist are for the pages of mail.
	Quarantine Quarantine
	Queue      admin.Queue
	Greylist   admin.Greylist
	// Senders are the lists of those that are allowed or blocked.
	Senders admin.SenderLists
	// Again looks at messages once more with today's rules; nil: nobody does.
	Again admin.Again
	// Country is where an address is, as "DE", "" where nobody knows; nil: nobody does.
	Country func(netip.Addr) string
	// History is what happened, for overview, history and the pages of messages; LogFiles
	// is the log, Health how the parts are.
	History  admin.History
	LogFiles admin.LogFiles
	Health   admin.Health
	// Storage is what the directories take; nil leaves it out.
	Storage func() []admin.StorageUse
	// Transports are the names of those that mail can be sent by, for choices.
	Transports func() []string
	// Digests are for the page of the own account; nil leaves them out.
	Digests admin.Digests
	// Bayes is what was learned; nil leaves it out.
	Bayes func(context.Context) (any, error)
	// TestMail sends a test mail from the first steps; nil leaves it out.
	TestMail TestMail
	// Hostname is shown in the corner, so that nobody works on the wrong host.
	Hostname func() string
}

// Site is all pages. It implements admin.Pages.
type Site struct {
	cfg       Config
	accounts  *accounts.Accounts
	templates map[string]*template.Template // by file name
	version   string                        // of the assets, for their addresses
	nav       []entry
	said      map[string]string
	routes    []admin.Route
	// harmless is what of the HTML in mail is shown.
	harmless *bluemonday.Policy
}

// section is what one file adds.
type section struct {
	nav []entry
	// said are the messages for s.back, by key.
	said   map[string]string
	routes []admin.Route
}

// entry is an entry of the navigation.
type entry struct {
	Path, Title string
	// Group is a heading; entries of one group stand together.
	Group string
	// Order sorts entries, smaller first: Overview 0, Activity 100, Quarantine 200,
	// Configuration 300, Administration 400.
	Order      int
	permission accounts.Permission
	scope      accounts.Scope
}

// sections are all files, in no particular order.
func (s *Site) sections() []section {
	return []section{
		s.assets(), s.home(), s.login(), s.setup(), s.account(), s.users(), s.audit(), s.configuration(), s.welcome(),
		s.quarantine(), s.delayed(), s.senders(), s.queue(), s.overview(), s.history(), s.log(),
	}
}

// New makes the pages. Its errors are those of templates.
func New(cfg Config) (*Site, error) {
	if cfg.Gate == nil {
		return nil, errors.New("make pages: no gate")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Hostname == nil {
		cfg.Hostname = func() string { return "" }
	}
	s := &Site{cfg: cfg, accounts: cfg.Gate.Accounts(), templates: map[string]*template.Template{}, said: map[string]string{}, harmless: harmlessHTML()}
	if err := s.hashAssets(); err != nil {
		return nil, err
	}
	if err := s.parse(); err != nil {
		return nil, err
	}
	for _, sec := range s.sections() {
		s.nav = append(s.nav, sec.nav...)
		s.routes = append(s.routes, sec.routes...)
		for key, text := range sec.said {
			s.said[key] = text
		}
	}
	slices.SortStableFunc(s.nav, func(x, y entry) int { return x.Order - y.Order })
	return s, nil
}

// Routes implements admin.Pages.
func (s *Site) Routes() []admin.Route { return s.routes }

// parse reads the templates: each page with the layout and the parts that all share.
func (s *Site) parse() error {
	shared, err := template.New("").Funcs(s.funcs()).ParseFS(templateFiles, "templates/layout.html", "templates/shared.html")
	if err != nil {
		return fmt.Errorf("read templates: %w", err)
	}
	files, err := fs.Glob(templateFiles, "templates/*.html")
	if err != nil {
		return fmt.Errorf("list templates: %w", err)
	}
	for _, file := range files {
		name := path.Base(file)
		if name == "layout.html" || name == "shared.html" {
			continue
		}
		t, err := shared.Clone()
		if err == nil {
			t, err = t.ParseFS(templateFiles, file)
		}
		if err != nil {
			return fmt.Errorf("read template %s: %w", name, err)
		}
		s.templates[name] = t
	}
	return nil
}

// hashAssets gives the assets a version, so that a browser may keep them for good.
func (s *Site) hashAssets() error {
	h := sha256.New()
	err := fs.WalkDir(assetFiles, "assets", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := assetFiles.ReadFile(name)
		h.Write(b)
		return err
	})
	if err != nil {
		return fmt.Errorf("read assets: %w", err)
	}
	s.version = hex.EncodeToString(h.Sum(nil)[:6])
	return nil
}

// view is what a template gets.
type view struct {
	Title string
	// Actor is nobody on public pages.
	Actor *admin.Actor
	// CSRF is for the forms of the page.
	CSRF string
	// Path is the address of the page, for the navigation.
	Path string
	Nav  []entry
	Host string
	// Said is the message about what was just done; Failed what was wrong with a form.
	Said, Failed string
	// Bare leaves the navigation out.
	Bare bool
	Data any
}

// page is a page to show.
type page struct {
	// Template is the name of the file below templates.
	Template string
	Title    string
	Data     any
	// Status is 200 unless it is set; with 422 Failed says what was wrong with a form.
	Status int
	Failed string
	// CSRF overrides the token of the session, where there is none.
	CSRF string
}

// policy is what pages may do: nothing that does not come from here.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; " +
	"frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; manifest-src 'self'"

// show answers with a whole page.
func (s *Site) show(w http.ResponseWriter, r *http.Request, a *admin.Actor, p page) {
	v := s.view(r, a, p)
	s.write(w, "layout", p, v)
}

// part answers with one block of a template, for htmx.
func (s *Site) part(w http.ResponseWriter, r *http.Request, a *admin.Actor, block string, p page) {
	s.write(w, block, p, s.view(r, a, p))
}

func (s *Site) view(r *http.Request, a *admin.Actor, p page) view {
	v := view{Title: p.Title, Actor: a, CSRF: a.CSRF, Path: r.URL.Path, Host: s.cfg.Hostname(), Failed: p.Failed, Bare: a.Name == "", Data: p.Data}
	v.Said = s.said[r.URL.Query().Get("said")]
	if p.CSRF != "" {
		v.CSRF = p.CSRF
	}
	for _, e := range s.nav {
		if a.May(e.permission) && a.Role.Scope() <= e.scope {
			v.Nav = append(v.Nav, e)
		}
	}
	return v
}

func (s *Site) write(w http.ResponseWriter, block string, p page, v view) {
	t := s.templates[p.Template]
	var b bytes.Buffer
	err := errors.New("there is no such template")
	if t != nil {
		err = t.ExecuteTemplate(&b, block, v)
	}
	if err != nil {
		s.cfg.Log.Error("page cannot be written", "template", p.Template, "block", block, "error", err)
		http.Error(w, "the page cannot be written; the log says why", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", policy)
	// Forms and htmx need the origin to be named, and only to ourselves.
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Vary", "HX-Request")
	status := p.Status
	if status == 0 {
		status = http.StatusOK
	}
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes())
}

// back ends a form: it sends the browser to a page of ours, with the message of a key
// of section.said; "" for none.
func (s *Site) back(w http.ResponseWriter, r *http.Request, to, said string) {
	if said != "" {
		sep := "?"
		if strings.Contains(to, "?") {
			sep = "&"
		}
		to += sep + "said=" + url.QueryEscape(said)
	}
	if r.Header.Get("HX-Request") != "" {
		w.Header().Set("HX-Redirect", to)
		w.WriteHeader(http.StatusNoContent)
		return
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
}
