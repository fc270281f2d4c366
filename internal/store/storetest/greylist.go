package storetest

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"gatepost/internal/store"
)

// The contract cannot wait, so that it moves the rules instead of the clock: with
// a negative delay the first retry passes, with a negative window or keep an entry
// has expired as soon as it is there.
var (
	patient = store.GreylistRules{Delay: time.Hour, Window: 28 * time.Hour, Keep: 36 * 24 * time.Hour, SourcePasses: 3}
	hasty   = store.GreylistRules{Delay: -time.Hour, Window: 28 * time.Hour, Keep: 36 * 24 * time.Hour, SourcePasses: 3}
)

func triplet(n int) store.GreylistTriplet {
	return store.GreylistTriplet{Source: "192.0.2.0/24", Sender: fmt.Sprintf("s%d@example.net", n), Recipient: "bob@example.com"}
}

// see checks what is said of a triplet: "wait", or why it passes.
func see(t *testing.T, s *store.Store, x store.GreylistTriplet, r store.GreylistRules, want string) {
	t.Helper()
	a, err := s.SeeGreylist(t.Context(), x, r)
	must(t, err)
	got := ""
	for _, w := range []struct {
		is   bool
		name string
	}{{a.Passed, "passed "}, {a.Source, "source "}, {a.Known, "known "}, {a.Wait > 0, "wait "}} {
		if w.is {
			got += w.name
		}
	}
	if got != want+" " {
		t.Errorf("%v: %q, %+v, want %q", x, got, a, want)
	}
}

func greylistTriplets(t *testing.T, db *Database) {
	s := db.Open(t)
	for range 2 {
		see(t, s, triplet(1), patient, "wait")
	}
	a, err := s.SeeGreylist(t.Context(), triplet(1), patient)
	must(t, err)
	if a.Wait > time.Hour || a.Wait < 58*time.Minute {
		t.Errorf("it has to wait %v of an hour", a.Wait)
	}
	see(t, s, triplet(1), hasty, "passed")
	see(t, s, triplet(1), patient, "passed")
	upper := triplet(1)
	upper.Sender = "S1@Example.NET"
	see(t, s, upper, patient, "passed")

	// Three triplets of the source have to pass, however often one of them did.
	see(t, s, triplet(2), patient, "wait")
	see(t, s, triplet(2), hasty, "passed")
	see(t, s, triplet(3), patient, "wait")
	see(t, s, triplet(3), hasty, "passed")
	see(t, s, triplet(4), patient, "source")
	never := patient
	never.SourcePasses = 0
	see(t, s, triplet(5), never, "wait")
	other := triplet(4)
	other.Source = "198.51.100.0/24"
	see(t, s, other, patient, "wait")

	must(t, s.LearnGreylist(t.Context(), nil, time.Hour))
	must(t, s.LearnGreylist(t.Context(), []store.GreylistPair{
		{Sender: "carol@Example.org", Recipient: "bob@example.com"}, {Sender: "carol@example.org", Recipient: "Bob@example.com"},
	}, time.Hour))
	known := store.GreylistTriplet{Source: "203.0.113.0/24", Sender: "carol@example.org", Recipient: "bob@example.com"}
	see(t, s, known, patient, "known")
	see(t, s, known, patient, "passed known")
	known.Recipient = "eve@example.com"
	see(t, s, known, patient, "wait")
}

// greylistClocks checks expiry, and clocks that jump.
func greylistClocks(t *testing.T, db *Database) {
	s := db.Open(t)
	gone := patient
	gone.Window = -time.Hour
	see(t, s, triplet(1), gone, "wait")
	see(t, s, triplet(1), hasty, "wait") // its window is over: it is new again
	see(t, s, triplet(1), hasty, "passed")

	// Seen for the last time before the clock went back by two hours.
	forgetful := hasty
	forgetful.Keep = -time.Hour
	see(t, s, triplet(2), patient, "wait")
	see(t, s, triplet(2), forgetful, "passed")
	see(t, s, triplet(2), patient, "wait")

	n, err := s.ExpireGreylist(t.Context())
	must(t, err)
	if n != 1 { // the source, of which nothing more is kept
		t.Errorf("%d entries have expired, want 1", n)
	}
	for i := range 1500 {
		x := triplet(i)
		x.Source = "203.0.113.0/24"
		_, err := s.SeeGreylist(t.Context(), x, gone)
		must(t, err)
		if testing.Short() && i == 100 {
			break
		}
	}
	found, _, err := s.FindGreylist(t.Context(), store.GreylistQuery{Source: "203.0.113.0/24"})
	must(t, err)
	if len(found) != 0 {
		t.Errorf("%d expired entries are listed", len(found))
	}
	n, err = s.ExpireGreylist(t.Context())
	must(t, err)
	if n < 100 {
		t.Errorf("%d entries have expired", n)
	}
	must2(t, 0)(s.ExpireGreylist(t.Context()))
}

// must2 checks a count that comes with an error.
func must2(t *testing.T, want int64) func(int64, error) {
	return func(got int64, err error) {
		t.Helper()
		if err != nil || got != want {
			t.Errorf("got %d, %v, want %d", got, err, want)
		}
	}
}

