package store

import (
	"context"
	"fmt"
	"math"
	"testing"
	"time"
)

func TestWhatIsOlderCountsLess(t *testing.T) {
	now := time.Date(2026, 5, 20, 12, 0, 0, 0, time.UTC)
	const halfLife = 10 * 24 * time.Hour
	cases := []struct {
		days     int64
		halfLife time.Duration
		want     float64
	}{{0, halfLife, 1}, {10, halfLife, 0.5}, {20, halfLife, 0.25}, {-3, halfLife, 1}, {10, 0, 1}}
	for _, c := range cases {
		if got := weight(now, day(now)-c.days, c.halfLife); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%d days ago counts %v, want %v", c.days, got, c.want)
		}
	}
}

func TestOldDaysAreWeighedAndForgotten(t *testing.T) {
	s := openForTest(t)
	today := day(time.Now())
	must(t, s.write(t.Context(), func(ctx context.Context, c *conn) error {
		for _, ago := range []int64{0, 14, 119, 121, 5000} {
			if _, err := c.exec(ctx, "INSERT INTO reputation (name, day, ham, spam, virus, unknown) VALUES ('a', ?, 8, 0, 0, 4)", today-ago); err != nil {
				return err
			}
		}
		return nil
	}))
	known, err := s.Reputations(t.Context(), []string{"a"}, 14*24*time.Hour)
	must(t, err)
	if r := known["a"]; r.Total.Ham != 24 || math.Abs(r.WeightedHam-12) > 0.1 || math.Abs(r.WeightedUnknown-6) > 0.1 {
		t.Errorf("got %+v", r)
	}
	must(t, s.reputation.forget())
	var rows int
	must(t, s.read(t.Context(), func(ctx context.Context, c *conn) error {
		return c.row(ctx, "SELECT count(*) FROM reputation").Scan(&rows)
	}))
	if rows != 3 {
		t.Errorf("%d days are left, want 3", rows)
	}
}

// awayEngine is a database that is away.
type awayEngine struct{}

func (awayEngine) read(context.Context, work) error  { return ErrUnavailable }
func (awayEngine) write(context.Context, work) error { return ErrUnavailable }
func (awayEngine) health() error                     { return ErrUnavailable }
func (awayEngine) close() error                      { return nil }

func TestWhatWaitsForTheDatabaseIsBoundedAndKept(t *testing.T) {
	good := openForTest(t)
	o := Options{Reputation: ReputationOptions{FlushEvery: time.Hour, MaxPending: 1500}}.withDefaults()
	s := &Store{options: o, engine: awayEngine{}}
	s.reputation = newReputationBuffer(s)
	for i := range 4000 {
		s.AddReputation(fmt.Sprintf("from:%d.example", i), ReputationCounts{Spam: 1})
		s.AddReputation("from:0.example", ReputationCounts{Ham: 1})
		if i%500 == 0 {
			s.reputation.flush()
		}
	}
	s.AddReputation("", ReputationCounts{Ham: 1})
	s.AddReputation(string(make([]byte, 1000)), ReputationCounts{Ham: 1})
	if n := len(s.reputation.pending); n != 1500 {
		t.Errorf("%d keys wait, want 1500", n)
	}
	s.reputation.close()
	s.engine = good.engine
	s.reputation.flush()
	known, err := s.Reputations(t.Context(), []string{"from:0.example", "from:1499.example", "from:1500.example"}, time.Hour)
	must(t, err)
	if len(known) != 2 || known["from:0.example"].Total != (ReputationCounts{Ham: 4000, Spam: 1}) {
		t.Errorf("got %+v", known)
	}
	if n := len(s.reputation.pending); n != 0 {
		t.Errorf("%d keys still wait", n)
	}
}
