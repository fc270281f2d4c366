package admin

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"gatepost/internal/accounts"
	"gatepost/internal/policy/greylist"
	"gatepost/internal/store"
)

// Greylist is what the API does with the records of greylisting.
type Greylist interface {
	List(ctx context.Context, q store.GreylistQuery) ([]store.GreylistEntry, bool, error)
	Allow(ctx context.Context, what, note string) error
	Forget(ctx context.Context, q store.GreylistQuery) (int64, error)
	// Pass lets a sender through to one recipient.
	Pass(ctx context.Context, pair store.GreylistPair) error
}

// ErrNoGreylist says that greylisting is not in use.
var ErrNoGreylist = errors.New("there is no greylist: no flow that is in use has a block greylist")

// GreylistPage is a part of a list. Next is the cursor of the next one, "" for none.
type GreylistPage struct {
	Items []store.GreylistEntry `json:"items"`
	Next  string                `json:"next,omitempty"`
}

// GreylistAllow is the body of a request that allows something for good; see
// greylist.ParseAllow for what.
type GreylistAllow struct {
	What string `json:"what"`
	Note string `json:"note,omitempty"`
}

// GreylistForget is the body of a request that forgets entries. All that is set must
// hold, and something must be.
type GreylistForget struct {
	Kind      string `json:"kind,omitempty"`
	Source    string `json:"source,omitempty"`
	Sender    string `json:"sender,omitempty"`
	Recipient string `json:"recipient,omitempty"`
	Waiting   bool   `json:"waiting,omitempty"`
	Passed    bool   `json:"passed,omitempty"`
}

// GreylistPass is the body of a request that lets a sender through to one recipient,
// both as the list has them.
type GreylistPass struct {
	Sender    string `json:"sender"`
	Recipient string `json:"recipient"`
}

// GreylistForgotten is how many entries there were.
type GreylistForgotten struct {
	Entries int64 `json:"entries"`
}

func (s *Server) routeGreylist(r *router) {
	r.add(
		Route{Method: "GET", Path: "/api/v1/greylist", Permission: accounts.GreylistRead, Scope: accounts.Own, Do: s.listGreylist, Doc: &Doc{
			Summary: "List what greylisting knows", Out: GreylistPage{},
			Query: []string{"kind: triplet, source, known or allow", "source: network or domain", "sender: address", "recipient: address",
				"state: waiting or passed", "limit: rows of a page, 1 to 1000", "cursor: next of the page before"}}},
		Route{Method: "POST", Path: "/api/v1/greylist/allow", Permission: accounts.GreylistWrite, Do: s.allowGreylist,
			Doc: &Doc{Summary: "Let something pass for good", In: GreylistAllow{}, Out: struct{}{}}},
		Route{Method: "POST", Path: "/api/v1/greylist/pass", Permission: accounts.GreylistWrite, Scope: accounts.Own, Do: s.passGreylist,
			Doc: &Doc{Summary: "Let a sender through to one recipient", In: GreylistPass{}, Out: struct{}{}}},
		Route{Method: "POST", Path: "/api/v1/greylist/forget", Permission: accounts.GreylistWrite, Do: s.forgetGreylist,
			Doc: &Doc{Summary: "Forget entries", In: GreylistForget{}, Out: GreylistForgotten{}}},
	)
}

func (s *Server) listGreylist(w http.ResponseWriter, r *http.Request, a *Actor) {
	ctx, cancel := context.WithTimeout(r.Context(), s.cfg.ChangeTimeout)
	defer cancel()
	q, err := greylistQuery(r.URL.Query())
	if err == nil {
		err = a.BoundGreylist(&q)
	}
	if err != nil {
		failWith(w, badRequest(err))
		return
	}
	found, more, err := s.cfg.Greylist.List(ctx, q)
	if err != nil {
		failWith(w, err)
		return
	}
	page := GreylistPage{Items: found}
	if page.Items == nil {
		page.Items = []store.GreylistEntry{}
	}
	if more {
		page.Next = greylistCursor(&found[len(found)-1])
	}
	answer(w, http.StatusOK, page)
}

