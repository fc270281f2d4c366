// Package reputation is a scan module that scores a message by what this gateway
// has seen of its sources before: the client's network, the domain in From or of
// the envelope sender, and the domains that signed it. The gateway tells it the
// verdicts (Learn) and the recipients that do not exist (UnknownRecipient).
//
// It runs after authres (scan.Block.After): a domain counts, for good and for
// bad, only where SPF, DKIM or DMARC proved it, for anybody can write another's
// name.
//
// Invariants:
//   - The scores of one message add up to something between MinScore and MaxScore.
//     What is not known scores nothing.
//   - A message counts once for each key, however many its recipients are.
//   - What it says itself never makes a message ham or spam in what it learns.
//   - While the database is away or slow, Scan goes on with what it remembers and
//     says Unknown where it remembers nothing, within Config.Timeout.
package reputation

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"sync"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/scan"
	"gatepost/internal/store"
)

// Name is how the block is named in flows, and the module in findings.
const Name = "reputation"

// Store is where it is kept; *store.Store is one.
type Store interface {
	Reputations(ctx context.Context, keys []string, halfLife time.Duration) (map[string]store.Reputation, error)
	AddReputation(key string, n store.ReputationCounts)
}

// Config is how the module works. Zero values but Store stand for the defaults.
type Config struct {
	Store Store
	// MaxScore, above 0, is the most that a bad reputation adds to a score, and
	// MinScore, below 0, the most that a good one takes away; default 2.5 and -2.5.
	// NoScore stands for 0.
	MaxScore float64
	MinScore float64
	// HalfLife is after how long what was seen counts half; default 14 days.
	HalfLife time.Duration
	// Confidence is how many messages must be seen of a key until it gets half of
	// the score that it deserves; default 8.
	Confidence float64
	// Timeout bounds a lookup; default 300 ms. After one that failed there is none
	// for Pause, default 2 s.
	Timeout time.Duration
	Pause   time.Duration
	// CacheFor is how long an answer is used; default 1 minute. CacheSize bounds
	// how many keys are remembered; default 50,000.
	CacheFor  time.Duration
	CacheSize int
	// HamBelow and SpamFrom are what the score of a message without this module's
	// part must be to count as ham or, where the sum of scores decided, as spam;
	// default 1 and 3.
	HamBelow float64
	SpamFrom float64
	// HamNeeds are the blocks of which one must have had an answer for a message
	// to count as ham; default bayes, rspamd, spamd.
	HamNeeds []string
}

// NoScore as MaxScore or MinScore says that there is none: 0 is the default.
const NoScore = math.SmallestNonzeroFloat64

func (c Config) withDefaults() Config {
	set := func(v *float64, otherwise float64) {
		if *v == 0 {
			*v = otherwise
		}
	}
	set(&c.MaxScore, 2.5)
	set(&c.MinScore, -2.5)
	set(&c.Confidence, 8)
	set(&c.HamBelow, 1)
	set(&c.SpamFrom, 3)
	duration := func(v *time.Duration, otherwise time.Duration) {
		if *v <= 0 {
			*v = otherwise
		}
	}
	duration(&c.HalfLife, 14*24*time.Hour)
	duration(&c.Timeout, 300*time.Millisecond)
	duration(&c.Pause, 2*time.Second)
	duration(&c.CacheFor, time.Minute)
	if len(c.HamNeeds) == 0 {
		c.HamNeeds = []string{"bayes", "rspamd", "spamd"}
	}
	if c.CacheSize <= 0 {
		c.CacheSize = 50_000
	}
	return c
}

// Module scores messages by the reputation of their sources.
type Module struct {
	config  Config
	cache   *cache
	learned *recent

	mu    sync.Mutex
	until time.Time // no lookups before
	why   error     // what the last one said
}

// New returns the module, or an error for a Config that cannot be meant.
func New(c Config) (*Module, error) {
	c = c.withDefaults()
	switch {
	case c.Store == nil:
		return nil, errors.New("reputation: it needs a store")
	case c.MaxScore < 0 || c.MinScore > 0 && c.MinScore != NoScore:
		return nil, fmt.Errorf("reputation: max_score is %g and must not be below 0, min_score is %g and must not be above 0", c.MaxScore, c.MinScore)
	case c.Confidence < 0:
		return nil, fmt.Errorf("reputation: the confidence is %g and must not be below 0", c.Confidence)
	}
	return &Module{config: c, cache: newCache(c.CacheSize), learned: newRecent(maxLearned)}, nil
}

// Scan implements scan.Module. It gives one finding for each source that is known.
func (m *Module) Scan(ctx context.Context, in *scan.Input) ([]mail.Finding, error) {
	sources := sourcesOf(in)
	if len(sources) == 0 {
		return nil, nil
	}
	return m.score(ctx, sources)
}

