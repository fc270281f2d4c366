package bayes

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/scan"
	"gatepost/internal/store"
)

// Store is what the classifier needs of *store.Store.
type Store interface {
	BayesLoad(ctx context.Context, v store.BayesVisitor) (store.BayesPoint, error)
	BayesChanges(ctx context.Context, since store.BayesPoint) ([]store.BayesChange, store.BayesPoint, error)
	BayesLearn(ctx context.Context, messages []store.BayesMessage) ([]bool, error)
	BayesForget(ctx context.Context, m store.BayesMessage) (bool, error)
	BayesExpire(ctx context.Context, limits store.BayesLimits) (int64, error)
	BayesSize(ctx context.Context) (store.BayesSize, error)
}

// Config is how a Classifier works; a zero field takes its default.
type Config struct {
	Store Store
	Log   *slog.Logger // nil: nothing is logged
	// MinTrained is how many ham and how many spam messages have to be learned
	// before there is a score; default 50.
	MinTrained int64
	// PerDomain adds what was learned for the domain of a recipient.
	PerDomain bool
	// SpamFrom and HamUpTo are the probabilities from which a message is called
	// spam, and up to which ham; between them it is unsure. Default 0.9 and 0.1.
	SpamFrom, HamUpTo float64
	// MessageTokens is how many tokens of one message count; default 3000.
	MessageTokens int
	// Tokens is how many tokens are kept in all, in the database and in memory
	// (16 to 43 bytes each there); default 2,000,000.
	Tokens int64
	// Messages is how many learned messages are remembered, Lists for how many of
	// them their tokens are; default 200,000 and 20,000.
	Messages, Lists int
	// Refresh is how often the database is asked what other nodes learned;
	// default 10 s.
	Refresh time.Duration
	// Autolearn learns from the verdicts of other modules; nil: never.
	Autolearn *Autolearn
}

func (c Config) withDefaults() Config {
	setDefault(&c.MinTrained, 50)
	setDefault(&c.SpamFrom, 0.9)
	setDefault(&c.HamUpTo, 0.1)
	setDefault(&c.MessageTokens, 3000)
	setDefault(&c.Tokens, 2_000_000)
	setDefault(&c.Messages, 200_000)
	setDefault(&c.Lists, 20_000)
	setDefault(&c.Refresh, 10*time.Second)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Autolearn != nil {
		a := c.Autolearn.withDefaults()
		c.Autolearn = &a
	}
	return c
}

func setDefault[T int | int64 | float64 | time.Duration](v *T, to T) {
	if *v <= 0 {
		*v = to
	}
}

// Classifier holds what was learned. It may be used by many goroutines.
type Classifier struct {
	config Config
	rates  *rates

	mu    sync.RWMutex // guards table, point, loaded; never held across I/O
	table *table
	point store.BayesPoint
	// loaded is when the table was last known to be up to date; zero: never.
	loaded time.Time

	// turn holds one token: who has it may talk to the database and then change
	// the table, so that changes are applied once and in their order.
	turn    chan struct{}
	learned int // messages since the last expiry; who has the turn may use it
}

// New returns a classifier that knows nothing yet: see Run and Refresh.
func New(config Config) *Classifier {
	config = config.withDefaults()
	return &Classifier{config: config, rates: newRates(), table: newTable(int(config.Tokens)), turn: make(chan struct{}, 1)}
}

