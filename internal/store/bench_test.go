package store_test

import (
	"fmt"
	"testing"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/store"
	"gatepost/internal/store/storetest"
)

// benchRows is how many messages BenchmarkFind searches.
const benchRows = 100_000

// BenchmarkFind searches a quarantine of 100,000 messages in the ways in which
// people do, including those for which nothing or only the oldest fits.
func BenchmarkFind(b *testing.B) {
	for _, engine := range []string{"sqlite", "postgres"} {
		b.Run(engine, func(b *testing.B) {
			o := store.Options{Dir: b.TempDir(), Timeout: time.Minute}
			if engine == "postgres" {
				o.URL = server.NewDatabase(b)
			}
			s, err := store.Open(b.Context(), o)
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			began := time.Now()
			oldest := fill(b, s)
			b.Logf("filled in %v", time.Since(began))
			benchFind(b, s, oldest)
		})
	}
}

// fill puts the messages from many goroutines, so that they share commits.
func fill(b *testing.B, s *store.Store) mail.ID {
	begin := time.Now().Add(-30 * 24 * time.Hour)
	work := make(chan int)
	done := make(chan error)
	id := func(i int) mail.ID {
		id := mail.FirstID(begin.Add(time.Duration(i) * 20 * time.Second))
		id[14], id[15] = byte(i>>8), byte(i)
		return id
	}
	const workers = 32
	for range workers {
		go func() {
			var failed error
			for i := range work {
				m, body := storetest.Message(fmt.Sprintf("user%d@d%d.example", i%7919, i%997), fmt.Sprintf("Cheap watches number %d for you and yours", i), 500,
					fmt.Sprintf("u%d@example.com", i%500), fmt.Sprintf("v%d@example.com", i%50_000))
				m.ID = id(i)
				if i%1000 == 0 {
					m.Entries[0].Threat = mail.ThreatVirus
				}
				if err := s.PutQuarantined(b.Context(), m, body); err != nil {
					failed = err
				}
			}
			done <- failed
		}()
	}
	for i := range benchRows {
		work <- i
	}
	close(work)
	for range workers {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
	return id(0)
}

func benchFind(b *testing.B, s *store.Store, oldest mail.ID) {
	queries := []struct {
		name string
		q    store.QuarantineQuery
	}{
		{"newest", store.QuarantineQuery{}},
		{"page in the middle", store.QuarantineQuery{Before: mail.FirstID(oldest.Time().Add(15 * 24 * time.Hour))}},
		{"held", store.QuarantineQuery{State: store.QuarantineHeld}},
		{"recipient with 200", store.QuarantineQuery{Recipients: []string{"u77@example.com"}, State: store.QuarantineHeld}},
		{"recipient with 2", store.QuarantineQuery{Recipient: "v77@example.com"}},
		{"domain of all", store.QuarantineQuery{Domains: []string{"example.com"}, State: store.QuarantineHeld}},
		{"viruses", store.QuarantineQuery{Threat: mail.ThreatVirus}},
		{"nothing released", store.QuarantineQuery{State: store.QuarantineReleased}},
		{"sender", store.QuarantineQuery{Sender: "@d5.example"}},
		{"subject of the oldest", store.QuarantineQuery{Subject: "number 7 for"}},
		{"text that is nowhere", store.QuarantineQuery{Text: "cheap unicorns"}},
		{"words that are everywhere, though not together", store.QuarantineQuery{Subject: "ap wat", Text: "you rs.yo"}},
		{"text that is everywhere", store.QuarantineQuery{Text: "cheap"}},
		{"text that is nowhere, held", store.QuarantineQuery{Text: "unicorns", State: store.QuarantineHeld}},
		{"text that is nowhere, domain of all", store.QuarantineQuery{Text: "unicorns", Domains: []string{"example.com"}}},
		{"two letters that are nowhere", store.QuarantineQuery{Text: "zq"}},
		{"part of a recipient that is nowhere", store.QuarantineQuery{Recipient: "unicorn"}},
		{"text that is everywhere, viruses", store.QuarantineQuery{Text: "watches", Threat: mail.ThreatVirus}},
		{"text and held", store.QuarantineQuery{Text: "number 77 v77@", State: store.QuarantineHeld}},
		{"ID", store.QuarantineQuery{ID: oldest}},
	}
	for _, c := range queries {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				if _, _, err := s.FindQuarantined(b.Context(), c.q); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("statistics", func(b *testing.B) {
		for b.Loop() {
			if _, err := s.QuarantineStats(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("recipients of digests", func(b *testing.B) {
		for b.Loop() {
			if _, err := s.QuarantineRecipients(b.Context(), time.Now().Add(-time.Hour), time.Now(), "", 1000); err != nil {
				b.Fatal(err)
			}
		}
	})
}
