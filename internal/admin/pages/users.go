package pages

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"gatepost/internal/accounts"
	"gatepost/internal/admin"
)

// users is where administrators make and change accounts.
func (s *Site) users() section {
	route := func(method, path, act string, do admin.Handler) admin.Route {
		return admin.Route{Method: method, Path: path, Permission: accounts.UsersWrite, Act: act, Do: do}
	}
	return section{
		nav: []entry{{Path: "/users", Title: "Users", Group: "Administration", Order: 400, permission: accounts.UsersWrite}},
		said: map[string]string{
			"user-added": "The account is made.", "user-changed": "The account is changed.", "user-deleted": "The account is deleted.",
			"user-password": "The password is set, and all sessions of the account have ended.",
			"user-totp":     "The second factor is taken off the account.",
		},
		routes: []admin.Route{
			route("GET", "/users", "", s.listUsers),
			route("POST", "/users", "add user", s.addUser),
			route("GET", "/users/{name}", "", s.showUser),
			route("POST", "/users/{name}", "change user", s.changeUser),
			route("POST", "/users/{name}/password", "set password of user", s.setUserPassword),
			route("POST", "/users/{name}/totp-reset", "take second factor off user", s.resetUserTOTP),
			route("POST", "/users/{name}/delete", "delete user", s.deleteUser),
		},
	}
}

// userForm is an account as a form has it.
type userForm struct {
	accounts.Account
	DomainText, AddressText string
	New                     bool
}

func formOf(a *accounts.Account) userForm {
	return userForm{Account: *a, DomainText: strings.Join(a.Domains, "\n"), AddressText: strings.Join(a.Addresses, "\n")}
}

// readUser reads the form.
func readUser(r *http.Request, name string) userForm {
	f := userForm{DomainText: r.PostFormValue("domains"), AddressText: r.PostFormValue("addresses")}
	words := func(s string) []string {
		return strings.FieldsFunc(s, func(c rune) bool { return strings.ContainsRune(" ,;\r\n\t", c) })
	}
	f.Account = accounts.Account{
		Name: strings.ToLower(strings.TrimSpace(name)), Role: accounts.Role(r.PostFormValue("role")), Disabled: r.PostFormValue("disabled") != "",
		Domains: words(f.DomainText), Addresses: words(f.AddressText),
	}
	return f
}

func (s *Site) listUsers(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	s.usersPage(w, r, a, userForm{New: true, Account: accounts.Account{Role: accounts.Viewer}}, nil)
}

func (s *Site) usersPage(w http.ResponseWriter, r *http.Request, a *admin.Actor, f userForm, failed error) {
	all, err := s.accounts.List(r.Context())
	if err != nil {
		s.Refuse(w, r, a, http.StatusServiceUnavailable, sentence(err.Error()))
		return
	}
	p := page{Template: "users.html", Title: "Users", Data: map[string]any{"Users": all, "Form": f, "Open": failed != nil}}
	if failed != nil {
		p.Status, p.Failed = http.StatusUnprocessableEntity, sentence(failed.Error())
	}
	s.show(w, r, a, p)
}

func (s *Site) addUser(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	f := readUser(r, r.PostFormValue("name"))
	f.New, f.CreatedBy = true, a.Name
	a.Note(f.Name + " as " + string(f.Role))
	var err error
	if r.PostFormValue("password") != r.PostFormValue("again") {
		err = errors.New("the passwords are not the same")
	} else {
		err = s.accounts.Create(r.Context(), f.Account, r.PostFormValue("password"))
	}
	if err != nil {
		s.usersPage(w, r, a, f, err)
		return
	}
	s.back(w, r, "/users", "user-added")
}

func (s *Site) showUser(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	s.userPage(w, r, a, nil, nil)
}

func (s *Site) userPage(w http.ResponseWriter, r *http.Request, a *admin.Actor, f *userForm, failed error) {
	u, err := s.accounts.Get(r.Context(), r.PathValue("name"))
	if errors.Is(err, accounts.ErrNotFound) {
		s.Refuse(w, r, a, http.StatusNotFound, "")
		return
	}
	if err != nil {
		s.Refuse(w, r, a, http.StatusServiceUnavailable, sentence(err.Error()))
		return
	}
	if f == nil {
		form := formOf(u)
		f = &form
	}
	p := page{Template: "user.html", Title: u.Name, Data: map[string]any{"User": u, "Form": f}}
	if failed != nil {
		p.Status, p.Failed = http.StatusUnprocessableEntity, sentence(failed.Error())
	}
	s.show(w, r, a, p)
}

func (s *Site) changeUser(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	f := readUser(r, r.PathValue("name"))
	a.Note(f.Name + " as " + string(f.Role) + " " + strings.Join(f.Domains, ",") + strings.Join(f.Addresses, ","))
	if err := s.accounts.Update(r.Context(), f.Account); err != nil {
		s.userPage(w, r, a, &f, err)
		return
	}
	s.backToUser(w, r, "user-changed")
}

func (s *Site) backToUser(w http.ResponseWriter, r *http.Request, said string) {
	s.back(w, r, "/users/"+url.PathEscape(r.PathValue("name")), said)
}

func (s *Site) setUserPassword(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	err := s.accounts.SetPassword(r.Context(), r.PathValue("name"), r.PostFormValue("password"), a.Session)
	if err != nil {
		s.userPage(w, r, a, nil, err)
		return
	}
	s.backToUser(w, r, "user-password")
}

func (s *Site) resetUserTOTP(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	if err := s.accounts.ResetTOTP(r.Context(), r.PathValue("name"), a.Session); err != nil {
		s.userPage(w, r, a, nil, err)
		return
	}
	s.backToUser(w, r, "user-totp")
}

func (s *Site) deleteUser(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	if err := s.accounts.Delete(r.Context(), r.PathValue("name")); err != nil && !errors.Is(err, accounts.ErrNotFound) {
		s.userPage(w, r, a, nil, err)
		return
	}
	s.back(w, r, "/users", "user-deleted")
}
