package greylist

import (
	"fmt"
	"testing"

	"gatepost/internal/store"
)

// BenchmarkSeenLately is a triplet that is remembered in memory.
func BenchmarkSeenLately(b *testing.B) {
	g := newGreylist(b, Config{Store: &fakeStore{answer: store.GreylistAnswer{Passed: true}}})
	in := input(b, "192.0.2.7", "bounces+17-carol=example.com@lists.example.org", "carol@example.com")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := g.Check(b.Context(), in); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkStrangers are triplets that nobody has seen, from many sessions at once.
func BenchmarkStrangers(b *testing.B) {
	s, err := store.Open(b.Context(), store.Options{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	g := newGreylist(b, Config{Store: s})
	in := input(b, "192.0.2.7", "a@example.org", "carol@example.com")
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for n := 0; pb.Next(); n++ {
			mine := *in
			env := *in.Envelope
			env.Sender.Domain = fmt.Sprintf("d%p-%d.example", &mine, n)
			mine.Envelope = &env
			if symbol(b, g, &mine) != SymbolWait {
				b.Error("it should wait")
			}
		}
	})
}
