package history

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
	"time"

	"gatepost/internal/spool"
)

// BenchmarkNote is what an event costs in all: noted, kept in the outbox of a real
// spool, written, merged, and dropped from there.
func BenchmarkNote(b *testing.B) {
	s, err := spool.Open(spool.Options{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	h := openHistory(b, Config{Outbox: s})
	rng := rand.New(rand.NewPCG(1, 2))
	all := fillEvents(rng, 1000)
	b.ReportAllocs()
	n := 0
	begun := processorTime()
	for b.Loop() {
		e := *all[n%len(all)]
		n++
		note, done := h.Prepare(&e)
		if err := s.PutNote(note); err != nil {
			b.Fatal(err)
		}
		done(true)
		if n%writeEvents == 0 {
			h.Flush(b.Context())
		}
	}
	h.Flush(b.Context())
	if lost := h.Stats().Dropped; lost > 0 {
		b.Errorf("%d events were lost", lost)
	}
	// The machine may be busy with other things: what counts is the processor time.
	b.ReportMetric(float64(processorTime()-begun)/float64(n), "cpu-ns/event")
	b.ReportMetric(float64(h.Stats().Size)/float64(n), "B/event")
}

func processorTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkEncode is the part of it that the goroutine of a session pays.
func BenchmarkEncode(b *testing.B) {
	all := fillEvents(rand.New(rand.NewPCG(1, 2)), 1000)
	b.ReportAllocs()
	n := 0
	var line, kept []byte
	var terms, found []term
	for b.Loop() {
		e := all[n%len(all)]
		n++
		line, terms = appendEvent(line[:0], e), appendTerms(terms[:0], e)
		kept, found = bytes.Clone(line), slices.Clone(terms)
	}
	if len(kept) == 0 || len(found) == 0 {
		b.Error("nothing was encoded")
	}
}
