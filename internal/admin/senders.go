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
	"strings"

	"gatepost/internal/accounts"
	"gatepost/internal/message"
	"gatepost/internal/scan/senders"
	"gatepost/internal/store"
)

// SenderLists are the lists of senders that are allowed or blocked: senders.Lists.
type SenderLists interface {
	Find(ctx context.Context, q store.SenderQuery) ([]store.SenderEntry, bool, error)
	Put(ctx context.Context, e store.SenderEntry) (store.SenderEntry, error)
	Drop(ctx context.Context, k store.SenderKey) error
}

// ErrNotYourList says that the actor may not change a list.
var ErrNotYourList = errors.New("this list is not yours: you may change those of your own addresses and domains")

// SenderPage is a part of the lists. Next is the cursor of the next one, "" for none.
type SenderPage struct {
	Items []store.SenderEntry `json:"items"`
	Next  string              `json:"next,omitempty"`
}

// SenderPut is the body of a request that allows or blocks senders.
type SenderPut struct {
	// Owner is whose list it is: an address, "@domain", or "" for everybody.
	Owner string `json:"owner"`
	// Patterns are addresses, or "@domain".
	Patterns []string         `json:"patterns"`
	Kind     store.SenderKind `json:"kind"`
	Note     string           `json:"note,omitempty"`
	// By is who it is on behalf of; at the unix socket only.
	By string `json:"by,omitempty"`
}

// SenderRemove is the body of a request that takes senders off lists.
type SenderRemove struct {
	Entries []store.SenderKey `json:"entries"`
}

// SenderDone are the entries that were added or removed.
type SenderDone struct {
	Entries []store.SenderKey `json:"entries"`
}

// maxSenders bounds the entries of one request.
const maxSenders = 1000

func (s *Server) routeSenders(r *router) {
	r.add(
		Route{Method: "GET", Path: "/api/v1/senders", Permission: accounts.ListsRead, Scope: accounts.Own, Do: s.listSenders, Doc: &Doc{
			Summary: "List the senders that are allowed or blocked", Out: SenderPage{},
			Query: []string{"owner: an address or @domain whose list is meant, or everybody", "kind: allow or block", "text: a part of owner, sender or note",
				"limit: rows of a page, 1 to 1000", "cursor: next of the page before"}}},
		Route{Method: "POST", Path: "/api/v1/senders", Permission: accounts.ListsWrite, Scope: accounts.Own, Act: "change list of senders", Do: s.putSenders,
			Doc: &Doc{Summary: "Allow or block senders", In: SenderPut{}, Out: SenderDone{}}},
		Route{Method: "POST", Path: "/api/v1/senders/remove", Permission: accounts.ListsWrite, Scope: accounts.Own, Act: "take senders off lists", Do: s.removeSenders,
			Doc: &Doc{Summary: "Take senders off lists", In: SenderRemove{}, Out: SenderDone{}}},
	)
}

// MayList reports whether the list of an owner, in the form of senders.ParseOwner, is the
// actor's business. That of everybody is not that of a domain administrator.
func (a *Actor) MayList(owner string) bool {
	if owner == "" {
		return a.SeesAll()
	}
	if domain, ok := strings.CutPrefix(owner, "@"); ok {
		return a.SeesDomain(domain)
	}
	return a.Sees(owner)
}

// BoundSenders bounds what is listed to the lists that are the actor's business.
func (a *Actor) BoundSenders(q *store.SenderQuery) error {
	if a.SeesAll() {
		return nil
	}
	for _, d := range a.Domains {
		q.Owners = append(q.Owners, "@"+d)
	}
	if a.Role.Scope() == accounts.Own {
		q.Owners = a.Addresses
	}
	if len(q.Owners) == 0 {
		return errors.New("your account has neither addresses nor domains: ask an administrator to add them")
	}
	return nil
}

// PutSenders allows or blocks senders on a list, for an actor who may. What was done
// before an error stays done, and is returned with it.
func PutSenders(ctx context.Context, lists SenderLists, a *Actor, c SenderPut) (done []store.SenderKey, err error) {
	owner, err := senders.ParseOwner(c.Owner)
	switch {
	case err != nil:
		return nil, badRequest(err)
	case !a.MayList(owner):
		return nil, badRequest(ErrNotYourList)
	case len(c.Patterns) == 0 || len(c.Patterns) > maxSenders:
		return nil, badRequest(fmt.Errorf("say which senders: one to %d", maxSenders))
	case c.Kind != store.SenderAllowed && c.Kind != store.SenderBlocked:
		return nil, badRequest(fmt.Errorf("kind: %.20q is neither allow nor block", string(c.Kind)))
	}
	if err := checkNotes(c.Note); err != nil {
		return nil, err
	}
	by := a.By(c.By)
	for _, pattern := range c.Patterns {
		e, err := lists.Put(ctx, store.SenderEntry{SenderKey: store.SenderKey{Owner: owner, Pattern: pattern}, Kind: c.Kind, By: by, Note: message.SafeText(c.Note, maxSenderNote)})
		if err != nil {
			return done, senderProblem(err)
		}
		a.Note(string(c.Kind) + " " + e.Pattern + " for " + WhoseList(owner))
		done = append(done, e.SenderKey)
	}
	return done, nil
}

