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

func TestNewMailLeavesAtOnceAndIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.run()
		b.send(letter{from: "a@out.example", to: []string{"x@in.example", "y@in.example"}})
		synctest.Wait()
		if got := b.good.attempts(); len(got) != 1 || got[0].at != 0 || len(got[0].to) != 2 {
			t.Fatalf("attempts:\n%s", describe(got))
		}
		if n := b.store.(*memStore).count(); n != 0 {
			t.Errorf("%d items left in the store", n)
		}
		if b.store.(*memStore).reads != 0 {
			t.Error("the item was read from the store although it had just been added")
		}
		if len(b.bouncer.all()) != 0 {
			t.Errorf("a report that nobody asked for: %v", b.bouncer.all())
		}
	})
}

func TestDeferredMailFollowsTheScheduleAndTheLastDelayRepeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.good.reply = all(greylisted)
		b.run()
		id := b.send(letter{from: "a@out.example", to: []string{"x@in.example"}})
		wait(3 * time.Hour)
		want := []time.Duration{0, time.Minute, 5 * time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour, time.Hour}
		got := b.good.attempts()
		if len(got) != len(want) && len(got) != len(want)-1 {
			t.Fatalf("%d attempts in three hours:\n%s", len(got), describe(got))
		}
		for i := 1; i < len(got); i++ {
			if d := got[i].at - got[i-1].at; !about(d, want[i]) {
				t.Errorf("attempt %d came %v after the one before, want about %v", i+1, d, want[i])
			}
		}
		row := b.one(id)
		if row.State != mail.QueueDeferred || row.Attempts != len(got) || !strings.Contains(row.LastError, "450 4.2.0 greylisted") {
			t.Errorf("row: %+v", row)
		}
	})
}

func TestOnlyTheRecipientsThatAreLeftAreTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.good.reply = func(_ context.Context, d *mail.Delivery, n int) []mail.Outcome {
			out := same(d, greylisted)
			if n == 1 {
				out[0], out[2] = delivered, refused
			}
			return out
		}
		b.run()
		id := b.send(letter{from: "a@out.example", to: []string{"ok@in.example", "later@in.example", "never@in.example"}})
		wait(2 * time.Minute)
		got := b.good.attempts()
		if len(got) != 2 || strings.Join(got[1].to, " ") != "later@in.example" {
			t.Fatalf("attempts:\n%s", describe(got))
		}
		if rs := b.bouncer.all(); len(rs) != 1 || !strings.Contains(rs[0].text, "never@in.example") || strings.Contains(rs[0].text, "later@") {
			t.Fatalf("reports: %v", rs)
		}
		d, err := b.q.Show(context.Background(), id.String())
		if err != nil || d[0].States[0].Status != mail.Delivered || d[0].States[2].Status != mail.Failed || !d[0].States[2].Reported {
			t.Fatalf("detail: %+v, %v", d, err)
		}
		b.good.set(all(delivered))
		wait(10 * time.Minute)
		b.wantQueue(0)
		if rs := b.bouncer.all(); len(rs) != 1 {
			t.Errorf("%d reports in the end", len(rs))
		}
	})
}

func TestExpiryGivesExactlyOneReportAfterAFailedAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.policy(func(p *queue.Policy) {
			p.Delays, p.GiveUpAfter, p.WarnAfter = []time.Duration{time.Second}, 5*time.Second, 0
		})
		b.good.reply = all(greylisted)
		b.run()
		b.send(letter{from: "a@out.example", to: []string{"x@in.example", "y@in.example"}})
		wait(time.Minute)
		b.wantQueue(0)
		rs := b.bouncer.all()
		if len(rs) != 1 || rs[0].to != "a@out.example" {
			t.Fatalf("reports: %v", rs)
		}
		for _, want := range []string{"Action: failed", "Status: 4.2.0", "Diagnostic-Code: smtp; 450 4.2.0 greylisted", "was given up"} {
			if !strings.Contains(strings.ReplaceAll(rs[0].text, "\r\n", " "), want) {
				t.Errorf("report lacks %q:\n%s", want, rs[0].text)
			}
		}
	})
}

func TestTheDelayWarningIsSentOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.good.reply = all(greylisted)
		b.run()
		b.send(letter{from: "a@out.example", to: []string{"x@in.example"}})
		b.send(letter{from: "b@out.example", to: []string{"y@in.example"}, notify: mail.NotifyFailure})
		b.send(letter{from: "c@out.example", to: []string{"z@in.example"}, notify: mail.NotifyDelay})
		b.send(letter{to: []string{"null@in.example"}})
		wait(4*time.Hour - time.Minute)
		if n := len(b.bouncer.all()); n != 0 {
			t.Fatalf("%d warnings before their time", n)
		}
		wait(2 * time.Hour)
		b.restart()
		wait(4 * time.Hour)
		rs := b.bouncer.all()
		if len(rs) != 2 {
			t.Fatalf("%d warnings, want one for each of the two who want it", len(rs))
		}
		for _, r := range rs {
			if r.to != "a@out.example" && r.to != "c@out.example" || !strings.Contains(r.text, "Action: delayed") || !strings.Contains(r.text, "Will-Retry-Until: ") {
				t.Errorf("to %s: %s", r.to, r.text)
			}
		}
		b.wantQueue(4)
	})
}

