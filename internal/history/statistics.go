package history

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/store"
)

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
	// some domains only: TopOf has theirs, from TopSince on.
	Top      map[string][]Ranked `json:"top,omitempty"`
	TopSince time.Time           `json:"top_since,omitzero"`
	// AtLeast are the lists of Top whose counts may be too small: rare names of an hour
	// are not kept.
	AtLeast map[string]bool `json:"at_least,omitempty"`
}

const (
	// maxPoints bounds the points of a statistic: a year of days, or two weeks of hours.
	maxPoints = 400
	// settled is after how long an hour changes no more, but for what a crash left.
	settled = 3 * time.Hour
	// maxBases bounds the sums that are remembered, baseNames the names of each list
	// in one, baseLife how long they are.
	maxBases  = 32
	baseNames = 2000
	baseLife  = 6 * time.Hour
)

// base is the sum of the settled hours of a statistic: they are not read for each look
// at it. It is never changed once it is remembered.
type base struct {
	made   time.Time
	upTo   time.Time // where it ends
	totals map[string]int64
	points map[int]map[string]int64
	top    *Counts
}

// bases are the sums that are remembered, by what was asked for.
type bases struct {
	mu  sync.Mutex
	all map[string]*base
}

func (b *bases) get(key string) *base {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all[key]
}

func (b *bases) put(key string, sum *base) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.all == nil || len(b.all) >= maxBases {
		b.all = make(map[string]*base)
	}
	b.all[key] = sum
}

// wrote forgets the sums where an hour was written that they took for settled.
func (b *bases) wrote(hours []store.HistoryHour) {
	for _, h := range hours {
		if time.Since(h.Hour) > settled {
			b.mu.Lock()
			clear(b.all)
			b.mu.Unlock()
			return
		}
	}
}

// copied is a sum that may be changed.
func (b *base) copied() *base {
	c := &base{made: b.made, upTo: b.upTo, totals: maps.Clone(b.totals), points: make(map[int]map[string]int64, len(b.points)), top: newCounts()}
	for i, totals := range b.points {
		c.points[i] = maps.Clone(totals)
	}
	c.top.addTop(b.top)
	return c
}

// add adds an hour, as those see it who may see the domains.
func (b *base) add(n *Counts, point int, domains []string) {
	if b.points[point] == nil {
		b.points[point] = make(map[string]int64)
	}
	for key, v := range n.of(domains) {
		b.totals[key] += v
		b.points[point][key] += v
	}
	if domains == nil {
		b.top.addTop(n)
	}
}

// trim leaves the frequent names.
func (b *base) trim() {
	for list, names := range b.top.Top {
		if len(names) > baseNames {
			b.top.Top[list] = top(names, baseNames)
			b.top.cut(list)
		}
	}
}

// Statistics counts what happened in [since, until), in steps of whole hours, so that
// there are at most 400. Domains, where not nil, are those that the asker may see. What
// happened in the last seconds may be missing, and what is older than what is kept is.
func (h *History) Statistics(ctx context.Context, since, until time.Time, step time.Duration, domains []string) (*Statistics, error) {
	step = max(step.Truncate(time.Hour), time.Hour)
	since = since.UTC().Truncate(step)
	for until.Sub(since) > maxPoints*step {
		step *= 2
		since = since.Truncate(step)
	}
	sum, err := h.sum(ctx, stretch{since, until, step}, domains)
	if err != nil {
		return nil, err
	}
	s := &Statistics{Since: since, Until: until, Step: step, Totals: sum.totals, Top: make(map[string][]Ranked), AtLeast: sum.top.Cut}
	for i := 0; since.Add(time.Duration(i) * step).Before(until); i++ {
		totals := sum.points[i]
		if totals == nil {
			totals = make(map[string]int64)
		}
		s.Points = append(s.Points, Point{Time: since.Add(time.Duration(i) * step), Totals: totals})
	}
	for list, names := range sum.top.Top {
		all := ranked(names)
		s.Top[list] = all[:min(len(all), topNames)]
	}
	return s, nil
}

