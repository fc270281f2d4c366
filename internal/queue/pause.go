package queue

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/smtp"
)

const (
	// pausesKey is the setting that keeps the pauses over a restart.
	pausesKey = "queue/pauses"
	// maxPast bounds the pauses that are remembered after their end.
	maxPast = 1000
)

// pauses are those in force, and those past that items still waiting have seen:
// the time that they took does not count towards giving up.
type pauses struct {
	Current []Pause     `json:"pauses"`
	Past    []pastPause `json:"past,omitempty"`
	version uint64      // counts the changes
}

type pastPause struct {
	PauseTarget
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
}

// covers reports whether the target takes in a recipient of this domain that
// goes to this transport and next hop.
func (t PauseTarget) covers(transport, nextHop, domain string) bool {
	return (t.Transport == "" || t.Transport == transport) &&
		(t.Domain == "" || t.Domain == nextHop || t.Domain == domain)
}

// holdsDestination reports whether everything for the destination is paused.
func (p *pauses) holdsDestination(d mail.Destination) bool {
	return slices.ContainsFunc(p.Current, func(c Pause) bool { return c.covers(d.Transport, d.NextHop, d.NextHop) })
}

// find returns the pause that holds a recipient of the item.
func (p *pauses) find(item *mail.QueueItem, r *mail.QueuedRecipient) (Pause, bool) {
	for _, c := range p.Current {
		if c.covers(item.Transport, item.NextHop, r.Address.Domain) {
			return c, true
		}
	}
	return Pause{}, false
}

func (p *pauses) holds(item *mail.QueueItem, r *mail.QueuedRecipient) bool {
	_, ok := p.find(item, r)
	return ok
}

// time is how long the recipient was paused between the making of the item and
// now. Pauses that overlap count once.
func (p *pauses) time(item *mail.QueueItem, r *mail.QueuedRecipient, now time.Time) time.Duration {
	if len(p.Past) == 0 && len(p.Current) == 0 {
		return 0
	}
	var spans []pastPause
	add := func(t PauseTarget, from, to time.Time) {
		if from.Before(item.Created) {
			from = item.Created
		}
		if t.covers(item.Transport, item.NextHop, r.Address.Domain) && from.Before(to) {
			spans = append(spans, pastPause{From: from, To: to})
		}
	}
	for _, c := range p.Past {
		add(c.PauseTarget, c.From, c.To)
	}
	for _, c := range p.Current {
		add(c.PauseTarget, c.Since, now)
	}
	slices.SortFunc(spans, func(a, b pastPause) int { return a.From.Compare(b.From) })
	var sum time.Duration
	var end time.Time
	for _, s := range spans {
		if s.From.Before(end) {
			s.From = end
		}
		if s.To.After(s.From) {
			sum += s.To.Sub(s.From)
			end = s.To
		}
	}
	return sum
}

// with returns the pauses with one more, or with a new reason for one in force.
func (p *pauses) with(n Pause) pauses {
	next := pauses{Current: slices.Clone(p.Current), Past: p.Past, version: p.version + 1}
	if i := slices.IndexFunc(next.Current, func(c Pause) bool { return c.PauseTarget == n.PauseTarget }); i >= 0 {
		n.Since = next.Current[i].Since
		next.Current[i] = n
		return next
	}
	next.Current = append(next.Current, n)
	slices.SortFunc(next.Current, func(a, b Pause) int {
		if c := strings.Compare(a.Transport, b.Transport); c != 0 {
			return c
		}
		return strings.Compare(a.Domain, b.Domain)
	})
	return next
}

// without returns the pauses with that of the target ended now. Past ones that
// ended before the oldest item was made are forgotten.
func (p *pauses) without(t PauseTarget, now, oldest time.Time) (pauses, bool) {
	i := slices.IndexFunc(p.Current, func(c Pause) bool { return c.PauseTarget == t })
	if i < 0 {
		return *p, false
	}
	next := pauses{Current: slices.Delete(slices.Clone(p.Current), i, i+1), version: p.version + 1}
	for _, past := range append(slices.Clone(p.Past), pastPause{PauseTarget: t, From: p.Current[i].Since, To: now}) {
		if past.To.After(oldest) {
			next.Past = append(next.Past, past)
		}
	}
	next.Past = next.Past[max(0, len(next.Past)-maxPast):]
	return next, true
}

