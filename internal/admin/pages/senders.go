package pages

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"gatepost/internal/accounts"
	"gatepost/internal/admin"
	"gatepost/internal/mail"
	"gatepost/internal/store"
)

// senders is the page of the senders that are allowed or blocked. Its forms stand on the
// pages of messages as well (template "sender-buttons").
func (s *Site) senders() section {
	if s.cfg.Senders == nil {
		return section{}
	}
	sec := section{
		nav:  []entry{{Path: "/senders", Title: "Sender lists", Group: "Mail", Order: 220, permission: accounts.ListsRead, scope: accounts.Own}},
		said: map[string]string{"senders-allow": "Allowed.", "senders-block": "Blocked.", "senders-removed": "Taken off the list."},
		routes: []admin.Route{
			{Method: "GET", Path: "/senders", Permission: accounts.ListsRead, Scope: accounts.Own, Do: s.listSenders},
			{Method: "POST", Path: "/senders", Permission: accounts.ListsWrite, Scope: accounts.Own, Act: "change list of senders", Do: s.putSenders},
			{Method: "POST", Path: "/senders/remove", Permission: accounts.ListsWrite, Scope: accounts.Own, Act: "take senders off lists", MaxBody: maxBulk, Do: s.removeSenders},
		},
	}
	if s.cfg.Quarantine != nil {
		q := &quarantinePages{s, s.cfg.Quarantine}
		sec.routes = append(sec.routes, admin.Route{
			Method: "POST", Path: "/quarantine/senders", Permission: accounts.ListsWrite, Scope: accounts.Own, Act: "change list of senders", MaxBody: maxBulk, Do: q.senders,
		})
	}
	return sec
}

// senderRows is how many entries a page has.
const senderRows = 50

// senderList is what the page shows.
type senderList struct {
	Items  []store.SenderEntry
	Search url.Values
	// Searched says that not everything is asked for.
	Searched bool
	// Owners are the actor's own lists, for choices; everybody's is one where All is set.
	Owners []string
	All    bool
	Next   string
	// Given is what a form that failed had.
	Given url.Values
}

// Key names an entry in a form.
func (senderList) Key(e store.SenderEntry) string {
	return url.Values{"owner": {e.Owner}, "pattern": {e.Pattern}}.Encode()
}

func (s *Site) listSenders(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	s.sendersPage(w, r, a, nil)
}

func (s *Site) sendersPage(w http.ResponseWriter, r *http.Request, a *admin.Actor, failed error) {
	v := senderList{Search: url.Values{}, Owners: ownLists(a), All: a.SeesAll(), Given: r.PostForm}
	if v.Given == nil {
		v.Given = url.Values{}
	}
	for _, name := range []string{"text", "kind", "owner"} {
		if value := strings.TrimSpace(r.URL.Query().Get(name)); value != "" {
			v.Search.Set(name, value)
			v.Searched = true
		}
	}
	query := cloneValues(v.Search)
	if cursor := r.URL.Query().Get("cursor"); cursor != "" {
		query.Set("cursor", cursor)
	}
	q, err := admin.SenderQuery(query)
	q.Limit = senderRows
	if err == nil {
		err = a.BoundSenders(&q)
	}
	more := false
	if err == nil {
		v.Items, more, err = s.cfg.Senders.Find(r.Context(), q)
	}
	if more {
		query.Set("cursor", admin.SenderCursor(v.Items[len(v.Items)-1].SenderKey))
		v.Next = "/senders?" + query.Encode()
	}
	p := page{Template: "senders.html", Title: "Allowed and blocked senders", Data: v}
	if failed = errors.Join(failed, err); failed != nil {
		p.Status, p.Failed = http.StatusUnprocessableEntity, explain(errors.New(strings.TrimPrefix(failed.Error(), "bad request: ")))
	}
	s.show(w, r, a, p)
}

func cloneValues(v url.Values) url.Values {
	c := url.Values{}
	for key, values := range v {
		c[key] = slices.Clone(values)
	}
	return c
}

// senderLines are the lines of a text that say something.
func senderLines(text string) (list []string) {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			list = append(list, line)
		}
	}
	return list
}

// ownLists are the lists that an actor who does not see everything has.
func ownLists(a *admin.Actor) (lists []string) {
	switch a.Role.Scope() {
	case accounts.Domains:
		for _, d := range a.Domains {
			lists = append(lists, "@"+d)
		}
	case accounts.Own:
		lists = a.Addresses
	}
	return lists
}

