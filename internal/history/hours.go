package history

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/store"
)

// Counts is what happened in a stretch of time: what the overview shows without a
// look at the events.
type Counts struct {
	// Totals by what happened: "message/deliver", "attempt/failed" (see countKey), and
	// "bytes" for those of accepted messages.
	Totals map[string]int64 `json:"totals"`
	// Domains has the totals of messages by the domain of their recipients, each domain
	// once for a message.
	Domains map[string]map[string]int64 `json:"domains,omitempty"`
	// Top has how often who or what: by TopSenders and so on.
	Top map[string]map[string]int64 `json:"top,omitempty"`
}

// The lists in Counts.Top.
const (
	TopSenders    = "senders"
	TopRecipients = "recipients"
	TopNetworks   = "networks"
	TopThreats    = "threats" // names of viruses and filters that decided
	TopChecks     = "checks"  // what refused before content
)

// Bounds of what is counted by name in one hour: when there are more names than
// maxNames, the rarer half goes. A list keeps the topNames at the end.
const (
	maxNames   = 2000
	topNames   = 100
	maxDomains = 2000
)

func newCounts() *Counts {
	return &Counts{Totals: make(map[string]int64), Domains: make(map[string]map[string]int64), Top: make(map[string]map[string]int64)}
}

// counter counts the events of this node by the hour.
type counter struct {
	mu    sync.Mutex
	hours map[int64]*Counts // by Unix hour
	dirty map[int64]bool
}

// countKey is under what an event is counted, "" for nothing. A message counts by its
// verdict: deliver, mark, quarantine, discard, reject, defer; "accept" where nothing
// was scanned.
func countKey(e *mail.Event) string {
	switch e.Kind {
	case mail.EventMessage, mail.EventFetch:
		what := string(e.Kind) + "/"
		switch {
		case e.Result == mail.EventRefused:
			return what + string(mail.ActionReject)
		case e.Result == mail.EventDeferred:
			return what + string(mail.ActionDefer)
		case e.Action != "":
			return what + string(e.Action)
		}
		return what + "accept"
	case mail.EventScanned:
		return string(e.Kind) + "/" + string(e.Action)
	}
	return string(e.Kind) + "/" + string(e.Result)
}

// add counts an event.
func (c *counter) add(e *mail.Event) {
	hour := e.Time.Unix() / 3600
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.hours[hour]
	if n == nil {
		if c.hours == nil {
			c.hours, c.dirty = make(map[int64]*Counts), make(map[int64]bool)
		}
		n = newCounts()
		c.hours[hour] = n
	}
	c.dirty[hour] = true
	key := countKey(e)
	n.Totals[key]++
	switch e.Kind {
	case mail.EventMessage, mail.EventFetch:
		n.addMessage(e, key)
	case mail.EventConnect, mail.EventSender, mail.EventRecipient:
		n.name(TopChecks, checkOf(e))
	}
}

func (n *Counts) addMessage(e *mail.Event, key string) {
	if e.Result == mail.EventAccepted || e.Kind == mail.EventFetch {
		n.Totals["bytes"] += e.Size
		n.name(TopSenders, strings.ToLower(e.Sender))
	}
	if e.Client.IsValid() {
		if p, err := e.Client.Prefix(networkBits(e.Client)[0]); err == nil {
			n.name(TopNetworks, p.String())
		}
	}
	if (e.Threat == mail.ThreatVirus || e.Threat == mail.ThreatFilter) && len(e.Recipients) > 0 {
		n.name(TopThreats, e.Recipients[0].Rule)
	}
	last := ""
	for i := range e.Recipients {
		r := &e.Recipients[i]
		if i < topNames {
			n.name(TopRecipients, strings.ToLower(r.Address))
		}
		if r.Domain != last && r.Domain != "*" && r.Domain != "" {
			n.domain(r.Domain, key)
		}
		last = r.Domain
	}
}

func (n *Counts) domain(domain, key string) {
	d := n.Domains[domain]
	if d == nil {
		if len(n.Domains) >= maxDomains {
			return
		}
		d = make(map[string]int64)
		n.Domains[domain] = d
	}
	d[key]++
}

func (n *Counts) name(list, name string) {
	if name == "" {
		return
	}
	l := n.Top[list]
	if l == nil {
		l = make(map[string]int64)
		n.Top[list] = l
	}
	l[name]++
	if len(l) > maxNames {
		n.Top[list] = top(l, maxNames/2)
	}
}

// checkOf names what refused a client before content.
func checkOf(e *mail.Event) string {
	for i := range e.Findings {
		if f := &e.Findings[i]; f.Result == mail.Match {
			return f.Module
		}
	}
	if e.Stage != "" {
		return e.Stage
	}
	return string(e.Kind)
}

// top are the n that are counted most.
func top(l map[string]int64, n int) map[string]int64 {
	if len(l) <= n {
		return l
	}
	most := make(map[string]int64, n)
	for _, c := range ranked(l)[:n] {
		most[c.Name] = c.Count
	}
	return most
}

// Ranked is a name and how often it was counted.
type Ranked struct {
	Name  string `json:"name"`
	Count int64  `json:"count"`
}

