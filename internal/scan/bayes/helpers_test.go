package bayes_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"gatepost/internal/mail"
	"gatepost/internal/scan"
	"gatepost/internal/scan/bayes"
	"gatepost/internal/store"
)

// input makes what modules are given from a message with LF line ends.
func input(t testing.TB, text string) *scan.Input {
	t.Helper()
	body := strings.NewReader(strings.ReplaceAll(text, "\n", "\r\n"))
	in, err := scan.NewInput(t.Context(), mail.Message{Envelope: &mail.Envelope{}, Body: body}, scan.Inbound, scan.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// Messages that are told apart easily; n makes them different.
func hamText(n int) string {
	return fmt.Sprintf("From: Ann <ann@friends.example>\nTo: bob@here.example\nSubject: minutes of meeting %d\nMessage-ID: <h%d@friends.example>\n\n"+
		"Please find the minutes of our meeting below. The project budget item %d was discussed.\nRegards, Ann\n", n, n, n)
}

func spamText(n int) string {
	return fmt.Sprintf("From: Winner <w%d@pills.example>\nTo: bob@here.example\nSubject: CHEAP pills now\nMessage-ID: <s%d@pills.example>\n\n"+
		"Buy cheap pills without prescription, order number %d! http://buy.pills.example/order/%d Click here now.\n", n, n, n, n)
}

// openStore opens an SQLite store in a directory.
func openStore(t testing.TB, dir string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{Dir: dir, Node: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// shaky is a database that can be away.
type shaky struct {
	bayes.Store
	away atomic.Bool
}

func (s *shaky) BayesChanges(ctx context.Context, since store.BayesPoint) ([]store.BayesChange, store.BayesPoint, error) {
	if s.away.Load() {
		return nil, store.BayesPoint{}, store.ErrUnavailable
	}
	return s.Store.BayesChanges(ctx, since)
}

func (s *shaky) BayesLoad(ctx context.Context, v store.BayesVisitor) (store.BayesPoint, error) {
	if s.away.Load() {
		return store.BayesPoint{}, store.ErrUnavailable
	}
	return s.Store.BayesLoad(ctx, v)
}

func (s *shaky) BayesLearn(ctx context.Context, m []store.BayesMessage) ([]bool, error) {
	if s.away.Load() {
		return nil, store.ErrUnavailable
	}
	return s.Store.BayesLearn(ctx, m)
}

// fresh is a classifier on a database of its own.
func fresh(t testing.TB, change ...func(*bayes.Config)) (*bayes.Classifier, *shaky) {
	t.Helper()
	db := &shaky{Store: openStore(t, t.TempDir())}
	return classifier(t, db, change...), db
}

func classifier(t testing.TB, db bayes.Store, change ...func(*bayes.Config)) *bayes.Classifier {
	t.Helper()
	config := bayes.Config{Store: db, MinTrained: 10}
	for _, c := range change {
		c(&config)
	}
	c := bayes.New(config)
	if err := c.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

// teach learns n ham and n spam.
func teach(t testing.TB, c *bayes.Classifier, scope string, n int) {
	t.Helper()
	batch := c.NewBatch()
	for i := range n {
		for _, spam := range []bool{false, true} {
			text := hamText(i)
			if spam {
				text = spamText(i)
			}
			if err := batch.Train(t.Context(), scope, input(t, text), spam); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := batch.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// classify returns the result for a text in a scope.
func classify(t testing.TB, c *bayes.Classifier, text, scope string) bayes.Result {
	t.Helper()
	r, err := c.Classify(t.Context(), input(t, text), scope)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func status(t testing.TB, c *bayes.Classifier) bayes.Status {
	t.Helper()
	s, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}
