package queue_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/queue"
)

func TestAPauseBurnsNoAttemptsSurvivesARestartAndEndsAtOnce(t *testing.T) {
	for name, target := range map[string]queue.PauseTarget{
		"transport":               {Transport: "mx"},
		"domain":                  {Domain: "D.example."},
		"domain of one transport": {Transport: "mx", Domain: "d.example"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := context.Background()
				b := newBench(t)
				b.run()
				if err := b.q.Pause(ctx, target, "ann", "maintenance"); err != nil {
					t.Fatal(err)
				}
				id := b.send(letter{from: "a@out.example", transport: "mx", hop: "d.example", to: []string{"x@d.example"}})
				b.send(letter{from: "a@out.example", to: []string{"x@in.example"}})
				wait(time.Hour)
				b.restart()
				wait(23 * time.Hour)
				if n := b.mx.count(); n != 0 {
					t.Fatalf("%d attempts while paused", n)
				}
				if b.good.count() != 1 {
					t.Error("mail to another destination was paused too")
				}
				row := b.one(id)
				if !row.Paused || row.Attempts != 0 || row.Reason != "paused: maintenance" {
					t.Errorf("row: %+v", row)
				}
				if p := b.q.Pauses(); len(p) != 1 || p[0].By != "ann" || time.Since(p[0].Since) != 24*time.Hour {
					t.Errorf("pauses: %+v", p)
				}
				if err := b.q.Resume(ctx, target, "ann"); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if b.mx.count() != 1 || len(b.q.Pauses()) != 0 {
					t.Errorf("%d attempts after the end of the pause", b.mx.count())
				}
				if err := b.q.Resume(ctx, target, "ann"); !errors.Is(err, queue.ErrNotPaused) {
					t.Errorf("resumed twice: %v", err)
				}
			})
		})
	}
}

func TestPausedTimeDoesNotCountTowardsGivingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		b := newBench(t)
		b.good.reply = all(greylisted)
		b.run()
		id := b.send(letter{from: "a@out.example", to: []string{"x@in.example"}})
		wait(time.Hour)
		// Two pauses that overlap: 40 hours in all.
		byTransport, byDomain := queue.PauseTarget{Transport: "good"}, queue.PauseTarget{Domain: "in.example"}
		steps := []struct {
			do   func() error
			then time.Duration
		}{
			{func() error { return b.q.Pause(ctx, byTransport, "", "") }, 10 * time.Hour},
			{func() error { return b.q.Pause(ctx, byDomain, "", "") }, 10 * time.Hour},
			{func() error { return b.q.Resume(ctx, byTransport, "") }, 20 * time.Hour},
			{func() error { return b.q.Resume(ctx, byDomain, "") }, 0},
		}
		for _, s := range steps {
			if err := s.do(); err != nil {
				t.Fatal(err)
			}
			wait(s.then)
		}
		b.restart() // the past pauses are remembered
		d, err := b.q.Show(ctx, id.String())
		if err != nil {
			t.Fatal(err)
		}
		if got := d[0].GiveUp.Sub(d[0].Created); got != 88*time.Hour {
			t.Errorf("gives up after %v, want 48h + 40h", got)
		}
		wait(46 * time.Hour) // 47 hours of its own
		b.wantQueue(1)
		if n := strings.Count(b.log.String(), "expired"); n != 0 {
			t.Error("it expired too early")
		}
		wait(3 * time.Hour)
		b.wantQueue(0)
	})
}

func TestAPausedDomainStopsOnlyItsRecipients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		b := newBench(t)
		b.run()
		target := queue.PauseTarget{Domain: "b.example"}
		if err := b.q.Pause(ctx, target, "ann", "moving"); err != nil {
			t.Fatal(err)
		}
		id := b.send(letter{from: "a@out.example", to: []string{"x@a.example", "x@b.example"}})
		wait(2 * time.Hour)
		got := b.good.attempts()
		if len(got) != 1 || strings.Join(got[0].to, " ") != "x@a.example" {
			t.Fatalf("attempts:\n%s", describe(got))
		}
		if row := b.one(id); !row.Paused || row.Attempts != 1 {
			t.Errorf("row: %+v", row)
		}
		if err := b.q.Resume(ctx, target, "ann"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := b.good.attempts(); len(got) != 2 || strings.Join(got[1].to, " ") != "x@b.example" {
			t.Fatalf("attempts:\n%s", describe(got))
		}
		b.wantQueue(0)
	})
}

func TestBadPausesAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		b := newBench(t)
		b.run()
		if err := b.q.Pause(ctx, queue.PauseTarget{}, "", ""); !errors.Is(err, queue.ErrSelector) {
			t.Errorf("no target: %v", err)
		}
		if err := b.q.Pause(ctx, queue.PauseTarget{Transport: "nope"}, "", ""); !errors.Is(err, queue.ErrNoTransport) {
			t.Errorf("unknown transport: %v", err)
		}
		if err := b.q.Pause(ctx, queue.PauseTarget{Domain: "-"}, "", ""); !errors.Is(err, queue.ErrSelector) {
			t.Errorf("bad domain: %v", err)
		}
		b.store.(*memStore).setFail(func(string, mail.QueueID) error { return errDisk })
		if err := b.q.Pause(ctx, queue.PauseTarget{Transport: "good"}, "", ""); !errors.Is(err, errDisk) || len(b.q.Pauses()) != 0 {
			t.Errorf("a pause that could not be stored is in force: %v", err)
		}
	})
}
