package queue_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/queue"
)

// Everything at once: whatever operators do and hosts answer, each recipient gets
// the message exactly once.
func TestEveryRecipientIsServedExactlyOnceWhateverHappens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		var mu sync.Mutex
		got := make(map[string]int)
		answer := func(ctx context.Context, d *mail.Delivery, _ int) []mail.Outcome {
			select {
			case <-time.After(rand.N(10 * time.Second)):
			case <-ctx.Done():
				return same(d, unreachable)
			}
			if rand.N(4) == 0 {
				return same(d, unreachable)
			}
			out := make([]mail.Outcome, len(d.Recipients))
			mu.Lock()
			defer mu.Unlock()
			for i, r := range d.Recipients {
				out[i] = greylisted
				if rand.N(2) == 0 {
					out[i] = delivered
					got[r.Address.String()]++
				}
			}
			return out
		}
		b.good.reply, b.mx.reply = answer, answer
		b.policy(func(p *queue.Policy) { p.Delays, p.WarnAfter = []time.Duration{time.Minute, 10 * time.Minute}, 0 })
		b.cfg.MaxActive = 30
		b.run()

		const messages = 1000
		var wg sync.WaitGroup
		until := time.Now().Add(3 * time.Hour)
		wg.Go(func() {
			for i := range messages {
				to := []string{fmt.Sprintf("a%d@d%d.example", i, i%5), fmt.Sprintf("b%d@d%d.example", i, (i+i%2)%5)}
				l := letter{from: "a@out.example", to: to}
				if i%3 == 0 {
					l.transport, l.hop = "mx", fmt.Sprintf("d%d.example", i%5)
				}
				b.send(l)
				time.Sleep(rand.N(10 * time.Second))
			}
		})
		ctx := context.Background()
		sel := func() queue.Selector {
			return []queue.Selector{{All: true}, {Domain: fmt.Sprintf("d%d.example", rand.N(5))}, {Transport: "mx"},
				{State: mail.QueueActive}, {State: mail.QueueHold}, {Error: "greylisted"}}[rand.N(6)]
		}
		target := func() queue.PauseTarget {
			return []queue.PauseTarget{{Transport: "mx"}, {Domain: fmt.Sprintf("d%d.example", rand.N(5))}}[rand.N(2)]
		}
		ops := []func() error{
			func() error { _, err := b.q.Hold(ctx, sel(), "op", "x"); return err },
			func() error { _, err := b.q.Release(ctx, sel(), "op"); return err },
			func() error { _, err := b.q.Release(ctx, queue.Selector{All: true}, "op"); return err },
			func() error { _, err := b.q.Retry(ctx, sel(), "op"); return err },
			func() error { _, err := b.q.Reroute(ctx, sel(), []string{"mx", "good"}[rand.N(2)], "op"); return err },
			func() error { return b.q.Pause(ctx, target(), "op", "x") },
			func() error { b.q.Resume(ctx, target(), "op"); return nil },
			func() error { b.q.Reload(b.cfg.Transports); return nil },
			func() error { _, err := b.q.List(ctx, sel(), 50, ""); return err },
			func() error { b.q.Stats(); return nil },
		}
		for _, op := range ops {
			wg.Go(func() {
				for time.Now().Before(until) {
					if err := op(); err != nil {
						t.Error(err)
					}
					time.Sleep(rand.N(2 * time.Minute))
				}
			})
		}
		wg.Wait()
		for _, p := range b.q.Pauses() {
			if err := b.q.Resume(ctx, p.PauseTarget, "op"); err != nil {
				t.Error(err)
			}
		}
		for range 10 { // a hold may have been waiting for an attempt to end
			if _, err := b.q.Release(ctx, queue.Selector{All: true}, "op"); err != nil {
				t.Error(err)
			}
			wait(time.Hour)
		}
		b.wantQueue(0)
		if s := b.q.Stats(); s.Active+s.Deferred+s.Hold != 0 {
			t.Errorf("stats of an empty queue: %+v", s)
		}
		if len(got) != 2*messages {
			t.Errorf("%d of %d recipients served", len(got), 2*messages)
		}
		for to, n := range got {
			if n != 1 {
				t.Errorf("%s got the message %d times", to, n)
			}
		}
	})
}
