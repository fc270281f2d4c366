package pages

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"gatepost/internal/accounts"
	"gatepost/internal/admin"
	"gatepost/internal/history"
	"gatepost/internal/mail"
	"gatepost/internal/queue"
)

// overviewPages are the first page after the login. Each number on it is a link to a
// search that finds as many: package history counts and finds by the same code.
type overviewPages struct {
	*Site
	h admin.History
}

func (s *Site) overview() section {
	if s.cfg.History == nil {
		return section{}
	}
	o := &overviewPages{Site: s, h: s.cfg.History}
	get := func(path string, do admin.Handler) admin.Route {
		return admin.Route{Method: "GET", Path: path, Permission: accounts.StatsRead, Scope: accounts.Domains, Do: do}
	}
	return section{
		nav:    []entry{{Path: "/overview", Title: "Overview", permission: accounts.StatsRead, scope: accounts.Domains}},
		routes: []admin.Route{get("/overview", o.page), get("/overview/now", o.now), get("/overview/tops", o.tops)},
	}
}

// span of time that the page can show.
type stretch struct {
	Key, Title string
	length     time.Duration
	step       time.Duration
}

var stretches = []stretch{
	{"1d", "Day", 24 * time.Hour, time.Hour},
	{"7d", "Week", 7 * 24 * time.Hour, 3 * time.Hour},
	{"30d", "Month", 30 * 24 * time.Hour, 24 * time.Hour},
}

// stretchOf is what a request asks for, a day if it does not say.
func stretchOf(r *http.Request) stretch {
	for _, s := range stretches {
		if s.Key == r.URL.Query().Get("over") {
			return s
		}
	}
	return stretches[0]
}

// figure is a number, how it is called and what it leads to.
type figure struct {
	Title, Link string
	// Class is that of its colour in the chart; "" where it is not in there.
	Class string
	Count int64
	// AtLeast says that it may be more.
	AtLeast bool
}

// traffic is one kind of what becomes of messages.
type traffic struct {
	title, class string
	outcome      history.Outcome
}

func traffics() []traffic {
	return []traffic{
		{"Accepted", "accepted", history.Accepted}, {"Marked", "marked", history.Marked}, {"Quarantined", "held", history.Quarantined},
		{"Rejected", "rejected", history.Rejected}, {"Put off", "deferred", history.Deferred}, {"Discarded", "discarded", history.Discarded},
	}
}

// query is the search for it in a time; a zero until is now.
func (t traffic) query(since, until time.Time) string {
	return findIn("kind:message,fetch,scanned outcome:"+string(t.outcome), since, until)
}

func (t traffic) of(totals map[string]int64) int64 { return sumOf(totals, t.outcome.Keys()...) }

func sumOf(totals map[string]int64, keys ...string) (n int64) {
	for _, key := range keys {
		n += totals[key]
	}
	return n
}

// findIn is the address of a search in a time.
func findIn(query string, since, until time.Time) string {
	query += " since:" + since.UTC().Format(time.RFC3339Nano)
	if !until.IsZero() {
		query += " until:" + until.UTC().Format(time.RFC3339)
	}
	return find(query)
}

// overviewView is what the page shows.
type overviewView struct {
	Over      stretch
	Stretches []stretch
	Traffic   []figure
	// More are numbers beside them: refused before content, fetched, attempts.
	More  []figure
	Any   bool
	Bytes int64
	// Flooded were counted and are not kept.
	Flooded int64
	Chart   chart
	Tops    *topsView
	// All says that the actor sees what concerns everybody's mail.
	All      bool
	Checks   []admin.Check
	Wrong    []admin.Check
	Queue    *queue.Stats
	States   []queueAges
	Attempts []figure
	Trouble  []queue.DestinationStats
	Storage  []admin.StorageUse
	Scarce   []admin.StorageUse
	Stats    history.Stats
	Now      time.Time
}

