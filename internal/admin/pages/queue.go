package pages

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"gatepost/internal/accounts"
	"gatepost/internal/admin"
	"gatepost/internal/config"
	"gatepost/internal/mail"
	"gatepost/internal/queue"
)

// queuePages is mail on its way: what waits, why, and what can be done about it.
type queuePages struct {
	*Site
	q admin.Queue
}

func (s *Site) queue() section {
	if s.cfg.Queue == nil {
		return section{}
	}
	q := &queuePages{Site: s, q: s.cfg.Queue}
	get := func(path string, do admin.Handler) admin.Route {
		return admin.Route{Method: "GET", Path: path, Permission: accounts.QueueRead, Do: do}
	}
	post := func(path, act string, do admin.Handler) admin.Route {
		return admin.Route{Method: "POST", Path: path, Permission: accounts.QueueWrite, Act: act, Do: do}
	}
	return section{
		nav: []entry{
			{Path: "/queue", Title: "Queue", Group: "Activity", Order: 120, permission: accounts.QueueRead},
			{Path: "/queue/pauses", Title: "Pauses", Group: "Activity", Order: 125, permission: accounts.QueueRead},
		},
		said: map[string]string{
			"queue-retry": "They are tried now.", "queue-hold": "Held. They stay until they are released.", "queue-release": "Released. They are tried now.",
			"queue-delete": "Deleted. Nobody was told.", "queue-reroute": "They go by the other transport from now on.", "queue-none": "Nothing was there to do: it is gone already.",
			"queue-paused": "Paused. Mail waits until you resume.", "queue-resumed": "Resumed.",
		},
		routes: []admin.Route{
			get("/queue", q.list), get("/queue/{id}", q.item), get("/queue/pauses", q.pauses),
			post("/queue/change", "change queue", q.change), post("/queue/pause", "pause", q.pause), post("/queue/resume", "resume", q.resume),
		},
	}
}

// queueRows is how many items a page has.
const queueRows = 50

// queueState is one of the lists of the page: the state with how many are in it.
type queueState struct {
	Title string
	State mail.QueueState
	Count int
	Path  string
}

// queueList is what the page shows.
type queueList struct {
	Items      []queue.Row
	Stats      queue.Stats
	States     []queueState
	State      mail.QueueState
	Search     url.Values
	Here, Next string
	First      string
	Searched   bool
	Transports []string
	// Troubled are the destinations that are dead, paused, or have no transport.
	Troubled []queue.DestinationStats
}

// queueFields are the fields of the search.
var queueFields = []string{"state", "sender", "recipient", "domain", "transport", "older", "error"}

func queueSearch(v url.Values) url.Values {
	kept := url.Values{}
	for _, name := range queueFields {
		if s := strings.TrimSpace(v.Get(name)); s != "" {
			kept.Set(name, s)
		}
	}
	return kept
}

// queueSelector is a search in the queue's terms.
func queueSelector(v url.Values) (queue.Selector, error) {
	sel := queue.Selector{
		Sender: v.Get("sender"), Recipient: v.Get("recipient"), Domain: v.Get("domain"), Transport: v.Get("transport"),
		State: mail.QueueState(v.Get("state")), Error: v.Get("error"),
	}
	if s := v.Get("older"); s != "" {
		d, err := config.ParseDuration(s)
		if err != nil || d <= 0 {
			return sel, fmt.Errorf("%.40q is no age: write 90s, 10m, 3h or 2d", s)
		}
		sel.OlderThan = d
	}
	return sel, nil
}

func (q *queuePages) list(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	q.listPage(w, r, a, r.URL.Query(), nil)
}

// listPage shows the page of a query, above it what failed of an operation.
func (q *queuePages) listPage(w http.ResponseWriter, r *http.Request, a *admin.Actor, query url.Values, failed error) {
	v := queueList{Search: queueSearch(query), State: mail.QueueState(query.Get("state")), Stats: q.q.Stats(), Transports: q.transports()}
	v.Searched = len(v.Search) > 1 || len(v.Search) == 1 && v.State == ""
	v.States = v.tabs()
	after := query.Get("after")
	v.Here = queueAddress(v.Search, after)
	if after != "" {
		v.First = queueAddress(v.Search, "")
	}
	sel, err := queueSelector(v.Search)
	if err == nil {
		// One more tells whether there is a next page.
		v.Items, err = q.q.List(r.Context(), sel, queueRows+1, after)
	}
	if len(v.Items) > queueRows {
		v.Items = v.Items[:queueRows]
		v.Next = queueAddress(v.Search, v.Items[queueRows-1].QueueID.String())
	}
	for _, d := range v.Stats.Destinations {
		if d.Dead || d.Paused || d.Missing {
			v.Troubled = append(v.Troubled, d)
		}
	}
	p := page{Template: "queue.html", Title: "Queue", Data: v}
	if failed = errors.Join(failed, err); failed != nil {
		p.Status, p.Failed = http.StatusUnprocessableEntity, explain(failed)
	}
	q.show(w, r, a, p)
}

func (q *queuePages) transports() []string {
	if q.cfg.Transports == nil {
		return nil
	}
	return q.cfg.Transports()
}

