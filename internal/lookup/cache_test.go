package lookup

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// service answers, and counts how often it was asked.
type service struct {
	mu     sync.Mutex
	asked  int
	answer string
	err    error
	takes  time.Duration
	ended  int // questions whose context ended first
}

func (s *service) ask(ctx context.Context) (string, error) {
	s.mu.Lock()
	s.asked++
	s.mu.Unlock()
	select {
	case <-time.After(s.takes):
	case <-ctx.Done():
		s.mu.Lock()
		s.ended++
		s.mu.Unlock()
		return "", context.Cause(ctx)
	}
	return s.answer, s.err
}

func newCache(cfg Config) *Cache[string] {
	return NewCache(cfg, func(s string) bool { return s == "" })
}

func TestAnswersAreKeptForTheirTime(t *testing.T) {
	down := errors.New("down")
	tests := []struct {
		name   string
		answer string
		err    error
		keeps  time.Duration
	}{
		{"an answer", "yes", nil, 10 * time.Minute},
		{"no answer", "", nil, time.Minute},
		{"an error", "", down, 2 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, s := newCache(Config{}), &service{answer: tt.answer, err: tt.err}
				get := func(asked int) {
					t.Helper()
					if v, err := c.Get(t.Context(), "k", s.ask); v != tt.answer || !errors.Is(err, tt.err) || s.asked != asked {
						t.Errorf("got %q, %v, asked %d times, want %d", v, err, s.asked, asked)
					}
				}
				get(1)
				time.Sleep(tt.keeps - time.Millisecond)
				get(1)
				time.Sleep(time.Millisecond)
				get(2)
			})
		})
	}
}

func TestBelowZeroIsNotKept(t *testing.T) {
	c, s := newCache(Config{Negative: -1}), &service{}
	for range 3 {
		if _, err := c.Get(t.Context(), "k", s.ask); err != nil {
			t.Fatal(err)
		}
	}
	if s.asked != 3 || c.Len() != 0 {
		t.Errorf("asked %d times, %d kept", s.asked, c.Len())
	}
}

func TestEqualQuestionsOfOneMomentAreAskedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newCache(Config{}), &service{answer: "yes", takes: time.Second}
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if v, err := c.Get(t.Context(), "k", s.ask); v != "yes" || err != nil {
					t.Errorf("got %q, %v", v, err)
				}
			})
		}
		wg.Wait()
		if s.asked != 1 {
			t.Errorf("asked %d times", s.asked)
		}
	})
}

func TestAQuestionEndsWithTheLastWhoWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newCache(Config{}), &service{answer: "yes", takes: 5 * time.Second}
		first, leave := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := c.Get(first, "k", s.ask); !errors.Is(err, context.Canceled) {
				t.Errorf("the one who left got %v", err)
			}
		})
		wg.Go(func() {
			if v, err := c.Get(t.Context(), "k", s.ask); v != "yes" || err != nil {
				t.Errorf("the one who stayed got %q, %v", v, err)
			}
		})
		synctest.Wait()
		leave()
		wg.Wait()

		alone, leave := context.WithCancel(t.Context())
		wg.Go(func() {
			if _, err := c.Get(alone, "other", s.ask); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		})
		synctest.Wait()
		leave()
		wg.Wait()
		synctest.Wait()
		if s.ended != 1 {
			t.Errorf("%d questions ended, want 1", s.ended)
		}
		// That nobody waited says nothing about the service.
		if v, err := c.Get(t.Context(), "other", s.ask); v != "yes" || err != nil {
			t.Errorf("after that: %q, %v", v, err)
		}
	})
}

func TestAServiceThatHangsIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newCache(Config{Timeout: 3 * time.Second}), &service{takes: time.Hour}
		start := time.Now()
		if _, err := c.Get(t.Context(), "k", s.ask); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 3*time.Second {
			t.Errorf("got %v after %s", err, time.Since(start))
		}
	})
}

func TestTheCacheIsBounded(t *testing.T) {
	c, s := newCache(Config{Entries: 100}), &service{answer: "yes"}
	for i := range 1000 {
		for _, key := range []string{fmt.Sprint(i), "used all the time"} {
			if _, err := c.Get(t.Context(), key, s.ask); err != nil {
				t.Fatal(err)
			}
		}
		if c.Len() > 100 {
			t.Fatalf("%d answers are kept", c.Len())
		}
	}
	if s.asked != 1001 {
		t.Errorf("asked %d times: what is used must stay", s.asked)
	}
}

func BenchmarkKept(b *testing.B) {
	c, s := newCache(Config{}), &service{answer: "yes"}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Get(b.Context(), "k", s.ask); err != nil {
			b.Fatal(err)
		}
	}
}
