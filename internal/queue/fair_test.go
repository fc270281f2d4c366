package queue_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/queue"
)

// slow answers after d, or when it is cancelled.
func slow(d time.Duration, o mail.Outcome) func(context.Context, *mail.Delivery, int) []mail.Outcome {
	return func(ctx context.Context, dl *mail.Delivery, _ int) []mail.Outcome {
		select {
		case <-time.After(d):
			return same(dl, o)
		case <-ctx.Done():
			return same(dl, mail.Outcome{Status: mail.Deferred, Stage: "data", Cause: ctx.Err().Error()})
		}
	}
}

// gauge wraps a reply and notes how many calls ran at the same time.
type gauge struct {
	mu       sync.Mutex
	now, top int
}

func (g *gauge) wrap(reply func(context.Context, *mail.Delivery, int) []mail.Outcome) func(context.Context, *mail.Delivery, int) []mail.Outcome {
	return func(ctx context.Context, d *mail.Delivery, n int) []mail.Outcome {
		g.mu.Lock()
		g.now++
		g.top = max(g.top, g.now)
		g.mu.Unlock()
		defer func() {
			g.mu.Lock()
			g.now--
			g.mu.Unlock()
		}()
		return reply(ctx, d, n)
	}
}

func (g *gauge) take() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	top := g.top
	g.top = g.now
	return top
}

func TestATarpitDoesNotDelayAGoodDestination(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		tarpit := &fakeTransport{start: b.start, reply: slow(5*time.Minute, delivered)}
		b.cfg.Transports["tarpit"] = queue.TransportConfig{Transport: tarpit, Policy: testPolicy}
		b.run()
		for range 50000 {
			b.send(letter{from: "a@out.example", transport: "tarpit", to: []string{"x@tar.example"}})
		}
		sent := make(map[mail.QueueID]time.Duration)
		for range 60 {
			sent[b.send(letter{from: "a@out.example", to: []string{"x@in.example"}})] = time.Since(b.start)
			wait(time.Second)
		}
		for _, a := range b.good.attempts() {
			if a.at != sent[a.id] {
				t.Errorf("a message to the good host waited %v", a.at-sent[a.id])
			}
			delete(sent, a.id)
		}
		if len(sent) != 0 {
			t.Errorf("%d messages to the good host did not leave", len(sent))
		}
	})
}

func TestThousandsOfHostsThatHangLeaveSlotsForThoseThatAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		var g gauge
		hang := g.wrap(slow(5*time.Minute, unreachable))
		b.mx.reply = func(ctx context.Context, d *mail.Delivery, n int) []mail.Outcome {
			if d.NextHop == "known.example" {
				return same(d, delivered)
			}
			return hang(ctx, d, n)
		}
		b.run()
		known := func() {
			b.send(letter{from: "a@out.example", transport: "mx", hop: "known.example", to: []string{"x@known.example"}})
		}
		known() // it has answered once
		synctest.Wait()
		for i := range 5000 {
			b.send(letter{from: "a@out.example", transport: "mx", hop: fmt.Sprintf("d%d.example", i), to: []string{"x@x.example"}})
		}
		synctest.Wait()
		for range 30 { // some are dead by then, others untried
			if top := g.take(); top > 900 {
				t.Errorf("%d of 1000 slots are taken by hosts that hang", top)
			}
			mx, good := b.mx.count(), b.good.count()
			for range 10 {
				known()
				b.send(letter{from: "a@out.example", to: []string{"x@in.example"}})
			}
			synctest.Wait()
			if b.mx.count()-mx != 10 || b.good.count()-good != 10 {
				t.Fatalf("%d and %d of 10 messages left at once", b.mx.count()-mx, b.good.count()-good)
			}
			wait(time.Minute)
		}
	})
}

func TestSlowDestinationsShareTheSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.cfg.MaxActive = 100
		b.policy(func(p *queue.Policy) { p.Sessions = 1000 })
		b.mx.reply = slow(time.Minute, delivered)
		b.run()
		hop := func(i int) string { return fmt.Sprintf("d%d.example", i) }
		for range 2000 {
			b.send(letter{from: "a@out.example", transport: "mx", hop: hop(0), to: []string{"x@x.example"}})
		}
		wait(20 * time.Minute) // it has grown as far as it may
		for i := 1; i <= 5; i++ {
			b.send(letter{from: "a@out.example", transport: "mx", hop: hop(i), to: []string{"x@x.example"}})
		}
		synctest.Wait()
		for _, d := range b.q.Stats().Destinations {
			if d.NextHop == hop(0) && (d.Active < 30 || d.Active > 60) {
				t.Errorf("the busy one has %d of 100 slots", d.Active)
			}
			if d.NextHop != hop(0) && d.Active != 1 {
				t.Errorf("%s waits behind a busy one", d.NextHop)
			}
		}
	})
}

