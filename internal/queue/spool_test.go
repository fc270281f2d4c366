package queue_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"gatepost/internal/mail"
	"gatepost/internal/queue"
	"gatepost/internal/spool"
)

// spoolStore is the real spool as the queue sees it.
type spoolStore struct{ *spool.Spool }

func (s spoolStore) Scan(fn func(queue.Entry) error) error {
	return s.Spool.Scan(func(e spool.Entry) error { return fn(queue.Entry(e)) })
}

func (s spoolStore) commit(env *mail.Envelope, content string, items []*mail.QueueItem) error {
	w := s.Create(env.ID)
	defer w.Abort()
	if _, err := io.WriteString(w, content); err != nil {
		return err
	}
	return w.Commit(env, items)
}

func openSpool(t testing.TB, fs vfs.FS) spoolStore {
	t.Helper()
	s, err := spool.Open(spool.Options{Dir: "/spool", FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil && !errors.Is(err, spool.ErrClosed) {
			t.Errorf("close spool: %v", err)
		}
	})
	return spoolStore{s}
}

func gone(err error) bool {
	return errors.Is(err, spool.ErrNotFound) || errors.Is(err, spool.ErrCorrupt)
}

// onSpool replaces the store of the bench.
func (b *bench) onSpool(s spoolStore) *bench {
	b.store, b.cfg.Gone = s, gone
	return b
}

// TestOnTheRealSpool runs what matters most on the store that is used in earnest.
func TestOnTheRealSpool(t *testing.T) {
	for name, test := range map[string]func(*testing.T, *bench){
		"retry, partial delivery, restart, expiry": func(t *testing.T, b *bench) {
			b.good.reply = func(_ context.Context, d *mail.Delivery, n int) []mail.Outcome {
				out := same(d, greylisted)
				if n == 1 {
					out[0] = delivered
				}
				return out
			}
			b.run()
			b.send(letter{from: "a@out.example", to: []string{"once@in.example", "x@in.example"}})
			wait(5 * time.Hour)
			b.restart()
			wait(45 * time.Hour)
			b.wantQueue(0)
			for _, a := range b.good.attempts()[1:] {
				if strings.Join(a.to, " ") != "x@in.example" {
					t.Fatalf("attempt %+v", a)
				}
			}
			if n := len(b.bouncer.all()); n != 2 { // a warning and a failure
				t.Errorf("%d reports", n)
			}
		},
		"pause over a restart": func(t *testing.T, b *bench) {
			b.run()
			target := queue.PauseTarget{Domain: "in.example"}
			if err := b.q.Pause(context.Background(), target, "ann", "why"); err != nil {
				t.Fatal(err)
			}
			b.send(letter{from: "a@out.example", to: []string{"x@in.example"}})
			wait(time.Hour)
			b.restart()
			wait(time.Hour)
			if b.good.count() != 0 {
				t.Error("tried while paused")
			}
			if err := b.q.Resume(context.Background(), target, "ann"); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			b.wantQueue(0)
		},
		"operations": func(t *testing.T, b *bench) {
			ctx := context.Background()
			b.good.reply = all(greylisted)
			b.run()
			for i := range 600 {
				b.send(letter{from: "a@out.example", to: []string{fmt.Sprintf("x@d%d.example", i%3)}})
			}
			wait(time.Second)
			for _, step := range []struct {
				name string
				do   func() (int, error)
				want int
			}{
				{"hold", func() (int, error) { return b.q.Hold(ctx, queue.Selector{Domain: "d0.example"}, "ann", "odd") }, 200},
				{"count", func() (int, error) { return b.q.Count(ctx, queue.Selector{State: mail.QueueHold}) }, 200},
				{"reroute", func() (int, error) { return b.q.Reroute(ctx, queue.Selector{Domain: "d1.example"}, "mx", "ann") }, 200},
				{"delete", func() (int, error) { return b.q.Delete(ctx, queue.Selector{Domain: "d2.example"}, "ann") }, 200},
				{"release", func() (int, error) { return b.q.Release(ctx, queue.Selector{All: true}, "ann") }, 200},
			} {
				if n, err := step.do(); n != step.want || err != nil {
					t.Fatalf("%s: %d, %v", step.name, n, err)
				}
				synctest.Wait()
			}
			b.restart()
			synctest.Wait()
			b.wantQueue(200)
			if n := b.mx.count(); n != 200 {
				t.Errorf("%d attempts at the new transport", n)
			}
			if rows := b.list(queue.Selector{}); rows[0].QueueID.Message.IsZero() || rows[0].Size != int64(len(testBody)) || rows[0].LastError == "" {
				t.Errorf("row: %+v", rows[0])
			}
			b.good.set(all(delivered))
			if _, err := b.q.Retry(ctx, queue.Selector{All: true}, "ann"); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			b.wantQueue(0)
		},
		"a report that has to wait": func(t *testing.T, b *bench) {
			b.good.reply = all(refused)
			b.bouncer.err = errors.New("no space")
			b.run()
			b.send(letter{from: "a@out.example", to: []string{"x@in.example"}})
			wait(time.Hour)
			b.restart()
			b.bouncer.setErr(nil)
			wait(2 * time.Hour)
			b.wantQueue(0)
			if b.good.count() != 1 || len(b.bouncer.all()) != 1 {
				t.Errorf("%d attempts, %d reports", b.good.count(), len(b.bouncer.all()))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				test(t, newBench(t).onSpool(openSpool(t, vfs.NewMem())))
			})
		})
	}
}

