package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"gatepost/internal/accounts"
	"gatepost/internal/quarantine"
	"gatepost/internal/queue"
)

// Queue is what the API does with the queue.
type Queue interface {
	Lister
	Changer
	Pauser
}

// Lister reads the queue.
type Lister interface {
	List(ctx context.Context, sel queue.Selector, limit int, after string) ([]queue.Row, error)
	Show(ctx context.Context, id string) ([]queue.Detail, error)
	Count(ctx context.Context, sel queue.Selector) (int, error)
	Stats() queue.Stats
}

// The bounds of one page of a list, in rows.
const (
	defaultPage = 100
	MaxPage     = 1000
)

// Page is one page of a list, in the order of the IDs. Next is what to ask for
// with after= to get the next one; empty on the last.
type Page struct {
	Items []queue.Row `json:"items"`
	Next  string      `json:"next,omitempty"`
}

// Counted is how many items an operation concerned, or would concern.
type Counted struct {
	Count  int  `json:"count"`
	DryRun bool `json:"dry_run,omitempty"`
}

func (s *Server) routeQueue(r *router) {
	get := func(path string, h http.HandlerFunc, doc Doc) {
		r.add(Route{Method: "GET", Path: path, Permission: accounts.QueueRead, Do: plain(h), Doc: &doc})
	}
	get("/api/v1/queue/items", s.list, Doc{Summary: "List queue items", Query: append(selectorQuery(), "limit: rows of a page, 1 to 1000", "after: the next of the page before"), Out: Page{}})
	get("/api/v1/queue/items/{id}", s.show, Doc{Summary: "Show one item, or all of a message", Out: []queue.Detail{}})
	get("/api/v1/queue/count", s.count, Doc{Summary: "Count queue items", Query: selectorQuery(), Out: Counted{}})
	get("/api/v1/queue/stats", s.stats, Doc{Summary: "Show the queue by state and destination", Out: queue.Stats{}})
}

func (s *Server) list(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), s.cfg.ChangeTimeout)
	defer cancel()
	query := r.URL.Query()
	sel, err := queueSelector(query, "limit", "after")
	if err != nil {
		failWith(w, err)
		return
	}
	limit, err := pageSize(query.Get("limit"))
	if err != nil {
		failWith(w, err)
		return
	}
	// One row more tells whether there is a next page.
	rows, err := s.cfg.Queue.List(ctx, sel, limit+1, query.Get("after"))
	if err != nil {
		failWith(w, err)
		return
	}
	page := Page{Items: rows}
	if len(rows) > limit {
		page.Items = rows[:limit]
		page.Next = rows[limit-1].QueueID.String()
	}
	if page.Items == nil {
		page.Items = []queue.Row{}
	}
	answer(w, http.StatusOK, page)
}

func pageSize(s string) (int, error) {
	if s == "" {
		return defaultPage, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > MaxPage {
		return 0, badRequest(fmt.Errorf("limit: %q is not a number from 1 to %d", s, MaxPage))
	}
	return n, nil
}

func (s *Server) show(w http.ResponseWriter, r *http.Request) {
	items, err := s.cfg.Queue.Show(r.Context(), r.PathValue("id"))
	if err == nil && len(items) == 0 {
		err = queue.ErrNotFound
	}
	if err != nil {
		failWith(w, err)
		return
	}
	answer(w, http.StatusOK, items)
}

func (s *Server) count(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), s.cfg.ChangeTimeout)
	defer cancel()
	sel, err := queueSelector(r.URL.Query())
	if err != nil {
		failWith(w, err)
		return
	}
	n, err := s.cfg.Queue.Count(ctx, sel)
	if err != nil {
		failWith(w, err)
		return
	}
	answer(w, http.StatusOK, Counted{Count: n})
}

func (s *Server) stats(w http.ResponseWriter, _ *http.Request) {
	stats := s.cfg.Queue.Stats()
	if stats.Destinations == nil {
		stats.Destinations = []queue.DestinationStats{}
	}
	answer(w, http.StatusOK, stats)
}

func queueSelector(v url.Values, also ...string) (queue.Selector, error) {
	sel, err := selectorFrom(v, also...)
	if err != nil {
		return queue.Selector{}, badRequest(err)
	}
	return sel.forQueue()
}

// errBadRequest marks what is wrong with a request before the queue sees it.
var errBadRequest = errors.New("bad request")

func badRequest(err error) error { return fmt.Errorf("%w: %w", errBadRequest, err) }

// failWith answers an error with the status that fits it. Everything it may say
// is for an administrator, so nothing is hidden.
func failWith(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	switch {
	case errors.Is(err, errBadRequest), errors.Is(err, queue.ErrSelector), errors.Is(err, queue.ErrNoTransport),
		errors.Is(err, quarantine.ErrRequest):
		status = http.StatusBadRequest
	case errors.Is(err, queue.ErrNotFound), errors.Is(err, queue.ErrNotPaused), errors.Is(err, quarantine.ErrNotFound):
		status = http.StatusNotFound
	case errors.Is(err, quarantine.ErrReleased), errors.Is(err, quarantine.ErrDeleted), errors.Is(err, quarantine.ErrBusy):
		status = http.StatusConflict
	case errors.Is(err, quarantine.ErrForbidden):
		status = http.StatusForbidden
	case errors.Is(err, quarantine.ErrUnavailable), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		status = http.StatusServiceUnavailable
	}
	fail(w, status, err.Error())
}
