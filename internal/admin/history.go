package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"gatepost/internal/accounts"
	"gatepost/internal/history"
	"gatepost/internal/mail"
	"gatepost/internal/quarantine"
	"gatepost/internal/queue"
)

// History is what the API does with the history.
type History interface {
	Search(ctx context.Context, s history.Search) (*history.Found, error)
	Message(ctx context.Context, id mail.ID, domains []string) (*history.Message, error)
	Statistics(ctx context.Context, since, until time.Time, step time.Duration, domains []string) (*history.Statistics, error)
	TopOf(ctx context.Context, since, until time.Time, domains []string) (*history.Tops, error)
	Watch(f history.Filter) *history.Watch
	Stats() history.Stats
}

// HistoryPage is a part of a search, the latest event first. Next is the cursor of
// the next one, "" for none. Partial says that the time was up before all was looked
// at: the next page may have more although this one is not full.
type HistoryPage struct {
	Items   []*mail.Event `json:"items"`
	Next    string        `json:"next,omitempty"`
	Partial bool          `json:"partial,omitempty"`
}

// MessagePage is everything about one message.
type MessagePage struct {
	*history.Message
	// Items are its queue items as they are now, Held what the quarantine has of it.
	Items []queue.Detail  `json:"items,omitempty"`
	Held  *quarantine.Row `json:"held,omitempty"`
	// Can are the operations that make sense now and that the asker may use: "retry",
	// "hold", "release", "delete", "reroute" of queue items; "quarantine release",
	// "quarantine delete", "train".
	Can []string `json:"can"`
}

func (s *Server) routeHistory(r *router) {
	read := func(path string, do Handler, doc Doc) {
		r.add(Route{Method: "GET", Path: path, Permission: accounts.HistoryRead, Scope: accounts.Domains, Do: do, Doc: &doc})
	}
	q := []string{"q: what to look for, see docs/history.md", "limit: events of a page, 1 to 1000", "cursor: next of the page before"}
	read("/api/v1/history", s.searchHistory, Doc{Summary: "Search what happened", Query: q, Out: HistoryPage{}})
	read("/api/v1/history/export", s.exportHistory, Doc{Summary: "Export a search", OutType: "text/csv",
		Query: []string{"q: what to look for", "format: csv or json", "limit: events, at most 1000000"}})
	read("/api/v1/messages/{id}", s.showMessage, Doc{Summary: "Show everything about one message", Out: MessagePage{}})
	read("/api/v1/trace", s.trace, Doc{Summary: "Watch events as they happen, one JSON object on each line", OutType: "application/x-ndjson",
		Query: []string{"client: network", "sender: address, @domain or part", "recipient: address, @domain or part"}})
	r.add(Route{Method: "GET", Path: "/api/v1/statistics", Permission: accounts.StatsRead, Scope: accounts.Domains, Do: s.statistics,
		Doc: &Doc{Summary: "Count what happened over time", Out: history.Statistics{},
			Query: []string{"since: date, time or age; default a day", "until: date, time or age; default now", "step: duration of a point, in hours"}}})
}

// HistoryDomains are those that bound what an actor sees; nil: nothing does.
func HistoryDomains(a *Actor) []string {
	if a.SeesAll() {
		return nil
	}
	return append([]string{}, a.Domains...)
}

// historySearch reads the parameters of a search.
func historySearch(v url.Values, a *Actor, most int) (s history.Search, err error) {
	if err := knownParameters(v, "q", "limit", "cursor", "format"); err != nil {
		return s, err
	}
	if s.Query, err = history.ParseQuery(v.Get("q"), time.Now()); err != nil {
		return s, fmt.Errorf("q: %w", err)
	}
	s.Domains = HistoryDomains(a)
	s.Limit = defaultPage
	if text := v.Get("limit"); text != "" {
		if s.Limit, err = strconv.Atoi(text); err != nil || s.Limit < 1 || s.Limit > most {
			return s, fmt.Errorf("limit: %.64q is not a number from 1 to %d", text, most)
		}
	}
	if text := v.Get("cursor"); text != "" {
		if s.Before, err = mail.ParseID(text); err != nil {
			return s, errors.New("cursor: it is none that a search gave")
		}
	}
	return s, nil
}

