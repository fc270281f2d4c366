package queue_test

import (
	"context"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/queue"
)

// nullStore takes everything and knows nothing.
type nullStore struct {
	queue.Store
	scan func(func(queue.Entry) error) error
}

func (s nullStore) Scan(fn func(queue.Entry) error) error {
	if s.scan == nil {
		return nil
	}
	return s.scan(fn)
}
func (nullStore) Setting(string) ([]byte, error)  { return nil, nil }
func (nullStore) Done(mail.QueueID) error         { return nil }
func (nullStore) Update(...*mail.QueueItem) error { return nil }
func (nullStore) PutSetting(string, []byte) error { return nil }
func (nullStore) Body(mail.ID) (mail.Body, error) { panic("the body was read from the store") }
func (nullStore) Item(mail.QueueID) (*mail.QueueItem, error) {
	panic("the item was read from the store")
}

// countingTransport delivers at once.
type countingTransport struct{ n atomic.Int64 }

func (c *countingTransport) Deliver(_ context.Context, d *mail.Delivery) []mail.Outcome {
	defer c.n.Add(1)
	return []mail.Outcome{delivered}
}

// BenchmarkAddToDone is what the queue adds to one message that is delivered at
// once: Add, schedule, attempt, outcome, Done. Logging is off.
func BenchmarkAddToDone(b *testing.B) {
	tr := &countingTransport{}
	q, err := queue.New(queue.Config{Store: nullStore{}, Bouncer: &fakeBouncer{}, Hostname: "gw.example",
		Transports: map[string]queue.TransportConfig{"good": {Transport: tr}}})
	if err != nil {
		b.Fatal(err)
	}
	if err := q.Start(context.Background()); err != nil {
		b.Fatal(err)
	}
	bench := newBench(b)
	m, items := bench.put(letter{from: "a@out.example", to: []string{"x@in.example"}})
	b.ReportAllocs()
	added := int64(0)
	for b.Loop() {
		id := mail.NewID()
		env := *m.Envelope
		item := *items[0]
		env.ID, item.ID.Message = id, id
		q.Add(mail.Message{Envelope: &env, Body: m.Body}, []*mail.QueueItem{&item})
		added++
		for added-tr.n.Load() > 50 {
			runtime.Gosched() // no faster than it is delivered, so that all stays in memory
		}
	}
	if err := q.Stop(context.Background()); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkStartMillion starts a queue with a million items that wait.
func BenchmarkStartMillion(b *testing.B) {
	now := time.Now()
	scan := func(fn func(queue.Entry) error) error {
		for i := range 1_000_000 {
			id := mail.FirstID(now.Add(-time.Duration(i) * time.Millisecond))
			e := queue.Entry{ID: mail.QueueID{Message: id, N: 1}, State: mail.QueueDeferred, Created: now, NextAttempt: now.Add(time.Hour),
				Dest: mail.Destination{Transport: "good"}}
			if err := fn(e); err != nil {
				return err
			}
		}
		return nil
	}
	for b.Loop() {
		q, err := queue.New(queue.Config{Store: nullStore{scan: scan}, Bouncer: &fakeBouncer{}, Hostname: "gw.example",
			Transports: map[string]queue.TransportConfig{"good": {Transport: &countingTransport{}}}})
		if err != nil {
			b.Fatal(err)
		}
		if err := q.Start(context.Background()); err != nil {
			b.Fatal(err)
		}
		if s := q.Stats(); s.Deferred != 1_000_000 {
			b.Fatalf("%+v", s)
		}
		if err := q.Stop(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}
