package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"gatepost/internal/admin"
	"gatepost/internal/scan/bayes"
	"gatepost/internal/scan/bayes/source"
)

// trainCmd teaches the Bayesian filter.
type trainCmd struct {
	control `embed:""`
	Domain  string   `placeholder:"DOMAIN" help:"Learn for this domain alone (with per_domain = true)."`
	Quiet   bool     `short:"q" help:"Print no progress."`
	As      string   `arg:"" enum:"ham,spam,forget" help:"ham, spam, or forget: undo what was learned of these messages."`
	Paths   []string `arg:"" name:"path" help:"Messages, mboxes, Maildirs or directories of messages."`
}

// Help is the long help text.
func (*trainCmd) Help() string {
	return `Teaches the running gateway. A message counts once, however often it is trained;
training it as the other kind undoes the first. Files with the line ends of Unix
are fine, and so is a line "From " at the beginning.

  gatepost train spam /var/mail/spam.mbox
  gatepost train ham ~bob/Maildir/cur`
}

// trained is what came of a run.
type trained struct {
	As      string `json:"as"`
	Learned int    `json:"learned"`
	// Known were learned before in the same way, or not there to forget.
	Known int           `json:"known"`
	Took  time.Duration `json:"took"`
}

// Run implements the subcommand.
func (c *trainCmd) Run(t *terminal) error {
	g, done, err := c.open()
	if err != nil {
		return err
	}
	defer done()
	begun := time.Now()
	sum := trained{As: c.As}
	if err := c.all(t, g, &sum); err != nil {
		return fmt.Errorf("train %s after %d messages: %w", c.As, sum.Learned+sum.Known, err)
	}
	sum.Took = time.Since(begun)
	if c.JSON {
		return t.json(sum)
	}
	what := "learned as " + c.As
	if c.As == admin.TrainForget {
		what = "forgotten"
	}
	return t.print(fmt.Sprintf("%d messages %s, %d changed nothing, in %s.\n", sum.Learned, what, sum.Known, sum.Took.Round(time.Millisecond)))
}

// trainAtOnce is how many messages are on their way to the gateway: the database
// takes those that come together in one go.
const trainAtOnce = 8

// all trains the messages of all paths.
func (c *trainCmd) all(t *terminal, g *client, sum *trained) error {
	var mu sync.Mutex
	work, ctx := errgroup.WithContext(g.ctx)
	work.SetLimit(trainAtOnce)
	for _, path := range c.Paths {
		err := source.EachMessage(ctx, path, source.Options{}, func(m source.Message) error {
			text, err := io.ReadAll(io.NewSectionReader(m.Body, 0, m.Body.Size())) // m ends with this call
			if err != nil {
				return fmt.Errorf("%s: %w", m, err)
			}
			work.Go(func() error {
				changed, err := c.one(g, text)
				if err != nil {
					return fmt.Errorf("%s: %w", m, err)
				}
				mu.Lock()
				defer mu.Unlock()
				c.count(t, sum, changed)
				return nil
			})
			return nil
		})
		if err != nil {
			return errors.Join(work.Wait(), err)
		}
	}
	return work.Wait()
}

// one trains one message and reports whether that was news.
func (c *trainCmd) one(g *client, text []byte) (bool, error) {
	q := url.Values{"kind": {c.As}}
	if c.Domain != "" {
		q.Set("domain", c.Domain)
	}
	var answer admin.Trained
	err := g.send("/api/v1/bayes/train", q, bytes.NewReader(text), &answer)
	return answer.Changed, err
}

// count adds one message to the sum, and shows how far it is.
func (c *trainCmd) count(t *terminal, sum *trained, changed bool) {
	if changed {
		sum.Learned++
	} else {
		sum.Known++
	}
	if n := sum.Learned + sum.Known; !c.Quiet && !c.JSON && n%500 == 0 {
		fmt.Fprintf(t.err, "%d messages\n", n)
	}
}

// bayesCmd groups what there is to know of the filter.
type bayesCmd struct {
	Status bayesStatusCmd `cmd:"" help:"Show how much was learned, and whether messages get a score."`
}

// bayesStatusCmd shows what was learned.
type bayesStatusCmd struct {
	control `embed:""`
}

// Run implements the subcommand.
func (c *bayesStatusCmd) Run(t *terminal) error {
	g, done, err := c.open()
	if err != nil {
		return err
	}
	defer done()
	var s bayes.Status
	if err := g.get("/api/v1/bayes", nil, &s); err != nil {
		return err
	}
	if c.JSON {
		return t.json(s)
	}
	return t.print(bayesText(&s))
}

// bayesText is the status for people.
func bayesText(s *bayes.Status) string {
	var b strings.Builder
	if s.Ready {
		b.WriteString("Messages get a score.\n")
	} else {
		fmt.Fprintf(&b, "No scores yet: %s.\n", clean(s.Reason))
	}
	var t table
	t.add("SCOPE", "HAM", "SPAM", "SCORES", "LAST LEARNED")
	for _, sc := range s.Scopes {
		name, ready, last := sc.Scope, "no", "never"
		if name == "" {
			name = "(all mail)"
		}
		if sc.Ready {
			ready = "yes"
		}
		if !sc.Last.IsZero() {
			last = sc.Last.Format(time.RFC3339)
		}
		t.add(clean(name), fmt.Sprint(sc.Ham), fmt.Sprint(sc.Spam), ready, last)
	}
	b.WriteString(t.text())
	fmt.Fprintf(&b, "%d of %d tokens, %d messages remembered, %s in the database, %s in memory\n",
		s.Tokens, s.TokenLimit, s.Messages, sizeText(s.Bytes), sizeText(s.MemoryBytes))
	return b.String()
}
