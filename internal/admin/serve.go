package admin

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/store"
)

// Pages are what browsers see.
type Pages interface {
	// Routes are the pages with what they load.
	Routes() []Route
	// Refuse answers a request of a browser that is not carried out, in the form of
	// a page or of a part of one.
	Refuse(w http.ResponseWriter, r *http.Request, a *Actor, status int, text string)
	// Login sends a browser to log in, and back afterwards.
	Login(w http.ResponseWriter, r *http.Request)
}

// ByHeader names, at the unix socket, on whose behalf a program sends a request.
const ByHeader = "Gatepost-By"

// serveLocal serves a request at the unix socket, or a public one where there is
// no gate.
func (s *Server) serveLocal(w http.ResponseWriter, r *http.Request, route *Route) {
	secure(w.Header())
	limitBody(w, r, route)
	a := localAdministrator()
	a.By(r.Header.Get(ByHeader))
	if s.cfg.Accounts == nil || !route.changes() || route.Quiet || route.Public {
		route.Do(w, r, a)
		return
	}
	noting := &statusWriter{ResponseWriter: w}
	route.Do(noting, r, a)
	s.note(r, route, a, noting.status)
}

// refuseJSON answers a request that is not carried out.
func (s *Server) refuseJSON(w http.ResponseWriter, _ *http.Request, status int, text string) {
	secure(w.Header())
	fail(w, status, text)
}

func limitBody(w http.ResponseWriter, r *http.Request, route *Route) {
	limit := route.MaxBody
	if limit <= 0 {
		limit = maxBodyBytes
	}
	r.Body = http.MaxBytesReader(w, r.Body, limit)
}

// serveWeb serves a request on TCP: it finds out who sends it, that no other site
// has the browser send it, and that the actor may.
func (s *Server) serveWeb(w http.ResponseWriter, r *http.Request, route *Route) {
	secure(w.Header())
	limitBody(w, r, route)
	a, err := s.cfg.Gate.identify(r, route)
	if err != nil {
		s.cfg.Log.Warn("nobody can tell who sends a request", "error", err)
		s.refuseTo(w, r, a, http.StatusServiceUnavailable, "the database that knows the accounts is not available; try again")
		return
	}
	if route.changes() {
		if why := s.cfg.Gate.forged(r, route, a); why != "" {
			s.cfg.Log.Warn("request refused that another site may have sent", "path", r.URL.Path, "client", a.Client, "reason", why)
			s.refuseTo(w, r, a, http.StatusForbidden, why)
			return
		}
	}
	if !route.allows(a) {
		s.deny(w, r, route, a)
		return
	}
	s.extend(w, route)
	if !route.changes() || route.Quiet || route.Capability {
		route.Do(w, r, a)
		return
	}
	noting := &statusWriter{ResponseWriter: w}
	route.Do(noting, r, a)
	s.note(r, route, a, noting.status)
}

// deny says that the actor may not, or has to log in.
func (s *Server) deny(w http.ResponseWriter, r *http.Request, route *Route, a *Actor) {
	switch {
	case a.Name != "":
		s.cfg.Log.Warn("request refused", "path", r.URL.Path, "by", a.Name, "role", string(a.Role), "client", a.Client)
		s.refuseTo(w, r, a, http.StatusForbidden, "your role does not allow this")
	case route.isAPI() || s.cfg.Pages == nil:
		w.Header().Set("WWW-Authenticate", `Bearer realm="gatepost"`)
		fail(w, http.StatusUnauthorized, "log in, or send a token")
	default:
		s.cfg.Pages.Login(w, r)
	}
}

// refuse answers a request that no route has.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, status int, text string) {
	secure(w.Header())
	a, err := s.cfg.Gate.identify(r, nil)
	if err != nil {
		a = &Actor{}
	}
	s.refuseTo(w, r, a, status, text)
}

func (s *Server) refuseTo(w http.ResponseWriter, r *http.Request, a *Actor, status int, text string) {
	if s.cfg.Pages == nil || strings.HasPrefix(r.URL.Path, apiPrefix) || !strings.Contains(r.Header.Get("Accept"), "text/html") && r.Header.Get("HX-Request") == "" {
		fail(w, status, text)
		return
	}
	s.cfg.Pages.Refuse(w, r, a, status, text)
}

// extend gives operations that take their time the time they need: who is logged in
// may keep a connection.
func (s *Server) extend(w http.ResponseWriter, route *Route) {
	if route.Public {
		return
	}
	c := http.NewResponseController(w)
	// A writer that knows no deadlines is one of a test.
	_ = c.SetWriteDeadline(time.Now().Add(s.cfg.ChangeTimeout + s.cfg.Timeout))
	if route.MaxBody > maxBodyBytes {
		_ = c.SetReadDeadline(time.Now().Add(s.cfg.ChangeTimeout))
	}
}

// outcomeDone is the outcome of an action that was carried out.
const outcomeDone = "done"

// note writes the line of a request into the log and the audit log.
func (s *Server) note(r *http.Request, route *Route, a *Actor, status int) {
	outcome := outcomeDone
	switch {
	case status == http.StatusForbidden || status == http.StatusUnauthorized:
		outcome = "not allowed"
	case status >= http.StatusBadRequest:
		outcome = "failed"
	}
	act := route.Act
	if act == "" && route.Doc != nil {
		act = route.Doc.Summary
	}
	e := store.AuditEntry{Actor: a.Name, Client: a.Client, Action: cmp.Or(act, route.Method+" "+route.Path), Outcome: outcome, Detail: strings.Join(a.notes, "; ")}
	if e.Detail == "" && r.URL.Path != route.Path && !route.Public {
		e.Detail = r.URL.Path
	}
	s.cfg.Log.LogAttrs(r.Context(), slog.LevelInfo, "action", slog.String("by", e.Actor), slog.String("client", e.Client),
		slog.String("action", e.Action), slog.String("outcome", outcome), slog.String("detail", e.Detail))
	if s.cfg.Historian != nil {
		s.cfg.Historian.Note(eventOf(&e))
	}
	// What was done was done: its line is written though the client went away.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), s.cfg.Timeout)
	defer cancel()
	if err := s.cfg.Accounts.Note(ctx, e); err != nil {
		s.cfg.Log.Error("action is missing in the audit log", "error", err)
	}
}

// eventOf is an action as history keeps it.
func eventOf(e *store.AuditEntry) *mail.Event {
	ev := &mail.Event{Kind: mail.EventAdmin, Result: mail.EventOK, Actor: e.Actor, Stage: e.Action, Reason: e.Detail}
	if e.Outcome != outcomeDone {
		ev.Result, ev.Reason = mail.EventFailed, strings.TrimPrefix(e.Outcome+": "+e.Detail, ": ")
	}
	if client, err := netip.ParseAddr(e.Client); err == nil {
		ev.Client = client
	}
	return ev
}

// statusWriter remembers the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController find the writer below.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
