package queue_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/queue"
)

// zoo fills a queue with one item of each kind. The names are the local parts of
// the recipients.
func zoo(b *bench) map[string]mail.QueueID {
	b.t.Helper()
	b.good.reply = func(ctx context.Context, d *mail.Delivery, n int) []mail.Outcome {
		if d.Recipients[0].Address.Local == "active" {
			return slow(1000*time.Hour, delivered)(ctx, d, n)
		}
		return same(d, greylisted)
	}
	b.mx.reply = all(unreachable)
	ids := map[string]mail.QueueID{
		"old": b.send(letter{from: "a@out.example", to: []string{"old@in.example"}}),
	}
	wait(2 * time.Hour)
	ids["young"] = b.send(letter{from: "b@out.example", to: []string{"young@in.example"}})
	ids["null"] = b.send(letter{to: []string{"null@in.example"}})
	ids["mx"] = b.send(letter{from: "a@other.example", transport: "mx", hop: "d.example", to: []string{"mx@d.example"}})
	ids["held"] = b.send(letter{from: "a@out.example", to: []string{"held@in.example"}, state: mail.QueueHold,
		edit: func(_ *mail.Envelope, i *mail.QueueItem) { i.HoldReason, i.HoldBy = "looks odd", "ann" }})
	ids["new"] = b.send(letter{from: "a@out.example", to: []string{"new@in.example"}, state: mail.QueueIncoming})
	ids["active"] = b.send(letter{from: "a@out.example", to: []string{"active@in.example"}})
	wait(30 * time.Second)
	return ids
}

func TestEverySelectorFieldSelects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.run()
		ids := zoo(b)
		cases := []struct {
			name string
			sel  queue.Selector
			want string
		}{
			{"all", queue.Selector{All: true}, "active held mx new null old young"},
			{"a message", queue.Selector{IDs: []string{ids["old"].Message.String()}}, "old"},
			{"items, in any case", queue.Selector{IDs: []string{strings.ToUpper(ids["old"].String()), ids["mx"].String()}}, "mx old"},
			{"an item that is not there", queue.Selector{IDs: []string{mail.NewID().String()}}, ""},
			{"the wrong number", queue.Selector{IDs: []string{ids["old"].Message.String() + ":2"}}, ""},
			{"sender", queue.Selector{Sender: "<A@OUT.example>"}, "active held new old"},
			{"null sender", queue.Selector{Sender: "<>"}, "null"},
			{"domain of the sender", queue.Selector{Sender: "@other.example"}, "mx"},
			{"recipient", queue.Selector{Recipient: "Young@in.example"}, "young"},
			{"domain of a recipient", queue.Selector{Recipient: "@d.example"}, "mx"},
			{"domain", queue.Selector{Domain: "IN.example"}, "active held new null old young"},
			{"transport", queue.Selector{Transport: "mx"}, "mx"},
			{"state active", queue.Selector{State: mail.QueueActive}, "active"},
			{"state deferred", queue.Selector{State: mail.QueueDeferred}, "mx null old young"},
			{"state hold", queue.Selector{State: mail.QueueHold}, "held"},
			{"state incoming", queue.Selector{State: mail.QueueIncoming}, "new"},
			{"older", queue.Selector{OlderThan: time.Hour}, "old"},
			{"newer", queue.Selector{NewerThan: time.Hour}, "active held mx new null young"},
			{"last error", queue.Selector{Error: `(?i)GREYL.*ted$`}, "null old young"},
			{"cause of the last error", queue.Selector{Error: `connection refused`}, "mx"},
			{"all fields must hold", queue.Selector{Sender: "a@out.example", State: mail.QueueDeferred}, "old"},
		}
		for _, c := range cases {
			var got []string
			for _, r := range b.list(c.sel) {
				name, _, _ := strings.Cut(r.Recipients[0], "@")
				got = append(got, name)
			}
			slices.Sort(got)
			if s := strings.Join(got, " "); s != c.want {
				t.Errorf("%s: %q, want %q", c.name, s, c.want)
			}
			if n, err := b.q.Count(context.Background(), c.sel); err != nil || n != len(got) {
				t.Errorf("%s: count %d, %v", c.name, n, err)
			}
		}
	})
}

func TestBadSelectorsAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		b := newBench(t)
		b.run()
		for _, sel := range []queue.Selector{
			{IDs: []string{"x"}}, {Sender: "a b"}, {Recipient: "@"}, {Domain: "-"}, {State: "dead"}, {Error: "("},
		} {
			if _, err := b.q.List(ctx, sel, 0, ""); !errors.Is(err, queue.ErrSelector) {
				t.Errorf("%+v: %v", sel, err)
			}
		}
		empty := queue.Selector{}
		ops := map[string]func() (int, error){
			"retry":   func() (int, error) { return b.q.Retry(ctx, empty, "") },
			"hold":    func() (int, error) { return b.q.Hold(ctx, empty, "", "") },
			"release": func() (int, error) { return b.q.Release(ctx, empty, "") },
			"delete":  func() (int, error) { return b.q.Delete(ctx, empty, "") },
			"reroute": func() (int, error) { return b.q.Reroute(ctx, empty, "good", "") },
		}
		for name, op := range ops {
			if _, err := op(); !errors.Is(err, queue.ErrSelector) {
				t.Errorf("%s of an empty selector: %v", name, err)
			}
		}
		if _, err := b.q.Reroute(ctx, queue.Selector{All: true}, "nope", ""); !errors.Is(err, queue.ErrNoTransport) {
			t.Errorf("reroute to nowhere: %v", err)
		}
		if _, err := b.q.Show(ctx, mail.NewID().String()); !errors.Is(err, queue.ErrNotFound) {
			t.Errorf("show of nothing: %v", err)
		}
		if _, err := b.q.List(ctx, empty, 0, "x"); !errors.Is(err, queue.ErrSelector) {
			t.Errorf("bad cursor: %v", err)
		}
	})
}

func TestAListIsOrderedAndComesInPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.run()
		for i := range 25 {
			b.send(letter{from: "a@out.example", to: []string{fmt.Sprintf("x%d@in.example", i)}, state: mail.QueueHold})
			wait(time.Millisecond)
		}
		var pages []int
		var all []string
		for after := ""; ; {
			rows, err := b.q.List(context.Background(), queue.Selector{}, 10, after)
			if err != nil {
				t.Fatal(err)
			}
			pages = append(pages, len(rows))
			for _, r := range rows {
				all = append(all, r.QueueID.String())
			}
			if len(rows) < 10 {
				break
			}
			after = all[len(all)-1]
		}
		if fmt.Sprint(pages) != "[10 10 5]" || !slices.IsSorted(all) || len(slices.Compact(all)) != 25 {
			t.Errorf("pages %v, %d items", pages, len(all))
		}
	})
}

func TestRetryTriesAtOnceAndProbesADeadDestination(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.good.reply = all(unreachable)
		b.run()
		b.policy(func(p *queue.Policy) {})
		for range 50 {
			b.send(letter{from: "a@out.example", to: []string{"x@in.example"}})
		}
		wait(30 * time.Second)
		b.good.set(all(delivered))
		n, err := b.q.Retry(context.Background(), queue.Selector{Domain: "in.example"}, "ann")
		if n != 50 || err != nil {
			t.Fatalf("retried %d, %v", n, err)
		}
		synctest.Wait()
		b.wantQueue(0)
	})
}

func TestHoldAndReleaseSurviveARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		b := newBench(t)
		b.good.reply = all(greylisted)
		b.run()
		id := b.send(letter{from: "a@out.example", to: []string{"x@in.example"}})
		synctest.Wait()
		sel := queue.Selector{IDs: []string{id.String()}}
		if n, err := b.q.Hold(ctx, sel, "ann", "looks odd"); n != 1 || err != nil {
			t.Fatalf("held %d, %v", n, err)
		}
		if n, err := b.q.Hold(ctx, sel, "ann", "again"); n != 0 || err != nil {
			t.Fatalf("held %d twice, %v", n, err)
		}
		wait(24 * time.Hour)
		b.restart()
		wait(72 * time.Hour) // longer than giving up
		row := b.one(id)
		if b.good.count() != 1 || row.State != mail.QueueHold || row.Reason != "looks odd" || !row.NextAttempt.IsZero() {
			t.Fatalf("%d attempts; %+v", b.good.count(), row)
		}
		if n, err := b.q.Release(ctx, sel, "ann"); n != 1 || err != nil {
			t.Fatalf("released %d, %v", n, err)
		}
		synctest.Wait()
		if b.good.count() != 2 {
			t.Error("it was not tried when it was released")
		}
		b.wantQueue(0) // its last attempt: it is old
	})
}