// greylistNodes checks that nodes which see the same triplets agree about them.
func greylistNodes(t *testing.T, db *Database) {
	a, b := db.Open(t), db.Open(t)
	see(t, a, triplet(0), patient, "wait")
	see(t, b, triplet(0), hasty, "passed")
	see(t, a, triplet(0), patient, "passed")
	rules := hasty
	rules.SourcePasses = 20
	var wg sync.WaitGroup
	var mu sync.Mutex
	var failures []error
	for i := range 8 {
		s := []*store.Store{a, b}[i%2]
		wg.Go(func() {
			for n := range 10 {
				_, err := s.SeeGreylist(t.Context(), triplet(n+1), rules)
				if err == nil {
					err = s.LearnGreylist(t.Context(), []store.GreylistPair{{Sender: "x@example.org", Recipient: "y@example.org"}, {Sender: "a@example.org", Recipient: "y@example.org"}}, time.Hour)
				}
				if err != nil {
					mu.Lock()
					failures = append(failures, err)
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	for _, err := range failures {
		t.Error(err)
	}
	found, _, err := a.FindGreylist(t.Context(), store.GreylistQuery{Kind: store.GreylistSourceKind})
	must(t, err)
	if len(found) != 1 || found[0].Passes != 11 {
		t.Errorf("each triplet counts once: %+v", found)
	}
}

func greylistLists(t *testing.T, db *Database) {
	s := db.Open(t)
	begin := time.Now().Add(-time.Second)
	see(t, s, triplet(1), patient, "wait")
	see(t, s, store.GreylistTriplet{Source: "example.org", Sender: "x%@sub.example.org", Recipient: "carol@example.com"}, patient, "wait")
	see(t, s, store.GreylistTriplet{Source: "example.org", Sender: "x%@sub.example.org", Recipient: "carol@example.com"}, hasty, "passed")
	must(t, s.LearnGreylist(t.Context(), []store.GreylistPair{{Sender: "dave@example.org", Recipient: "bob@example.com"}}, time.Hour))
	must(t, s.AllowGreylist(t.Context(), "Example.INFO", "partner"))
	must(t, s.AllowGreylist(t.Context(), "example.info", "asked for by Bob\x00"))
	for _, c := range []struct {
		name  string
		query store.GreylistQuery
		want  string
	}{
		{"all", store.GreylistQuery{}, "allow:example.info/ known:/dave@example.org source:example.org/ triplet:192.0.2.0/24/s1@example.net triplet:example.org/x%@sub.example.org "},
		{"a kind", store.GreylistQuery{Kind: store.GreylistKnownKind}, "known:/dave@example.org "},
		{"a source", store.GreylistQuery{Source: "Example.ORG"}, "source:example.org/ triplet:example.org/x%@sub.example.org "},
		{"a sender", store.GreylistQuery{Sender: "S1@example.net"}, "triplet:192.0.2.0/24/s1@example.net "},
		{"a domain of senders", store.GreylistQuery{Sender: "@example.org"}, "known:/dave@example.org "},
		{"a pattern is no pattern", store.GreylistQuery{Sender: "@%"}, ""},
		{"a recipient", store.GreylistQuery{Recipient: "carol@example.com"}, "triplet:example.org/x%@sub.example.org "},
		{"those that wait", store.GreylistQuery{Waiting: true}, "triplet:192.0.2.0/24/s1@example.net "},
		{"those that passed", store.GreylistQuery{Passed: true}, "triplet:example.org/x%@sub.example.org "},
		{"the first two", store.GreylistQuery{Limit: 2}, "allow:example.info/ known:/dave@example.org more"},
		{"what follows", store.GreylistQuery{After: &store.GreylistEntry{Kind: store.GreylistSourceKind, Source: "example.org"}}, "triplet:192.0.2.0/24/s1@example.net triplet:example.org/x%@sub.example.org "},
	} {
		found, more, err := s.FindGreylist(t.Context(), c.query)
		must(t, err)
		got := ""
		for _, e := range found {
			got += string(e.Kind) + ":" + e.Source + "/" + e.Sender + " "
			if e.FirstSeen.Before(begin) || e.LastSeen.Before(e.FirstSeen) || (e.Kind == store.GreylistAllowKind) != e.Expires.IsZero() {
				t.Errorf("times of %+v", e)
			}
			if e.Kind == store.GreylistAllowKind && e.Note != "asked for by Bob" {
				t.Errorf("note %q", e.Note)
			}
		}
		if more {
			got += "more"
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	if _, err := s.ForgetGreylist(t.Context(), store.GreylistQuery{Limit: 3}); !errors.Is(err, store.ErrAsksNothing) {
		t.Errorf("to forget everything by mistake: %v", err)
	}
	must2(t, 1)(s.ForgetGreylist(t.Context(), store.GreylistQuery{Sender: "s1@example.net"}))
	must2(t, 2)(s.ForgetGreylist(t.Context(), store.GreylistQuery{Source: "example.org"}))
	must2(t, 1)(s.ForgetGreylist(t.Context(), store.GreylistQuery{Kind: store.GreylistAllowKind}))
	must2(t, 0)(s.ForgetGreylist(t.Context(), store.GreylistQuery{Kind: store.GreylistAllowKind}))
	left, _, err := s.FindGreylist(t.Context(), store.GreylistQuery{})
	if must(t, err); len(left) != 1 || left[0].Sender != "dave@example.org" {
		t.Errorf("left: %+v", left)
	}
}
