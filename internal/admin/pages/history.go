package pages

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"gatepost/internal/accounts"
	"gatepost/internal/admin"
	"gatepost/internal/history"
	"gatepost/internal/logsearch"
	"gatepost/internal/mail"
)

// historyPages are the search in what happened, and the page of one message.
type historyPages struct {
	*Site
	h admin.History
}

func (s *Site) history() section {
	if s.cfg.History == nil {
		return section{}
	}
	h := &historyPages{Site: s, h: s.cfg.History}
	get := func(path string, do admin.Handler) admin.Route {
		return admin.Route{Method: "GET", Path: path, Permission: accounts.HistoryRead, Scope: accounts.Domains, Do: do}
	}
	sec := section{
		nav: []entry{
			{Path: "/history", Title: "History", Group: "Activity", Order: 100, permission: accounts.HistoryRead, scope: accounts.Domains},
			{Path: "/trace", Title: "Live", Group: "Activity", Order: 102, permission: accounts.HistoryRead, scope: accounts.Domains},
		},
		routes: []admin.Route{get("/history", h.search), get("/messages/{id}", h.message), get("/trace", h.trace)},
	}
	if s.cfg.Again != nil {
		sec.routes = append(sec.routes, admin.Route{Method: "POST", Path: "/messages/{id}/again", Permission: accounts.Explain, Quiet: true, Do: h.again})
	}
	return sec
}

// trace is the page of live events; the browser reads them from the API.
func (h *historyPages) trace(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	h.show(w, r, a, page{Template: "trace.html", Title: "Live", Data: r.URL.Query()})
}

// historyRows is how many events a page has.
const historyRows = 50

// example is a search to begin with.
type example struct{ Title, Query string }

// historyExamples are the searches that are asked for most.
var historyExamples = []example{
	{"Messages of today", "kind:message since:today"},
	{"Refused", "verdict:reject since:1d"},
	{"Refused before content", "kind:connect,sender,recipient since:1d"},
	{"Quarantined", "verdict:quarantine since:7d"},
	{"Viruses", "threat:virus since:7d"},
	{"Failed attempts", "kind:attempt result:failed,deferred since:1d"},
	{"Logins that failed", "kind:login result:failed since:1d"},
}

// historyView is what the page of a search shows.
type historyView struct {
	Query    string
	Events   []*mail.Event
	Examples []example
	Help     string
	Partial  bool
	// First and Next are pages; CSV and JSON the whole search.
	First, Next, CSV, JSON string
}

// find is the address of a search.
func find(query string) string { return "/history?" + url.Values{"q": {query}}.Encode() }

func (h *historyPages) search(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	v := historyView{Query: strings.TrimSpace(r.URL.Query().Get("q")), Examples: historyExamples, Help: history.QueryHelp}
	// An ID alone is a message, as "gatepost history" takes it.
	if id, err := mail.ParseID(v.Query); err == nil {
		if m, err := h.h.Message(r.Context(), id, admin.HistoryDomains(a)); err == nil && m != nil && len(m.Recipients) > 0 {
			http.Redirect(w, r, "/messages/"+id.String(), http.StatusSeeOther)
			return
		}
	}
	for _, format := range []string{"csv", "json"} {
		to := "/api/v1/history/export?" + url.Values{"q": {v.Query}, "format": {format}}.Encode()
		if format == "csv" {
			v.CSV = to
		} else {
			v.JSON = to
		}
	}
	p := page{Template: "history.html", Title: "History"}
	if err := h.fill(r, a, &v); err != nil {
		p.Status, p.Failed = http.StatusUnprocessableEntity, sentence(err.Error())
		var wrong *history.QueryError
		if !errors.As(err, &wrong) && !errors.Is(err, errCursor) {
			p.Status, p.Failed = http.StatusServiceUnavailable, "The history cannot be searched now: "+err.Error()+". Try again in a moment."
		}
	}
	p.Data = v
	h.show(w, r, a, p)
}

var errCursor = errors.New("this page is none that a search gave; begin with the first")

// fill searches.
func (h *historyPages) fill(r *http.Request, a *admin.Actor, v *historyView) error {
	s := history.Search{Domains: admin.HistoryDomains(a), Limit: historyRows}
	var err error
	if s.Query, err = history.ParseQuery(v.Query, time.Now()); err != nil {
		return err
	}
	if cursor := r.URL.Query().Get("cursor"); cursor != "" {
		if s.Before, err = mail.ParseID(cursor); err != nil {
			return errCursor
		}
		v.First = find(v.Query)
	}
	found, err := h.h.Search(r.Context(), s)
	if err != nil {
		return err
	}
	v.Events, v.Partial = found.Events, found.Partial
	if !found.Next.IsZero() {
		v.Next = find(v.Query) + "&cursor=" + found.Next.String()
	}
	return nil
}

// messageView is what the page of a message shows.
type messageView struct {
	*admin.MessagePage
	// Auth are the findings about who the sender is, Others the rest.
	Auth, Others []mail.Finding
	// Log are its lines of the log, for those who see everything.
	Log    []string
	LogWhy string
	can    map[string]bool
	// SenderChoice is what can be done about the sender, nil for nothing.
	SenderChoice *senderChoice
	// Country is where the client is, "" where nobody knows.
	Country string
	// Here says that the message itself is here, so that it can be looked at again.
	Here bool
}