func (o *overviewPages) view(r *http.Request, a *admin.Actor) (overviewView, error) {
	v := overviewView{Over: stretchOf(r), Stretches: stretches, All: a.SeesAll(), Now: time.Now()}
	counts, err := o.h.Statistics(r.Context(), v.Now.Add(-v.Over.length), v.Now, v.Over.step, admin.HistoryDomains(a))
	if err != nil {
		return v, err
	}
	for _, t := range traffics() {
		n := t.of(counts.Totals)
		v.Traffic = append(v.Traffic, figure{Title: t.title, Class: t.class, Link: t.query(counts.Since, time.Time{}), Count: n})
		v.Any = v.Any || n > 0
	}
	v.Chart = chartOf(counts, v.Over)
	if !v.All {
		return v, nil
	}
	v.Bytes, v.Flooded = counts.Totals["bytes"], counts.Totals["flooded"]
	v.addMore(counts)
	v.Tops = &topsView{Since: counts.Since, Lists: rankings(counts.Top, counts.Since, counts.AtLeast)}
	o.addState(r.Context(), &v, a)
	return v, nil
}

// addMore adds what is no message's outcome.
func (v *overviewView) addMore(counts *history.Statistics) {
	t, since := counts.Totals, counts.Since
	refused := figure{Title: "Refused before content", Link: findIn("kind:connect,sender,recipient", since, time.Time{})}
	for _, kind := range []string{"connect/", "sender/", "recipient/"} {
		for _, result := range []string{"refused", "deferred", "dropped"} {
			refused.Count += t[kind+result]
		}
	}
	v.More = append(v.More, refused)
	v.Any = v.Any || refused.Count > 0
	fetched := figure{Title: "Fetched by POP3", Link: findIn("kind:fetch", since, time.Time{}),
		Count: sumOf(t, "fetch/deliver", "fetch/accept", "fetch/mark", "fetch/quarantine", "fetch/reject", "fetch/defer", "fetch/discard", "fetch/failed")}
	if fetched.Count > 0 {
		v.More = append(v.More, fetched)
	}
	for _, result := range []string{"delivered", "partial", "deferred", "failed"} {
		if n := t["attempt/"+result]; n > 0 || result != "partial" {
			v.Attempts = append(v.Attempts, figure{Title: result, Count: n, Link: findIn("kind:attempt result:"+result, since, time.Time{})})
		}
	}
}

// addState adds how the gateway is.
func (o *overviewPages) addState(ctx context.Context, v *overviewView, a *admin.Actor) {
	v.Stats = o.h.Stats()
	if o.cfg.Health != nil && a.May(accounts.StatusRead) {
		for _, c := range o.cfg.Health.Checks() {
			if v.Checks = append(v.Checks, c); !c.OK {
				v.Wrong = append(v.Wrong, c)
			}
		}
	}
	if o.cfg.Storage != nil && a.May(accounts.StatusRead) {
		v.Storage = o.cfg.Storage()
		for _, u := range v.Storage {
			if u.Scarce() && (len(v.Scarce) == 0 || v.Scarce[0].Free != u.Free) {
				v.Scarce = append(v.Scarce, u)
			}
		}
	}
	if o.cfg.Queue != nil && a.May(accounts.QueueRead) {
		stats := o.cfg.Queue.Stats()
		v.Queue, v.States = &stats, o.ages(ctx, &stats)
		for _, d := range stats.Destinations {
			if d.Dead || d.Paused || d.Missing {
				v.Trouble = append(v.Trouble, d)
			}
		}
	}
}

// queueAges are the items of one state: all, and those older than an hour and a day.
type queueAges struct {
	Title, Key      string
	All, Hour, Days int
}

// notCounted stands for a number that is not known.
const notCounted = -1

// maxAged is how long a queue may be for its ages to be counted at each look.
const maxAged = 300_000

