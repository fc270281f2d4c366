package admin

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"gatepost/internal/accounts"
	"gatepost/internal/store"
)

// routeAccounts adds what the API does with accounts, and what it tells programs
// about themselves.
func (s *Server) routeAccounts(r *router) {
	add := func(method, path, summary string, do Handler, doc Doc) {
		doc.Summary = summary
		r.add(Route{Method: method, Path: path, Permission: accounts.UsersWrite, Do: do, Doc: &doc})
	}
	add("GET", "/api/v1/users", "List the accounts", s.listUsers, Doc{Out: []*accounts.Account{}})
	add("POST", "/api/v1/users", "Make an account", s.addUser, Doc{In: UserRequest{}, Out: accounts.Account{}})
	add("GET", "/api/v1/users/{name}", "Show an account", s.showUser, Doc{Out: accounts.Account{}})
	add("PUT", "/api/v1/users/{name}", "Change role, domains, addresses, or disable", s.changeUser, Doc{In: UserRequest{}, Out: accounts.Account{}})
	add("DELETE", "/api/v1/users/{name}", "Delete an account with its sessions and tokens", s.deleteUser, Doc{Out: struct{}{}})
	add("POST", "/api/v1/users/{name}/password", "Set a password and end all sessions", s.setPassword, Doc{In: PasswordRequest{}, Out: accounts.Account{}})
	add("POST", "/api/v1/users/{name}/totp-reset", "Take the second factor off", s.resetTOTP, Doc{In: struct{}{}, Out: accounts.Account{}})
	add("GET", "/api/v1/users/{name}/tokens", "List the tokens of an account", s.listTokens, Doc{Out: []*accounts.Token{}})
	add("POST", "/api/v1/users/{name}/tokens", "Make a token; its secret is shown this once", s.makeToken, Doc{In: TokenRequest{}, Out: NewToken{}})
	add("DELETE", "/api/v1/users/{name}/tokens/{id}", "End a token", s.deleteToken, Doc{Out: struct{}{}})
	r.add(
		Route{Method: "GET", Path: "/api/v1/openapi.json", Public: true, Capability: true, Do: s.openAPI, Doc: &Doc{Summary: "This document", Out: map[string]any{}}},
		Route{Method: "GET", Path: "/api/v1/whoami", Permission: accounts.Self, Scope: accounts.Own, Do: s.whoami,
			Doc: &Doc{Summary: "Show who you are and what you may", Out: Whoami{}}},
		Route{Method: "GET", Path: "/api/v1/audit", Permission: accounts.AuditRead, Do: s.listAudit, Doc: &Doc{
			Summary: "Read the audit log, the newest line first", Out: AuditPage{},
			Query: []string{"actor: who", "text: in what was done, to what, from where", "since: date, time or age", "before: date, time or age",
				"limit: lines of a page, 1 to 1000", "cursor: next of the page before"}}},
	)
}

// UserRequest is the body of a request that makes or changes an account. Password is
// for making only.
type UserRequest struct {
	Name      string        `json:"name,omitempty"`
	Role      accounts.Role `json:"role"`
	Domains   []string      `json:"domains,omitempty"`
	Addresses []string      `json:"addresses,omitempty"`
	Disabled  bool          `json:"disabled,omitempty"`
	Password  string        `json:"password,omitempty"`
}

// PasswordRequest is the body of a request that sets a password.
type PasswordRequest struct {
	Password string `json:"password"`
}

// TokenRequest is the body of a request that makes a token. Days is how long it is
// good; 0: for ever.
type TokenRequest struct {
	Name   string                `json:"name"`
	Scopes []accounts.Permission `json:"scopes,omitempty"`
	Days   int                   `json:"days,omitempty"`
}

// NewToken is a token with its secret.
type NewToken struct {
	Secret string          `json:"secret"`
	Token  *accounts.Token `json:"token"`
}