// stretch is a time in steps.
type stretch struct {
	since, until time.Time
	step         time.Duration
}

// sum adds up the hours of a stretch.
func (h *History) sum(ctx context.Context, t stretch, domains []string) (*base, error) {
	key := fmt.Sprint(t.since.Unix(), t.step, domains == nil, strings.Join(domains, " "))
	sum := h.bases.get(key)
	if sum == nil || time.Since(sum.made) > baseLife || sum.upTo.After(t.until) {
		sum = &base{made: time.Now(), upTo: t.since, top: newCounts()}
	}
	sum = sum.copied()
	if sum.totals == nil {
		sum.totals = make(map[string]int64)
	}
	border := time.Now().Add(-settled).Truncate(time.Hour)
	if border.After(t.until) {
		border = t.until.Truncate(time.Hour)
	}
	if sum.upTo.Before(border) {
		if err := h.addHours(ctx, sum, stretch{sum.upTo, border, t.step}, t.since, domains); err != nil {
			return nil, err
		}
		sum.upTo = border
		sum.trim()
		h.bases.put(key, sum)
		sum = sum.copied()
	}
	return sum, h.addHours(ctx, sum, stretch{sum.upTo, t.until, t.step}, t.since, domains)
}

// addHours adds the hours of a stretch to a sum that begins at a time.
func (h *History) addHours(ctx context.Context, sum *base, t stretch, from time.Time, domains []string) error {
	hours, err := h.cfg.Store.Hours(ctx, t.since, t.until)
	if err != nil {
		return err
	}
	for _, hour := range hours {
		n := newCounts()
		if err := json.Unmarshal(hour.Data, n); err != nil {
			return fmt.Errorf("read counts of %s: %w", hour.Hour.Format(time.RFC3339), err)
		}
		sum.add(n, int(hour.Hour.Sub(from)/t.step), domains)
	}
	return nil
}

// Tops are the names that were counted most in the latest events.
type Tops struct {
	// Since is from when on all events were looked at: later than asked for where there
	// were too many.
	Since time.Time
	// All says that it is not.
	All    bool
	Events int
	Top    map[string][]Ranked
}

// maxTopEvents and topBudget bound what TopOf looks at.
const (
	maxTopEvents = 5000
	topBudget    = time.Second
)

// TopOf counts names of [since, until) for those who may see some domains, from the
// events that they may see: the latest 5,000, and those that can be looked at in a second.
func (h *History) TopOf(ctx context.Context, since, until time.Time, domains []string) (*Tops, error) {
	query, err := ParseQuery("kind:message,fetch,scanned,connect,sender,recipient", time.Now())
	if err != nil {
		return nil, err
	}
	query.Since, query.Until = since, until
	s := Search{Query: query, Domains: domains, Limit: maxLimit}
	t := &Tops{Since: since, All: true}
	var events []*mail.Event
	for deadline := time.Now().Add(topBudget); ; {
		s.Budget = max(time.Until(deadline), time.Millisecond)
		found, err := h.Search(ctx, s)
		if err != nil {
			return nil, err
		}
		if events = append(events, found.Events...); found.Next.IsZero() {
			break
		}
		if s.Before = found.Next; len(events) >= maxTopEvents || time.Now().After(deadline) {
			// Searches know milliseconds: the one in which it ends is left out.
			t.Since, t.All = found.Next.Time().Add(time.Millisecond), false
			break
		}
	}
	n := newCounts()
	for _, e := range events {
		if compareID(e.ID, mail.FirstID(t.Since)) < 0 {
			break
		}
		t.Events++
		n.add(e, countKey(e))
	}
	t.Top = make(map[string][]Ranked)
	for list, names := range n.Top {
		all := ranked(names)
		t.Top[list] = all[:min(len(all), topNames)]
	}
	return t, nil
}
