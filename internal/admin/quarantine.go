package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"gatepost/internal/accounts"
	"gatepost/internal/config"
	"gatepost/internal/mail"
	"gatepost/internal/quarantine"
)

// Quarantine is what the API does with the quarantine.
type Quarantine interface {
	List(ctx context.Context, f quarantine.Filter) (quarantine.Page, error)
	// Get is one row of a list.
	Get(ctx context.Context, id mail.ID) (*quarantine.Row, error)
	Show(ctx context.Context, id mail.ID) (*quarantine.Detail, error)
	// Body returns the message as it came.
	Body(ctx context.Context, id mail.ID) (mail.Body, error)
	Release(ctx context.Context, r quarantine.Request) []quarantine.Result
	Delete(ctx context.Context, r quarantine.Request) []quarantine.Result
	Train(ctx context.Context, r quarantine.Request, spam bool) []quarantine.Result
	// Ask notes that somebody who may not release a message asks for it.
	Ask(ctx context.Context, r quarantine.Request) []quarantine.Result
}

// QuarantineRequest is the body of a request that changes the quarantine.
type QuarantineRequest struct {
	IDs []string `json:"ids"`
	// Recipients limits it to these; none: all.
	Recipients []string `json:"recipients,omitempty"`
	// To are who gets what is released, in the place of those for whom it is held; for
	// these it stays what it is.
	To []string `json:"to,omitempty"`
	// By is who wants it, for log and list.
	By string `json:"by,omitempty"`
	// Train and Force are for release.
	Train bool `json:"train,omitempty"`
	Force bool `json:"force,omitempty"`
	// As is "ham" or "spam", for train.
	As string `json:"as,omitempty"`
}

// QuarantineResults is what was done with each message. Some may have failed.
type QuarantineResults struct {
	Results []quarantine.Result `json:"results"`
}

// MaxQuarantineIDs bounds the messages of one request.
const MaxQuarantineIDs = 1000

func (s *Server) routeQuarantine(r *router) {
	r.add(
		Route{Method: "GET", Path: "/api/v1/quarantine", Permission: accounts.QuarantineRead, Scope: accounts.Own, Do: s.listQuarantine, Doc: &Doc{
			Summary: "List what is held", Out: quarantine.Page{},
			Query: []string{"sender: address or @domain", "recipient: address", "domain: of the recipient", "threat: virus, spam, filter, unscanned or policy",
				"state: held, released or deleted", "since: date, time or age", "before: date, time or age", "text: in subject and addresses",
				"limit: rows of a page, 1 to 1000", "cursor: next of the page before"}}},
		Route{Method: "GET", Path: "/api/v1/quarantine/{id}", Permission: accounts.QuarantineRead, Scope: accounts.Own, Do: s.showQuarantined,
			Doc: &Doc{Summary: "Show a held message: envelope, header, structure, findings", Out: quarantine.Detail{}}},
		Route{Method: "GET", Path: "/api/v1/quarantine/{id}/body", Permission: accounts.MailRead, Scope: accounts.Own, Do: s.quarantinedBody,
			Doc: &Doc{Summary: "Get a held message as it came", OutType: "message/rfc822"}},
	)
	q := s.cfg.Quarantine
	for name, op := range map[string]func(context.Context, quarantine.Request, string) []quarantine.Result{
		"release": func(ctx context.Context, r quarantine.Request, _ string) []quarantine.Result {
			return q.Release(ctx, r)
		},
		"ask":    func(ctx context.Context, r quarantine.Request, _ string) []quarantine.Result { return q.Ask(ctx, r) },
		"delete": func(ctx context.Context, r quarantine.Request, _ string) []quarantine.Result { return q.Delete(ctx, r) },
		"train": func(ctx context.Context, r quarantine.Request, as string) []quarantine.Result {
			return q.Train(ctx, r, as == "spam")
		},
	} {
		need, scope := accounts.QuarantineWrite, accounts.Own
		if name == "train" {
			need, scope = accounts.Train, accounts.Everything
		}
		r.add(Route{Method: "POST", Path: "/api/v1/quarantine/" + name, Permission: need, Scope: scope, Do: s.changeQuarantine(name, op),
			Doc: &Doc{Summary: "Held messages: " + name, In: QuarantineRequest{}, Out: QuarantineResults{}}})
	}
}