// AuditPage is a part of the audit log. Next is the cursor of the next one, "" for none.
type AuditPage struct {
	Items []store.AuditEntry `json:"items"`
	Next  string             `json:"next,omitempty"`
}

// Whoami is who sends a request.
type Whoami struct {
	Name        string                `json:"name"`
	Role        accounts.Role         `json:"role"`
	Domains     []string              `json:"domains,omitempty"`
	Addresses   []string              `json:"addresses,omitempty"`
	Permissions []accounts.Permission `json:"permissions"`
}

func (s *Server) whoami(w http.ResponseWriter, _ *http.Request, a *Actor) {
	me := Whoami{Name: a.Name, Role: a.Role, Domains: a.Domains, Addresses: a.Addresses, Permissions: []accounts.Permission{}}
	for _, p := range accounts.Permissions() {
		if a.May(p) {
			me.Permissions = append(me.Permissions, p)
		}
	}
	answer(w, http.StatusOK, me)
}

// failAccount answers an error of the accounts with the status that fits it.
func failAccount(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	switch {
	case errors.Is(err, accounts.ErrInvalid):
		status = http.StatusBadRequest
	case errors.Is(err, accounts.ErrNotFound):
		status = http.StatusNotFound
	case errors.Is(err, accounts.ErrExists), errors.Is(err, accounts.ErrConflict), errors.Is(err, accounts.ErrLastAdministrator):
		status = http.StatusConflict
	case errors.Is(err, store.ErrUnavailable):
		status = http.StatusServiceUnavailable
	}
	fail(w, status, err.Error())
}

func (s *Server) listUsers(w http.ResponseWriter, r *http.Request, _ *Actor) {
	all, err := s.cfg.Accounts.List(r.Context())
	if err != nil {
		failAccount(w, err)
		return
	}
	answer(w, http.StatusOK, all)
}

func (s *Server) showUser(w http.ResponseWriter, r *http.Request, _ *Actor) {
	s.answerUser(w, r, r.PathValue("name"))
}

func (s *Server) answerUser(w http.ResponseWriter, r *http.Request, name string) {
	u, err := s.cfg.Accounts.Get(r.Context(), strings.ToLower(name))
	if err != nil {
		failAccount(w, err)
		return
	}
	answer(w, http.StatusOK, u)
}

func (c *UserRequest) account(name string) accounts.Account {
	return accounts.Account{Name: strings.ToLower(name), Role: c.Role, Domains: c.Domains, Addresses: c.Addresses, Disabled: c.Disabled}
}

func (s *Server) addUser(w http.ResponseWriter, r *http.Request, a *Actor) {
	var c UserRequest
	if !decode(w, r, &c) {
		return
	}
	a.Note(fmt.Sprintf("%s as %s", c.Name, c.Role))
	u := c.account(c.Name)
	u.CreatedBy = a.Name
	if err := s.cfg.Accounts.Create(r.Context(), u, c.Password); err != nil {
		failAccount(w, err)
		return
	}
	s.answerUser(w, r, c.Name)
}

func (s *Server) changeUser(w http.ResponseWriter, r *http.Request, a *Actor) {
	var c UserRequest
	if !decode(w, r, &c) {
		return
	}
	name := r.PathValue("name")
	if c.Password != "" || c.Name != "" && !strings.EqualFold(c.Name, name) {
		fail(w, http.StatusBadRequest, "neither name nor password is changed here")
		return
	}
	a.Note(fmt.Sprintf("%s as %s", name, c.Role))
	if err := s.cfg.Accounts.Update(r.Context(), c.account(name)); err != nil {
		failAccount(w, err)
		return
	}
	s.answerUser(w, r, name)
}

func (s *Server) deleteUser(w http.ResponseWriter, r *http.Request, a *Actor) {
	a.Note(r.PathValue("name"))
	if err := s.cfg.Accounts.Delete(r.Context(), r.PathValue("name")); err != nil {
		failAccount(w, err)
		return
	}
	answer(w, http.StatusOK, struct{}{})
}