// ranked are the names, those that are counted most first.
func ranked(l map[string]int64) []Ranked {
	all := make([]Ranked, 0, len(l))
	for name, n := range l {
		all = append(all, Ranked{name, n})
	}
	slices.SortFunc(all, func(a, b Ranked) int {
		if a.Count != b.Count {
			return int(min(max(b.Count-a.Count, -1), 1))
		}
		return strings.Compare(a.Name, b.Name)
	})
	return all
}

// load takes over what was counted before a restart.
func (c *counter) load(h store.HistoryHour) {
	n := newCounts()
	if err := json.Unmarshal(h.Data, n); err != nil {
		return // counted anew
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hours == nil {
		c.hours, c.dirty = make(map[int64]*Counts), make(map[int64]bool)
	}
	hour := h.Hour.Unix() / 3600
	if now := c.hours[hour]; now != nil {
		n.addCounts(now)
		c.dirty[hour] = true
	}
	c.hours[hour] = n
}

// changed are the hours to be written, with an encoded copy of their counts. Old ones
// are forgotten.
func (c *counter) changed() ([]store.HistoryHour, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now().Unix() / 3600
	var all []store.HistoryHour
	for hour := range c.dirty {
		n := c.hours[hour]
		short := Counts{Totals: n.Totals, Domains: n.Domains, Top: make(map[string]map[string]int64)}
		for list, names := range n.Top {
			short.Top[list] = top(names, topNames)
		}
		b, err := json.Marshal(short)
		if err != nil {
			return nil, fmt.Errorf("encode counts: %w", err)
		}
		all = append(all, store.HistoryHour{Hour: time.Unix(hour*3600, 0).UTC(), Data: b})
	}
	clear(c.dirty)
	maps.DeleteFunc(c.hours, func(hour int64, _ *Counts) bool { return hour < now-2 && !hasHour(all, hour) })
	return all, nil
}

func hasHour(all []store.HistoryHour, hour int64) bool {
	return slices.ContainsFunc(all, func(h store.HistoryHour) bool { return h.Hour.Unix()/3600 == hour })
}

// again marks hours that could not be written.
func (c *counter) again(hours []store.HistoryHour) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range hours {
		if hour := h.Hour.Unix() / 3600; c.hours[hour] != nil {
			c.dirty[hour] = true
		}
	}
}

// addCounts adds those of another.
func (n *Counts) addCounts(o *Counts) {
	for key, v := range o.Totals {
		n.Totals[key] += v
	}
	for domain, totals := range o.Domains {
		if n.Domains[domain] == nil {
			n.Domains[domain] = make(map[string]int64, len(totals))
		}
		for key, v := range totals {
			n.Domains[domain][key] += v
		}
	}
	for list, names := range o.Top {
		if n.Top[list] == nil {
			n.Top[list] = make(map[string]int64, len(names))
		}
		for name, v := range names {
			n.Top[list][name] += v
		}
	}
}

// Point is one stretch of a statistic.
type Point struct {
	Time   time.Time        `json:"time"`
	Totals map[string]int64 `json:"totals"`
}

// Statistics are counts over time.
type Statistics struct {
	Since  time.Time        `json:"since"`
	Until  time.Time        `json:"until"`
	Step   time.Duration    `json:"step_ns"`
	Totals map[string]int64 `json:"totals"`
	Points []Point          `json:"points"`
	// Top are the names that were counted most, by list; none where the asker may see
	// some domains only.
	Top map[string][]Ranked `json:"top,omitempty"`
}

// maxPoints bounds the points of a statistic: a year of days, or two weeks of hours.
const maxPoints = 400

// Statistics counts what happened in [since, until), in steps of whole hours, so that
// there are at most 400. Domains, where not nil, are those that the asker may see. What
// happened in the last seconds may be missing.
func (h *History) Statistics(ctx context.Context, since, until time.Time, step time.Duration, domains []string) (*Statistics, error) {
	step = max(step.Truncate(time.Hour), time.Hour)
	since = since.UTC().Truncate(step)
	for until.Sub(since) > maxPoints*step {
		step *= 2
		since = since.Truncate(step)
	}
	hours, err := h.cfg.Store.Hours(ctx, since, until)
	if err != nil {
		return nil, err
	}
	s := &Statistics{Since: since, Until: until, Step: step, Totals: make(map[string]int64)}
	for t := since; t.Before(until); t = t.Add(step) {
		s.Points = append(s.Points, Point{Time: t, Totals: make(map[string]int64)})
	}
	sum := newCounts()
	for _, hour := range hours {
		n := newCounts()
		if err := json.Unmarshal(hour.Data, n); err != nil {
			return nil, fmt.Errorf("read counts of %s: %w", hour.Hour.Format(time.RFC3339), err)
		}
		n = n.of(domains)
		for key, v := range n.Totals {
			s.Totals[key] += v
			s.Points[int(hour.Hour.Sub(since)/step)].Totals[key] += v
		}
		n.Totals, n.Domains = nil, nil
		sum.addCounts(n)
	}
	s.Top = make(map[string][]Ranked)
	for list, names := range sum.Top {
		all := ranked(names)
		s.Top[list] = all[:min(len(all), topNames)]
	}
	return s, nil
}

// of are the counts of some domains; nil: all.
func (n *Counts) of(domains []string) *Counts {
	if domains == nil {
		return n
	}
	some := newCounts()
	for _, d := range domains {
		for key, v := range n.Domains[d] {
			some.Totals[key] += v
		}
	}
	return some
}