// take waits for the turn; the function gives it back.
func (c *Classifier) take(ctx context.Context) (done func(), err error) {
	select {
	case c.turn <- struct{}{}:
		return func() { <-c.turn }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Run keeps the memory up to date with the database, and the database within its
// limits, until ctx ends.
func (c *Classifier) Run(ctx context.Context) {
	tick := time.NewTicker(c.config.Refresh)
	defer tick.Stop()
	expired, away := time.Now(), false
	for {
		err := c.Refresh(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && !away:
			c.config.Log.Warn("bayes: cannot read what was learned", "error", err)
		case err == nil && away:
			c.config.Log.Info("bayes: the database answers again")
		}
		away = err != nil
		if !away && time.Since(expired) > time.Hour {
			expired = time.Now()
			if err := c.Expire(ctx); err != nil && ctx.Err() == nil {
				c.config.Log.Warn("bayes: cannot remove old tokens", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Refresh brings the memory up to date: it reads everything the first time, and
// then what changed.
func (c *Classifier) Refresh(ctx context.Context) error {
	done, err := c.take(ctx)
	if err != nil {
		return err
	}
	defer done()
	return c.refresh(ctx)
}

// refresh is Refresh for who has the turn.
func (c *Classifier) refresh(ctx context.Context) error {
	c.mu.RLock()
	point, known := c.point, !c.loaded.IsZero()
	c.mu.RUnlock()
	if !known {
		return c.load(ctx)
	}
	changes, point, err := c.config.Store.BayesChanges(ctx, point)
	if errors.Is(err, store.ErrBayesReload) {
		return c.load(ctx)
	}
	if err != nil {
		return err
	}
	c.mu.Lock()
	if !c.table.knows(changes) {
		c.mu.Unlock()
		return c.load(ctx) // a scope is new
	}
	defer c.mu.Unlock()
	for i := range changes {
		c.table.apply(&changes[i])
	}
	c.point, c.loaded = point, time.Now()
	return nil
}

// load reads everything into a new table.
func (c *Classifier) load(ctx context.Context) error {
	fresh := newTable(int(c.config.Tokens))
	point, err := c.config.Store.BayesLoad(ctx, fresh)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.table, c.point, c.loaded = fresh, point, time.Now()
	return nil
}

// Expire removes from the database what is over the limits.
func (c *Classifier) Expire(ctx context.Context) error {
	removed, err := c.config.Store.BayesExpire(ctx, store.BayesLimits{
		Tokens: c.config.Tokens, Messages: c.config.Messages, Lists: c.config.Lists,
	})
	if removed > 0 {
		c.config.Log.Info("bayes: old tokens removed", "tokens", removed)
	}
	return err
}

// Result is what the classifier says of a message.
type Result struct {
	// Ready is false where too little was learned; the rest is then empty.
	Ready       bool
	Probability float64 // of spam, 0 to 1
	// Sum is what the probability is made of: above 0 it looks like spam. It tells
	// messages apart whose probabilities are both as good as certain.
	Sum float64
	// Class is "spam", "ham" or "unsure".
	Class string
	// Spam and Ham are the tokens that said most for each, the strongest first.
	Spam, Ham []Evidence
	// Tokens is how many tokens the message has, Known how many of them say something.
	Tokens, Known int
}

// Evidence is a token and how much it moved the sum, in logarithms of odds.
type Evidence struct {
	Token  string
	Weight float64
}

// explained is how many tokens of each side a result names.
const explained = 6

// errNotLoaded says that the database was away since the start.
var errNotLoaded = errors.New("what was learned could not be read yet")

// Classify judges a message for a scope: "" or a domain.
func (c *Classifier) Classify(ctx context.Context, in *scan.Input, scope string) (Result, error) {
	ts, err := c.tokenize(ctx, in)
	if err != nil {
		return Result{}, err
	}
	defer ts.release()
	return c.classify(ts, scope)
}

// classify judges tokens for a scope.
func (c *Classifier) classify(ts *tokens, scope string) (Result, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.loaded.IsZero() {
		return Result{}, errNotLoaded
	}
	global, own := c.scopesFor(scope)
	if global == nil && own == nil {
		return Result{}, nil
	}
	j := c.table.judge(ts, global, own)
	r := Result{Ready: true, Probability: j.probability, Sum: j.sum, Class: "unsure", Tokens: len(ts.list), Known: len(j.evidence)}
	switch {
	case j.probability >= c.config.SpamFrom:
		r.Class = "spam"
	case j.probability <= c.config.HamUpTo:
		r.Class = "ham"
	}
	r.Spam, r.Ham = explain(j.strongest(explained, true)), explain(j.strongest(explained, false))
	return r, nil
}

// scopesFor returns the counts that say something about mail of a scope: those
// for all mail and those of its own, nil where too little was learned. Who holds
// mu calls it.
func (c *Classifier) scopesFor(scope string) (global, own *scopeCounts) {
	if global = c.table.scopes[""]; !c.trained(global) {
		global = nil
	}
	if scope != "" && c.config.PerDomain {
		if own = c.table.scopes[scope]; !c.trained(own) {
			own = nil
		}
	}
	return global, own
}

func (c *Classifier) trained(s *scopeCounts) bool {
	return s != nil && s.Ham >= c.config.MinTrained && s.Spam >= c.config.MinTrained
}

func explain(list []evidence) []Evidence {
	named := make([]Evidence, len(list))
	for i, e := range list {
		named[i] = Evidence{Token: e.token.String(), Weight: e.odds}
	}
	return named
}

// tokenize finds the tokens of a message; the set has to be released.
func (c *Classifier) tokenize(ctx context.Context, in *scan.Input) (*tokens, error) {
	view, err := in.Text(ctx)
	if err != nil {
		return nil, err
	}
	ts := newTokens(c.config.MessageTokens)
	// Each part has a share that no other can take, or a sender could push out
	// what gives him away; what is left over is for the text, which comes last.
	n := c.config.MessageTokens
	ts.allow(n / 3)
	ts.addHeader(in.Header, view)
	ts.allow(n / 9)
	ts.addStructure(in.Tree)
	ts.addFindings(view.Findings)
	ts.allow(n / 9)
	ts.addURLs(view.URLs)
	ts.allow(n)
	ts.addTexts(view)
	return ts, nil
}

// domainOf is the scope of a recipient.
func domainOf(r *mail.Recipient) string {
	if d := r.Route.Domain; d != "" && d != "*" {
		return d
	}
	return r.Address.Domain
}
