package greylist

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/policy"
	"gatepost/internal/store"
)

// Name is how the block is named in flows, and the module in findings.
const Name = "greylist"

// Symbols of findings.
const (
	SymbolWait        = "wait"        // match: it has to come back
	SymbolPassed      = "passed"      // the triplet has waited
	SymbolSource      = "source"      // triplets of the source have passed before
	SymbolKnown       = "known"       // somebody here wrote to the sender
	SymbolAllowed     = "allowed"     // an administrator allowed it
	SymbolUnavailable = "unavailable" // unknown: the records cannot be read
)

// Store is where triplets are kept; *store.Store is one.
type Store interface {
	SeeGreylist(ctx context.Context, t store.GreylistTriplet, r store.GreylistRules) (store.GreylistAnswer, error)
	LearnGreylist(ctx context.Context, pairs []store.GreylistPair, keep time.Duration) error
	AllowGreylist(ctx context.Context, what, note string) error
	FindGreylist(ctx context.Context, q store.GreylistQuery) ([]store.GreylistEntry, bool, error)
	ForgetGreylist(ctx context.Context, q store.GreylistQuery) (int64, error)
	ExpireGreylist(ctx context.Context) (int64, error)
}

// Config is how the check works. Zero values but Store stand for the defaults.
type Config struct {
	Store Store
	Log   *slog.Logger // nil: nothing is logged

	// Delay is how long a triplet waits, default 5 minutes; Window until when it must
	// have come back, default 28 hours, so that who tries once a day passes; Keep how
	// long it passes afterwards, counted from the last message, default 36 days, so
	// that monthly mail does.
	Delay, Window, Keep time.Duration
	// AutoAllow is how many triplets of a network or domain must have passed until
	// all of it passes at once; default 5, below 0 never.
	AutoAllow int
	// IPv4Bits and IPv6Bits are the sizes of a network; default 24 and 64.
	IPv4Bits, IPv6Bits int
	// Allow are networks that never wait, beside those in the store.
	Allow []netip.Prefix
	// Score is what a match counts; default 0.
	Score float64

	// Timeout bounds a look into the store; default 2 s. After one that failed there
	// is none for Pause, default 2 s.
	Timeout, Pause time.Duration
	// CacheFor is how long an answer is used without a look into the store, default
	// 15 minutes: what another node forgets may pass here for so long. CacheSize
	// bounds the answers in memory, at 300 bytes each; default 50,000.
	CacheFor  time.Duration
	CacheSize int
	// AllowEvery is how often what administrators allow is read; default 1 minute.
	AllowEvery time.Duration
	// TidyEvery is how often expired entries are deleted; default 1 hour.
	TidyEvery time.Duration
}

func (c Config) withDefaults() Config {
	c.Delay = cmp.Or(c.Delay, 5*time.Minute)
	c.Window = cmp.Or(c.Window, 28*time.Hour)
	c.Keep = cmp.Or(c.Keep, 36*24*time.Hour)
	c.AutoAllow = max(cmp.Or(c.AutoAllow, 5), 0)
	c.IPv4Bits = cmp.Or(c.IPv4Bits, 24)
	c.IPv6Bits = cmp.Or(c.IPv6Bits, 64)
	c.Timeout = cmp.Or(c.Timeout, 2*time.Second)
	c.Pause = cmp.Or(c.Pause, 2*time.Second)
	c.CacheFor = cmp.Or(c.CacheFor, 15*time.Minute)
	c.CacheSize = cmp.Or(c.CacheSize, 50_000)
	c.AllowEvery = cmp.Or(c.AllowEvery, time.Minute)
	c.TidyEvery = cmp.Or(c.TidyEvery, time.Hour)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

func (c Config) check() error {
	switch {
	case c.Store == nil:
		return errors.New("greylist: it needs a store")
	case c.Delay < time.Second || c.Delay > 24*time.Hour:
		return fmt.Errorf("greylist: delay is %v and must be between 1s and 24h", c.Delay)
	case c.Window <= c.Delay:
		return fmt.Errorf("greylist: window is %v and must be longer than the delay of %v", c.Window, c.Delay)
	case c.Keep < c.Window:
		return fmt.Errorf("greylist: keep is %v and must not be shorter than the window of %v", c.Keep, c.Window)
	case c.IPv4Bits < 8 || c.IPv4Bits > 32:
		return fmt.Errorf("greylist: ipv4_bits is %d and must be between 8 and 32", c.IPv4Bits)
	case c.IPv6Bits < 16 || c.IPv6Bits > 128:
		return fmt.Errorf("greylist: ipv6_bits is %d and must be between 16 and 128", c.IPv6Bits)
	}
	for _, d := range []struct {
		name string
		is   time.Duration
	}{{"timeout", c.Timeout}, {"pause", c.Pause}, {"cache_for", c.CacheFor}, {"allow_every", c.AllowEvery}, {"tidy_every", c.TidyEvery}} {
		if d.is < 0 {
			return fmt.Errorf("greylist: %s is %v and must not be negative", d.name, d.is)
		}
	}
	if c.CacheSize < 0 {
		return fmt.Errorf("greylist: cache_size is %d and must not be negative", c.CacheSize)
	}
	return nil
}

// Greylist is the check. It has a goroutine, which Close ends.
type Greylist struct {
	config  Config
	rules   store.GreylistRules
	cache   *cache
	allowed *allowList
	pairs   chan store.GreylistPair
	done    sync.WaitGroup
	cancel  context.CancelFunc

	mu    sync.Mutex
	until time.Time // no look into the store before
	why   error     // what the last one said
}

// New returns the check, or an error for a Config that cannot be meant.
func New(c Config) (*Greylist, error) {
	c = c.withDefaults()
	if err := c.check(); err != nil {
		return nil, err
	}
	g := &Greylist{
		config:  c,
		rules:   store.GreylistRules{Delay: c.Delay, Window: c.Window, Keep: c.Keep, SourcePasses: c.AutoAllow},
		cache:   newCache(c.CacheSize),
		allowed: &allowList{},
		pairs:   make(chan store.GreylistPair, maxPairs),
	}
	ctx, cancel := context.WithCancel(context.Background())
	g.cancel = cancel
	g.done.Go(func() { g.run(ctx) })
	return g, nil
}

// Close ends the goroutine; what Outgoing was told and is not written yet, is
// written first.
func (g *Greylist) Close() {
	g.cancel()
	g.done.Wait()
}

// Check implements policy.Check. It has nothing to say about the null sender, for
// whom CheckData is.
func (g *Greylist) Check(ctx context.Context, in *policy.Input) ([]mail.Finding, error) {
	if in.Envelope == nil || in.Recipient == nil || in.Envelope.Sender.IsNull() {
		return nil, nil
	}
	return g.ask(ctx, in.Session, in.Envelope, recipientOf(in.Recipient))
}

// CheckData is for the null sender, when DATA is asked for: bounces and the like.
// Where several recipients are named, which no bounce does, the first decides. It
// has nothing to say about other senders.
func (g *Greylist) CheckData(ctx context.Context, s *mail.Session, env *mail.Envelope) ([]mail.Finding, error) {
	if !env.Sender.IsNull() || len(env.Recipients) == 0 {
		return nil, nil
	}
	return g.ask(ctx, s, env, recipientOf(&env.Recipients[0]))
}

func recipientOf(r *mail.Recipient) string {
	if !r.Original.IsNull() {
		return r.Original.Key()
	}
	return r.Address.Key()
}

func (g *Greylist) ask(ctx context.Context, s *mail.Session, env *mail.Envelope, recipient string) ([]mail.Finding, error) {
	if s.MayRelay() || !s.Client.Addr().IsValid() {
		return nil, nil
	}
	t := store.GreylistTriplet{Source: g.source(s, env), Sender: NormalSender(env.Sender), Recipient: recipient}
	if g.allows(ctx, s, env, t) {
		return g.pass(SymbolAllowed, "allowed by an administrator"), nil
	}
	state, ok := g.cache.get(t, time.Now())
	if !ok {
		var err error
		if state, err = g.look(ctx, t); err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return []mail.Finding{{Module: Name, Symbol: SymbolUnavailable, Result: mail.Unknown,
				Reason: "the records of greylisting cannot be read now"}}, nil
		}
	}
	return g.finding(t, state), nil
}

