package scan_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/scan"
)

func TestAnEngineThatIsDownIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := scan.NewEngine(scan.EngineConfig{Name: "the engine", Failures: 3, Retry: 5 * time.Second})
		asked := 0
		fail := func(context.Context) error { asked++; return errors.New("no\r\nway") }
		well := func(context.Context) error { asked++; return nil }
		for range 2 {
			if err := e.Do(t.Context(), fail); err == nil || e.Health() != nil {
				t.Fatalf("%v, %v", err, e.Health())
			}
		}
		// A success in between starts the count again.
		if err := e.Do(t.Context(), well); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			if err := e.Do(t.Context(), fail); err == nil {
				t.Fatal("no error")
			}
		}
		if err := e.Health(); asked != 6 || err == nil || !strings.Contains(err.Error(), "the engine is down since") || strings.Contains(err.Error(), "\n") {
			t.Fatalf("asked %d times, health %v", asked, err)
		}
		time.Sleep(6 * time.Second)
		if err := e.Do(t.Context(), fail); err == nil || asked != 7 {
			t.Fatalf("asked %d times, %v", asked, err)
		}
		if err := e.Do(t.Context(), well); err == nil || asked != 7 {
			t.Fatalf("asked %d times right after a trial, %v", asked, err)
		}
		time.Sleep(6 * time.Second)
		if err := e.Do(t.Context(), well); err != nil || e.Health() != nil {
			t.Fatalf("%v, %v", err, e.Health())
		}
	})
}

func TestOneMessageTriesAnEngineThatWasDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := scan.NewEngine(scan.EngineConfig{Failures: 1})
		_ = e.Do(t.Context(), func(context.Context) error { return errors.New("down") })
		time.Sleep(time.Minute)
		var asked atomic.Int32
		release := make(chan struct{})
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				_ = e.Do(t.Context(), func(context.Context) error { asked.Add(1); <-release; return nil })
			})
		}
		synctest.Wait()
		if n := asked.Load(); n != 1 {
			t.Errorf("%d at once", n)
		}
		close(release)
		wg.Wait()
		if err := e.Health(); err != nil {
			t.Error(err)
		}
	})
}

func TestWhatIsNotTheEnginesFault(t *testing.T) {
	for name, f := range map[string]func(ctx context.Context, e *scan.Engine) error{
		"a message that can't be read": func(ctx context.Context, e *scan.Engine) error {
			return e.Do(ctx, func(context.Context) error { return &scan.SourceError{Err: errors.New("a bad block")} })
		},
		"a client that went": func(ctx context.Context, e *scan.Engine) error {
			ctx, cancel := context.WithCancel(ctx)
			return e.Do(ctx, func(ctx context.Context) error { cancel(); return ctx.Err() })
		},
		"a message that came late": func(ctx context.Context, e *scan.Engine) error {
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			return e.Do(ctx, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
		},
		"a full house": func(ctx context.Context, e *scan.Engine) error {
			ctx, cancel := context.WithTimeout(ctx, time.Hour)
			defer cancel()
			return e.Do(ctx, func(inner context.Context) error {
				if err := e.Do(ctx, func(context.Context) error { return nil }); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%v", err)
				}
				return nil
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := scan.NewEngine(scan.EngineConfig{Failures: 1, Sessions: 1})
				if err := f(t.Context(), e); err == nil && name != "a full house" {
					t.Error("no error")
				}
				if err := e.Health(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestEnginesAreGivenTheirTimeAndNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := scan.NewEngine(scan.EngineConfig{Timeout: 7 * time.Second, Failures: 1})
		begun := time.Now()
		err := e.Do(t.Context(), func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != 7*time.Second || e.Health() == nil {
			t.Errorf("%v after %v, %v", err, time.Since(begun), e.Health())
		}
	})
}

func TestSessionsOfAnEngineAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := scan.NewEngine(scan.EngineConfig{Sessions: 2})
		var now, most atomic.Int32
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if err := e.Do(t.Context(), func(context.Context) error {
					n := now.Add(1)
					for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
					}
					time.Sleep(time.Second)
					now.Add(-1)
					return nil
				}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if most.Load() != 2 {
			t.Errorf("%d at once", most.Load())
		}
	})
}
