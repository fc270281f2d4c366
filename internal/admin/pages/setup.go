package pages

import (
	"errors"
	"net/http"
	"strings"

	"gatepost/internal/accounts"
	"gatepost/internal/admin"
)

// setup makes the first administrator, behind the link that the server prints.
func (s *Site) setup() section {
	return section{
		said: map[string]string{"setup-done": "Your account is made. Add a second factor soon, on “My account”: whoever gets in here can read and lose mail."},
		routes: []admin.Route{
			{Method: "GET", Path: "/setup/{token}", Public: true, Do: s.showSetup},
			{Method: "POST", Path: "/setup/{token}", Public: true, Do: s.doSetup, Act: "make first administrator"},
		},
	}
}

func (s *Site) maySetup(w http.ResponseWriter, r *http.Request, a *admin.Actor) bool {
	ok, err := s.accounts.MaySetup(r.Context(), r.PathValue("token"))
	if err != nil {
		s.Refuse(w, r, a, http.StatusServiceUnavailable, sentence(err.Error()))
		return false
	}
	if !ok {
		s.show(w, r, a, page{Template: "error.html", Title: "This link is not valid", Status: http.StatusNotFound, Data: map[string]any{
			"Text": "It works once, until there is an administrator or the server starts again. Take the one that the server printed last."}})
	}
	return ok
}

func (s *Site) showSetup(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	if s.maySetup(w, r, a) {
		s.setupPage(w, r, a, "admin", nil)
	}
}

func (s *Site) setupPage(w http.ResponseWriter, r *http.Request, a *admin.Actor, name string, err error) {
	p := page{Template: "setup.html", Title: "Set up Gatepost", Data: map[string]any{"Name": name}, CSRF: s.cfg.Gate.FormToken(w, r)}
	if a.CSRF != "" {
		p.CSRF = a.CSRF // somebody is logged in who is no administrator
	}
	if err != nil {
		p.Status, p.Failed = http.StatusUnprocessableEntity, sentence(err.Error())
	}
	s.show(w, r, &admin.Actor{}, p)
}

func (s *Site) doSetup(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	if !s.maySetup(w, r, a) {
		return
	}
	name, password := strings.ToLower(strings.TrimSpace(r.PostFormValue("name"))), r.PostFormValue("password")
	a.Note("first administrator " + name)
	var err error
	if password != r.PostFormValue("again") {
		err = errors.New("the passwords are not the same")
	} else if password == "" {
		err = errors.New("a password is needed")
	} else {
		err = s.accounts.Create(r.Context(), accounts.Account{Name: name, Role: accounts.Administrator, CreatedBy: "setup"}, password)
	}
	if err != nil {
		s.setupPage(w, r, a, name, err)
		return
	}
	s.accounts.EndSetup()
	if _, err := s.cfg.Gate.Login(w, r, name, password); err != nil {
		s.back(w, r, "/login", "")
		return
	}
	s.back(w, r, s.afterSetup(), "setup-done")
}

// afterSetup is the page that follows the first account.
func (s *Site) afterSetup() string {
	if s.cfg.Configuration != nil {
		return "/welcome"
	}
	return "/account"
}