func (s *Server) listQuarantine(w http.ResponseWriter, r *http.Request, a *Actor) {
	ctx, cancel := context.WithTimeout(r.Context(), s.cfg.ChangeTimeout)
	defer cancel()
	f, err := quarantineFilter(r.URL.Query(), time.Now())
	if err == nil {
		err = a.BoundHeld(&f)
	}
	if err != nil {
		failWith(w, badRequest(err))
		return
	}
	page, err := s.cfg.Quarantine.List(ctx, f)
	if err != nil {
		failWith(w, err)
		return
	}
	items := page.Items
	page.Items = []quarantine.Row{}
	for i := range items {
		if a.SeeHeld(&items[i]) {
			page.Items = append(page.Items, items[i])
		}
	}
	answer(w, http.StatusOK, page)
}

// quarantineFilter reads the parameters of a list. Unknown ones are refused.
func quarantineFilter(v url.Values, now time.Time) (f quarantine.Filter, err error) {
	known := []string{"sender", "recipient", "domain", "threat", "state", "since", "before", "text", "limit", "cursor"}
	for key, values := range v {
		if !slices.Contains(known, key) {
			return f, fmt.Errorf("unknown parameter %q", key)
		}
		if len(values) > 1 {
			return f, fmt.Errorf("parameter %q is given twice", key)
		}
	}
	f = quarantine.Filter{
		Sender: v.Get("sender"), Recipient: v.Get("recipient"), Domain: v.Get("domain"), Threat: mail.Threat(v.Get("threat")),
		State: quarantine.State(v.Get("state")), Text: v.Get("text"), Cursor: v.Get("cursor"),
	}
	threats := []mail.Threat{"", mail.ThreatVirus, mail.ThreatSpam, mail.ThreatFilter, mail.ThreatUnscanned, mail.ThreatPolicy}
	if !slices.Contains(threats, f.Threat) {
		return f, fmt.Errorf("threat: %q is none of virus, spam, filter, unscanned, policy", f.Threat)
	}
	states := []quarantine.State{"", quarantine.Held, quarantine.Released, quarantine.Deleted}
	if !slices.Contains(states, f.State) {
		return f, fmt.Errorf("state: %q is none of held, released, deleted", f.State)
	}
	if f.Since, err = moment("since", v.Get("since"), now); err != nil {
		return f, err
	}
	if f.Before, err = moment("before", v.Get("before"), now); err != nil {
		return f, err
	}
	f.Limit = defaultPage
	if s := v.Get("limit"); s != "" {
		if f.Limit, err = strconv.Atoi(s); err != nil || f.Limit < 1 || f.Limit > MaxPage {
			return f, fmt.Errorf("limit: %q is not a number from 1 to %d", s, MaxPage)
		}
	}
	return f, nil
}

// moment reads a time: RFC 3339, a date in local time, or an age.
func moment(name, s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	d, err := config.ParseDuration(s)
	if err != nil || d < 0 {
		return time.Time{}, fmt.Errorf(`%s: %q is neither a date ("2026-01-31"), a time ("2026-01-31T15:04:05Z") nor an age ("2d")`, name, s)
	}
	return now.Add(-d), nil
}

// quarantinedID reads an ID of a path. What is no ID is the ID of nothing.
func quarantinedID(s string) (mail.ID, error) {
	id, err := mail.ParseID(s)
	if err != nil {
		return id, fmt.Errorf("%w: %.64q", quarantine.ErrNotFound, s)
	}
	return id, nil
}

func (s *Server) showQuarantined(w http.ResponseWriter, r *http.Request, a *Actor) {
	// Reading the structure of a large message takes its time.
	ctx, cancel := context.WithTimeout(r.Context(), s.cfg.ChangeTimeout)
	defer cancel()
	id, err := quarantinedID(r.PathValue("id"))
	if err != nil {
		failWith(w, err)
		return
	}
	detail, err := s.cfg.Quarantine.Show(ctx, id)
	if err == nil && !a.SeeDetail(detail) {
		err = fmt.Errorf("%w: %s", quarantine.ErrNotFound, id)
	}
	if err != nil {
		failWith(w, err)
		return
	}
	answer(w, http.StatusOK, detail)
}

