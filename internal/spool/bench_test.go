package spool

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"

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