func TestNotifyAndPolicyDecideWhoIsTold(t *testing.T) {
	passed := delivered
	passed.DSNPassed = true
	cases := []struct {
		name    string
		outcome mail.Outcome
		notify  mail.Notify
		change  func(*queue.Policy)
		want    string // action; "" for no report
	}{
		{"a failure without NOTIFY is reported", refused, 0, nil, "failed"},
		{"NOTIFY=FAILURE is reported", refused, mail.NotifyFailure, nil, "failed"},
		{"NOTIFY=NEVER is silent", refused, mail.NotifyNever, nil, ""},
		{"NOTIFY=SUCCESS alone wants no failures", refused, mail.NotifySuccess, nil, ""},
		{"NOTIFY=DELAY alone wants no failures", refused, mail.NotifyDelay, nil, ""},
		{"discard is silent", refused, 0, func(p *queue.Policy) { p.Discard = true }, ""},
		{"success is silent unless asked for", delivered, 0, nil, ""},
		{"success through a next hop without DSN is relayed", delivered, mail.NotifySuccess, nil, "relayed"},
		{"success is the next hop's to report when it was told", passed, mail.NotifySuccess, nil, ""},
		{"success at the end of the way is delivered", delivered, mail.NotifySuccess, func(p *queue.Policy) { p.Final = true }, "delivered"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				if c.change != nil {
					b.policy(c.change)
				}
				b.good.reply = all(c.outcome)
				b.run()
				b.send(letter{from: "a@out.example", to: []string{"x@in.example"}, notify: c.notify})
				synctest.Wait()
				rs := b.bouncer.all()
				switch {
				case c.want == "" && len(rs) != 0:
					t.Errorf("report: %s", rs[0].text)
				case c.want != "" && (len(rs) != 1 || !strings.Contains(rs[0].text, "\r\nAction: "+c.want+"\r\n")):
					t.Errorf("reports: %v", rs)
				}
				b.wantQueue(0)
			})
		})
	}
}

func TestMailFromTheNullSenderGoesToThePostmasterAndNoFurther(t *testing.T) {
	cases := []struct {
		name, postmaster, to string
		reports              int
	}{
		{"without a postmaster nothing is sent", "", "x@in.example", 0},
		{"the postmaster gets a copy", "postmaster@in.example", "x@in.example", 1},
		{"what the postmaster cannot get is dropped", "postmaster@in.example", "Postmaster@in.example", 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.cfg.Postmaster = c.postmaster
				b.good.reply = all(refused)
				b.run()
				// Our own reports carry NOTIFY=NEVER.
				b.send(letter{to: []string{c.to}, notify: mail.NotifyNever})
				synctest.Wait()
				rs := b.bouncer.all()
				if len(rs) != c.reports {
					t.Fatalf("%d reports", len(rs))
				}
				if c.reports == 1 && (rs[0].to != c.postmaster || !strings.Contains(rs[0].text, "body\r\n")) {
					t.Errorf("to %s: %s", rs[0].to, rs[0].text)
				}
				if dropped := b.counter.get(&b.counter.dropped); dropped != 1-c.reports {
					t.Errorf("%d reports counted as dropped", dropped)
				}
				b.wantQueue(0)
			})
		})
	}
}

func TestReportsHaveTheNameThatTheHostGotWhileItRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.good.reply = all(refused)
		b.run()
		if err := b.q.Identify("mx.other.example", "me@in.example"); err != nil {
			t.Fatal(err)
		}
		b.send(letter{to: []string{"x@in.example"}, notify: mail.NotifyNever})
		synctest.Wait()
		rs := b.bouncer.all()
		if len(rs) != 1 || rs[0].to != "me@in.example" || !strings.Contains(rs[0].text, "Reporting-MTA: dns; mx.other.example\r\n") {
			t.Errorf("%+v", rs)
		}
	})
}

func TestABounceStormIsLimitedPerSenderAndDestination(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.good.reply = all(refused)
		b.run()
		for range 1000 {
			b.send(letter{from: "forged@victim.example", to: []string{"x@in.example"}})
		}
		b.send(letter{from: "other@out.example", to: []string{"x@in.example"}})
		synctest.Wait()
		b.wantQueue(0)
		if n := len(b.bouncer.all()); n != 21 {
			t.Errorf("%d reports at once, want 20 and one to the other sender", n)
		}
		if n := b.counter.get(&b.counter.dropped); n != 980 {
			t.Errorf("%d dropped", n)
		}
		wait(30 * time.Minute)
		for range 100 {
			b.send(letter{from: "forged@victim.example", to: []string{"x@in.example"}})
		}
		synctest.Wait()
		if n := len(b.bouncer.all()); n != 31 {
			t.Errorf("%d reports after half an hour, want 10 more", n)
		}
	})
}

func TestASenderThatIsNotTrustedIsNotTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.cfg.MayReport = func(e *mail.Envelope) bool { return e.Sender.Domain != "forged.example" }
		b.good.reply = all(refused)
		b.run()
		b.send(letter{from: "a@forged.example", to: []string{"x@in.example"}})
		b.send(letter{from: "a@out.example", to: []string{"x@in.example"}})
		synctest.Wait()
		if rs := b.bouncer.all(); len(rs) != 1 || rs[0].to != "a@out.example" {
			t.Errorf("reports: %v", rs)
		}
		b.wantQueue(0)
	})
}

func TestAReportThatCannotBeQueuedIsTriedAgainAndThenKeptOnHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.policy(func(p *queue.Policy) { p.GiveUpAfter = 10 * time.Hour })
		b.good.reply = all(refused)
		b.bouncer.err = errors.New("no route to out.example")
		b.run()
		id := b.send(letter{from: "a@out.example", to: []string{"x@in.example"}})
		wait(10 * time.Minute)
		if n := b.good.count(); n != 1 {
			t.Fatalf("a recipient that failed was tried %d times", n)
		}
		if row := b.one(id); row.Reason == "" {
			t.Errorf("the list does not say what is left to do: %+v", row)
		}
		b.restart()
		wait(8 * time.Hour)
		if row := b.one(id); row.State != mail.QueueDeferred {
			t.Fatalf("given up too early: %+v", row)
		}
		wait(4 * time.Hour)
		row := b.one(id)
		if row.State != mail.QueueHold || !strings.Contains(row.Reason, "no route to out.example") {
			t.Fatalf("in the end: %+v", row)
		}
		b.bouncer.setErr(nil)
		if n, err := b.q.Release(context.Background(), queue.Selector{IDs: []string{id.String()}}, "test"); n != 1 || err != nil {
			t.Fatalf("released %d, %v", n, err)
		}
		synctest.Wait()
		if rs := b.bouncer.all(); len(rs) != 1 {
			t.Errorf("%d reports", len(rs))
		}
		b.wantQueue(0)
		if n := b.good.count(); n != 1 {
			t.Errorf("%d attempts", n)
		}
	})
}

func TestAReportWaitsNeitherForAPauseNorForADeadDestination(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.good.reply = all(refused)
		b.bouncer.err = errors.New("no space")
		b.run()
		b.send(letter{from: "a@out.example", to: []string{"x@in.example"}})
		synctest.Wait()
		if err := b.q.Pause(context.Background(), queue.PauseTarget{Transport: "good"}, "", ""); err != nil {
			t.Fatal(err)
		}
		b.bouncer.setErr(nil)
		wait(2 * time.Minute)
		if n := len(b.bouncer.all()); n != 1 {
			t.Errorf("%d reports", n)
		}
		b.wantQueue(0)
	})
}

func TestOneReportForAllThatFailedInOneAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.good.reply = func(_ context.Context, d *mail.Delivery, _ int) []mail.Outcome {
			out := same(d, refused)
			out[2] = delivered
			return out
		}
		b.run()
		b.send(letter{from: "a@out.example", to: []string{"x@in.example", "y@in.example", "z@in.example"},
			notify: mail.NotifyFailure | mail.NotifySuccess})
		synctest.Wait()
		rs := b.bouncer.all()
		if len(rs) != 1 || strings.Count(rs[0].text, "Action: failed") != 2 || strings.Count(rs[0].text, "Action: relayed") != 1 {
			t.Fatalf("reports: %v", rs)
		}
		if n := b.counter.get(&b.counter.bounces); n != 2 {
			t.Errorf("%d bounces counted", n)
		}
	})
}

func TestAnOddTransportNeverLosesMail(t *testing.T) {
	contradiction := greylisted
	contradiction.Status = mail.Failed
	for name, reply := range map[string]func(context.Context, *mail.Delivery, int) []mail.Outcome{
		"no outcomes":       func(context.Context, *mail.Delivery, int) []mail.Outcome { return nil },
		"too many outcomes": func(context.Context, *mail.Delivery, int) []mail.Outcome { return make([]mail.Outcome, 7) },
		"empty outcome":     all(mail.Outcome{}),
		"failed with a 4xx": all(contradiction),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.good.reply = reply
				b.run()
				b.send(letter{from: "a@out.example", to: []string{"x@in.example", "y@in.example"}})
				wait(time.Hour)
				b.wantQueue(1)
				if len(b.bouncer.all()) != 0 {
					t.Error("a report was sent")
				}
			})
		})
	}
}
