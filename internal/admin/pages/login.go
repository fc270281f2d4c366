package pages

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"gatepost/internal/accounts"
	"gatepost/internal/admin"
)

// login is how people come in and go out.
func (s *Site) login() section {
	return section{
		said: map[string]string{"out": "You are logged out."},
		routes: []admin.Route{
			{Method: "GET", Path: "/login", Public: true, Do: s.showLogin},
			{Method: "POST", Path: "/login", Public: true, Do: s.doLogin, Act: "log in"},
			{Method: "GET", Path: "/login/code", Public: true, Do: s.showCode},
			{Method: "POST", Path: "/login/code", Public: true, Do: s.doCode, Act: "send second factor"},
			{Method: "GET", Path: "/login/oidc/{name}", Public: true, Do: s.goElsewhere},
			{Method: "GET", Path: "/login/oidc/{name}/back", Public: true, Do: s.comeBack},
			{Method: "POST", Path: "/logout", Permission: accounts.Self, Scope: accounts.Own, Do: s.logout, Act: "log out"},
		},
	}
}

// loginForm is what the login page shows.
type loginForm struct {
	Name, Next string
	Providers  []admin.Provider
	Setup      bool
}

// Login implements admin.Pages.
func (s *Site) Login(w http.ResponseWriter, r *http.Request) {
	to := "/login"
	// Only what can be asked for again is gone back to.
	if r.Method == http.MethodGet && r.URL.Path != "/" && r.Header.Get("HX-Request") == "" {
		to += "?next=" + url.QueryEscape(r.URL.RequestURI())
	}
	s.back(w, r, to, "")
}

func (s *Site) showLogin(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	if a.Name != "" {
		s.back(w, r, nextOf(r.URL.Query().Get("next")), "")
		return
	}
	s.loginPage(w, r, a, loginForm{Next: r.URL.Query().Get("next")}, nil)
}

func (s *Site) loginPage(w http.ResponseWriter, r *http.Request, a *admin.Actor, f loginForm, err error) {
	f.Providers = s.cfg.Gate.Providers()
	f.Setup, _ = s.accounts.NeedsSetup(r.Context()) // a store that is away is told when somebody logs in
	p := page{Template: "login.html", Title: "Log in", Data: f, CSRF: s.cfg.Gate.FormToken(w, r)}
	if err != nil {
		p.Status, p.Failed = http.StatusUnprocessableEntity, sentence(err.Error())
	}
	s.show(w, r, a, p)
}

func (s *Site) doLogin(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	f := loginForm{Name: strings.TrimSpace(r.PostFormValue("name")), Next: r.PostFormValue("next")}
	a.Note("as " + f.Name)
	pending, err := s.cfg.Gate.Login(w, r, f.Name, r.PostFormValue("password"))
	if err != nil {
		known := errors.Is(err, admin.ErrLogin) || errors.Is(err, admin.ErrLoginBusy) || errors.Is(err, admin.ErrLoginLater) || errors.Is(err, admin.ErrNoAddress)
		if !known {
			s.cfg.Log.Error("nobody can log in", "error", err)
			err = admin.ErrLoginLater
		}
		s.loginPage(w, r, a, f, err)
		return
	}
	a.Name = strings.ToLower(f.Name)
	if pending {
		s.back(w, r, "/login/code?next="+url.QueryEscape(f.Next), "")
		return
	}
	s.back(w, r, nextOf(f.Next), "")
}

func (s *Site) showCode(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	if !s.cfg.Gate.Pending(r) {
		s.back(w, r, "/login", "")
		return
	}
	s.codePage(w, r, a, nil)
}

func (s *Site) codePage(w http.ResponseWriter, r *http.Request, a *admin.Actor, err error) {
	p := page{Template: "code.html", Title: "Second factor", Data: loginForm{Next: r.FormValue("next")}, CSRF: s.cfg.Gate.FormToken(w, r)}
	if err != nil {
		p.Status, p.Failed = http.StatusUnprocessableEntity, sentence(err.Error())
	}
	s.show(w, r, a, p)
}

func (s *Site) doCode(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	err := s.cfg.Gate.Complete(w, r, r.PostFormValue("code"))
	switch {
	case err == nil:
		s.back(w, r, nextOf(r.PostFormValue("next")), "")
	case errors.Is(err, accounts.ErrWrong):
		s.codePage(w, r, a, errors.New("the code is not right, or was used before: wait for the next one"))
	case errors.Is(err, accounts.ErrLocked):
		s.codePage(w, r, a, accounts.ErrLocked)
	case errors.Is(err, accounts.ErrNotFound):
		s.back(w, r, "/login", "")
	default:
		s.cfg.Log.Error("second factor cannot be checked", "error", err)
		s.codePage(w, r, a, admin.ErrLoginLater)
	}
}

func (s *Site) logout(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	if err := s.cfg.Gate.Logout(w, r, a); err != nil {
		s.Refuse(w, r, a, http.StatusServiceUnavailable, sentence(err.Error()))
		return
	}
	w.Header().Set("Clear-Site-Data", `"cache"`)
	s.back(w, r, "/login", "out")
}

// goElsewhere sends the browser to a provider. It changes nothing here: what belongs
// to it the browser keeps.
func (s *Site) goElsewhere(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	to, err := s.cfg.Gate.BeginElsewhere(w, r, r.PathValue("name"), r.URL.Query().Get("next"))
	if err != nil {
		s.elsewhereFailed(w, r, a, err)
		return
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
}

// comeBack lets in whom a provider vouches for: a GET that opens a session, for a
// login that this browser has begun only.
func (s *Site) comeBack(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	next, err := s.cfg.Gate.FinishElsewhere(w, r, r.PathValue("name"))
	if err != nil {
		s.elsewhereFailed(w, r, a, err)
		return
	}
	s.back(w, r, nextOf(next), "")
}

func (s *Site) elsewhereFailed(w http.ResponseWriter, r *http.Request, a *admin.Actor, err error) {
	if errors.Is(err, admin.ErrNoProvider) {
		s.Refuse(w, r, a, http.StatusNotFound, "")
		return
	}
	s.cfg.Log.Warn("nobody was let in by a provider", "provider", r.PathValue("name"), "client", a.Client, "error", err)
	s.loginPage(w, r, a, loginForm{}, errors.New("the login with "+r.PathValue("name")+" did not work; the gateway's log says why"))
}

// nextOf is where to go after logging in: a path here, never another site.
func nextOf(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.IsAbs() || u.Host != "" || !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.ContainsAny(next, "\\\r\n\t") {
		return "/"
	}
	return next
}

// sentence is an error as pages show it.
func sentence(text string) string {
	if text == "" {
		return ""
	}
	return strings.ToUpper(text[:1]) + text[1:] + "."
}