// quarantinedBody sends the message byte for byte, in a way that no browser takes
// for a page.
func (s *Server) quarantinedBody(w http.ResponseWriter, r *http.Request, a *Actor) {
	ctx, cancel := context.WithTimeout(r.Context(), s.cfg.ChangeTimeout)
	defer cancel()
	id, err := quarantinedID(r.PathValue("id"))
	if err != nil {
		failWith(w, err)
		return
	}
	var body mail.Body
	if !a.SeesAll() {
		_, err = s.seesHeld(ctx, a, id)
	}
	if err == nil {
		body, err = s.cfg.Quarantine.Body(ctx, id)
	}
	if err != nil {
		failWith(w, err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "message/rfc822")
	// The name is made of an ID of ours, never of anything in the message.
	h.Set("Content-Disposition", `attachment; filename="`+id.String()+`.eml"`)
	h.Set("Content-Security-Policy", "sandbox; default-src 'none'")
	h.Set("Content-Length", strconv.FormatInt(body.Size(), 10))
	if r.Method == http.MethodHead {
		return
	}
	// The length is promised: a client notices when reading fails on the way.
	if _, err := io.Copy(w, io.NewSectionReader(body, 0, body.Size())); err != nil {
		s.cfg.Log.Warn("quarantined message was not sent whole", "id", id.String(), "error", err)
	}
}

// changeQuarantine decodes and checks a request, carries it out, and answers with
// what was done with each message; where nothing was done, with why.
func (s *Server) changeQuarantine(name string, op func(context.Context, quarantine.Request, string) []quarantine.Result) Handler {
	return func(w http.ResponseWriter, r *http.Request, a *Actor) {
		var c QuarantineRequest
		if !decode(w, r, &c) {
			return
		}
		c.By = a.By(c.By)
		a.Note(strings.Join(c.IDs[:min(len(c.IDs), 10)], " "))
		request, err := c.check(name)
		if err == nil && !a.SeesAll() && (c.Force || len(c.To) > 0) {
			err = badRequest(errors.New("force and to are for those who see all mail"))
		}
		if err != nil {
			failWith(w, err)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), s.cfg.ChangeTimeout)
		defer cancel()
		results := s.boundedHeld(ctx, a, request, func(ctx context.Context, r quarantine.Request) []quarantine.Result { return op(ctx, r, c.As) })
		var errs []error
		for i := range results {
			if err := results[i].Err; err != nil && results[i].ReleasedAs.IsZero() {
				errs = append(errs, err)
			}
		}
		if len(errs) > 0 && len(errs) == len(results) {
			failWith(w, errors.Join(errs...))
			return
		}
		answer(w, http.StatusOK, QuarantineResults{Results: results})
	}
}

// check returns the request in the quarantine's terms. Whoever can open the
// socket is an administrator.
func (c *QuarantineRequest) check(name string) (quarantine.Request, error) {
	request := quarantine.Request{Recipients: c.Recipients, To: c.To, By: c.By, Role: quarantine.RoleAdmin, Train: c.Train, Force: c.Force}
	switch {
	case len(c.IDs) == 0:
		return request, badRequest(errors.New("no ids"))
	case len(c.IDs) > MaxQuarantineIDs || len(c.Recipients) > MaxQuarantineIDs || len(c.To) > MaxQuarantineIDs:
		return request, badRequest(fmt.Errorf("at most %d ids and recipients", MaxQuarantineIDs))
	case (c.Train || c.Force || len(c.To) > 0) && name != "release":
		return request, badRequest(fmt.Errorf("%s takes neither train nor force nor to", name))
	case c.Train && len(c.To) > 0:
		return request, badRequest(errors.New("what is sent to others is not trained"))
	case name == "train" && c.As != "ham" && c.As != "spam":
		return request, badRequest(fmt.Errorf("as: %q is neither ham nor spam", c.As))
	case name != "train" && c.As != "":
		return request, badRequest(fmt.Errorf("%s takes no as", name))
	case name == "train" && len(c.Recipients) > 0:
		return request, badRequest(errors.New("train takes no recipients"))
	}
	if err := checkNotes(c.By); err != nil {
		return request, err
	}
	for _, s := range c.IDs {
		id, err := quarantinedID(s)
		if err != nil {
			return request, err
		}
		if !slices.Contains(request.IDs, id) {
			request.IDs = append(request.IDs, id)
		}
	}
	return request, nil
}
