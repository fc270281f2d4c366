package pages

import (
	"mime"
	"net/http"
	"path"
	"strings"

	"gatepost/internal/accounts"
	"gatepost/internal/admin"
)

// assets serves what pages load. The version in the path lets browsers keep it.
func (s *Site) assets() section {
	return section{routes: []admin.Route{
		{Method: "GET", Path: "/static/{version}/{name...}", Public: true, Capability: true, Do: s.asset},
		{Method: "GET", Path: "/favicon.ico", Public: true, Capability: true, Do: s.icon},
		{Method: "GET", Path: "/robots.txt", Public: true, Capability: true, Do: s.robots},
	}}
}

func (s *Site) asset(w http.ResponseWriter, r *http.Request, _ *admin.Actor) {
	s.sendAsset(w, r, r.PathValue("name"), r.PathValue("version") == s.version)
}

func (s *Site) icon(w http.ResponseWriter, r *http.Request, _ *admin.Actor) {
	s.sendAsset(w, r, "icon.svg", false)
}

func (s *Site) sendAsset(w http.ResponseWriter, r *http.Request, name string, forGood bool) {
	b, err := assetFiles.ReadFile("assets/" + path.Clean("/" + name)[1:])
	if err != nil {
		s.Refuse(w, r, &admin.Actor{}, http.StatusNotFound, "no such path: "+r.URL.Path)
		return
	}
	h := w.Header()
	kind := mime.TypeByExtension(path.Ext(name))
	switch path.Ext(name) { // the system's table may know better, or worse
	case ".js":
		kind = "text/javascript; charset=utf-8"
	case ".css":
		kind = "text/css; charset=utf-8"
	case ".svg":
		kind = "image/svg+xml"
	case ".LICENSE":
		kind = "text/plain; charset=utf-8"
	}
	h.Set("Content-Type", kind)
	h.Set("Cache-Control", "public, max-age=300")
	if forGood {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	_, _ = w.Write(b)
}

func (s *Site) robots(w http.ResponseWriter, _ *http.Request, _ *admin.Actor) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("User-agent: *\nDisallow: /\n"))
}

// home sends everybody to the first page that they may see.
func (s *Site) home() section {
	return section{routes: []admin.Route{{Method: "GET", Path: "/{$}", Permission: accounts.Self, Scope: accounts.Own, Do: s.first}}}
}

func (s *Site) first(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	to := "/account"
	for _, e := range s.nav {
		if a.May(e.permission) && a.Role.Scope() <= e.scope {
			to = e.Path
			break
		}
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
}

// Refuse implements admin.Pages.
func (s *Site) Refuse(w http.ResponseWriter, r *http.Request, a *admin.Actor, status int, text string) {
	title := http.StatusText(status)
	switch status {
	case http.StatusNotFound:
		title, text = "There is no such page", "The address may be misspelt, or what it showed is gone."
	case http.StatusForbidden:
		title = "This is not allowed"
	}
	p := page{Template: "error.html", Title: title, Status: status, Data: map[string]any{"Text": text, "Status": status}}
	if r.Header.Get("HX-Request") != "" && !strings.Contains(r.Header.Get("HX-Request-Type"), "full") {
		// A message above the page, not a page within a part of one.
		w.Header().Set("HX-Retarget", "#messages")
		w.Header().Set("HX-Reswap", "innerHTML")
		s.part(w, r, a, "problem", p)
		return
	}
	s.show(w, r, a, p)
}