func (s *Server) setPassword(w http.ResponseWriter, r *http.Request, a *Actor) {
	var c PasswordRequest
	if !decode(w, r, &c) {
		return
	}
	a.Note(r.PathValue("name"))
	if err := s.cfg.Accounts.SetPassword(r.Context(), r.PathValue("name"), c.Password, a.Session); err != nil {
		failAccount(w, err)
		return
	}
	s.answerUser(w, r, r.PathValue("name"))
}

func (s *Server) resetTOTP(w http.ResponseWriter, r *http.Request, a *Actor) {
	var none struct{}
	if !decode(w, r, &none) {
		return
	}
	a.Note(r.PathValue("name"))
	if err := s.cfg.Accounts.ResetTOTP(r.Context(), r.PathValue("name"), a.Session); err != nil {
		failAccount(w, err)
		return
	}
	s.answerUser(w, r, r.PathValue("name"))
}

func (s *Server) listTokens(w http.ResponseWriter, r *http.Request, _ *Actor) {
	list, err := s.cfg.Accounts.Tokens(r.Context(), r.PathValue("name"))
	if err != nil {
		failAccount(w, err)
		return
	}
	if list == nil {
		list = []*accounts.Token{}
	}
	answer(w, http.StatusOK, list)
}

func (s *Server) makeToken(w http.ResponseWriter, r *http.Request, a *Actor) {
	var c TokenRequest
	if !decode(w, r, &c) {
		return
	}
	if c.Days < 0 || c.Days > 3650 {
		fail(w, http.StatusBadRequest, "days: 0 to 3650")
		return
	}
	a.Note(fmt.Sprintf("%s for %s with %v", c.Name, r.PathValue("name"), c.Scopes))
	t := accounts.Token{Account: strings.ToLower(r.PathValue("name")), Name: c.Name, Scopes: c.Scopes}
	if c.Days > 0 {
		t.Expires = time.Now().UTC().AddDate(0, 0, c.Days)
	}
	secret, made, err := s.cfg.Accounts.CreateToken(r.Context(), t)
	if err != nil {
		failAccount(w, err)
		return
	}
	answer(w, http.StatusOK, NewToken{Secret: secret, Token: made})
}

func (s *Server) deleteToken(w http.ResponseWriter, r *http.Request, a *Actor) {
	a.Note(r.PathValue("name"))
	if err := s.cfg.Accounts.DeleteToken(r.Context(), r.PathValue("name"), r.PathValue("id")); err != nil {
		failAccount(w, err)
		return
	}
	answer(w, http.StatusOK, struct{}{})
}

func (s *Server) listAudit(w http.ResponseWriter, r *http.Request, _ *Actor) {
	v := r.URL.Query()
	for key := range v {
		if !slices.Contains([]string{"actor", "text", "since", "before", "limit", "cursor"}, key) {
			fail(w, http.StatusBadRequest, fmt.Sprintf("unknown parameter %.64q", key))
			return
		}
	}
	q := store.AuditQuery{Actor: v.Get("actor"), Text: v.Get("text"), After: v.Get("cursor"), Limit: defaultPage}
	var err error
	if s := v.Get("limit"); s != "" {
		if q.Limit, err = strconv.Atoi(s); err != nil || q.Limit < 1 || q.Limit > MaxPage {
			fail(w, http.StatusBadRequest, fmt.Sprintf("limit: %.64q is not a number from 1 to %d", s, MaxPage))
			return
		}
	}
	now := time.Now()
	if q.Since, err = moment("since", v.Get("since"), now); err == nil {
		q.Before, err = moment("before", v.Get("before"), now)
	}
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	found, more, err := s.cfg.Accounts.Audit(r.Context(), q)
	if err != nil {
		failAccount(w, err)
		return
	}
	page := AuditPage{Items: found}
	if found == nil {
		page.Items = []store.AuditEntry{}
	}
	if more {
		page.Next = found[len(found)-1].ID
	}
	answer(w, http.StatusOK, page)
}