// canonical checks the target and writes its domain as items have it.
func (t PauseTarget) canonical() (PauseTarget, error) {
	if t.Transport == "" && t.Domain == "" {
		return t, errNothingToDo
	}
	if t.Domain != "" {
		d, err := smtp.CanonicalDomain(t.Domain)
		if err != nil {
			return t, fmt.Errorf("%w: domain %q: %w", ErrSelector, t.Domain, err)
		}
		t.Domain = d
	}
	return t, nil
}

// loadPauses reads the pauses of the last run. Damaged ones are named and left
// out: better to deliver what was paused than to deliver nothing.
func (q *Queue) loadPauses() error {
	b, err := q.cfg.Store.Setting(pausesKey)
	if err != nil && !q.cfg.Gone(err) {
		return fmt.Errorf("read pauses: %w", err)
	}
	if err != nil || len(b) == 0 {
		return nil
	}
	var p pauses
	if err := json.Unmarshal(b, &p); err != nil {
		q.log.Error("stored pauses are damaged; none is in force", "error", err)
		return nil
	}
	q.mu.Lock()
	q.pauses = p
	q.mu.Unlock()
	return nil
}

// Pause stops new attempts for the target. It is durable when it returns, burns
// no attempts, and stops the clock that counts towards giving up. Attempts under
// way go on. A target that is paused already gets the new reason.
func (q *Queue) Pause(_ context.Context, t PauseTarget, by, reason string) error {
	t, err := t.canonical()
	if err != nil {
		return err
	}
	q.pausing.Lock()
	defer q.pausing.Unlock()
	q.mu.Lock()
	if _, ok := q.transports[t.Transport]; t.Transport != "" && !ok {
		q.mu.Unlock()
		return fmt.Errorf("pause %q: %w", t.Transport, ErrNoTransport)
	}
	next := q.pauses.with(Pause{PauseTarget: t, Reason: reason, By: by, Since: time.Now().UTC()})
	q.mu.Unlock()
	if err := q.setPauses(next); err != nil {
		return err
	}
	q.log.Warn("delivery paused", "transport", t.Transport, "domain", t.Domain, "by", by, "reason", reason)
	return nil
}

// Resume ends a pause; what came due meanwhile is tried at once. The target must
// be one that was paused, else the error is ErrNotPaused.
func (q *Queue) Resume(_ context.Context, t PauseTarget, by string) error {
	t, err := t.canonical()
	if err != nil {
		return err
	}
	q.pausing.Lock()
	defer q.pausing.Unlock()
	oldest := q.oldest()
	now := time.Now().UTC()
	if oldest.IsZero() {
		oldest = now
	}
	q.mu.Lock()
	next, ok := q.pauses.without(t, now, oldest)
	q.mu.Unlock()
	if !ok {
		return fmt.Errorf("resume transport %q domain %q: %w", t.Transport, t.Domain, ErrNotPaused)
	}
	if err := q.setPauses(next); err != nil {
		return err
	}
	q.log.Warn("delivery resumed", "transport", t.Transport, "domain", t.Domain, "by", by)
	return nil
}

// setPauses stores the pauses and puts them in force.
func (q *Queue) setPauses(p pauses) error {
	b, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("encode pauses: %w", err)
	}
	if err := q.cfg.Store.PutSetting(pausesKey, b); err != nil {
		return fmt.Errorf("store pauses: %w", err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.pauses = p
	for _, d := range q.sched.dests[reportsNumber+1:] {
		if d != nil {
			d.paused = p.holdsDestination(d.key)
			q.sched.offer(d)
		}
	}
	q.sched.unpark()
	q.dispatch()
	return nil
}

// Pauses returns the pauses in force, by transport and domain.
func (q *Queue) Pauses() []Pause {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.pauses.Current)
}