func TestAnIncomingItemIsNotDeliveredBeforeItIsActivated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		b := newBench(t)
		b.run()
		id := b.send(letter{from: "a@out.example", to: []string{"x@in.example"}, state: mail.QueueIncoming})
		wait(time.Hour)
		b.restart()
		wait(time.Hour)
		all := queue.Selector{All: true}
		for name, op := range map[string]func() (int, error){
			"release": func() (int, error) { return b.q.Release(ctx, all, "") },
			"hold":    func() (int, error) { return b.q.Hold(ctx, all, "", "") },
			"retry":   func() (int, error) { return b.q.Retry(ctx, all, "") },
		} {
			if n, err := op(); n != 0 || err != nil {
				t.Errorf("%s: %d, %v", name, n, err)
			}
		}
		if s := b.q.Stats(); b.good.count() != 0 || s.Incoming != 1 {
			t.Fatalf("%d attempts; %+v", b.good.count(), s)
		}
		if err := b.q.Activate(id, mail.QueueID{Message: mail.NewID(), N: 1}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		b.wantQueue(0)
	})
}

func TestDeleteLeavesNothingAndTellsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.run()
		zoo(b)
		n, err := b.q.Delete(context.Background(), queue.Selector{All: true}, "ann")
		if n != 7 || err != nil {
			t.Fatalf("deleted %d, %v", n, err)
		}
		rows := b.list(queue.Selector{})
		if len(rows) != 1 || rows[0].State != mail.QueueActive {
			t.Fatalf("rows: %+v", rows)
		}
		wait(1000 * time.Hour) // the attempt ends
		b.wantQueue(0)
		if s := b.store.(*memStore); len(s.envs) != 0 || len(b.bouncer.all()) != 0 {
			t.Errorf("%d envelopes left, %d reports", len(s.envs), len(b.bouncer.all()))
		}
		if n := strings.Count(b.log.String(), "queue item deleted"); n != 6 {
			t.Errorf("%d deletions logged", n) // the active one was delivered after all
		}
	})
}

func TestOperationsOnAnItemUnderWayHappenWhenTheAttemptEnds(t *testing.T) {
	for name, c := range map[string]struct {
		op   func(*queue.Queue, queue.Selector) (int, error)
		want string // state and transport afterwards
	}{
		"hold": {func(q *queue.Queue, s queue.Selector) (int, error) {
			return q.Hold(context.Background(), s, "ann", "odd")
		}, "hold good"},
		"delete": {func(q *queue.Queue, s queue.Selector) (int, error) { return q.Delete(context.Background(), s, "ann") }, ""},
		"reroute": {func(q *queue.Queue, s queue.Selector) (int, error) {
			return q.Reroute(context.Background(), s, "mx", "ann")
		}, "deferred mx"},
		"hold, then delete": {func(q *queue.Queue, s queue.Selector) (int, error) {
			if n, err := q.Delete(context.Background(), s, "ann"); err != nil {
				return n, err
			}
			return q.Hold(context.Background(), s, "ann", "odd")
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.good.reply = slow(time.Minute, greylisted)
				b.mx.reply = all(greylisted)
				b.run()
				id := b.send(letter{from: "a@out.example", to: []string{"x@in.example"}})
				wait(time.Second)
				if n, err := c.op(b.q, queue.Selector{State: mail.QueueActive}); n != 1 || err != nil {
					t.Fatalf("%d, %v", n, err)
				}
				if row := b.one(id); row.State != mail.QueueActive {
					t.Errorf("it was taken away under the attempt: %+v", row)
				}
				wait(time.Minute)
				got := ""
				for _, r := range b.list(queue.Selector{}) {
					got = string(r.State) + " " + r.Transport
				}
				if got != c.want {
					t.Errorf("afterwards: %q, want %q", got, c.want)
				}
				wait(10 * time.Minute)
				if c.want == "deferred mx" && b.mx.count() == 0 {
					t.Error("it was not tried at its new transport")
				}
			})
		})
	}
}

