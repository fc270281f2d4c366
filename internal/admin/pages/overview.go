package pages

import (
	"encoding/json"
	"net/http"
	"time"

	"gatepost/internal/accounts"
	"gatepost/internal/admin"
	"gatepost/internal/history"
	"gatepost/internal/queue"
)

// overviewPages are the first page after the login.
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
		routes: []admin.Route{get("/overview", o.page), get("/overview/now", o.now), get("/overview/chart", o.chart)},
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

// kind of traffic: how it is called, found and drawn.
type traffic struct {
	Title, Query, color string
	keys                []string
	Count               int64
}

func traffics() []traffic {
	return []traffic{
		{Title: "Accepted", Query: "kind:message verdict:deliver", color: "#2e8b57", keys: []string{"message/deliver", "message/accept", "fetch/deliver", "fetch/accept"}},
		{Title: "Marked", Query: "kind:message verdict:mark", color: "#3b82c4", keys: []string{"message/mark", "fetch/mark"}},
		{Title: "Quarantined", Query: "kind:message verdict:quarantine", color: "#b7791f", keys: []string{"message/quarantine", "fetch/quarantine"}},
		{Title: "Rejected", Query: "kind:message result:refused", color: "#c0392b", keys: []string{"message/reject", "fetch/reject"}},
		{Title: "Put off", Query: "kind:message result:deferred", color: "#7f6bb3", keys: []string{"message/defer", "fetch/defer"}},
		{Title: "Discarded", Query: "kind:message verdict:discard", color: "#6b7280", keys: []string{"message/discard", "fetch/discard"}},
	}
}

func (t *traffic) of(totals map[string]int64) (n int64) {
	for _, key := range t.keys {
		n += totals[key]
	}
	return n
}

// ranking is a list of who or what was seen most.
type ranking struct {
	Title, Field string
	Rows         []history.Ranked
}

// overviewView is what the page shows.
type overviewView struct {
	Over      stretch
	Stretches []stretch
	Traffic   []traffic
	Any       bool
	Bytes     int64
	Rankings  []ranking
	// All says that the actor sees what concerns everybody's mail.
	All     bool
	Checks  []admin.Check
	Wrong   []admin.Check
	Queue   *queue.Stats
	Trouble []queue.DestinationStats
	Stats   history.Stats
	Now     time.Time
}

// topRows is how long rankings are.
const topRows = 8

func (o *overviewPages) view(r *http.Request, a *admin.Actor) (overviewView, error) {
	v := overviewView{Over: stretchOf(r), Stretches: stretches, Traffic: traffics(), All: a.SeesAll(), Now: time.Now()}
	counts, err := o.h.Statistics(r.Context(), v.Now.Add(-v.Over.length), v.Now.Add(time.Hour), v.Over.step, admin.HistoryDomains(a))
	if err != nil {
		return v, err
	}
	for i := range v.Traffic {
		v.Traffic[i].Count = v.Traffic[i].of(counts.Totals)
		v.Any = v.Any || v.Traffic[i].Count > 0
	}
	v.Bytes = counts.Totals["bytes"]
	for _, l := range []struct{ title, list, field string }{
		{"Refused before content, by check", history.TopChecks, "symbol:"}, {"Senders", history.TopSenders, "sender:"},
		{"Recipients", history.TopRecipients, "recipient:"}, {"Networks", history.TopNetworks, "client:"}, {"Viruses and filters", history.TopThreats, ""},
	} {
		if rows := counts.Top[l.list]; len(rows) > 0 {
			v.Rankings = append(v.Rankings, ranking{Title: l.title, Field: l.field, Rows: rows[:min(len(rows), topRows)]})
		}
	}
	if !v.All {
		return v, nil
	}
	v.Stats = o.h.Stats()
	if o.cfg.Health != nil && a.May(accounts.StatusRead) {
		v.Checks = o.cfg.Health.Checks()
		for _, c := range v.Checks {
			if !c.OK {
				v.Wrong = append(v.Wrong, c)
			}
		}
	}
	if o.cfg.Queue != nil && a.May(accounts.QueueRead) {
		stats := o.cfg.Queue.Stats()
		v.Queue = &stats
		for _, d := range stats.Destinations {
			if d.Dead || d.Paused || d.Missing {
				v.Trouble = append(v.Trouble, d)
			}
		}
	}
	return v, nil
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

// chartSeries is one line of a chart, as chart.js takes it.
type chartSeries struct {
	Label  string  `json:"label"`
	Color  string  `json:"color"`
	Values []int64 `json:"values"`
}

func (o *overviewPages) chart(w http.ResponseWriter, r *http.Request, a *admin.Actor) {
	over, now := stretchOf(r), time.Now()
	counts, err := o.h.Statistics(r.Context(), now.Add(-over.length), now.Add(time.Hour), over.step, admin.HistoryDomains(a))
	if err != nil {
		http.Error(w, "the numbers cannot be read", http.StatusServiceUnavailable)
		return
	}
	x := []int64{}
	for _, p := range counts.Points {
		x = append(x, p.Time.Unix())
	}
	series := []chartSeries{}
	for _, t := range traffics() {
		s := chartSeries{Label: t.Title, Color: t.color, Values: []int64{}}
		for _, p := range counts.Points {
			s.Values = append(s.Values, t.of(p.Totals))
		}
		series = append(series, s)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"x": x, "series": series, "link": "/history?q=kind:message+since:{from}+until:{until}"})
}
