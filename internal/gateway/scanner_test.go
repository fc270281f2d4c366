package gateway_test

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"gatepost/internal/flow"
	"gatepost/internal/gateway"
	"gatepost/internal/mail"
	"gatepost/internal/scan"
)

// scannerRig is a rig whose listener scans after the answer.
type scannerRig struct {
	*rig
	scanner  *gateway.Scanner
	suspects *gateway.Suspects
	file     string
	// down is the module that is down.
	down string
}

func newScannerRig(t *testing.T, content gateway.Content) *scannerRig {
	t.Helper()
	s := &scannerRig{rig: newRig(t, rigOptions{content: content, queued: true}), file: filepath.Join(t.TempDir(), "scanning")}
	s.open()
	return s
}

// open opens the list of scans under way, as at a start.
func (s *scannerRig) open() {
	s.t.Helper()
	var err error
	if s.suspects, err = gateway.OpenSuspects(s.file, s.spool); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { s.suspects.Close() })
	s.scanner = gateway.NewScanner(gateway.ScannerConfig{
		Gateway: func() *gateway.Gateway { return s.gateway }, Spool: s.spool, Suspects: s.suspects, Log: slog.New(slog.DiscardHandler),
		Healthy: func(use string) bool { return use != s.down },
	})
}

// deliver has the scanner try the item once.
func (s *scannerRig) deliver(a added) mail.Outcome {
	s.t.Helper()
	d := &mail.Delivery{ID: a.items[0].ID, Message: a.m}
	for _, r := range a.items[0].Recipients {
		d.Recipients = append(d.Recipients, r.Recipient)
	}
	outcomes := s.scanner.Deliver(s.t.Context(), d)
	if len(outcomes) != len(d.Recipients) {
		s.t.Fatalf("%d outcomes", len(outcomes))
	}
	return outcomes[0]
}

// last is what was queued last.
func (s *scannerRig) last() added { return s.queue.added[len(s.queue.added)-1] }

func TestQueuedMailIsAnsweredThenScannedThenDelivered(t *testing.T) {
	s := newScannerRig(t, contentFlow(mail.ActionQuarantine))
	got := s.accept(s.envelope("ada@out.example", "bob@in.example"), saying("spam"))
	if len(got.items) != 1 || got.items[0].Transport != gateway.ScannerTransport {
		t.Fatalf("items %+v", got.items)
	}
	if o := s.deliver(got); o.Status != mail.Delivered {
		t.Fatalf("outcome %+v", o)
	}
	real := s.last()
	if len(real.items) != 1 || real.items[0].Transport != "next" || real.items[0].ID.N != 2 {
		t.Errorf("items %+v", real.items)
	}
	left := storedIn(t, crash(s.fs, 0))[got.m.Envelope.ID]
	if len(left.items) != 2 || len(left.env.Findings) != 1 {
		t.Errorf("after a crash %d items, findings %+v", len(left.items), left.env.Findings)
	}
	// The process died before the queue noted that the scan was done.
	n := len(s.queue.added)
	if o := s.deliver(got); o.Status != mail.Delivered || len(s.queue.added) != n {
		t.Errorf("scanned again: %+v", o)
	}
}

func TestWhatWouldBeRefusedIsQuarantinedAfterTheAnswer(t *testing.T) {
	s := newScannerRig(t, contentFlow(mail.ActionReject))
	got := s.accept(s.envelope("ada@out.example", "bob@in.example"), saying("virus"))
	if o := s.deliver(got); o.Status != mail.Delivered {
		t.Fatalf("outcome %+v", o)
	}
	if item := s.last().items[0]; item.Transport != gateway.QuarantineTransport {
		t.Errorf("item %+v", item)
	}
}