func TestReroute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		b := newBench(t)
		b.good.reply = all(greylisted)
		b.mx.reply = slow(time.Minute, greylisted)
		b.run()
		id := b.send(letter{from: "a@out.example", to: []string{"x@a.example", "x@b.example", "y@a.example"}})
		wait(10 * time.Second)
		n, err := b.q.Reroute(ctx, queue.Selector{IDs: []string{id.String()}}, "mx", "ann")
		if n != 1 || err != nil {
			t.Fatalf("rerouted %d, %v", n, err)
		}
		// Several domains: the transport goes by each recipient.
		if row := b.one(id); row.Transport != "mx" || row.NextHop != "" || len(row.Recipients) != 3 {
			t.Errorf("row: %+v", row)
		}
		single := b.send(letter{from: "a@out.example", to: []string{"x@c.example", "y@c.example"}})
		synctest.Wait()
		if n, err := b.q.Reroute(ctx, queue.Selector{IDs: []string{single.String()}}, "mx", "ann"); n != 1 || err != nil {
			t.Fatalf("rerouted %d, %v", n, err)
		}
		if row := b.one(single); row.NextHop != "c.example" || row.Attempts != 0 {
			t.Errorf("row: %+v", row)
		}
		if n, err := b.q.Reroute(ctx, queue.Selector{Transport: "mx"}, "good", "ann"); n != 2 || err != nil {
			t.Fatalf("rerouted %d, %v", n, err)
		}
		b.good.set(all(delivered))
		wait(2 * time.Minute)
		b.wantQueue(0)
	})
}

func TestAnOperationCountsForMailThatStillWaitsInMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.good.reply = slow(time.Hour, delivered)
		b.mx.reply = all(greylisted)
		b.run()
		for range 5 {
			b.send(letter{from: "a@out.example", to: []string{"x@in.example"}})
		}
		id := b.send(letter{from: "a@out.example", to: []string{"y@in.example"}}) // waits behind them
		synctest.Wait()
		sel := queue.Selector{IDs: []string{id.String()}}
		if n, err := b.q.Reroute(context.Background(), sel, "mx", "ann"); n != 1 || err != nil {
			t.Fatalf("rerouted %d, %v", n, err)
		}
		synctest.Wait()
		if row := b.one(id); row.Transport != "mx" || row.Attempts != 1 {
			t.Errorf("row: %+v", row)
		}
	})
}

func TestItemsOfATransportThatIsGoneWaitAndCanBeRerouted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		b := newBench(t)
		b.good.reply = all(greylisted)
		b.run()
		id := b.send(letter{from: "a@out.example", to: []string{"x@in.example"}})
		synctest.Wait()
		b.q.Reload(map[string]queue.TransportConfig{"mx": b.cfg.Transports["mx"]})
		wait(72 * time.Hour)
		row := b.one(id)
		if row.Attempts != 1 || row.Reason != `transport "good" is not configured` {
			t.Fatalf("row: %+v", row)
		}
		if !strings.Contains(b.log.String(), "not configured") {
			t.Error("nothing in the log")
		}
		if n, err := b.q.Reroute(ctx, queue.Selector{Transport: "good"}, "mx", "ann"); n != 1 || err != nil {
			t.Fatalf("rerouted %d, %v", n, err)
		}
		synctest.Wait()
		if got := b.mx.attempts(); len(got) != 1 || got[0].hop != "in.example" {
			t.Errorf("attempts:\n%s", describe(got))
		}
		b.wantQueue(0)
	})
}

func TestAReloadBringsNewPoliciesAndTransports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.run()
		b.send(letter{from: "a@out.example", transport: "later", to: []string{"x@in.example"}})
		wait(time.Hour)
		b.wantQueue(1)
		b.cfg.Transports["later"] = queue.TransportConfig{Transport: b.good}
		b.q.Reload(b.cfg.Transports)
		synctest.Wait()
		b.wantQueue(0)
	})
}

func TestAnOperationGoesOverManyItemsInBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		b := newBench(t)
		b.good.reply = all(greylisted)
		b.run()
		for range 1000 {
			b.send(letter{from: "a@out.example", to: []string{"x@in.example"}})
		}
		wait(10 * time.Second)
		all := queue.Selector{All: true}
		if n, err := b.q.Hold(ctx, all, "ann", ""); n != 1000 || err != nil {
			t.Fatalf("held %d, %v", n, err)
		}
		if s := b.q.Stats(); s.Hold != 1000 || s.Deferred != 0 {
			t.Errorf("stats: %+v", s)
		}
		b.store.(*memStore).setFail(func(op string, _ mail.QueueID) error { return errDisk })
		if n, err := b.q.Release(ctx, all, "ann"); n != 0 || !errors.Is(err, errDisk) {
			t.Fatalf("released %d, %v", n, err)
		}
		if s := b.q.Stats(); s.Hold != 1000 {
			t.Errorf("after a release that could not be stored: %+v", s)
		}
		b.store.(*memStore).setFail(nil)
		if n, err := b.q.Delete(ctx, queue.Selector{State: mail.QueueHold}, "ann"); n != 1000 || err != nil {
			t.Fatalf("deleted %d, %v", n, err)
		}
		b.wantQueue(0)
	})
}
