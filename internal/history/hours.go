package history

import (
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
	// Domains has the totals of messages by the domain whose administrators see them.
	Domains map[string]map[string]int64 `json:"domains,omitempty"`
	// Shared are messages that concern several domains, which Domains leaves out: by
	// "a.example=message/deliver b.example=message/quarantine ".
	Shared map[string]int64 `json:"shared,omitempty"`
	// Top has how often who or what: by TopSenders and so on.
	Top map[string]map[string]int64 `json:"top,omitempty"`
	// Cut are the lists of Top from which rare names were left out.
	Cut map[string]bool `json:"cut,omitempty"`
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
// was scanned, "failed" where it could not be fetched.
func countKey(e *mail.Event) string {
	switch e.Kind {
	case mail.EventMessage, mail.EventFetch:
		what := string(e.Kind) + "/"
		switch {
		case e.Result == mail.EventRefused, e.Result == mail.EventDropped:
			return what + string(mail.ActionReject)
		case e.Result == mail.EventDeferred:
			return what + string(mail.ActionDefer)
		case e.Result == mail.EventFailed:
			return what + string(mail.EventFailed)
		case e.Action != "":
			return what + string(e.Action)
		}
		return what + "accept"
	case mail.EventScanned:
		return string(e.Kind) + "/" + string(e.Action)
	}
	return string(e.Kind) + "/" + string(e.Result)
}

// flooded is the key of what was counted and not kept: no search finds it.
const flooded = "flooded"

// add counts an event that is kept.
func (c *counter) add(e *mail.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hour(e).add(e, countKey(e))
}

func (n *Counts) add(e *mail.Event, key string) {
	n.Totals[key]++
	switch e.Kind {
	case mail.EventMessage, mail.EventFetch:
		n.addMessage(e, key)
	case mail.EventScanned:
		n.addThreats(e)
		n.addDomains(e, key)
	case mail.EventConnect, mail.EventSender, mail.EventRecipient:
		n.name(TopChecks, checkOf(e))
	}
}

// addFlooded counts one that is not.
func (c *counter) addFlooded(e *mail.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hour(e).Totals[flooded]++
}

// hour are the counts of the hour in which an event is found.
func (c *counter) hour(e *mail.Event) *Counts {
	at := e.Time
	if !e.ID.IsZero() {
		at = e.ID.Time() // by which searches bound the time
	}
	hour := at.Unix() / 3600
	n := c.hours[hour]
	if n == nil {
		if c.hours == nil {
			c.hours, c.dirty = make(map[int64]*Counts), make(map[int64]bool)
		}
		n = newCounts()
		c.hours[hour] = n
	}
	c.dirty[hour] = true
	return n
}

func (n *Counts) addMessage(e *mail.Event, key string) {
	if e.Result == mail.EventAccepted || e.Kind == mail.EventFetch {
		n.Totals["bytes"] += e.Size
	}
	n.address(TopSenders, e.Sender)
	if e.Client.IsValid() {
		if p, err := e.Client.Prefix(networkBits(e.Client)[0]); err == nil {
			n.name(TopNetworks, p.String())
		}
	}
	n.addThreats(e)
	for i := range e.Recipients[:min(len(e.Recipients), topNames)] {
		r := &e.Recipients[i]
		if !namedBefore(e.Recipients[:i], r.Address) {
			n.address(TopRecipients, r.Address)
		}
		if r.Original != "" && !strings.EqualFold(r.Original, r.Address) && !namedBefore(e.Recipients[:i], r.Original) {
			n.address(TopRecipients, r.Original)
		}
	}
	n.addDomains(e, key)
}

func (n *Counts) addThreats(e *mail.Event) {
	for _, rule := range threatsOf(e) {
		n.name(TopThreats, rule)
	}
}

// namedBefore reports whether an address is one of those of some recipients.
func namedBefore(before []mail.Addressee, address string) bool {
	return slices.ContainsFunc(before, func(r mail.Addressee) bool {
		return strings.EqualFold(r.Address, address) || strings.EqualFold(r.Original, address)
	})
}

// address counts one that can be looked for: with a domain, or the null sender.
func (n *Counts) address(list, address string) {
	if address == "<>" || strings.Contains(address, "@") {
		n.name(list, strings.ToLower(address))
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
		n.cut(list)
	}
}

func (n *Counts) cut(list string) {
	if n.Cut == nil {
		n.Cut = make(map[string]bool)
	}
	n.Cut[list] = true
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
		short := Counts{Totals: n.Totals, Domains: n.Domains, Shared: n.Shared, Top: make(map[string]map[string]int64), Cut: maps.Clone(n.Cut)}
		for list, names := range n.Top {
			if short.Top[list] = top(names, topNames); len(names) > topNames {
				short.cut(list)
			}
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
	for parts, v := range o.Shared {
		if n.Shared == nil {
			n.Shared = make(map[string]int64, len(o.Shared))
		}
		n.Shared[parts] += v
	}
	n.addTop(o)
}

// addTop adds the lists of another.
func (n *Counts) addTop(o *Counts) {
	for list := range o.Cut {
		n.cut(list)
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