// knownParameters refuses others, and those that are given twice.
func knownParameters(v url.Values, known ...string) error {
	for key, values := range v {
		if !slices.Contains(known, key) {
			return fmt.Errorf("unknown parameter %q", key)
		}
		if len(values) > 1 {
			return fmt.Errorf("parameter %q is given twice", key)
		}
	}
	return nil
}

func (s *Server) searchHistory(w http.ResponseWriter, r *http.Request, a *Actor) {
	q, err := historySearch(r.URL.Query(), a, MaxPage)
	if err != nil {
		failWith(w, badRequest(err))
		return
	}
	found, err := s.cfg.History.Search(r.Context(), q)
	if err != nil {
		failWith(w, err)
		return
	}
	page := HistoryPage{Items: found.Events, Partial: found.Partial}
	if !found.Next.IsZero() {
		page.Next = found.Next.String()
	}
	answer(w, http.StatusOK, page)
}

// maxExport bounds the events of an export.
const maxExport = 1_000_000

// exportHistory streams a search, page by page. What goes wrong after the first page
// ends the answer without its proper end.
func (s *Server) exportHistory(w http.ResponseWriter, r *http.Request, a *Actor) {
	v := r.URL.Query()
	q, err := historySearch(v, a, maxExport)
	format := v.Get("format")
	if err == nil && format != "" && format != "csv" && format != "json" {
		err = fmt.Errorf("format: %.64q is neither csv nor json", format)
	}
	if err != nil {
		failWith(w, badRequest(err))
		return
	}
	left := q.Limit
	if v.Get("limit") == "" {
		left = maxExport
	}
	var out exporter = &jsonExport{w: w}
	if format != "json" {
		out = &csvExport{w: w}
	}
	for begun := false; ; begun = true {
		q.Limit = min(left, MaxPage)
		found, err := s.cfg.History.Search(r.Context(), q)
		if err != nil && !begun {
			failWith(w, err)
			return
		}
		if err != nil {
			panic(http.ErrAbortHandler) // the client must see that it is not all
		}
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(s.cfg.ChangeTimeout))
		if out.write(found.Events) != nil {
			return // the client is gone
		}
		left -= len(found.Events)
		if found.Next.IsZero() || left <= 0 {
			_ = out.end()
			return
		}
		q.Before = found.Next
	}
}

// exporter writes events in one form.
type exporter interface {
	write(events []*mail.Event) error
	end() error
}

type csvExport struct {
	w   http.ResponseWriter
	csv *history.CSV
}

func (e *csvExport) write(events []*mail.Event) (err error) {
	if e.csv == nil {
		e.w.Header().Set("Content-Type", "text/csv; charset=utf-8; header=present")
		e.w.Header().Set("Content-Disposition", `attachment; filename="history.csv"`)
		if e.csv, err = history.NewCSV(e.w); err != nil {
			return err
		}
	}
	return e.csv.Write(events)
}

func (e *csvExport) end() error { return nil }

type jsonExport struct {
	w     http.ResponseWriter
	begun bool
	any   bool
}

func (e *jsonExport) write(events []*mail.Event) error {
	if !e.begun {
		e.w.Header().Set("Content-Type", "application/json")
		e.w.Header().Set("Content-Disposition", `attachment; filename="history.json"`)
		e.begun = true
		if _, err := e.w.Write([]byte("[")); err != nil {
			return err
		}
	}
	for _, event := range events {
		b, err := json.Marshal(event)
		if err != nil {
			return err
		}
		sep := ",\n"
		if !e.any {
			sep = "\n"
		}
		e.any = true
		if _, err := e.w.Write(append([]byte(sep), b...)); err != nil {
			return err
		}
	}
	return nil
}