func queueAddress(search url.Values, after string) string {
	v := url.Values{}
	for name := range search {
		v.Set(name, search.Get(name))
	}
	if after != "" {
		v.Set("after", after)
	}
	return strings.TrimSuffix("/queue?"+v.Encode(), "?")
}

// tabs are the lists with how many items each has, whatever else is searched for.
func (v *queueList) tabs() []queueState {
	s := v.Stats
	tabs := []queueState{
		{Title: "All", Count: s.Incoming + s.Active + s.Deferred + s.Hold},
		{Title: "Incoming: not scanned yet", State: mail.QueueIncoming, Count: s.Incoming},
		{Title: "Being delivered", State: mail.QueueActive, Count: s.Active},
		{Title: "Waiting", State: mail.QueueDeferred, Count: s.Deferred},
		{Title: "On hold", State: mail.QueueHold, Count: s.Hold},
	}
	for i := range tabs {
		search := url.Values{}
		for name := range v.Search {
			search.Set(name, v.Search.Get(name))
		}
		search.Del("state")
		if tabs[i].State != "" {
			search.Set("state", string(tabs[i].State))
		}
		tabs[i].Path = queueAddress(search, "")
	}
	return tabs
}

// queueItems is what the page of one message shows: its items.
type queueItems struct {
	ID         string
	Items      []queue.Detail
	Transports []string
}

func (q *queuePages) item(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	q.itemPage(w, r, a, r.PathValue("id"), nil)
}

func (q *queuePages) itemPage(w http.ResponseWriter, r *http.Request, a *admin.Actor, id string, failed error) {
	items, err := q.q.Show(r.Context(), id)
	switch {
	case errors.Is(err, queue.ErrNotFound), errors.Is(err, queue.ErrSelector), err == nil && len(items) == 0:
		q.Refuse(w, r, a, http.StatusNotFound, "")
		return
	case err != nil:
		q.Refuse(w, r, a, http.StatusServiceUnavailable, sentence(err.Error()))
		return
	}
	p := page{Template: "queue-item.html", Title: "Message " + items[0].ID.String(), Data: queueItems{ID: id, Items: items, Transports: q.transports()}}
	if failed != nil {
		p.Status, p.Failed = http.StatusUnprocessableEntity, explain(failed)
	}
	q.show(w, r, a, p)
}

// pausesView is what the page of pauses shows.
type pausesView struct {
	Pauses     []queue.Pause
	Transports []string
	// Transport, Domain and Reason are those of the form.
	Transport, Domain, Reason string
}

func (q *queuePages) pauses(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	q.pausesPage(w, r, a, pausesView{Transport: r.URL.Query().Get("transport"), Domain: r.URL.Query().Get("domain")}, nil)
}

func (q *queuePages) pausesPage(w http.ResponseWriter, r *http.Request, a *admin.Actor, v pausesView, failed error) {
	v.Pauses, v.Transports = q.q.Pauses(), q.transports()
	slices.SortFunc(v.Pauses, func(x, y queue.Pause) int { return y.Since.Compare(x.Since) })
	p := page{Template: "pauses.html", Title: "Pauses", Data: v}
	if failed != nil {
		p.Status, p.Failed = http.StatusUnprocessableEntity, explain(failed)
	}
	q.show(w, r, a, p)
}

func (q *queuePages) pause(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	v := pausesView{Transport: r.PostFormValue("transport"), Domain: strings.TrimSpace(r.PostFormValue("domain")), Reason: strings.TrimSpace(r.PostFormValue("reason"))}
	a.Note(strings.TrimSpace(v.Transport + " " + v.Domain + ": " + v.Reason))
	var err error
	switch {
	case v.Transport == "" && v.Domain == "":
		err = errors.New("say what to pause: a transport, a domain, or a domain on a transport")
	case v.Reason == "":
		err = errors.New("say why: others read it who wonder why mail waits")
	case len(v.Reason) > maxWhy:
		err = fmt.Errorf("the reason has more than %d bytes", maxWhy)
	default:
		err = q.q.Pause(r.Context(), queue.PauseTarget{Transport: v.Transport, Domain: v.Domain}, a.Name, v.Reason)
	}
	if err != nil {
		q.pausesPage(w, r, a, v, err)
		return
	}
	q.back(w, r, "/queue/pauses", "queue-paused")
}

func (q *queuePages) resume(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	t := queue.PauseTarget{Transport: r.PostFormValue("transport"), Domain: r.PostFormValue("domain")}
	a.Note(strings.TrimSpace(t.Transport + " " + t.Domain))
	if err := q.q.Resume(r.Context(), t, a.Name); err != nil && !errors.Is(err, queue.ErrNotPaused) {
		q.pausesPage(w, r, a, pausesView{}, err)
		return
	}
	q.back(w, r, "/queue/pauses", "queue-resumed")
}

// waits is how long from now on something waits, as people say it: "in 5 minutes".
func waits(t time.Time) string {
	d := time.Until(t)
	switch {
	case t.IsZero():
		return ""
	case d <= 0:
		return "now"
	case d < time.Minute:
		return "in " + plural(int(d/time.Second)+1, "second")
	case d < 2*time.Hour:
		return "in " + plural(int(d/time.Minute)+1, "minute")
	}
	return "in " + plural(int(d/time.Hour)+1, "hour")
}
