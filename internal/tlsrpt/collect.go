package tlsrpt

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"gatepost/internal/message"
)

// The types of policies, RFC 8460 §4.4.
const (
	TLSA = "tlsa"
	STS  = "sts"
	None = "no-policy-found"
)

// Policy is what was applied to a session.
type Policy struct {
	Type string `json:"policy-type"`
	// Strings are the lines of the MTA-STS policy, or the TLSA records.
	Strings []string `json:"policy-string,omitempty"`
	// MXHosts are the patterns of the MTA-STS policy; for TLSA, the host whose records
	// they are.
	MXHosts []string `json:"mx-host,omitempty"`
}

// NoPolicy is the policy of a domain that has none.
func NoPolicy() Policy { return Policy{Type: None} }

// key tells policies apart.
func (p *Policy) key() string {
	return p.Type + "\n" + strings.Join(p.Strings, "\n") + "\n" + strings.Join(p.MXHosts, "\n")
}

// Failure is how TLS failed; the zero Failure means that it did not.
type Failure struct {
	// Type is one of those of RFC 8460 §4.3.
	Type string `json:"result-type"`
	// SendingIP and IP are the addresses of both ends, where they are known, MXHost the
	// name of the exchanger.
	SendingIP string `json:"sending-mta-ip,omitempty"`
	MXHost    string `json:"receiving-mx-hostname,omitempty"`
	IP        string `json:"receiving-ip,omitempty"`
	// Reason says it in detail.
	Reason string `json:"failure-reason-code,omitempty"`
}

// Session is how one session began.
type Session struct {
	// Domain is the next-hop domain that the report goes to.
	Domain  string
	Policy  Policy
	Failure Failure
}

// Limits of what is remembered.
const (
	defaultDomains = 20000 // of a day
	maxPolicies    = 10    // of a domain
	maxFailures    = 50    // kinds of a policy
	maxReason      = 200   // bytes
)

// day is what is known of one day.
type day struct {
	Date    string             `json:"date"` // 2026-11-23, UTC
	Domains map[string]*domain `json:"domains"`
	// Tries counts the attempts to report it; Next is when the next one is due.
	Tries int       `json:"tries,omitempty"`
	Next  time.Time `json:"next,omitzero"`

	dirty bool
}

// domain is what is known of one domain on one day.
type domain struct {
	Policies []*tally `json:"policies"`
	// Done are the addresses that have the report already.
	Done []string `json:"done,omitempty"`
}

// tally counts what came of one policy.
type tally struct {
	Policy    Policy    `json:"policy"`
	Successes int64     `json:"successes,omitempty"`
	Failed    int64     `json:"failed,omitempty"`
	Failures  []*counts `json:"failures,omitempty"`
}

// counts is how often one kind of failure was.
type counts struct {
	Failure
	Count int64 `json:"failed-session-count"`
}

// Collector collects and reports.
type Collector struct {
	cfg Config

	mu   sync.Mutex
	days map[string]*day
	// lost is how many sessions found no room.
	lost int64
}

// Note remembers how a session began.
func (c *Collector) Note(s Session) {
	now := time.Now().UTC()
	c.mu.Lock()
	defer c.mu.Unlock()
	date := now.Format(time.DateOnly)
	d := c.days[date]
	if d == nil {
		d = &day{Date: date, Domains: make(map[string]*domain)}
		c.days[date] = d
	}
	name := strings.ToLower(s.Domain)
	of := d.Domains[name]
	if of == nil {
		if len(d.Domains) >= c.cfg.Domains {
			c.lost++
			return
		}
		of = &domain{}
		d.Domains[name] = of
	}
	d.dirty = true
	of.tally(&s.Policy).note(&s.Failure)
}

// tally is where a policy is counted. Beyond so many of them in a day, the newest
// stands for those that follow.
func (d *domain) tally(p *Policy) *tally {
	key := p.key()
	for _, t := range d.Policies {
		if t.Policy.key() == key {
			return t
		}
	}
	if n := len(d.Policies); n >= maxPolicies {
		return d.Policies[n-1]
	}
	t := &tally{Policy: Policy{p.Type, slices.Clone(p.Strings), slices.Clone(p.MXHosts)}}
	d.Policies = append(d.Policies, t)
	return t
}

// note counts one session. A failure beyond so many kinds is counted and not described.
func (t *tally) note(f *Failure) {
	if f.Type == "" {
		t.Successes++
		return
	}
	t.Failed++
	kind := *f
	kind.Reason = message.SafeText(f.Reason, maxReason)
	for _, known := range t.Failures {
		if known.Failure == kind {
			known.Count++
			return
		}
	}
	if len(t.Failures) < maxFailures {
		t.Failures = append(t.Failures, &counts{kind, 1})
	}
}

// over returns the days that are over and due, the oldest first.
func (c *Collector) over(now time.Time) []*day {
	c.mu.Lock()
	defer c.mu.Unlock()
	today := now.UTC().Format(time.DateOnly)
	var due []*day
	for _, date := range slices.Sorted(maps.Keys(c.days)) {
		if d := c.days[date]; date < today && !now.Before(d.Next) {
			due = append(due, d)
		}
	}
	return due
}
