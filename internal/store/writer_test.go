package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
)

func openForTest(t *testing.T) *Store {
	t.Helper()
	s, err := Open(t.Context(), Options{Dir: t.TempDir()})
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

func setting(name string, fail error) work {
	return func(ctx context.Context, c *conn) error {
		if _, err := c.exec(ctx, "INSERT INTO settings (name, value, changed) VALUES (?, '', 0)", name); err != nil {
			return err
		}
		return fail
	}
}

// group makes jobs that meet in one transaction.
func group(works ...work) []*job {
	var jobs []*job
	for _, w := range works {
		jobs = append(jobs, &job{ctx: context.Background(), fn: w, ended: make(chan struct{})})
	}
	return jobs
}

func TestWorkThatFailsDoesNotTouchItsNeighbours(t *testing.T) {
	s := openForTest(t)
	w := s.engine.(*sqliteEngine).writer
	mine := errors.New("mine")
	jobs := group(setting("a", nil), setting("b", mine), setting("c", nil), setting("c", nil), setting("d", nil))
	w.commit(jobs)
	if jobs[0].err != nil || !errors.Is(jobs[1].err, mine) || jobs[2].err != nil || jobs[3].err == nil || jobs[4].err != nil {
		for i, j := range jobs {
			t.Errorf("%d: %v", i, j.err)
		}
	}
	all, err := s.Settings(t.Context(), "")
	if err != nil || len(all) != 3 {
		t.Errorf("%v, %v: want a, c and d", all, err)
	}
}

// TestLostTransactionIsToldToAll ends the transaction within a step, as SQLite
// does by itself when the disk is full.
func TestLostTransactionIsToldToAll(t *testing.T) {
	s := openForTest(t)
	w := s.engine.(*sqliteEngine).writer
	jobs := group(setting("a", nil), func(ctx context.Context, c *conn) error {
		_, err := c.exec(ctx, "ROLLBACK")
		return errors.Join(err, errors.New("disk full"))
	}, setting("b", nil))
	w.commit(jobs)
	for i, j := range jobs {
		if j.err == nil {
			t.Errorf("job %d was told that it is durable", i)
		}
	}
	if all, err := s.Settings(t.Context(), ""); err != nil || len(all) != 0 {
		t.Errorf("there is %v, %v", all, err)
	}
	if err := s.SetSetting(t.Context(), "later", nil); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestFullDiskIsUnavailableAndPasses(t *testing.T) {
	s := openForTest(t)
	limit := func(pages int) {
		must(t, s.write(t.Context(), func(ctx context.Context, c *conn) error {
			_, err := c.exec(ctx, fmt.Sprintf("PRAGMA max_page_count(%d)", pages))
			return err
		}))
	}
	limit(1) // as many as there are
	err := s.SetSetting(t.Context(), "big", make([]byte, 1<<20))
	if !errors.Is(err, ErrUnavailable) || !errors.Is(s.Health(), ErrUnavailable) {
		t.Errorf("got %v, health %v", err, s.Health())
	}
	limit(1 << 30)
	must(t, s.SetSetting(t.Context(), "big", make([]byte, 1<<20)))
	if err := s.Health(); err != nil {
		t.Errorf("health is %v", err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestCallerWhoGivesUpLeavesNothingBehind(t *testing.T) {
	s := openForTest(t)
	started, finish := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		must(t, s.write(context.Background(), func(context.Context, *conn) error {
			close(started)
			<-finish
			return nil
		}))
	})
	<-started
	ctx, cancel := context.WithCancel(t.Context())
	wg.Go(func() {
		if err := s.write(ctx, setting("a", nil)); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		close(finish)
	})
	cancel()
	wg.Wait()
	if all, err := s.Settings(t.Context(), ""); err != nil || len(all) != 0 {
		t.Errorf("there is %v, %v", all, err)
	}
}

func TestClosedStore(t *testing.T) {
	s, err := Open(t.Context(), Options{Dir: t.TempDir()})
	must(t, err)
	must(t, s.Close())
	if err := s.SetSetting(t.Context(), "a", nil); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a change gives %v", err)
	}
	if _, err := s.Setting(t.Context(), "a"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a read gives %v", err)
	}
	must(t, s.Close())
}