func TestConcurrencyGrowsOnSuccessAndStopsAtItsLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		var g gauge
		b.good.reply = g.wrap(slow(time.Second, delivered))
		b.run()
		for range 500 {
			b.send(letter{from: "a@out.example", to: []string{"x@in.example"}})
		}
		synctest.Wait()
		if n := g.take(); n != 5 {
			t.Errorf("%d at first, want 5", n)
		}
		wait(10 * time.Second)
		if n := g.take(); n != 20 {
			t.Errorf("%d later, want 20", n)
		}
		wait(time.Minute)
		b.wantQueue(0)
	})
}

func TestADeadDestinationIsProbedAndItsMailBurnsNoAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.good.reply = all(unreachable)
		b.run()
		for range 1000 {
			b.send(letter{from: "a@out.example", to: []string{"x@in.example"}})
		}
		synctest.Wait()
		first := b.good.count()
		if first > 10 {
			t.Errorf("%d attempts before it counted as dead", first)
		}
		wait(30 * time.Minute)
		if n := b.good.count() - first; n < 3 || n > 8 {
			t.Errorf("%d probes in half an hour:\n%s", n, describe(b.good.attempts()))
		}
		untried := 0
		for _, r := range b.list(queue.Selector{All: true}) {
			if r.Attempts == 0 {
				untried++
			}
		}
		if want := 1000 - b.good.count(); untried < want {
			t.Errorf("%d items without an attempt, want %d", untried, want)
		}
		if s := b.q.Stats(); len(s.Destinations) != 1 || !s.Destinations[0].Dead {
			t.Errorf("stats: %+v", s)
		}
		b.good.set(all(delivered))
		wait(11 * time.Minute)
		if n := b.q.Stats().Deferred; n > 10 {
			t.Errorf("%d items still wait after it came back", n)
		}
		log := b.log.String()
		if strings.Count(log, "destination does not answer") != 1 || strings.Count(log, "destination answers again") != 1 {
			t.Error("death and return are not logged once each")
		}
	})
}

func TestMailToADeadDestinationIsTriedBeforeItIsWarnedAboutOrGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.good.reply = all(unreachable)
		b.run()
		tried := make(map[mail.QueueID]int)
		for range 100 {
			tried[b.send(letter{from: "a@out.example", to: []string{"x@in.example"}})] = 0
		}
		wait(5 * time.Hour)
		for _, a := range b.good.attempts() {
			tried[a.id]++
		}
		for id, n := range tried {
			if n == 0 || n > 4 {
				t.Errorf("%s was tried %d times in five hours, want once for its warning and perhaps as a probe", id, n)
			}
		}
		if n := len(b.bouncer.all()); n != 20 { // the limit for one sender
			t.Errorf("%d warnings", n)
		}
		wait(46 * time.Hour)
		b.wantQueue(0)
	})
}

func TestADestinationThatLosesEveryConnectionIsDeadToo(t *testing.T) {
	for _, stage := range []string{"connect", "dns", "ehlo", "starttls", "auth", "mail", "rcpt", "data", "eod"} {
		t.Run(stage, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.good.reply = all(mail.Outcome{Status: mail.Deferred, Stage: stage, Cause: "timeout"})
				b.run()
				for range 100 {
					b.send(letter{from: "a@out.example", to: []string{"x@in.example"}})
				}
				wait(10 * time.Minute)
				if n := b.good.count(); n > 20 || !b.q.Stats().Destinations[0].Dead {
					t.Errorf("%d attempts", n)
				}
			})
		})
	}
}

func TestOnePoisonedMessageDoesNotKillItsDestination(t *testing.T) {
	lost := mail.Outcome{Status: mail.Deferred, Stage: "data", Cause: "connection reset"}
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.good.reply = func(_ context.Context, d *mail.Delivery, _ int) []mail.Outcome {
			if d.Recipients[0].Address.Local == "poison" {
				return same(d, lost)
			}
			return same(d, delivered)
		}
		b.run()
		b.send(letter{from: "a@out.example", to: []string{"poison@in.example"}})
		for range 600 {
			b.send(letter{from: "a@out.example", to: []string{"x@in.example"}})
			wait(time.Second)
		}
		if n := b.q.Stats().Deferred; n != 1 {
			t.Errorf("%d items wait, want the poisoned one only", n)
		}
		if strings.Contains(b.log.String(), "does not answer") {
			t.Error("the destination was taken for dead")
		}
	})
}

func TestManyDestinationsThatComeAndGoAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.run()
		for i := range 40000 {
			b.send(letter{from: "a@out.example", transport: "mx", hop: fmt.Sprintf("d%d.example", i), to: []string{"x@x.example"}})
			if i%1000 == 0 {
				synctest.Wait()
			}
		}
		synctest.Wait()
		b.wantQueue(0)
		if n := queue.Destinations(b.q); n > 12000 {
			t.Errorf("%d destinations are remembered", n)
		}
	})
}