func TestDownScannerKeepsTheMessageIncomingForAWhile(t *testing.T) {
	s := newScannerRig(t, contentFlow(mail.ActionQuarantine))
	s.down = "clamav"
	env := s.envelope("ada@out.example", "bob@in.example")
	env.Received = time.Now()
	got := s.accept(env, saying("down"))
	for range 5 {
		if o := s.deliver(got); o.Status != mail.Deferred || len(s.queue.added) != 1 {
			t.Fatalf("outcome %+v", o)
		}
	}
	env = s.envelope("ada@out.example", "bob@in.example")
	env.Received = time.Now().Add(-2 * time.Hour)
	got = s.accept(env, saying("down"))
	if o := s.deliver(got); o.Status != mail.Delivered {
		t.Fatalf("after two hours: %+v", o)
	}
	item := s.last().items[0]
	if v := item.Recipients[0].Verdict; item.Transport != gateway.QuarantineTransport || v.Threat != mail.ThreatUnscanned {
		t.Errorf("item %+v, verdict %+v", item, v)
	}
}

func TestMessageThatBreaksItsScannerIsNotTriedForEver(t *testing.T) {
	s := newScannerRig(t, contentFlow(mail.ActionQuarantine))
	env := s.envelope("ada@out.example", "bob@in.example")
	env.Received = time.Now()
	got := s.accept(env, saying("down")) // an error, though others are scanned
	for i := range 2 {
		if o := s.deliver(got); o.Status != mail.Deferred {
			t.Fatalf("attempt %d: %+v", i+1, o)
		}
	}
	if o := s.deliver(got); o.Status != mail.Delivered || s.last().items[0].Transport != gateway.QuarantineTransport {
		t.Errorf("third attempt: %+v", o)
	}
}

// timesOut is a flow whose module always runs out of time.
func timesOut() gateway.Content {
	virus := flow.Defaults("clamav")
	virus.Key = "clamav"
	return gateway.Content{Flows: map[string]gateway.Flow{"inbound": {
		Decide: &flow.Flow{Name: "inbound", Blocks: []flow.Block{virus}},
		Blocks: []scan.Block{{Key: "clamav", Use: "clamav", Module: scripted(func(*scan.Input) ([]mail.Finding, error) {
			return nil, errors.Join(context.DeadlineExceeded)
		})}},
	}}}
}

func TestMessageThatStallsItsScannerThreeTimesIsQuarantined(t *testing.T) {
	s := newScannerRig(t, timesOut())
	env := s.envelope("ada@out.example", "bob@in.example")
	env.Received = time.Now()
	got := s.accept(env, saying("nothing"))
	for i := range 2 {
		if o := s.deliver(got); o.Status != mail.Deferred {
			t.Fatalf("attempt %d: %+v", i+1, o)
		}
	}
	if o := s.deliver(got); o.Status != mail.Delivered || s.last().items[0].Transport != gateway.QuarantineTransport {
		t.Errorf("third attempt: %+v", o)
	}
}

func TestMessageThatKillsTheProcessThreeTimesIsQuarantined(t *testing.T) {
	s := newScannerRig(t, contentFlow(mail.ActionQuarantine))
	got := s.accept(s.envelope("ada@out.example", "bob@in.example"), saying("nothing"))
	other := s.accept(s.envelope("ada@out.example", "bob@in.example"), saying("nothing"))
	for range 3 {
		s.suspects.Begin(got.m.Envelope.ID) // and then the process dies
		s.suspects.Begin(other.m.Envelope.ID)()
		s.open()
	}
	if o := s.deliver(got); o.Status != mail.Delivered {
		t.Fatalf("outcome %+v", o)
	}
	item := s.last().items[0]
	if v := item.Recipients[0].Verdict; item.Transport != gateway.QuarantineTransport || v.Reason == "" {
		t.Errorf("item %+v, verdict %+v", item, v)
	}
	if o := s.deliver(other); o.Status != mail.Delivered || s.last().items[0].Transport != "next" {
		t.Errorf("the other message: %+v, %+v", o, s.last().items[0])
	}
	s.open()
	if n := s.suspects.Count(got.m.Envelope.ID); n != 0 {
		t.Errorf("a resolved message still counts %d", n)
	}
}