// finding says what the state of a triplet means.
func (g *Greylist) finding(t store.GreylistTriplet, s state) []mail.Finding {
	switch s.symbol {
	case SymbolPassed:
		return g.pass(s.symbol, "it came back from "+t.Source)
	case SymbolSource:
		return g.pass(s.symbol, fmt.Sprintf("%s has passed %d times", t.Source, g.config.AutoAllow))
	case SymbolKnown:
		return g.pass(s.symbol, "somebody here wrote to the sender")
	}
	wait := max(time.Until(s.until), time.Second)
	return []mail.Finding{{
		Module: Name, Symbol: SymbolWait, Result: mail.Match, Score: g.config.Score, Name: t.Source,
		Reason:     fmt.Sprintf("new from %s, to try again in %v", t.Source, wait.Round(time.Second)),
		Properties: []mail.Property{policy.Wait(wait)},
	}}
}

func (g *Greylist) pass(symbol, reason string) []mail.Finding {
	return []mail.Finding{{Module: Name, Symbol: symbol, Result: mail.Clean, Reason: reason}}
}

// look asks the store and remembers the answer.
func (g *Greylist) look(ctx context.Context, t store.GreylistTriplet) (state, error) {
	if err := g.paused(); err != nil {
		return state{}, err
	}
	limited, cancel := context.WithTimeout(ctx, g.config.Timeout)
	defer cancel()
	a, err := g.config.Store.SeeGreylist(limited, t, g.rules)
	if err != nil {
		if ctx.Err() == nil {
			g.pause(err)
		}
		return state{}, err
	}
	now := time.Now()
	s := state{until: now.Add(g.config.CacheFor)}
	switch {
	case a.Passed:
		s.symbol = SymbolPassed
	case a.Source:
		s.symbol = SymbolSource
		g.cache.put(sourceKey(t), s)
		return s, nil
	case a.Known:
		s.symbol = SymbolKnown
	default:
		// Never longer than our own delay, whatever another node's clock made of it.
		s = state{symbol: SymbolWait, until: now.Add(min(a.Wait, g.config.Delay))}
	}
	g.cache.put(t, s)
	return s, nil
}

// paused returns why the store is not asked at the moment, or nil.
func (g *Greylist) paused() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if time.Now().Before(g.until) {
		return g.why
	}
	return nil
}

// pause spares a store that does not answer, and every client the wait for it.
func (g *Greylist) pause(why error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if time.Now().Before(g.until) {
		return
	}
	g.config.Log.Warn("greylist: the records cannot be used", "error", why)
	g.until, g.why = time.Now().Add(g.config.Pause), why
}

// Reply is how a match is answered: 451 4.7.1 with the time to wait.
func Reply(f *mail.Finding) mail.Reply {
	r := mail.ReplyGreylisted.Reply()
	for _, p := range f.Properties {
		if p.Name == policy.PropertyWait {
			return r.WithText("Greylisted, try again in " + p.Value + " seconds")
		}
	}
	return r
}