func (e *jsonExport) end() error {
	_, err := e.w.Write([]byte("\n]\n"))
	return err
}

// errNoMessage says that nothing is known of a message, to this actor.
var errNoMessage = fmt.Errorf("nothing is known of a message with this ID: %w", fs.ErrNotExist)

func (s *Server) showMessage(w http.ResponseWriter, r *http.Request, a *Actor) {
	text, _, _ := strings.Cut(r.PathValue("id"), ":") // ID:n is of the message ID
	id, err := mail.ParseID(text)
	if err != nil {
		failWith(w, badRequest(err))
		return
	}
	page, err := s.Message(r.Context(), id, a)
	switch {
	case errors.Is(err, errNoMessage):
		fail(w, http.StatusNotFound, err.Error())
	case err != nil:
		failWith(w, err)
	default:
		answer(w, http.StatusOK, page)
	}
}

// Message is everything about one message that an actor may see; the error is
// fs.ErrNotExist where that is nothing.
func (s *Server) Message(ctx context.Context, id mail.ID, a *Actor) (*MessagePage, error) {
	return Message(ctx, MessageSources{s.cfg.History, s.cfg.Queue, s.cfg.Quarantine}, id, a)
}

// MessageSources are what knows about a message. Queue and Quarantine may be nil.
type MessageSources struct {
	History    History
	Queue      Queue
	Quarantine Quarantine
}

// Message is everything about one message that an actor may see; the error is
// fs.ErrNotExist where that is nothing.
func Message(ctx context.Context, from MessageSources, id mail.ID, a *Actor) (*MessagePage, error) {
	m, err := from.History.Message(ctx, id, HistoryDomains(a))
	if err != nil {
		return nil, err
	}
	if m == nil {
		return nil, errNoMessage
	}
	page := &MessagePage{Message: m, Can: []string{}}
	if from.Queue != nil {
		if items, err := from.Queue.Show(ctx, id.String()); err == nil {
			page.Items = slices.DeleteFunc(items, func(d queue.Detail) bool { return !a.SeesAll() && !slices.ContainsFunc(d.Row.Recipients, a.Sees) })
		}
	}
	if from.Quarantine != nil {
		if held, err := from.Quarantine.Show(ctx, id); err == nil && (a.SeesAll() || slices.ContainsFunc(held.Row.Recipients, a.Sees)) {
			page.Held = &held.Row
		}
	}
	page.offer(a)
	return page, nil
}

// offer says what can be done now.
func (p *MessagePage) offer(a *Actor) {
	add := func(need accounts.Permission, what ...string) {
		if a.May(need) {
			p.Can = append(p.Can, what...)
		}
	}
	held, waiting := false, false
	for i := range p.Items {
		held = held || p.Items[i].State == mail.QueueHold
		waiting = waiting || p.Items[i].State == mail.QueueDeferred || p.Items[i].State == mail.QueueActive
	}
	if waiting {
		add(accounts.QueueWrite, "retry", "hold")
	}
	if held {
		add(accounts.QueueWrite, "release")
	}
	if len(p.Items) > 0 {
		add(accounts.QueueWrite, "reroute", "delete")
	}
	if p.Held == nil {
		return
	}
	if slices.ContainsFunc(p.Held.Entries, func(e quarantine.Entry) bool { return e.State == quarantine.Held }) {
		add(accounts.QuarantineWrite, "quarantine release", "quarantine delete")
	}
	add(accounts.Train, "train")
}

