package history

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/store"
)

// queries that the tests compare with looking at every event.
var queries = []string{
	"", "sender:alice@example.org", "sender:bob", "sender:<>", "recipient:@example.com", "domain:example.com", "domain:mail.example.com",
	"client:192.0.0.7", "client:192.0.1.0/24", "client:192.0.0.0/23", "client:192.0.0.0/15", "client:192.0.2", "subject:invoice", `subject:"the meeting"`, "subject:Köln", "subject:in*4711",
	"verdict:quarantine", "verdict:mark,quarantine", "-verdict:deliver", "symbol:zen.example.org", "symbol:dnsbl -symbol:zen.example.org",
	"kind:connect", "kind:message,attempt result:delivered", "threat:spam domain:example.net", "user17@example.net", "example.org", "invoice",
	"192.0.0.7", "helo:localhost", "host:mx1.example.net", "host:192.0.2.9", `text:"mx1.example"`, "/user1[0-9]@/", "-/user/", "rcpt*@example.com", "message-id:<7@example.org>",
	"transport:exchange -kind:message", "sender:alice@example.org,user3@example.net", "nothing-like-this", "-client:192.0.0.0/9", "sender:user1*",
}

// brute finds by looking at all events.
func brute(all []*mail.Event, q *Query, domains []string) []mail.ID {
	var ids []mail.ID
	for _, e := range all {
		if shown := restrict(e, domains); shown != nil && q.Matches(shown) {
			ids = append(ids, e.ID)
		}
	}
	slices.SortFunc(ids, func(a, b mail.ID) int { return compareID(b, a) })
	return ids
}