// putSenders allows or blocks senders: those that a form names, one in a line.
func (s *Site) putSenders(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	if err := r.ParseForm(); err != nil {
		s.sendersPage(w, r, a, err)
		return
	}
	c := admin.SenderPut{
		Owner: strings.TrimSpace(r.PostForm.Get("owner")), Kind: store.SenderKind(r.PostForm.Get("kind")), Note: r.PostForm.Get("note"),
		Patterns: senderLines(r.PostForm.Get("pattern")),
	}
	switch c.Owner {
	case "everybody":
		c.Owner = ""
	case "":
		// What is left empty must not become a rule for everybody.
		s.sendersPage(w, r, a, errors.New("say for whom: an address, @domain, or everybody"))
		return
	}
	if _, err := admin.PutSenders(r.Context(), s.cfg.Senders, a, c); err != nil {
		s.sendersPage(w, r, a, err)
		return
	}
	s.back(w, r, senderBack(r.PostForm.Get("back")), "senders-"+string(c.Kind))
}

// senderBack is the page that a form came from, made anew of its parts.
func senderBack(s string) string {
	for _, at := range []string{"/quarantine/", "/messages/"} {
		if id, err := mail.ParseID(strings.TrimPrefix(s, at)); err == nil && strings.HasPrefix(s, at) {
			return at + id.String()
		}
	}
	return "/senders"
}

func (s *Site) removeSenders(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	failed := r.ParseForm()
	var keys []store.SenderKey
	for _, text := range r.PostForm["entry"] {
		v, err := url.ParseQuery(text)
		failed = errors.Join(failed, err)
		keys = append(keys, store.SenderKey{Owner: v.Get("owner"), Pattern: v.Get("pattern")})
	}
	if failed == nil && len(keys) == 0 {
		failed = errors.New("choose entries first: tick the box beside them")
	}
	if failed == nil {
		_, failed = admin.RemoveSenders(r.Context(), s.cfg.Senders, a, keys)
	}
	if failed != nil {
		s.sendersPage(w, r, a, failed)
		return
	}
	s.back(w, r, "/senders", "senders-removed")
}

// senders allows or blocks the senders of held messages that were chosen, each for those
// recipients of its message whom the actor may see.
func (q *quarantinePages) senders(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	back := comeBack(r.PostFormValue("back"))
	kind, ids := store.SenderKind(r.PostFormValue("do")), r.PostForm["id"]
	var failed error
	switch {
	case len(ids) == 0:
		failed = errors.New("choose messages first: tick the box beside each")
	case len(ids) > admin.MaxQuarantineIDs:
		failed = errors.New("choose fewer messages at once")
	}
	for _, id := range ids {
		if failed != nil {
			break
		}
		failed = q.putSender(r.Context(), a, id, kind)
	}
	if failed != nil {
		q.listPage(w, r, a, back.Query(), errors.New(strings.TrimPrefix(failed.Error(), "bad request: ")))
		return
	}
	q.back(w, r, back.String(), "senders-"+string(kind))
}

func (q *quarantinePages) putSender(ctx context.Context, a *admin.Actor, id string, kind store.SenderKind) error {
	row, err := q.visible(ctx, a, id)
	if err != nil {
		return err
	}
	for i := range row.Entries {
		put := admin.SenderPut{Owner: row.Entries[i].Key, Patterns: []string{row.Sender}, Kind: kind, Note: "from the quarantine"}
		if _, err := admin.PutSenders(ctx, q.cfg.Senders, a, put); err != nil {
			return err
		}
	}
	return nil
}

// senderChoice is what the template "sender-buttons" offers about the sender of a message.
type senderChoice struct {
	// Patterns are the sender's address and domain, Owners the lists that the actor may
	// change: "" is that of everybody.
	Patterns, Owners []string
	Back             string
}

// senderChoice makes the choices for a message; nil where there are none: no sender, or
// nothing that the actor may change.
func (s *Site) senderChoice(a *admin.Actor, sender string, recipients []string, back string) *senderChoice {
	at := strings.LastIndexByte(sender, '@')
	if s.cfg.Senders == nil || at <= 0 || !a.May(accounts.ListsWrite) {
		return nil
	}
	c := &senderChoice{Patterns: []string{sender, sender[at:]}, Back: back}
	add := func(owner string) {
		if owner = strings.ToLower(owner); a.MayList(owner) && !slices.Contains(c.Owners, owner) {
			c.Owners = append(c.Owners, owner)
		}
	}
	recipients = recipients[:min(len(recipients), maxChoices)]
	for _, r := range recipients {
		add(r)
	}
	for _, r := range recipients {
		if i := strings.LastIndexByte(r, '@'); i >= 0 {
			add(r[i:])
		}
	}
	if add(""); len(c.Owners) == 0 {
		return nil
	}
	return c
}

// messageSenders are the choices about the sender of a message that came in.
func (s *Site) messageSenders(a *admin.Actor, m *admin.MessagePage) *senderChoice {
	var recipients []string
	for i := range m.Recipients {
		recipients = append(recipients, m.Recipients[i].Address)
	}
	return s.senderChoice(a, m.Sender, recipients, "/messages/"+m.ID.String())
}

// maxChoices bounds the recipients whose lists are offered.
const maxChoices = 20