func (s *Server) statistics(w http.ResponseWriter, r *http.Request, a *Actor) {
	v, now := r.URL.Query(), time.Now()
	err := knownParameters(v, "since", "until", "step")
	since, until, step := now.Add(-24*time.Hour), now.Add(time.Hour), time.Hour
	for name, t := range map[string]*time.Time{"since": &since, "until": &until} {
		if text := v.Get(name); text != "" && err == nil {
			if *t, err = history.ParseTime(text, now); err != nil {
				err = fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	if text := v.Get("step"); text != "" && err == nil {
		if step, err = time.ParseDuration(text); err == nil && step < time.Hour {
			err = errors.New("step: an hour at least")
		}
	}
	if err == nil && !since.Before(until) {
		err = errors.New("since: it is not before until")
	}
	if err != nil {
		failWith(w, badRequest(err))
		return
	}
	domains := HistoryDomains(a)
	counts, err := s.cfg.History.Statistics(r.Context(), since, until, step, domains)
	if err == nil && domains != nil {
		var tops *history.Tops
		if tops, err = s.cfg.History.TopOf(r.Context(), counts.Since, until, domains); err == nil {
			counts.Top, counts.TopSince = tops.Top, tops.Since
		}
	}
	if err != nil {
		failWith(w, err)
		return
	}
	answer(w, http.StatusOK, counts)
}

// traceFilter reads the parameters of a trace.
func traceFilter(v url.Values, a *Actor) (f history.Filter, err error) {
	if err := knownParameters(v, "client", "sender", "recipient"); err != nil {
		return f, err
	}
	f = history.Filter{Sender: v.Get("sender"), Recipient: v.Get("recipient"), Domains: HistoryDomains(a)}
	if text := v.Get("client"); text != "" {
		if addr, err := netip.ParseAddr(text); err == nil {
			f.Client = netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen())
		} else if f.Client, err = netip.ParsePrefix(text); err != nil {
			return f, fmt.Errorf("client: %.64q is no IP address or network", text)
		}
	}
	return f, nil
}

// beat is how often a trace says that it is still there.
const beat = 15 * time.Second

// trace writes live events until the client goes away or the gateway stops: a JSON
// object on each line, an empty line now and then, {"missed": n} where the client did
// not keep up. For a browser each line is an event of a stream (SSE).
func (s *Server) trace(w http.ResponseWriter, r *http.Request, a *Actor) {
	f, err := traceFilter(r.URL.Query(), a)
	if err != nil {
		failWith(w, badRequest(err))
		return
	}
	watch := s.cfg.History.Watch(f)
	if watch == nil {
		fail(w, http.StatusServiceUnavailable, "too many watch already, or the gateway stops")
		return
	}
	defer watch.Close()
	out := &stream{w: w, c: http.NewResponseController(w), patience: s.cfg.Timeout}
	out.begin(r)
	timer := time.NewTicker(beat)
	defer timer.Stop()
	for out.err == nil {
		select {
		case <-r.Context().Done():
			return
		case <-timer.C:
			out.line(nil)
		case line, ok := <-watch.Lines():
			if !ok {
				return
			}
			out.line(line)
		}
		if n := watch.Missed(); n > 0 {
			out.line([]byte(`{"missed":` + strconv.FormatInt(n, 10) + `}`))
		}
	}
}

// stream writes lines as they come.
type stream struct {
	w        http.ResponseWriter
	c        *http.ResponseController
	patience time.Duration
	events   bool
	err      error
}

func (o *stream) begin(r *http.Request) {
	o.events = strings.Contains(r.Header.Get("Accept"), "text/event-stream")
	kind := "application/x-ndjson"
	if o.events {
		kind = "text/event-stream"
	}
	o.w.Header().Set("Content-Type", kind)
	o.w.WriteHeader(http.StatusOK)
	o.line(nil)
}

// line writes one, empty: a sign of life.
func (o *stream) line(text []byte) {
	_ = o.c.SetWriteDeadline(time.Now().Add(o.patience))
	var b []byte
	switch {
	case o.events && text == nil:
		b = []byte(":\n\n")
	case o.events:
		b = append(append([]byte("data: "), text...), "\n\n"...)
	default:
		b = append(append(b, text...), '\n')
	}
	if _, o.err = o.w.Write(b); o.err == nil {
		o.err = o.c.Flush()
	}
}