// pages reads all pages of a search.
func pages(t *testing.T, h *History, s Search) []mail.ID {
	t.Helper()
	var ids []mail.ID
	for range 10_000 {
		found, err := h.Search(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range found.Events {
			ids = append(ids, e.ID)
		}
		if found.Next.IsZero() {
			return ids
		}
		s.Before = found.Next
	}
	t.Fatal("the pages have no end")
	return nil
}

func mustParse(t testing.TB, text string) *Query {
	t.Helper()
	q, err := ParseQuery(text, time.Now())
	if err != nil {
		t.Fatalf("query %q: %v", text, err)
	}
	return q
}

// fill notes n events in batches of random size, each a segment.
func fill(t *testing.T, h *History, rng *rand.Rand, n int) []*mail.Event {
	t.Helper()
	var all []*mail.Event
	for len(all) < n {
		for range 1 + rng.IntN(60) {
			e := randomEvent(rng)
			h.Note(e)
			all = append(all, e)
		}
		h.Flush(t.Context())
	}
	return all
}

func TestASearchFindsWhatLookingAtEveryEventFinds(t *testing.T) {
	engines := map[string]func(t *testing.T) Store{
		"sqlite":   func(t *testing.T) Store { return openStore(t, "", t.TempDir()) },
		"postgres": func(t *testing.T) Store { return openStore(t, server.NewDatabase(t), "") },
	}
	for name, open := range engines {
		t.Run(name, func(t *testing.T) {
			h := openHistory(t, Config{Store: open(t)})
			all := fill(t, h, rand.New(rand.NewPCG(3, 4)), 3000)
			for _, text := range queries {
				q := mustParse(t, text)
				for _, domains := range [][]string{nil, {"example.com"}, {"example.net", "mail.example.com"}, {}} {
					want := brute(all, q, domains)
					got := pages(t, h, Search{Query: q, Domains: domains, Limit: 100})
					if !slices.Equal(got, want) {
						t.Errorf("query %q for %v finds %d events, want %d", text, domains, len(got), len(want))
					}
				}
			}
			if n := h.Stats().Segments; n > 30 {
				t.Errorf("%d segments are left after merging", n)
			}
		})
	}
}

func TestASearchWithoutTimeGoesOnWithTheNextPage(t *testing.T) {
	h := openHistory(t, Config{})
	all := fill(t, h, rand.New(rand.NewPCG(5, 6)), 2000)
	q := mustParse(t, "text:rcpt7@")
	want := brute(all, q, nil)
	got := pages(t, h, Search{Query: q, Limit: 10, Budget: time.Nanosecond})
	if len(want) == 0 || !slices.Equal(got, want) {
		t.Errorf("found %d, want %d", len(got), len(want))
	}
}

func TestPagesStayWhatTheyWereWhileEventsComeAndSegmentsMerge(t *testing.T) {
	h := openHistory(t, Config{})
	rng := rand.New(rand.NewPCG(7, 8))
	all := fill(t, h, rng, 1000)
	q := mustParse(t, "domain:example.com")
	want := brute(all, q, nil)
	var got []mail.ID
	s := Search{Query: q, Limit: 20}
	for {
		found, err := h.Search(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range found.Events {
			got = append(got, e.ID)
		}
		if found.Next.IsZero() {
			break
		}
		s.Before = found.Next
		fill(t, h, rng, 50)
	}
	if !slices.Equal(got, want) {
		t.Errorf("the pages have %d events, want %d", len(got), len(want))
	}
}

func TestEventsOutOfOrderAreFoundInOrder(t *testing.T) {
	h := openHistory(t, Config{})
	rng := rand.New(rand.NewPCG(9, 10))
	var all []*mail.Event
	w := &writer{h: h, known: true}
	for range 40 {
		// Segments whose IDs lie between those of others, as after a crash.
		var slots []*slot
		for range 25 {
			e := randomEvent(rng)
			e.Time = time.Now().Add(-time.Duration(rng.IntN(1000)) * time.Second)
			e.ID = mail.FirstID(e.Time)
			rng.Uint64()
			for i := 6; i < 16; i++ {
				e.ID[i] = byte(rng.Uint32())
			}
			slots = append(slots, &slot{id: e.ID, line: appendEvent(nil, e), terms: appendTerms(nil, e)})
			all = append(all, e)
		}
		if err := w.write(t.Context(), slots); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.merge(context.Background()); err != nil {
		t.Fatal(err)
	}
	if n := h.Stats().Segments; n > 10 {
		t.Fatalf("%d segments are left after merging", n)
	}
	for _, text := range queries {
		q := mustParse(t, text)
		if got, want := pages(t, h, Search{Query: q, Limit: 50}), brute(all, q, nil); !slices.Equal(got, want) {
			t.Errorf("query %q finds %d events, want %d", text, len(got), len(want))
		}
	}
}

func TestOldEventsAreNotFoundAndGoAway(t *testing.T) {
	hs := openStore(t, "", t.TempDir())
	h := openHistory(t, Config{Store: hs, Keep: 24 * time.Hour})
	rng := rand.New(rand.NewPCG(11, 12))
	w := &writer{h: h, known: true}
	for _, age := range []time.Duration{72 * time.Hour, 30 * time.Hour, time.Hour} {
		e := randomEvent(rng)
		e.Time = time.Now().Add(-age)
		e.ID = mail.FirstID(e.Time)
		if err := w.write(t.Context(), []*slot{{id: e.ID, line: appendEvent(nil, e), terms: appendTerms(nil, e)}}); err != nil {
			t.Fatal(err)
		}
	}
	if got := pages(t, h, Search{}); len(got) != 1 {
		t.Errorf("%d events are found, want the one that is not too old", len(got))
	}
	if err := w.expire(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := segmentsOf(t, hs); len(left) != 1 {
		t.Errorf("%d segments are left, want 1", len(left))
	}
}

func TestTheOldestEventsMakeRoomForNewOnes(t *testing.T) {
	hs := openStore(t, "", t.TempDir())
	h := openHistory(t, Config{Store: hs, MaxSize: 20_000})
	rng := rand.New(rand.NewPCG(13, 14))
	all := fill(t, h, rng, 400)
	w := &writer{h: h, known: true}
	if err := w.expire(t.Context()); err != nil {
		t.Fatal(err)
	}
	total := int64(0)
	for _, s := range segmentsOf(t, hs) {
		total += s.Bytes
	}
	got := pages(t, h, Search{})
	if total > 20_000 || len(got) == 0 || len(got) >= len(all) || got[0] != all[len(all)-1].ID {
		t.Errorf("%d bytes and %d of %d events are left", total, len(got), len(all))
	}
}

func segmentsOf(t *testing.T, hs *store.History) []store.HistorySegment {
	t.Helper()
	all, err := hs.Segments(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return all
}
