package quarantine

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"gatepost/internal/mail"
	"gatepost/internal/store"
)

// BenchmarkList lists a page of 100 messages out of 100,000.
func BenchmarkList(b *testing.B) {
	s, err := store.Open(b.Context(), store.Options{Dir: b.TempDir(), Node: "gw1"})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	var wg sync.WaitGroup
	for worker := range 64 {
		wg.Go(func() {
			for i := range 100_000 / 64 {
				if err := s.PutQuarantined(context.Background(), benchMessage(worker, i), bodyOf(sampleText)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	q, err := New(Config{Store: s, Releaser: &outbox{}})
	if err != nil {
		b.Fatal(err)
	}
	for name, f := range map[string]Filter{
		"all":       {Limit: 100},
		"recipient": {Limit: 100, Recipient: "user7@example.com"},
		"domain":    {Limit: 100, Domain: "example.com"},
		"threat":    {Limit: 100, Threat: mail.ThreatSpam, State: Held},
		"text":      {Limit: 100, Text: "number 77"},
		"nothing":   {Limit: 100, Text: "not there"},
		"null":      {Limit: 100, Sender: "<>"},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := q.List(b.Context(), f); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func benchMessage(worker, i int) *store.QuarantinedMessage {
	user := fmt.Sprintf("user%d", i%1000)
	a := mail.Address{Local: user, Domain: "example.com", Raw: user + "@example.com"}
	id := mail.NewID()
	cause := store.QuarantineCause{Threat: mail.ThreatSpam, Reason: "score 12.0 is at least 10.0"}
	return &store.QuarantinedMessage{
		ID: id, Received: id.Time(), Sender: fmt.Sprintf("a%d@sender.example", worker), Subject: fmt.Sprintf("number %d", i), QuarantineCause: cause,
		Entries:  []store.QuarantineEntry{{Recipient: a, Domain: "example.com", QuarantineCause: cause}},
		Envelope: &mail.Envelope{ID: id, Recipients: []mail.Recipient{{Address: a}}},
	}
}