// maxSenderNote bounds a note, in bytes.
const maxSenderNote = 500

// RemoveSenders takes senders off lists, for an actor who may. What is not there is no
// error: somebody else may have removed it.
func RemoveSenders(ctx context.Context, lists SenderLists, a *Actor, keys []store.SenderKey) (done []store.SenderKey, err error) {
	if len(keys) == 0 || len(keys) > maxSenders {
		return nil, badRequest(fmt.Errorf("say which entries: one to %d", maxSenders))
	}
	for _, k := range keys {
		owner, bad := senders.ParseOwner(k.Owner)
		pattern, worse := senders.ParsePattern(k.Pattern)
		if err := errors.Join(bad, worse); err != nil {
			return done, badRequest(err)
		}
		if !a.MayList(owner) {
			return done, badRequest(ErrNotYourList)
		}
		k = store.SenderKey{Owner: owner, Pattern: pattern}
		switch err := lists.Drop(ctx, k); {
		case errors.Is(err, store.ErrNotFound):
			continue
		case err != nil:
			return done, err
		}
		a.Note("remove " + pattern + " of " + WhoseList(owner))
		done = append(done, k)
	}
	return done, nil
}

// WhoseList names the list of an owner.
func WhoseList(owner string) string {
	if owner == "" {
		return "everybody"
	}
	return owner
}

// senderProblem is an error of a list for those who asked.
func senderProblem(err error) error {
	switch {
	case errors.Is(err, store.ErrFull):
		return badRequest(errors.New("the list is full: remove entries, or block a whole domain"))
	case errors.Is(err, senders.ErrPattern), errors.Is(err, senders.ErrOwner):
		return badRequest(err)
	}
	return err
}

func (s *Server) listSenders(w http.ResponseWriter, r *http.Request, a *Actor) {
	ctx, cancel := context.WithTimeout(r.Context(), s.cfg.ChangeTimeout)
	defer cancel()
	q, err := SenderQuery(r.URL.Query())
	if err == nil {
		err = a.BoundSenders(&q)
	}
	if err != nil {
		failWith(w, badRequest(err))
		return
	}
	found, more, err := s.cfg.Senders.Find(ctx, q)
	if err != nil {
		failWith(w, err)
		return
	}
	page := SenderPage{Items: found}
	if page.Items == nil {
		page.Items = []store.SenderEntry{}
	}
	if more {
		page.Next = SenderCursor(found[len(found)-1].SenderKey)
	}
	answer(w, http.StatusOK, page)
}

// SenderQuery reads the parameters of a list. Unknown ones are refused.
func SenderQuery(v url.Values) (q store.SenderQuery, err error) {
	for key, values := range v {
		if !slices.Contains([]string{"owner", "kind", "text", "limit", "cursor"}, key) {
			return q, fmt.Errorf("unknown parameter %q", key)
		}
		if len(values) > 1 {
			return q, fmt.Errorf("parameter %q is given twice", key)
		}
	}
	switch owner := v.Get("owner"); owner {
	case "":
	case "everybody":
		q.Everybody = true
	default:
		if q.Owner, err = senders.ParseOwner(owner); err != nil {
			return q, err
		}
	}
	q.Kind, q.Text, q.Limit = store.SenderKind(v.Get("kind")), v.Get("text"), defaultPage
	if !slices.Contains([]store.SenderKind{"", store.SenderAllowed, store.SenderBlocked}, q.Kind) {
		return q, fmt.Errorf("kind: %.64q is neither allow nor block", v.Get("kind"))
	}
	if s := v.Get("limit"); s != "" {
		if q.Limit, err = strconv.Atoi(s); err != nil || q.Limit < 1 || q.Limit > MaxPage {
			return q, fmt.Errorf("limit: %.64q is not a number from 1 to %d", s, MaxPage)
		}
	}
	if s := v.Get("cursor"); s != "" {
		q.After = new(store.SenderKey)
		b, err := base64.RawURLEncoding.DecodeString(s)
		if err != nil || json.Unmarshal(b, q.After) != nil {
			return q, errors.New("cursor: it is none that a list gave")
		}
	}
	return q, nil
}

// SenderCursor names the place behind an entry.
func SenderCursor(k store.SenderKey) string {
	b, err := json.Marshal(k)
	if err != nil {
		return "" // it is made of strings
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

func (s *Server) putSenders(w http.ResponseWriter, r *http.Request, a *Actor) {
	var c SenderPut
	if !decode(w, r, &c) {
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.cfg.ChangeTimeout)
	defer cancel()
	done, err := PutSenders(ctx, s.cfg.Senders, a, c)
	if err != nil {
		failWith(w, err)
		return
	}
	answer(w, http.StatusOK, SenderDone{Entries: done})
}

func (s *Server) removeSenders(w http.ResponseWriter, r *http.Request, a *Actor) {
	var c SenderRemove
	if !decode(w, r, &c) {
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.cfg.ChangeTimeout)
	defer cancel()
	done, err := RemoveSenders(ctx, s.cfg.Senders, a, c.Entries)
	if err != nil {
		failWith(w, err)
		return
	}
	if done == nil {
		done = []store.SenderKey{}
	}
	answer(w, http.StatusOK, SenderDone{Entries: done})
}
