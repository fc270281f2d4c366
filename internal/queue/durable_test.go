package queue_test

import (
	"context"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/queue"
)

func TestAFullDiskKeepsMailAndSuspendsAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		store := b.store.(*memStore)
		b.policy(func(p *queue.Policy) { p.Delays = []time.Duration{time.Second} })
		b.good.reply = func(_ context.Context, d *mail.Delivery, _ int) []mail.Outcome {
			out := same(d, greylisted)
			if len(out) == 2 {
				out[0] = delivered
			}
			return out
		}
		store.setFail(func(string, mail.QueueID) error { return errDisk })
		b.run()
		for range 30 {
			b.send(letter{from: "a@out.example", to: []string{"once@in.example", "x@in.example"}})
		}
		synctest.Wait()
		under := b.good.count()
		if under > 20 || !b.q.Stats().Suspended {
			t.Errorf("%d attempts whose outcome cannot be stored", under)
		}
		wait(10 * time.Minute)
		if n := b.good.count(); n != under {
			t.Errorf("%d attempts while the disk was full", n-under)
		}
		b.wantQueue(30)
		store.setFail(nil)
		wait(time.Minute)
		if b.q.Stats().Suspended || b.good.count() <= under {
			t.Error("attempts did not begin again")
		}
		b.good.set(all(delivered))
		wait(time.Minute)
		b.wantQueue(0)
		once := 0
		for _, a := range b.good.attempts() {
			if a.to[0] == "once@in.example" {
				once++
			}
		}
		if once != 30 {
			t.Errorf("30 recipients got the message %d times", once)
		}
	})
}

func TestDeliveredMailThatCannotBeRemovedIsNotSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		store := b.store.(*memStore)
		store.setFail(func(op string, _ mail.QueueID) error { return errDisk })
		b.run()
		b.send(letter{from: "a@out.example", to: []string{"x@in.example"}})
		wait(time.Hour)
		if n := b.good.count(); n != 1 {
			t.Fatalf("%d attempts", n)
		}
		store.setFail(nil)
		wait(time.Minute)
		b.wantQueue(0)
		if n := b.good.count(); n != 1 {
			t.Errorf("%d attempts", n)
		}
	})
}

func TestOneItemThatCannotBeStoredDoesNotHoldTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		store := b.store.(*memStore)
		b.run()
		m, items := b.put(letter{from: "a@out.example", to: []string{"x@in.example"}})
		bad := items[0].ID
		store.setFail(func(_ string, id mail.QueueID) error {
			if id == bad {
				return errDisk
			}
			return nil
		})
		b.q.Add(m, items)
		wait(time.Second + time.Millisecond)
		for range 50 {
			b.send(letter{from: "a@out.example", to: []string{"y@in.example"}})
		}
		synctest.Wait()
		b.wantQueue(1)
		store.setFail(nil)
		wait(time.Minute)
		b.wantQueue(0)
		if n := b.good.count(); n != 51 {
			t.Errorf("%d attempts", n)
		}
	})
}

func TestAnItemThatCannotBeReadIsNamedAndDoesNotStopTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		store := b.store.(*memStore)
		_, gone := b.put(letter{from: "a@out.example", to: []string{"x@in.example"}})
		for range 20 {
			b.put(letter{from: "a@out.example", to: []string{"x@in.example"}})
		}
		delete(store.bodies, gone[0].ID.Message)
		b.cfg.Gone = func(err error) bool { return err != nil && strings.Contains(err.Error(), fs.ErrNotExist.Error()) }
		b.run()
		synctest.Wait()
		if n := b.good.count(); n != 20 {
			t.Errorf("%d attempts", n)
		}
		if !strings.Contains(b.log.String(), gone[0].ID.String()) {
			t.Error("the damaged item is not named in the log")
		}
		b.cfg.Gone = func(error) bool { return false } // a disk that errs for a while
		b.restart()
		wait(time.Hour)
		store.mu.Lock()
		store.bodies[gone[0].ID.Message] = testBody
		store.mu.Unlock()
		wait(6 * time.Minute)
		b.wantQueue(0)
	})
}

func TestStopLetsAttemptsFinishThenCancelsThem(t *testing.T) {
	for name, c := range map[string]struct {
		patience time.Duration
		left     int
	}{
		"in time":      {10 * time.Minute, 100 - 5},
		"out of time":  {time.Second, 100},
		"no patience":  {0, 100},
		"stopped dead": {-1, 100},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.good.reply = slow(5*time.Minute, delivered)
				b.run()
				for range 100 {
					b.send(letter{from: "a@out.example", to: []string{"x@in.example"}})
				}
				synctest.Wait()
				ctx, cancel := context.WithTimeout(context.Background(), c.patience)
				defer cancel()
				if err := b.q.Stop(ctx); err != nil {
					t.Fatal(err)
				}
				if n := b.store.(*memStore).count(); n != c.left {
					t.Errorf("%d items left, want %d", n, c.left)
				}
				if n := b.good.count(); n != 5 {
					t.Errorf("%d attempts", n)
				}
				b.good.set(all(delivered))
				b.run() // another process
				synctest.Wait()
				b.wantQueue(0)
				for _, i := range b.list(queue.Selector{}) {
					if i.Attempts != 0 {
						t.Errorf("a cancelled attempt was counted: %+v", i)
					}
				}
			})
		})
	}
}

func TestWhatACancelledAttemptAchievedIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.good.reply = func(ctx context.Context, d *mail.Delivery, _ int) []mail.Outcome {
			<-ctx.Done()
			return []mail.Outcome{delivered, {Status: mail.Deferred, Stage: "rcpt", Cause: ctx.Err().Error()}}
		}
		b.run()
		b.send(letter{from: "a@out.example", to: []string{"x@in.example", "y@in.example"}})
		synctest.Wait()
		if err := b.q.Stop(ended()); err != nil {
			t.Fatal(err)
		}
		b.good.set(all(delivered))
		b.run()
		synctest.Wait()
		if got := b.good.attempts(); len(got) != 2 || strings.Join(got[1].to, " ") != "y@in.example" {
			t.Errorf("attempts:\n%s", describe(got))
		}
		b.wantQueue(0)
	})
}

func TestStopSaysWhatCouldNotBeStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.run()
		b.store.(*memStore).setFail(func(string, mail.QueueID) error { return errDisk })
		id := b.send(letter{from: "a@out.example", to: []string{"x@in.example"}})
		synctest.Wait()
		if err := b.q.Stop(context.Background()); err == nil || !strings.Contains(b.log.String(), "outcome is lost") ||
			!strings.Contains(b.log.String(), id.String()) {
			t.Errorf("stop: %v", err)
		}
	})
}

func TestWrongClocks(t *testing.T) {
	cases := []struct {
		name          string
		created, next time.Duration // from now
		left          int           // after the first attempt fails
	}{
		{"a next attempt far in the future comes after the longest delay at most", 0, 72 * time.Hour, 1},
		{"mail that looks old is tried before it expires", -30 * 24 * time.Hour, 0, 0},
		{"mail that looks old and lies in the future, too", -30 * 24 * time.Hour, 72 * time.Hour, 0},
		{"mail from the future is delivered", 30 * 24 * time.Hour, 0, 1},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.good.reply = all(greylisted)
				now := time.Now()
				b.put(letter{from: "a@out.example", to: []string{"x@in.example"}, created: now.Add(c.created), next: now.Add(c.next)})
				b.run()
				wait(67 * time.Minute)
				if n := b.good.count(); n == 0 || n > 6 {
					t.Fatalf("%d attempts in an hour:\n%s", n, describe(b.good.attempts()))
				}
				b.wantQueue(c.left)
				if n := len(b.bouncer.all()); n != 1-c.left {
					t.Errorf("%d reports", n)
				}
			})
		})
	}
}

func TestARestartTriesWhatIsDueAndNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		var g gauge
		b.mx.reply = g.wrap(slow(time.Second, delivered))
		now := time.Now()
		for i := range 20000 {
			l := letter{from: "a@out.example", transport: "mx", hop: fmt.Sprintf("d%d.example", i%50), to: []string{"x@x.example"}}
			if i/50%2 == 1 {
				l.next = now.Add(30 * time.Minute)
			}
			b.put(l)
		}
		b.run()
		synctest.Wait()
		if n := g.take(); n != 250 {
			t.Errorf("%d attempts at once, want 5 at each of 50 destinations", n)
		}
		wait(29 * time.Minute)
		if n := b.mx.count(); n != 10000 {
			t.Errorf("%d attempts before the others were due", n)
		}
		if s := b.q.Stats(); s.Deferred != 10000 || !s.Oldest.Equal(now.Truncate(time.Second)) {
			t.Errorf("stats: %d deferred, oldest %v", s.Deferred, s.Oldest)
		}
		wait(3 * time.Minute)
		b.wantQueue(0)
	})
}

func TestAnItemIsAddedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		m, items := b.put(letter{from: "a@out.example", to: []string{"x@in.example"}})
		b.good.reply = slow(time.Minute, delivered)
		b.run() // finds it
		b.q.Add(m, items)
		synctest.Wait()
		if n := b.good.count(); n != 1 {
			t.Errorf("%d attempts", n)
		}
	})
}

func TestMessagesBeyondTheMemoryBudgetAreReadFromTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.cfg.MemoryBudget = 3 * 2200 // three small messages
		b.good.reply = slow(time.Minute, delivered)
		b.run()
		for range 10 {
			b.send(letter{from: "a@out.example", to: []string{"x@in.example"}})
		}
		wait(time.Hour)
		b.wantQueue(0)
		if n := b.store.(*memStore).reads; n < 5 || n > 8 {
			t.Errorf("%d of 10 items were read from the store", n)
		}
	})
}
