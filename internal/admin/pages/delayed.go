package pages

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"gatepost/internal/accounts"
	"gatepost/internal/admin"
	"gatepost/internal/policy/greylist"
	"gatepost/internal/store"
)

// delayed is the page of mail that was asked to come again later.
func (s *Site) delayed() section {
	if s.cfg.Greylist == nil {
		return section{}
	}
	return section{
		nav: []entry{{Path: "/delayed", Title: "Delayed mail", Group: "Mail", Order: 210, permission: accounts.GreylistRead, scope: accounts.Own}},
		said: map[string]string{
			"delayed-passed":  "The sender is let through. The message comes when its server tries again.",
			"delayed-allowed": "Never delayed again.", "delayed-forgotten": "Forgotten.",
		},
		routes: []admin.Route{
			{Method: "GET", Path: "/delayed", Permission: accounts.GreylistRead, Scope: accounts.Own, Do: s.listDelayed},
			{Method: "POST", Path: "/delayed/pass", Permission: accounts.GreylistWrite, Scope: accounts.Own, Act: "let delayed mail through", MaxBody: maxBulk, Do: s.passDelayed},
			{Method: "POST", Path: "/delayed/allow", Permission: accounts.GreylistWrite, Act: "never delay", Do: s.allowDelayed},
			{Method: "POST", Path: "/delayed/forget", Permission: accounts.GreylistWrite, Act: "delay again", Do: s.forgetDelayed},
		},
	}
}

// delayedRows is how many entries a page has.
const delayedRows = 50

// delayedKinds are the lists of the page: what waits, what came again, and what is
// never delayed.
var delayedKinds = []string{"waiting", "passed", "allow"}

// delayedList is what the page shows.
type delayedList struct {
	Items     []store.GreylistEntry
	List      string
	Lists     []string
	Sender    string
	Recipient string
	Next      string
	// Off says that greylisting is not in use.
	Off bool
	One bool
}

// Pair names an entry in a form.
func (delayedList) Pair(e store.GreylistEntry) string {
	return url.Values{"sender": {e.Sender}, "recipient": {e.Recipient}}.Encode()
}

func (s *Site) listDelayed(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	s.delayedPage(w, r, a, nil)
}

func (s *Site) delayedPage(w http.ResponseWriter, r *http.Request, a *admin.Actor, failed error) {
	query := r.URL.Query()
	v := delayedList{List: query.Get("list"), Lists: delayedKinds, Sender: query.Get("sender"), Recipient: query.Get("recipient"), One: a.Role.Scope() == accounts.Own}
	if !a.SeesAll() {
		v.Lists = delayedKinds[:2]
	}
	if !slices.Contains(v.Lists, v.List) {
		v.List = v.Lists[0]
	}
	q, err := delayedQuery(a, v, query)
	more := false
	if err == nil {
		v.Items, more, err = s.cfg.Greylist.List(r.Context(), q)
	}
	if v.Off = errors.Is(err, admin.ErrNoGreylist); v.Off {
		err = nil
	}
	if more {
		last := v.Items[len(v.Items)-1]
		next := url.Values{"list": {v.List}, "sender": {v.Sender}, "recipient": {v.Recipient}}
		next.Set("after", url.Values{"source": {last.Source}, "sender": {last.Sender}, "recipient": {last.Recipient}}.Encode())
		v.Next = "/delayed?" + next.Encode()
	}
	p := page{Template: "delayed.html", Title: "Delayed mail", Data: v}
	if failed = errors.Join(failed, err); failed != nil {
		p.Status, p.Failed = http.StatusUnprocessableEntity, explain(failed)
	}
	s.show(w, r, a, p)
}

// delayedQuery is what a page asks for, bounded to what the actor may see.
func delayedQuery(a *admin.Actor, v delayedList, query url.Values) (store.GreylistQuery, error) {
	q := store.GreylistQuery{Kind: store.GreylistTripletKind, Sender: v.Sender, Recipient: v.Recipient, Limit: delayedRows}
	switch v.List {
	case "waiting":
		q.Waiting = true
	case "passed":
		q.Passed = true
	default:
		q.Kind = store.GreylistAllowKind
	}
	if after, err := url.ParseQuery(query.Get("after")); err == nil && len(after) > 0 {
		q.After = &store.GreylistEntry{Kind: q.Kind, Source: after.Get("source"), Sender: after.Get("sender"), Recipient: after.Get("recipient")}
	}
	return q, a.BoundGreylist(&q)
}

// passDelayed lets the senders of the entries that were chosen through to their
// recipients. What was said "later" to cannot be had before its server tries again.
func (s *Site) passDelayed(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	failed := r.ParseForm()
	pairs := r.PostForm["pair"]
	if failed == nil && len(pairs) == 0 {
		failed = errors.New("choose mail first: tick the box beside it")
	}
	for _, text := range pairs[:min(len(pairs), admin.MaxPage)] {
		v, err := url.ParseQuery(text)
		pair := store.GreylistPair{Sender: v.Get("sender"), Recipient: v.Get("recipient")}
		switch {
		case err != nil || pair.Sender == "" || pair.Recipient == "" || !a.Sees(pair.Recipient):
			failed = errors.Join(failed, errors.New("this mail is not there any more"))
		default:
			a.Note(pair.Sender + " to " + pair.Recipient)
			failed = errors.Join(failed, s.cfg.Greylist.Pass(r.Context(), pair))
		}
	}
	if failed != nil {
		s.delayedPage(w, r, a, failed)
		return
	}
	s.back(w, r, "/delayed", "delayed-passed")
}

func (s *Site) allowDelayed(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	what, note := strings.TrimSpace(r.PostFormValue("what")), r.PostFormValue("note")
	a.Note(what + " " + note)
	err := s.cfg.Greylist.Allow(r.Context(), what, note[:min(len(note), maxWhy)])
	if errors.Is(err, greylist.ErrAllow) {
		err = greylist.ErrAllow
	}
	if err != nil {
		s.delayedPage(w, r, a, err)
		return
	}
	s.back(w, r, "/delayed?list=allow", "delayed-allowed")
}

func (s *Site) forgetDelayed(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	what := r.PostFormValue("what")
	a.Note(what)
	if what == "" {
		s.delayedPage(w, r, a, errors.New("choose what to forget"))
		return
	}
	if _, err := s.cfg.Greylist.Forget(r.Context(), store.GreylistQuery{Kind: store.GreylistAllowKind, Source: what}); err != nil {
		s.delayedPage(w, r, a, err)
		return
	}
	s.back(w, r, "/delayed?list=allow", "delayed-forgotten")
}
