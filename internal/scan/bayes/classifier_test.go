package bayes_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/scan/bayes"
	"gatepost/internal/store"
)

func TestAnEmptyDatabaseGivesANeutralScore(t *testing.T) {
	c, _ := fresh(t)
	for _, n := range []int{0, 9} {
		teach(t, c, "", n)
		findings, err := c.Module(6, -2).Scan(t.Context(), input(t, spamText(100)))
		if err != nil || len(findings) != 1 {
			t.Fatalf("%d learned: %v, %v", n, findings, err)
		}
		if f := findings[0]; f.Symbol != "untrained" || f.Score != 0 || f.Result != mail.Clean || f.Reason == "" {
			t.Errorf("%d learned: %+v", n, f)
		}
		if s := status(t, c); s.Ready || !strings.Contains(s.Reason, fmt.Sprintf("%d ham and %d spam", n, n)) {
			t.Errorf("%d learned: status %+v", n, s)
		}
	}
	teach(t, c, "", 10)
	if s := status(t, c); !s.Ready || s.Reason != "" || s.Scopes[0].Ham != 10 || s.Scopes[0].Spam != 10 || s.Tokens == 0 || s.Bytes == 0 || s.Scopes[0].Since.IsZero() {
		t.Errorf("after 10 of each: %+v", s)
	}
}

func TestItLearnsWhatSpamLooksLikeAndSaysWhy(t *testing.T) {
	c, _ := fresh(t)
	teach(t, c, "", 40)
	block := c.Module(6, -2)
	cases := []struct {
		name, text, symbol, why string
		result                  mail.Result
		low, high               float64
	}{
		{"spam", spamText(1000), "spam", "for spam: ", mail.Match, 4, 6},
		{"ham", hamText(1000), "ham", "from:ann", mail.Clean, -2, -1},
		{"something else", "From: x@y.example\n\nQuite different altogether\n", "unsure", "probability", mail.Clean, -2, 4},
	}
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			findings, err := block.Scan(t.Context(), input(t, tt.text))
			if err != nil || len(findings) != 1 {
				t.Fatal(findings, err)
			}
			f := findings[0]
			if f.Module != "bayes" || f.Symbol != tt.symbol || f.Result != tt.result || f.Score < tt.low || f.Score > tt.high || !strings.Contains(f.Reason, tt.why) {
				t.Errorf("got %+v", f)
			}
		})
	}
}

func TestReasonsHoldNoControlCharacters(t *testing.T) {
	c, _ := fresh(t)
	evil := "Subject: \x1b[2Jcheap\x07 \u202epills\nX-\u202e\x1b: \x1b]0;x\x07\n\n\x1b[31mred\x00 pills \u202e bad\u200b\n"
	teach(t, c, "", 10)
	for i := range 10 {
		if _, err := c.Train(t.Context(), "", input(t, fmt.Sprintf("Message-ID: <%d@e>\n%s", i, evil)), true); err != nil {
			t.Fatal(err)
		}
	}
	findings, err := c.Module(6, -2).Scan(t.Context(), input(t, evil))
	if err != nil {
		t.Fatal(err)
	}
	if reason := findings[0].Reason; strings.ContainsAny(reason, "\x00\x07\x1b\r\n\u202e\u200b") || len(reason) > 600 {
		t.Errorf("reason %q", reason)
	}
}

// counts is all that the database has learned.
func counts(t *testing.T, db bayes.Store) string {
	t.Helper()
	d := dump{lines: map[string]bool{}}
	if _, err := db.BayesLoad(t.Context(), &d); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(d.lines)
}

type dump struct{ lines map[string]bool }

func (d *dump) Reset() { clear(d.lines) }
func (d *dump) Scope(s store.BayesScope) {
	d.lines[fmt.Sprint("scope ", s.Name, s.Ham, s.Spam)] = true
}
func (d *dump) Count(n store.BayesCount) { d.lines[fmt.Sprint(n)] = true }

func TestAMessageCountsOnceAndCanBeUndone(t *testing.T) {
	c, db := fresh(t)
	teach(t, c, "", 12)
	before := counts(t, db)
	m := spamText(500)
	copies := []struct{ name, text string }{
		{"the same message", m},
		{"with another Received", "Received: from a by b; Mon, 1 Jan 2024 00:00:00 +0000\n" + m},
		{"with marks of ours", "X-Gatepost-Score: 12\nX-Spam-Flag: YES\n" + m},
		{"with a tagged subject", strings.Replace(m, "Subject: ", "Subject: [SPAM] ", 1)},
		{"with empty lines at its end", m + "\n\n"},
	}
	for i, copied := range copies {
		if changed, err := c.Train(t.Context(), "", input(t, copied.text), true); err != nil || changed != (i == 0) {
			t.Errorf("%s: changed %v, %v", copied.name, changed, err)
		}
	}
	if changed, err := c.Forget(t.Context(), "", input(t, copies[1].text)); err != nil || !changed {
		t.Errorf("forget: %v, %v", changed, err)
	}
	if after := counts(t, db); after != before {
		t.Error("forgetting a copy of the message does not restore the counts")
	}
	if changed, err := c.Forget(t.Context(), "", input(t, m)); err != nil || changed {
		t.Errorf("forget again: %v, %v", changed, err)
	}
	// A mistake is corrected by learning the message as what it is.
	for _, spam := range []bool{false, true, false} {
		if changed, err := c.Train(t.Context(), "", input(t, m), spam); err != nil || !changed {
			t.Errorf("as spam %v: %v, %v", spam, changed, err)
		}
	}
	if s := status(t, c); s.Scopes[0].Ham != 13 || s.Scopes[0].Spam != 12 {
		t.Errorf("after corrections: %+v", s.Scopes)
	}
	if changed, err := c.Train(t.Context(), "", input(t, strings.Replace(m, "order", "other", 1)), false); err != nil || !changed {
		t.Errorf("another body is another message: %v, %v", changed, err)
	}
}