// The next hop has the message, and we die before that is durable: it is
// delivered once more, and nothing is lost.
func TestACrashAfterTheNextHopsYesRepeatsAndLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := vfs.NewCrashableMem()
		b := newBench(t).onSpool(openSpool(t, fs))
		var crashed *vfs.MemFS
		b.good.reply = func(_ context.Context, d *mail.Delivery, n int) []mail.Outcome {
			if n == 10 {
				crashed = fs.CrashClone(vfs.CrashCloneCfg{}) // what was synced by now
			}
			return same(d, delivered)
		}
		b.policy(func(p *queue.Policy) { p.Sessions = 1 })
		b.run()
		for i := range 20 {
			b.send(letter{from: "a@out.example", to: []string{fmt.Sprintf("x%d@in.example", i)}})
		}
		synctest.Wait()
		if err := b.q.Stop(context.Background()); err != nil {
			t.Fatal(err)
		}

		again := newBench(t).onSpool(openSpool(t, crashed))
		again.run()
		synctest.Wait()
		again.wantQueue(0)
		got := make(map[string]int)
		for i, a := range b.good.attempts() {
			if i < 10 { // those after the crash never were
				got[a.to[0]]++
			}
		}
		for _, a := range again.good.attempts() {
			got[a.to[0]]++
		}
		if len(got) < 10 {
			t.Errorf("%d messages arrived", len(got))
		}
		for to, n := range got {
			if n > 2 {
				t.Errorf("%s got its message %d times", to, n)
			}
		}
	})
}

// A report is durable before the item goes: after a crash at that point there
// may be two, never none.
func TestACrashNeverSwallowsAReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := vfs.NewCrashableMem()
		b := newBench(t).onSpool(openSpool(t, fs))
		b.good.reply = all(refused)
		b.run()
		var before, after *vfs.MemFS
		bouncer := b.cfg.Bouncer
		b.q.Stop(context.Background())
		b.cfg.Bouncer = bouncerFunc(func(ctx context.Context, to mail.Address, r io.Reader) error {
			before = fs.CrashClone(vfs.CrashCloneCfg{})
			err := bouncer.SubmitReport(ctx, to, r)
			after = fs.CrashClone(vfs.CrashCloneCfg{})
			return err
		})
		b.run()
		b.send(letter{from: "a@out.example", to: []string{"x@in.example"}})
		synctest.Wait()
		for name, fs := range map[string]*vfs.MemFS{"before": before, "after": after} {
			again := newBench(t).onSpool(openSpool(t, fs))
			again.good.reply = all(refused)
			again.run()
			synctest.Wait()
			if n := len(again.bouncer.all()); n != 1 {
				t.Errorf("crash %s the report: %d reports from then on", name, n)
			}
			again.wantQueue(0)
		}
	})
}

type bouncerFunc func(context.Context, mail.Address, io.Reader) error

func (f bouncerFunc) SubmitReport(ctx context.Context, to mail.Address, r io.Reader) error {
	return f(ctx, to, r)
}
