package bayes

import (
	"context"
	"strings"
	"sync"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/scan"
	"gatepost/internal/store"
)

// Autolearn says when a verdict is certain enough to learn from it. Whoever can
// send mail can try to teach the classifier, so that every guard here errs on the
// side of learning nothing. A zero field takes its default.
type Autolearn struct {
	// SpamOver and HamUnder are the scores, without what this module added, from
	// which a message is learned; default 12 and -1.
	SpamOver, HamUnder *float64
	// PerSource is how many messages are learned in a day from one sender domain
	// and from one client network (/24, /48); default 10.
	PerSource int
	// MaxRatio is how many times as much ham as spam, or the other way round, is
	// learned before more of it is left out; default 5.
	MaxRatio float64
}

func (a Autolearn) withDefaults() Autolearn {
	over, under := 12.0, -1.0
	if a.SpamOver == nil {
		a.SpamOver = &over
	}
	if a.HamUnder == nil {
		a.HamUnder = &under
	}
	setDefault(&a.PerSource, 10)
	setDefault(&a.MaxRatio, 5)
	return a
}

// Learned says what Autolearn did with a message.
type Learned struct {
	Changed bool
	Spam    bool
	Reason  string // why nothing was learned; "" where something was
}

// minTokens is how many tokens a message must have to teach anything.
const minTokens = 20

// Autolearn learns a message from its verdict where that is certain. score is the
// sum of what the other modules found. in.Reports are looked at for failed
// authentication and for modules that could not say. It does nothing unless
// Config.Autolearn is set; the errors are those of reading the message and of the
// database.
func (c *Classifier) Autolearn(ctx context.Context, in *scan.Input, verdict mail.Verdict, score float64) (Learned, error) {
	spam, reason := c.wanted(in, &verdict, score)
	if reason != "" {
		return Learned{Reason: reason}, nil
	}
	ts, err := c.tokenize(ctx, in)
	if err != nil {
		return Learned{}, err
	}
	defer ts.release()
	if reason := c.doubts(ts, spam); reason != "" {
		return Learned{Spam: spam, Reason: reason}, nil
	}
	if !c.rates.allow(sources(in), c.config.Autolearn.PerSource, time.Now()) {
		return Learned{Spam: spam, Reason: "enough was learned from this sender or network today"}, nil
	}
	m, err := c.message(ctx, "", in, spam)
	if err != nil {
		return Learned{}, err
	}
	// What a person said about the message stays.
	m.Keep = true
	changed, err := c.learn(ctx, []store.BayesMessage{m})
	if err != nil {
		return Learned{}, err
	}
	if !changed[0] {
		return Learned{Spam: spam, Reason: "it was learned before"}, nil
	}
	return Learned{Changed: true, Spam: spam}, nil
}

// wanted says as what the verdict wants the message learned, or why not at all.
func (c *Classifier) wanted(in *scan.Input, v *mail.Verdict, score float64) (spam bool, reason string) {
	a := c.config.Autolearn
	switch {
	case a == nil:
		return false, "learning from verdicts is off"
	case v.Threat != "" && v.Threat != mail.ThreatSpam:
		// A virus or a forbidden attachment says nothing about the words.
		return false, "the verdict is about something else than spam"
	case score >= *a.SpamOver:
		return true, ""
	case score > *a.HamUnder:
		return false, "the score is not certain enough"
	case v.Action != mail.ActionDeliver && v.Action != "":
		return false, "it is not delivered as it is"
	}
	for i := range in.Reports {
		for j := range in.Reports[i].Findings {
			f := &in.Reports[i].Findings[j]
			if f.Module == "authres" && strings.Contains(f.Symbol, "fail") {
				return false, "the authentication of the sender fails"
			}
			if f.Module != "bayes" && f.Result == mail.Unknown {
				return false, "a module could not say"
			}
		}
	}
	return false, ""
}

// doubts returns why a message should not be learned as what the verdict says.
func (c *Classifier) doubts(ts *tokens, spam bool) string {
	if len(ts.list) < minTokens {
		return "there is too little in it"
	}
	// What is not loaded is not known to disagree, and nothing can be learned.
	r, err := c.classify(ts, "")
	if err != nil {
		return err.Error()
	}
	if r.Ready && (spam && r.Class == "ham" || !spam && r.Class == "spam") {
		return "what was learned so far says the opposite"
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	s := c.table.scopes[""]
	if s == nil {
		return ""
	}
	more, less := s.Ham, s.Spam
	if spam {
		more, less = less, more
	}
	if float64(more) >= c.config.Autolearn.MaxRatio*float64(max(less, c.config.MinTrained)) {
		return "too much of one kind was learned"
	}
	return ""
}

// sources are what the rate of learning is counted by: the domain that a sender
// claims, the one that the header shows, and the network that he really has.
func sources(in *scan.Input) []string {
	var keys []string
	if e := in.Message.Envelope; e != nil {
		if d := e.Sender.Domain; d != "" {
			keys = append(keys, "domain "+siteOf(d))
		}
		if ip := e.Session.Client.Addr().Unmap(); ip.IsValid() {
			bits := 24
			if ip.Is6() {
				bits = 48
			}
			if p, err := ip.Prefix(bits); err == nil {
				keys = append(keys, "network "+p.String())
			}
		}
	}
	if len(keys) == 0 {
		from := in.Header.Get("From")
		host := strings.ToLower(strings.Trim(from[strings.LastIndexByte(from, '@')+1:], "> \t"))
		keys = append(keys, "domain "+siteOf(host[:min(len(host), 255)]))
	}
	return keys
}

// rates counts what was learned from each source today. It is lost with the
// process, and each node counts for itself: it slows an attack down, no more.
type rates struct {
	mu    sync.Mutex
	day   int64
	count map[string]int
}

// maxSources bounds the memory; over it nobody new is learned from until tomorrow.
const maxSources = 100_000

func newRates() *rates { return &rates{count: map[string]int{}} }

// allow reports whether all sources are below the limit, and counts one for each
// if so.
func (r *rates) allow(keys []string, limit int, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if day := now.Unix() / 86400; day != r.day {
		r.day = day
		clear(r.count)
	}
	for _, key := range keys {
		if n, known := r.count[key]; n >= limit || !known && len(r.count) >= maxSources {
			return false
		}
	}
	for _, key := range keys {
		r.count[key]++
	}
	return true
}