// score gives one finding for each source that is known.
func (m *Module) score(ctx context.Context, sources []source) ([]mail.Finding, error) {
	known, missing := m.lookup(ctx, sources)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var findings []mail.Finding
	sum := 0.0
	for _, s := range sources {
		r, ok := known[s.key]
		if !ok {
			continue
		}
		f := m.judge(s, r)
		sum += f.Score
		findings = append(findings, f)
	}
	m.bound(findings, sum)
	if missing != nil && len(findings) == 0 {
		findings = append(findings, mail.Finding{Module: Name, Symbol: "unavailable", Result: mail.Unknown,
			Reason: "the records of what was seen before cannot be read now"})
	}
	return findings, nil
}

// Client scores the network of a client, before anything of a message is there.
func (m *Module) Client(ctx context.Context, s *mail.Session) ([]mail.Finding, error) {
	network, ok := clientSource(s)
	if !ok {
		return nil, nil
	}
	return m.score(ctx, []source{network})
}

// judge scores one source: the part of bad mail in all that was seen of it, drawn
// to the middle where little was seen.
func (m *Module) judge(s source, r store.Reputation) mail.Finding {
	// A virus is never sent by mistake by somebody sound, wrong addresses now and
	// then are by everybody.
	good := r.WeightedHam
	bad := r.WeightedSpam + 2*r.WeightedVirus + 0.25*r.WeightedUnknown
	lean := (bad - good) / (bad + good + m.config.Confidence)
	f := mail.Finding{Module: Name, Symbol: s.kind, Name: s.name, Result: mail.Clean, Reason: s.name + ": " + describe(r.Total)}
	if lean > 0 {
		f.Result, f.Score = mail.Match, round(lean*m.config.MaxScore)
	} else {
		f.Score = round(-lean * m.config.MinScore)
	}
	return f
}

// bound shrinks the scores where their sum leaves the limits.
func (m *Module) bound(findings []mail.Finding, sum float64) {
	limit := m.config.MaxScore
	if sum < 0 {
		limit = m.config.MinScore
	}
	if math.Abs(sum) <= math.Abs(limit) {
		return
	}
	for i := range findings {
		// Towards zero, so that rounding does not pass the limit.
		findings[i].Score = math.Trunc(findings[i].Score*limit/sum*100) / 100
	}
}

func round(x float64) float64 { return math.Round(x*100) / 100 }

// describe says what was seen: "3 ham, 40 spam in the last weeks".
func describe(n store.ReputationCounts) string {
	text := fmt.Sprintf("%d ham, %d spam", n.Ham, n.Spam)
	if n.Virus > 0 {
		text += fmt.Sprintf(", %d viruses", n.Virus)
	}
	if n.Unknown > 0 {
		text += fmt.Sprintf(", %d unknown recipients", n.Unknown)
	}
	return text + " in the last weeks"
}

// lookup returns what is known of the sources. missing is set where some of them
// could not be asked for.
func (m *Module) lookup(ctx context.Context, sources []source) (known map[string]store.Reputation, missing error) {
	now := time.Now()
	known = make(map[string]store.Reputation, len(sources))
	var ask []string
	for _, s := range sources {
		e, cached := m.cache.get(s.key)
		if cached && e.seen {
			known[s.key] = e.reputation // stale is better than nothing
		}
		if !cached || now.After(e.until) {
			ask = append(ask, s.key)
		}
	}
	if len(ask) == 0 {
		return known, nil
	}
	if err := m.paused(now); err != nil {
		return known, err
	}
	limited, cancel := context.WithTimeout(ctx, m.config.Timeout)
	defer cancel()
	fresh, err := m.config.Store.Reputations(limited, ask, m.config.HalfLife)
	if err != nil {
		if ctx.Err() == nil {
			m.pause(now, err)
		}
		return known, err
	}
	for _, key := range ask {
		r, seen := fresh[key]
		m.cache.put(key, entry{reputation: r, seen: seen, until: now.Add(m.config.CacheFor)})
		delete(known, key)
		if seen {
			known[key] = r
		}
	}
	return known, nil
}

// paused returns why nothing is looked up at the moment, or nil.
func (m *Module) paused(now time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if now.Before(m.until) {
		return m.why
	}
	return nil
}

func (m *Module) pause(now time.Time, why error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.until, m.why = now.Add(m.config.Pause), why
}

// network is the stretch of addresses that one owner usually has.
func network(ip netip.Addr) (netip.Prefix, bool) {
	ip = ip.Unmap().WithZone("")
	if !ip.IsGlobalUnicast() || ip.IsPrivate() {
		return netip.Prefix{}, false
	}
	bits := 24
	if ip.Is6() {
		bits = 64
	}
	p, err := ip.Prefix(bits)
	return p, err == nil
}
