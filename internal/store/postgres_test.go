package store_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"gatepost/internal/mail"
	"gatepost/internal/store"
	"gatepost/internal/store/storetest"
)

// quick are options of a store that notices soon.
func quick(o *store.Options) {
	o.Timeout, o.ConnectTimeout = 2*time.Second, 2*time.Second
	o.RetryMin, o.RetryMax = 5*time.Millisecond, 20*time.Millisecond
	o.Reputation.FlushEvery = 10 * time.Millisecond
}

// await waits until the condition holds.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("never: " + what)
		}
	}
}

// ownServer starts a server for this test alone, which it may kill.
func ownServer(t *testing.T) (*storetest.Postgres, *storetest.Database) {
	p := &storetest.Postgres{}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p, &storetest.Database{URL: p.NewDatabase(t)}
}

func TestPostgresThatIsAwayAtTheStartIsFoundLater(t *testing.T) {
	p, db := ownServer(t)
	p.Kill(t)
	s := db.Open(t, quick)
	if err := s.Health(); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("health is %v", err)
	}
	if err := s.SetSetting(t.Context(), "a", nil); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a change gives %v", err)
	}
	s.AddReputation("from:example.com", store.ReputationCounts{Ham: 3})
	p.Restart(t)
	await(t, "the database is found", func() bool { return s.Health() == nil })
	if err := s.SetSetting(t.Context(), "a", nil); err != nil {
		t.Error(err)
	}
	storetest.AwaitReputation(t, s, "from:example.com", store.ReputationCounts{Ham: 3})
}

// TestPostgresKilledMidway kills the server while nodes write. What was said to be
// durable is there, all that was refused can be repeated, and no count is lost.
func TestPostgresKilledMidway(t *testing.T) {
	p, db := ownServer(t)
	a, b := db.Open(t, quick), db.Open(t, quick)
	var mu sync.Mutex
	sizes := map[mail.ID]int{}
	var wg sync.WaitGroup
	for worker := range 4 {
		s := []*store.Store{a, b}[worker%2]
		wg.Go(func() {
			for n := range 8 {
				size := 1000 + n*200_000
				m, body := storetest.Message("a@example.net", "killed", size, "bob@example.com")
				await(t, "the message is stored", func() bool {
					err := s.PutQuarantined(t.Context(), m, body)
					if err != nil && !errors.Is(err, store.ErrUnavailable) {
						t.Errorf("put: %v", err)
						return true
					}
					return err == nil
				})
				s.AddReputation("from:example.com", store.ReputationCounts{Spam: 1})
				mu.Lock()
				sizes[m.ID] = size
				mu.Unlock()
			}
		})
	}
	for _, done := range []int{4, 12, 20} {
		await(t, "some were stored", func() bool { mu.Lock(); defer mu.Unlock(); return len(sizes) >= done })
		p.Kill(t)
		await(t, "it is noticed", func() bool { return a.Health() != nil && b.Health() != nil })
		p.Restart(t)
	}
	wg.Wait()
	for id, size := range sizes {
		checkStored(t, b, id, size)
	}
	// A flush whose commit was cut off may count again, none may be lost.
	await(t, "every count arrives", func() bool {
		known, err := a.Reputations(t.Context(), []string{"from:example.com"}, time.Hour)
		return err == nil && known["from:example.com"].Total.Spam >= int64(len(sizes))
	})
}

func checkStored(t *testing.T, s *store.Store, id mail.ID, size int) {
	t.Helper()
	m, err := s.Quarantined(t.Context(), id)
	if err != nil || len(m.Entries) != 1 {
		t.Fatalf("message %s: %v", id, err)
	}
	body, err := s.QuarantinedBody(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(io.NewSectionReader(body, 0, body.Size()))
	if err != nil {
		t.Fatal(err)
	}
	if want, _ := io.ReadAll(storetest.Body(size)); !bytes.Equal(got, want) {
		t.Errorf("message %s has another body", id)
	}
}

// TestPostgresThatAnswersNothing stops the server's processes: connections stay
// open, and nothing comes back.
func TestPostgresThatAnswersNothing(t *testing.T) {
	p, db := ownServer(t)
	s := db.Open(t, quick, func(o *store.Options) { o.Timeout, o.ConnectTimeout = 200*time.Millisecond, 200*time.Millisecond })
	await(t, "it works", func() bool { return s.SetSetting(t.Context(), "a", []byte("1")) == nil })
	thaw := p.Freeze(t)
	if err := s.SetSetting(t.Context(), "a", []byte("2")); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a change gives %v", err)
	}
	await(t, "it is noticed", func() bool { return s.Health() != nil })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Setting(ctx, "a"); err == nil {
		t.Error("a read without a database gives no error")
	}
	thaw()
	await(t, "it works again", func() bool { return s.SetSetting(t.Context(), "a", []byte("3")) == nil })
}

func TestSeveralNodesMigrateAtOnce(t *testing.T) {
	db := &storetest.Database{URL: server.NewDatabase(t)}
	stores := make([]*store.Store, 5)
	var wg sync.WaitGroup
	for i := range stores {
		wg.Go(func() { stores[i] = db.Open(t) })
	}
	wg.Wait()
	for i, s := range stores {
		await(t, "the node has its tables", func() bool { return s.Health() == nil })
		if err := s.SetSetting(t.Context(), string(rune('a'+i)), nil); err != nil {
			t.Error(err)
		}
	}
}

// TestTablesThatVanish puts an empty database in the place of ours, as after a
// restore that went wrong.
func TestTablesThatVanish(t *testing.T) {
	db := &storetest.Database{URL: server.NewDatabase(t)}
	s := db.Open(t, quick)
	if err := s.SetSetting(t.Context(), "a", nil); err != nil {
		t.Fatal(err)
	}
	c, err := pgx.Connect(t.Context(), db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(t.Context())
	if _, err := c.Exec(t.Context(), "DROP SCHEMA public CASCADE; CREATE SCHEMA public"); err != nil {
		t.Fatal(err)
	}
	await(t, "the tables are there again", func() bool { return s.SetSetting(t.Context(), "a", nil) == nil })
	if err := s.Health(); err != nil {
		t.Error(err)
	}
}

func TestPostgresThatRefusesUs(t *testing.T) {
	base, err := url.Parse(server.NewDatabase(t))
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name, want string
		change     func(u *url.URL)
	}{
		{"a database that does not exist", "nowhere", func(u *url.URL) { u.Path = "/nowhere" }},
		{"a role that does not exist", "nobody", func(u *url.URL) { u.User = url.UserPassword("nobody", "s3cret") }},
		{"a host without a server", "connect", func(u *url.URL) { u.RawQuery = "host=/none&sslmode=disable" }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			u := *base
			u.User = url.UserPassword("gatepost", "s3cret")
			c.change(&u)
			var log bytes.Buffer
			o := store.Options{URL: u.String(), Log: slog.New(slog.NewTextHandler(&log, nil))}
			s, err := store.Open(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			health := s.Health()
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			if health == nil || !errors.Is(health, store.ErrUnavailable) || !strings.Contains(health.Error(), c.want) {
				t.Errorf("health is %v, want %q", health, c.want)
			}
			if said := health.Error() + log.String(); strings.Contains(said, "s3cret") {
				t.Errorf("the password is shown: %s", said)
			}
			if n := strings.Count(log.String(), "level=ERROR"); n != 1 {
				t.Errorf("it is logged %d times: %s", n, log.String())
			}
		})
	}
}