// ages counts the queue by state and age; where nothing is that old, nothing is asked.
func (o *overviewPages) ages(ctx context.Context, s *queue.Stats) []queueAges {
	all := []queueAges{{"Coming in", string(mail.QueueIncoming), s.Incoming, 0, 0}, {"Being delivered", string(mail.QueueActive), s.Active, 0, 0},
		{"Waiting", string(mail.QueueDeferred), s.Deferred, 0, 0}, {"On hold", string(mail.QueueHold), s.Hold, 0, 0}}
	count := func(state string, age time.Duration) int {
		if s.Oldest.IsZero() || time.Since(s.Oldest) < age {
			return 0
		}
		n, err := o.cfg.Queue.Count(ctx, queue.Selector{State: mail.QueueState(state), OlderThan: age})
		if err != nil {
			return notCounted
		}
		return n
	}
	if s.Incoming+s.Active+s.Deferred+s.Hold > maxAged {
		for i := range all {
			all[i].Hour, all[i].Days = notCounted, notCounted
		}
		return all
	}
	for i := range all {
		if a := &all[i]; a.All > 0 {
			a.Hour, a.Days = count(a.Key, time.Hour), count(a.Key, 24*time.Hour)
		}
	}
	return all
}

func (o *overviewPages) page(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	p := page{Template: "overview.html", Title: "Overview"}
	v, err := o.view(r, a)
	if err != nil {
		p.Status, p.Failed = http.StatusServiceUnavailable, "The numbers cannot be read now: "+err.Error()+". Try again in a moment."
	}
	p.Data = v
	o.show(w, r, a, p)
}

// now is the part of the page that refreshes itself.
func (o *overviewPages) now(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	v, err := o.view(r, a)
	if err != nil {
		w.WriteHeader(http.StatusNoContent) // what is shown stays; the next time it may work
		return
	}
	o.part(w, r, a, "overview-now", page{Template: "overview.html", Data: v})
}

// ranking is a list of who or what was seen most.
type ranking struct {
	Title string
	Rows  []figure
}

// topsView are the rankings.
type topsView struct {
	Lists []ranking
	Since time.Time
	// Cut says that only the latest Events are counted.
	Cut    bool
	Events int
}

// topRows is how long rankings are.
const topRows = 8

func rankings(top map[string][]history.Ranked, since time.Time, atLeast map[string]bool) (all []ranking) {
	searches := history.TopSearches()
	for _, l := range []struct{ title, list string }{
		{"Refused before content, by check", history.TopChecks}, {"Senders", history.TopSenders},
		{"Recipients", history.TopRecipients}, {"Networks", history.TopNetworks}, {"Viruses and filters", history.TopThreats},
	} {
		rows := top[l.list]
		if len(rows) == 0 {
			continue
		}
		r := ranking{Title: l.title}
		for _, row := range rows[:min(len(rows), topRows)] {
			r.Rows = append(r.Rows, figure{Title: row.Name, Count: row.Count, AtLeast: atLeast[l.list],
				Link: findIn(fmt.Sprintf("%s%s", searches[l.list], quoted(row.Name)), since, time.Time{})})
		}
		all = append(all, r)
	}
	return all
}

// tops are the rankings of those who see some domains only: they are counted from the
// events, which takes a while, so the page does not wait for them.
func (o *overviewPages) tops(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	domains := admin.HistoryDomains(a)
	if domains == nil {
		w.WriteHeader(http.StatusNoContent) // theirs are in the page
		return
	}
	over, now := stretchOf(r), time.Now()
	tops, err := o.h.TopOf(r.Context(), now.Add(-over.length).Truncate(over.step), now.Add(time.Hour), domains)
	if err != nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	v := topsView{Lists: rankings(tops.Top, tops.Since, nil), Since: tops.Since, Cut: !tops.All, Events: tops.Events}
	o.part(w, r, a, "overview-tops", page{Template: "overview.html", Data: v})
}