func TestTheOrderOfLearningDoesNotMatter(t *testing.T) {
	var results []string
	for range 2 {
		c, _ := fresh(t)
		for _, i := range rand.Perm(24) {
			text := hamText(i)
			if i%2 == 0 {
				text = spamText(i)
			}
			if _, err := c.Train(t.Context(), "", input(t, text), i%2 == 0); err != nil {
				t.Fatal(err)
			}
		}
		r := classify(t, c, spamText(99)+hamText(7), "")
		results = append(results, fmt.Sprint(r.Sum, r.Class, r.Known))
	}
	if results[0] != results[1] {
		t.Errorf("one order gives %s, another %s", results[0], results[1])
	}
}

func TestNodesFollowEachOther(t *testing.T) {
	dir := t.TempDir()
	a, b := classifier(t, openStore(t, dir)), classifier(t, openStore(t, dir))
	teach(t, a, "", 20)
	if r := classify(t, b, spamText(100), ""); r.Ready {
		t.Error("a node knows what it has not read")
	}
	for range 2 { // a reload, since the scope is new, and then a change
		if err := b.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		ra, rb := classify(t, a, spamText(100), ""), classify(t, b, spamText(100), "")
		if !rb.Ready || ra.Sum != rb.Sum {
			t.Errorf("nodes say %v and %v", ra.Sum, rb.Sum)
		}
		teach(t, a, "", 25)
		if _, err := b.Forget(t.Context(), "", input(t, spamText(0))); err != nil {
			t.Fatal(err)
		}
		if err := a.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestItWorksOnWhileTheDatabaseIsAway(t *testing.T) {
	c, db := fresh(t)
	teach(t, c, "", 20)
	want := classify(t, c, spamText(100), "")
	db.away.Store(true)
	if got := classify(t, c, spamText(100), ""); got.Sum != want.Sum {
		t.Errorf("away: %v, before: %v", got.Sum, want.Sum)
	}
	if _, err := c.Train(t.Context(), "", input(t, spamText(101)), true); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("learning says %v", err)
	}
	if s, err := c.Status(t.Context()); !errors.Is(err, store.ErrUnavailable) || !s.Ready || s.Scopes[0].Spam != 20 {
		t.Errorf("status %+v, %v", s, err)
	}
	late := bayes.New(bayes.Config{Store: db})
	if findings, err := late.Module(6, -2).Scan(t.Context(), input(t, spamText(1))); err == nil {
		t.Errorf("a node that could not read anything yet says %v", findings)
	}
	db.away.Store(false)
	if _, err := c.Train(t.Context(), "", input(t, spamText(101)), true); err != nil {
		t.Error(err)
	}
}

func TestRunFollowsTheDatabaseUntilItsEnd(t *testing.T) {
	db := openStore(t, t.TempDir())
	other := classifier(t, db)
	teach(t, other, "", 10)
	loads := &shaky{Store: fixed{db}}
	synctest.Test(t, func(t *testing.T) {
		loads.away.Store(true)
		c := bayes.New(bayes.Config{Store: loads, MinTrained: 10, Refresh: time.Second})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { c.Run(ctx); close(done) }()
		synctest.Wait()
		if _, err := c.Classify(ctx, input(t, spamText(1)), ""); err == nil {
			t.Error("a database that is away gives an answer")
		}
		loads.away.Store(false)
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		if r := classify(t, c, spamText(1), ""); !r.Ready {
			t.Error("it does not read the database when it is back")
		}
		cancel()
		<-done
	})
}

// fixed answers without the database, whose goroutines live outside of the bubble.
type fixed struct{ bayes.Store }

func (fixed) BayesLoad(_ context.Context, v store.BayesVisitor) (store.BayesPoint, error) {
	v.Reset()
	v.Scope(store.BayesScope{ID: 1, Ham: 10, Spam: 10})
	return store.BayesPoint{Generation: 1}, nil
}

func (fixed) BayesChanges(_ context.Context, since store.BayesPoint) ([]store.BayesChange, store.BayesPoint, error) {
	return nil, since, nil
}

func TestDomainsLearnOfTheirOwn(t *testing.T) {
	c, _ := fresh(t, func(c *bayes.Config) { c.PerDomain = true })
	teach(t, c, "", 30)
	// For this domain the newsletter is ham, whatever the others say.
	for i := range 15 {
		newsletter := strings.Replace(spamText(200+i), "Buy cheap", "Newsletter: buy cheap", 1)
		for _, in := range []struct {
			text string
			spam bool
		}{{newsletter, false}, {hamText(200 + i), false}, {fmt.Sprintf("Message-ID: <z%d@z>\nSubject: casino\n\nPlay casino games %d\n", i, i), true}} {
			if _, err := c.Train(t.Context(), "shop.example", input(t, in.text), in.spam); err != nil {
				t.Fatal(err)
			}
		}
	}
	all, own := classify(t, c, spamText(999), ""), classify(t, c, spamText(999), "shop.example")
	if all.Class != "spam" || own.Sum >= all.Sum/2 || classify(t, c, spamText(999), "else.example").Sum != all.Sum {
		t.Errorf("all mail %v, the domain %v", all.Sum, own.Sum)
	}
	in := input(t, spamText(999))
	in.Message.Envelope.Recipients = []mail.Recipient{recipient("a", "shop.example"), recipient("b", "else.example"), recipient("c", "more.example")}
	findings, err := c.Module(6, -2).Scan(t.Context(), in)
	if err != nil || len(findings) != 2 {
		t.Fatalf("%+v, %v", findings, err)
	}
	if got := fmt.Sprint(findings[0].Recipients, findings[1].Recipients); got != "[a@shop.example] [b@else.example c@more.example]" {
		t.Errorf("findings concern %s", got)
	}
	if findings[0].Score >= findings[1].Score {
		t.Errorf("the domain scores %v, others %v", findings[0].Score, findings[1].Score)
	}
}

func recipient(local, domain string) mail.Recipient {
	return mail.Recipient{Address: mail.Address{Local: local, Domain: domain, Raw: local + "@" + domain}}
}

func TestHugeMessagesAreCappedSCN12(t *testing.T) {
	c, _ := fresh(t, func(c *bayes.Config) { c.MessageTokens = 1000 })
	teach(t, c, "", 10)
	before := status(t, c).Tokens
	var manyWords, manyFields strings.Builder
	manyWords.WriteString("Subject: x\n\n")
	for i := range 50_000 {
		fmt.Fprintf(&manyWords, "word%d ", i)
		if i < 2000 {
			fmt.Fprintf(&manyFields, "X-Field-%d: a%d b%d c%d\n", i, i, i, i)
		}
	}
	texts := map[string]string{
		"50,000 words":        manyWords.String(),
		"a word of 1 MB":      "Subject: y\n\n" + strings.Repeat("x", 1<<20),
		"thousands of fields": manyFields.String() + "\ncheap pills without prescription\n",
	}
	for name, text := range texts {
		if changed, err := c.Train(t.Context(), "", input(t, text), true); err != nil || !changed {
			t.Fatalf("%s: %v, %v", name, changed, err)
		}
		r := classify(t, c, text, "")
		if r.Tokens > 1000 {
			t.Errorf("%s has %d tokens", name, r.Tokens)
		}
	}
	if grown := status(t, c).Tokens - before; grown > 3000 {
		t.Errorf("the database grew by %d tokens", grown)
	}
	r := classify(t, c, texts["thousands of fields"], "")
	if !strings.Contains(fmt.Sprint(r.Spam), "pills") {
		t.Errorf("many fields push out the text: %v", r.Spam)
	}
}

func TestTheDatabaseStaysWithinItsLimit(t *testing.T) {
	c, _ := fresh(t, func(c *bayes.Config) { c.Tokens = 400 })
	teach(t, c, "", 40)
	if s := status(t, c); s.Tokens <= 400 {
		t.Fatalf("the test needs more than %d tokens", s.Tokens)
	}
	if err := c.Expire(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := status(t, c)
	if s.Tokens > 400 || s.MemoryTokens != s.Tokens {
		t.Errorf("%d tokens in the database, %d in memory", s.Tokens, s.MemoryTokens)
	}
	if r := classify(t, c, spamText(4000), ""); r.Class != "spam" {
		t.Errorf("what many messages taught was removed: %+v", r)
	}
}

func TestLearningAndClassifyingAtOnce(t *testing.T) {
	c, _ := fresh(t)
	teach(t, c, "", 20)
	var wg sync.WaitGroup
	for n := range 4 {
		wg.Go(func() {
			for i := range 10 {
				if n%2 == 0 {
					if _, err := c.Train(t.Context(), "", input(t, spamText(1000+10*n+i)), true); err != nil {
						t.Error(err)
					}
				} else if r := classify(t, c, spamText(5000+i), ""); r.Class != "spam" {
					t.Errorf("spam is %s", r.Class)
				}
			}
		})
	}
	wg.Wait()
	if s := status(t, c); s.Scopes[0].Spam != 40 {
		t.Errorf("%d spam were learned", s.Scopes[0].Spam)
	}
}

func TestAnEndedContextEndsLearning(t *testing.T) {
	c, _ := fresh(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Train(ctx, "", input(t, spamText(1)), true); err == nil {
		t.Error("it learns after the end of its context")
	}
}
