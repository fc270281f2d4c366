package pages

import (
	"net/http"
	"net/url"

	"gatepost/internal/accounts"
	"gatepost/internal/admin"
	"gatepost/internal/store"
)

// audit shows who did what.
func (s *Site) audit() section {
	return section{
		nav:    []entry{{Path: "/audit", Title: "Audit log", Group: "Administration", Order: 410, permission: accounts.AuditRead}},
		routes: []admin.Route{{Method: "GET", Path: "/audit", Permission: accounts.AuditRead, Do: s.showAudit}},
	}
}

// auditPage is how many lines a page has.
const auditPage = 100

func (s *Site) showAudit(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	v := r.URL.Query()
	q := store.AuditQuery{Actor: v.Get("actor"), Text: v.Get("text"), After: v.Get("after"), Limit: auditPage}
	found, more, err := s.accounts.Audit(r.Context(), q)
	if err != nil {
		s.Refuse(w, r, a, http.StatusServiceUnavailable, sentence(err.Error()))
		return
	}
	next := ""
	if more {
		next = "/audit?" + url.Values{"actor": {q.Actor}, "text": {q.Text}, "after": {found[len(found)-1].ID}}.Encode()
	}
	s.show(w, r, a, page{Template: "audit.html", Title: "Audit log", Data: map[string]any{"Entries": found, "Next": next, "Query": q}})
}
