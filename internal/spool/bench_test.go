package spool

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"gatepost/internal/mail"
)

// writers runs do in n goroutines until b.N calls were made.
func writers(b *testing.B, n int, do func()) {
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	b.ResetTimer()
	for range n {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				do()
			}
		})
	}
	wg.Wait()
	b.StopTimer()
}

func quietOptions(b *testing.B) Options {
	o := withDefaults(b, Options{})
	o.Log = nil
	return o
}

func benchOpen(b *testing.B, o Options) *Spool {
	s, err := Open(o)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	return s
}

// BenchmarkCommit measures messages that are made durable and stay.
func BenchmarkCommit(b *testing.B) {
	for _, size := range []int{4 << 10, 20 << 10, 100 << 10} {
		for _, n := range []int{1, 64, 256} {
			b.Run(fmt.Sprintf("size=%dk/writers=%d", size>>10, n), func(b *testing.B) {
				s := benchOpen(b, quietOptions(b))
				body := testBody(size)
				b.ReportAllocs()
				b.SetBytes(int64(size))
				cpu := cpuTime()
				writers(b, n, func() {
					if err := tryPut(s, mail.NewID(), body, 1); err != nil {
						b.Error(err)
					}
				})
				reportCost(b, s, cpu)
			})
		}
	}
}

// BenchmarkCycle measures the whole life of a message: made durable, read, done.
func BenchmarkCycle(b *testing.B) {
	for _, size := range []int{4 << 10, 20 << 10, 100 << 10} {
		for _, n := range []int{1, 64, 256} {
			b.Run(fmt.Sprintf("size=%dk/writers=%d", size>>10, n), func(b *testing.B) {
				s := benchOpen(b, quietOptions(b))
				body := testBody(size)
				b.ReportAllocs()
				b.SetBytes(int64(size))
				cpu := cpuTime()
				writers(b, n, func() {
					if err := cycle(s, body); err != nil {
						b.Error(err)
					}
				})
				reportCost(b, s, cpu)
			})
		}
	}
}

func cycle(s *Spool, body []byte) error {
	id := mail.NewID()
	if err := tryPut(s, id, body, 1); err != nil {
		return err
	}
	r, err := s.Body(id)
	if err != nil {
		return err
	}
	p := make([]byte, 32<<10)
	for off := int64(0); off < r.Size(); {
		n, err := r.ReadAt(p, off)
		if err != nil && err != io.EOF {
			return err
		}
		off += int64(n)
	}
	return s.Done(mail.QueueID{Message: id, N: 1})
}

// reportCost adds CPU time per message, messages per second and write amplification.
func reportCost(b *testing.B, s *Spool, cpu int64) {
	b.ReportMetric(float64(cpuTime()-cpu)/float64(b.N)/1e3, "cpu-µs/msg")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
	m := s.db.Metrics()
	// In the total, what was flushed includes what was written to the log.
	if total := m.Total(); m.WAL.BytesIn > 0 {
		written := total.TableBytesFlushed + total.TableBytesCompacted
		b.ReportMetric(float64(written)/float64(m.WAL.BytesIn), "write-amp")
	}
}

// populate puts n messages of size bytes into the store, with one item each,
// faster than Commit would.
func populate(b *testing.B, s *Spool, n, size int) {
	body := testBody(size)
	e := newJSONEncoder().(*jsonEncoder)
	batch := s.db.NewBatch()
	for i := range n {
		id := mail.NewID()
		env := testEnvelope(id)
		env.Size = int64(size)
		it := testItem(id, 1)
		err := errors.Join(setChunk(batch, id, 0, body), setEnvelope(batch, e, env, 1), setItem(batch, e, it, scheduleOf(it, 1, env.Size)))
		if err == nil && (batch.Len() > 1<<20 || i == n-1) {
			if err = s.db.Apply(batch, pebble.NoSync); err == nil {
				err = batch.Close()
			}
			batch = s.db.NewBatch()
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkMillion measures a start with 1,000,000 queued messages: Open, then a
// Scan that keeps every entry, as the queue does.
func BenchmarkMillion(b *testing.B) {
	const n = 1000000
	o := quietOptions(b)
	s, err := Open(o)
	if err != nil {
		b.Fatal(err)
	}
	populate(b, s, n, 4<<10)
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		start := time.Now()
		s, err := Open(o)
		if err != nil {
			b.Fatal(err)
		}
		opened := time.Since(start)
		entries := make([]Entry, 0, n)
		before := heapInUse()
		if err := s.Scan(func(e Entry) error { entries = append(entries, e); return nil }); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(opened.Seconds(), "s-open")
		b.ReportMetric(time.Since(start).Seconds()-opened.Seconds(), "s-scan")
		b.ReportMetric(float64(heapInUse()-before)/(1<<20), "MiB-heap-for-scan")
		b.ReportMetric(float64(residentPeak())/(1<<20), "MiB-peak-rss")
		if len(entries) != n {
			b.Fatalf("%d entries", len(entries))
		}
		start, walked := time.Now(), 0
		err = s.Walk(mail.QueueID{}, func(*mail.QueueItem, *mail.Envelope) (bool, error) {
			walked++
			return walked < 100000, nil
		})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(time.Since(start).Seconds()*1e6/float64(walked), "µs/walked-item")
		start = time.Now()
		const loads = 50000
		for _, e := range entries[n/2 : n/2+loads] {
			_, ierr := s.Item(e.ID)
			_, eerr := s.Envelope(e.ID.Message)
			body, berr := s.Body(e.ID.Message)
			if err := errors.Join(ierr, eerr, berr); err != nil {
				b.Fatal(err)
			}
			if _, err := readBody(body); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(time.Since(start).Seconds()*1e6/loads, "µs/loaded-message")
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkHundredLarge receives 100 messages of 50 MB at the same time.
func BenchmarkHundredLarge(b *testing.B) {
	const n, size, piece = 100, 50 << 20, 32 << 10
	s := benchOpen(b, quietOptions(b))
	data := testBody(piece)
	for b.Loop() {
		var wg sync.WaitGroup
		var turn sync.WaitGroup // all begin before one ends
		turn.Add(n)
		for range n {
			wg.Go(func() {
				id := mail.NewID()
				w := s.Create(id)
				defer w.Abort()
				for i := range size / piece {
					if _, err := w.Write(data); err != nil {
						b.Error(err)
						return
					}
					if i == size/piece/2 {
						turn.Done()
						turn.Wait()
					}
				}
				if err := w.Commit(testEnvelope(id), testItems(id, 1)); err != nil {
					b.Error(err)
					return
				}
				if err := s.Done(mail.QueueID{Message: id, N: 1}); err != nil {
					b.Error(err)
				}
			})
		}
		wg.Wait()
	}
	b.SetBytes(n * size)
	b.ReportMetric(float64(residentPeak())/(1<<20), "MiB-peak-rss")
	m := s.db.Metrics()
	b.ReportMetric(float64(m.Total().TableBytesFlushed+m.Total().TableBytesCompacted)/float64(m.WAL.BytesIn), "write-amp")
}