// greylistQuery reads the parameters of a list. Unknown ones are refused.
func greylistQuery(v url.Values) (q store.GreylistQuery, err error) {
	known := []string{"kind", "source", "sender", "recipient", "state", "limit", "cursor"}
	for key, values := range v {
		if !slices.Contains(known, key) {
			return q, fmt.Errorf("unknown parameter %q", key)
		}
		if len(values) > 1 {
			return q, fmt.Errorf("parameter %q is given twice", key)
		}
	}
	f := GreylistForget{Kind: v.Get("kind"), Source: v.Get("source"), Sender: v.Get("sender"), Recipient: v.Get("recipient")}
	switch v.Get("state") {
	case "":
	case "waiting":
		f.Waiting = true
	case "passed":
		f.Passed = true
	default:
		return q, fmt.Errorf("state: %.64q is neither waiting nor passed", v.Get("state"))
	}
	if q, err = f.query(); err != nil {
		return q, err
	}
	q.Limit = defaultPage
	if s := v.Get("limit"); s != "" {
		if q.Limit, err = strconv.Atoi(s); err != nil || q.Limit < 1 || q.Limit > MaxPage {
			return q, fmt.Errorf("limit: %.64q is not a number from 1 to %d", s, MaxPage)
		}
	}
	if s := v.Get("cursor"); s != "" {
		q.After = new(store.GreylistEntry)
		b, err := base64.RawURLEncoding.DecodeString(s)
		if err != nil || json.Unmarshal(b, q.After) != nil {
			return q, errors.New("cursor: it is none that a list gave")
		}
	}
	return q, nil
}

// greylistCursor names the place behind an entry.
func greylistCursor(e *store.GreylistEntry) string {
	place := store.GreylistEntry{Kind: e.Kind, Source: e.Source, Sender: e.Sender, Recipient: e.Recipient}
	b, err := json.Marshal(place)
	if err != nil {
		return "" // it is made of strings
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// query is the request in the store's terms.
func (f *GreylistForget) query() (store.GreylistQuery, error) {
	q := store.GreylistQuery{
		Kind: store.GreylistKind(f.Kind), Source: f.Source, Sender: f.Sender, Recipient: f.Recipient, Waiting: f.Waiting, Passed: f.Passed,
	}
	kinds := []store.GreylistKind{"", store.GreylistTripletKind, store.GreylistSourceKind, store.GreylistKnownKind, store.GreylistAllowKind}
	if !slices.Contains(kinds, q.Kind) {
		return q, fmt.Errorf("kind: %.64q is none of triplet, source, known, allow", f.Kind)
	}
	if q.Waiting && q.Passed {
		return q, errors.New("waiting and passed: nothing is both")
	}
	return q, nil
}

func (s *Server) allowGreylist(w http.ResponseWriter, r *http.Request, a *Actor) {
	var c GreylistAllow
	if !decode(w, r, &c) {
		return
	}
	if err := checkNotes(c.Note); err != nil {
		failWith(w, err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.cfg.ChangeTimeout)
	defer cancel()
	a.Note(c.What + " " + c.Note)
	err := s.cfg.Greylist.Allow(ctx, c.What, c.Note)
	switch {
	case errors.Is(err, greylist.ErrAllow):
		failWith(w, badRequest(fmt.Errorf("%.64q: %w", c.What, err)))
	case err != nil:
		failWith(w, err)
	default:
		answer(w, http.StatusOK, struct{}{})
	}
}

// BoundGreylist bounds what is listed to mail that the actor may see: others than
// those who see everything are shown triplets alone.
func (a *Actor) BoundGreylist(q *store.GreylistQuery) error {
	if a.SeesAll() {
		return nil
	}
	q.Kind = store.GreylistTripletKind
	for _, d := range a.Domains {
		q.Recipients = append(q.Recipients, "@"+d)
	}
	if a.Role.Scope() == accounts.Own {
		q.Recipients = a.Addresses
	}
	if len(q.Recipients) == 0 {
		return errors.New("your account has neither addresses nor domains: ask an administrator to add them")
	}
	return nil
}

func (s *Server) passGreylist(w http.ResponseWriter, r *http.Request, a *Actor) {
	var c GreylistPass
	if !decode(w, r, &c) {
		return
	}
	if c.Sender == "" || c.Recipient == "" || !a.Sees(c.Recipient) {
		failWith(w, badRequest(errors.New("say the sender and a recipient who is yours, as the list has them")))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.cfg.ChangeTimeout)
	defer cancel()
	a.Note(c.Sender + " to " + c.Recipient)
	if err := s.cfg.Greylist.Pass(ctx, store.GreylistPair{Sender: c.Sender, Recipient: c.Recipient}); err != nil {
		failWith(w, err)
		return
	}
	answer(w, http.StatusOK, struct{}{})
}

func (s *Server) forgetGreylist(w http.ResponseWriter, r *http.Request, a *Actor) {
	var c GreylistForget
	if !decode(w, r, &c) {
		return
	}
	q, err := c.query()
	if err != nil {
		failWith(w, badRequest(err))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.cfg.ChangeTimeout)
	defer cancel()
	a.Note(fmt.Sprintf("%+v", c))
	n, err := s.cfg.Greylist.Forget(ctx, q)
	switch {
	case errors.Is(err, store.ErrAsksNothing):
		failWith(w, badRequest(errors.New("say what to forget: everything is not forgotten at once")))
	case err != nil:
		failWith(w, err)
	default:
		answer(w, http.StatusOK, GreylistForgotten{Entries: n})
	}
}