// Can tells what may be done now.
func (v messageView) Can(what string) bool { return v.can[what] }

// authModules are the checks whose findings are results of authentication.
var authModules = map[string]bool{"spf": true, "dkim": true, "dmarc": true, "arc": true, "auth": true, "authentication": true}

func (h *historyPages) message(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	id, err := mail.ParseID(r.PathValue("id"))
	if err != nil {
		h.Refuse(w, r, a, http.StatusNotFound, "")
		return
	}
	m, err := admin.Message(r.Context(), admin.MessageSources{History: h.h, Queue: h.cfg.Queue, Quarantine: h.cfg.Quarantine}, id, a)
	if errors.Is(err, fs.ErrNotExist) {
		h.show(w, r, a, page{Template: "error.html", Title: "Nothing is known of this message", Status: http.StatusNotFound,
			Data: map[string]any{"Text": "It is older than what the history keeps, or the ID is misspelt. Events show up some seconds after they happen."}})
		return
	}
	if err != nil {
		h.Refuse(w, r, a, http.StatusServiceUnavailable, "The history cannot be read now: "+err.Error()+". Try again in a moment.")
		return
	}
	v := messageView{MessagePage: m, can: map[string]bool{}}
	for _, what := range m.Can {
		v.can[what] = true
	}
	v.SenderChoice = h.messageSenders(a, m)
	if h.cfg.Country != nil && m.Client != nil {
		v.Country = h.cfg.Country(m.Client.Client)
	}
	v.Here = h.cfg.Again != nil && (m.Held != nil || len(m.Items) > 0)
	for _, f := range m.Findings {
		if authModules[f.Module] {
			v.Auth = append(v.Auth, f)
		} else {
			v.Others = append(v.Others, f)
		}
	}
	if a.SeesAll() && h.cfg.LogFiles != nil {
		var found logView
		found.read(r.Context(), h.cfg.LogFiles, id.String()+logTimes(m), messageLines)
		v.Log, v.LogWhy = found.Lines, found.Why
	}
	h.show(w, r, a, page{Template: "message.html", Title: "Message", Data: v})
}

// logTimes bounds a search in the log to when the message was here: else the page of an
// old one would read everything that was logged since. Whatever is done with a message is
// an event, so that its lines end soon after the last one, unless it waits still.
func logTimes(m *admin.MessagePage) string {
	if m.Cut || len(m.Events) == 0 {
		return ""
	}
	const slack = 10 * time.Minute
	times := " since:" + m.Events[0].Time.Add(-slack).UTC().Format(time.RFC3339)
	if len(m.Items) == 0 {
		times += " until:" + m.Events[len(m.Events)-1].Time.Add(slack).UTC().Format(time.RFC3339)
	}
	return times
}

// The log page and the log lines of a message.
const (
	logLines     = 500
	messageLines = 200
	logPatience  = 10 * time.Second
)

func (s *Site) log() section {
	if s.cfg.LogFiles == nil {
		return section{}
	}
	return section{
		nav:    []entry{{Path: "/log", Title: "Log", Group: "Activity", Order: 105, permission: accounts.HistoryRead}},
		routes: []admin.Route{{Method: "GET", Path: "/log", Permission: accounts.HistoryRead, Do: s.showLog}},
	}
}

// logView is what a search in the log shows.
type logView struct {
	Query, Help string
	Lines       []string
	Result      logsearch.Result
	// Why says why it is not all; Percent how far it got then.
	Why     string
	Percent int64
	wrong   bool
}

// read searches; the latest lines are kept.
func (v *logView) read(ctx context.Context, files admin.LogFiles, query string, limit int) {
	q, err := logsearch.ParseQuery(query, time.Now(), history.ParseTime)
	if err != nil {
		v.Why, v.wrong = sentence(err.Error()), true
		return
	}
	ctx, cancel := context.WithTimeout(ctx, logPatience)
	defer cancel()
	v.Percent = 100
	req := logsearch.Request{Query: q, Limit: limit,
		Line: func(line []byte) error { v.Lines = append(v.Lines, string(line)); return nil },
		Progress: func(p logsearch.Progress) {
			if p.Of > 0 {
				v.Percent = p.Read * 100 / p.Of
			}
		}}
	v.Result, err = files.SearchLog(ctx, req)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		v.Why = "This took longer than " + logPatience.String() + "; " + strconv.FormatInt(v.Percent, 10) + " % of the files were read. Give a time, such as since:2h, or search on the command line with “gatepost log”."
	case err != nil:
		v.Why = sentence(err.Error())
	}
}

func (s *Site) showLog(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	v := logView{Query: strings.TrimSpace(r.URL.Query().Get("q")), Help: logsearch.Help}
	query := v.Query
	if query == "" {
		query = "since:1h"
	}
	v.read(r.Context(), s.cfg.LogFiles, query, logLines)
	p := page{Template: "log.html", Title: "Log", Data: v, Failed: v.Why}
	if v.wrong {
		p.Status = http.StatusUnprocessableEntity
	}
	s.show(w, r, a, p)
}
