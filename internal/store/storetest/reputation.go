package storetest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"gatepost/internal/store"
)

const testHalfLife = 14 * 24 * time.Hour

func reputation(t *testing.T, db *Database) {
	quick := func(o *store.Options) { o.Reputation.FlushEvery = 5 * time.Millisecond }
	a, b := db.Open(t, quick), db.Open(t, quick)
	ctx := t.Context()
	known, err := a.Reputations(ctx, []string{"net:192.0.2.0/24"}, testHalfLife)
	must(t, err)
	if len(known) != 0 {
		t.Errorf("of a key that nobody saw: %v", known)
	}
	if known, err := a.Reputations(ctx, nil, testHalfLife); err != nil || len(known) != 0 {
		t.Errorf("of no keys: %v, %v", known, err)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		s := []*store.Store{a, b}[i%2]
		wg.Go(func() {
			for n := range 100 {
				s.AddReputation("from:Example.COM", store.ReputationCounts{Ham: 1})
				s.AddReputation("net:192.0.2.0/24", store.ReputationCounts{Spam: 2, Virus: 1, Unknown: 3})
				s.AddReputation(fmt.Sprintf("from:%d.example", n), store.ReputationCounts{Spam: 1})
			}
		})
	}
	wg.Wait()
	AwaitReputation(t, b, "from:example.com", store.ReputationCounts{Ham: 800})
	AwaitReputation(t, a, "net:192.0.2.0/24", store.ReputationCounts{Spam: 1600, Virus: 800, Unknown: 2400})
	AwaitReputation(t, a, "from:99.example", store.ReputationCounts{Spam: 8})
	known, err = a.Reputations(ctx, []string{"from:Example.COM", "from:1.example", "from:none.example"}, testHalfLife)
	must(t, err)
	if len(known) != 2 || known["from:Example.COM"].WeightedHam != 800 || known["from:1.example"].WeightedSpam != 8 {
		t.Errorf("of several keys, as they were asked for: %+v", known)
	}
	reputationClose(t, db)
}

// reputationClose checks that Close writes what waits.
func reputationClose(t *testing.T, db *Database) {
	s, err := store.Open(t.Context(), store.Options{URL: db.URL, Dir: db.Dir, Reputation: store.ReputationOptions{FlushEvery: time.Hour}})
	must(t, err)
	s.AddReputation("dkim:example.com", store.ReputationCounts{Ham: 1})
	must(t, s.Close())
	AwaitReputation(t, db.Open(t), "dkim:example.com", store.ReputationCounts{Ham: 1})
}

// AwaitReputation waits until the counts of a key are these.
func AwaitReputation(t *testing.T, s *store.Store, key string, want store.ReputationCounts) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	var got store.Reputation
	for {
		known, err := s.Reputations(ctx, []string{key}, testHalfLife)
		if got = known[key]; err == nil && got.Total == want {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s is %+v, %v, want %+v", key, got.Total, err, want)
		}
	}
}
