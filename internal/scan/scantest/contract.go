// Package scantest is the contract that every content module keeps, as a suite of
// tests: Contract. It feeds a module messages that are made to break it and
// checks what the runner and the flows rely on.
//
// Invariants:
//   - What is checked is what package scan promises of a Module; how a module
//     judges a message is the business of its own tests.
//   - Nothing is measured in seconds: work is bounded by the bytes that a module
//     reads and allocates, and a module that waits is watched in virtual time.
package scantest

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/scan"
)

// Subject is a module under test.
type Subject struct {
	// Use is the name of its block, which its findings must carry.
	Use string
	// New makes a module that works; what it needs is cleaned up by t.
	New func(t testing.TB) scan.Module
	// Hanging makes a module whose other side takes everything and never answers. It
	// is called in a bubble of testing/synctest. Nil: it asks nobody.
	Hanging func(t testing.TB) scan.Module
	// Memory is how many bytes a Scan, with the fake that it asks, may allocate for
	// each byte of a message; default 100.
	Memory int64
}

// Contract tests that the module keeps the contract of scan.Module.
func Contract(t *testing.T, s Subject) {
	if s.Memory == 0 {
		s.Memory = 100
	}
	t.Run("survives hostile messages", s.survives)
	t.Run("is safe at the same time and says the same", s.concurrent)
	t.Run("ends when it is cancelled", s.cancelled)
	if s.Hanging != nil {
		t.Run("does not wait when it is cancelled", s.hanging)
	}
}

// survives gives it every hostile message once: no panic, bounded work, nothing
// changed, and what it says is well formed.
func (s Subject) survives(t *testing.T) {
	module := s.New(t)
	for _, m := range append(Hostile(), corpus(t)...) {
		t.Run(m.Name, func(t *testing.T) { s.survivesOne(t, module, m) })
	}
}

func (s Subject) survivesOne(t *testing.T, module scan.Module, m Message) {
	p := newPatient(t, m, 0)
	before := p.snapshot(t)
	p.body.read.Store(0)
	var start, end runtime.MemStats
	runtime.ReadMemStats(&start)
	findings, err := module.Scan(t.Context(), p.in)
	runtime.ReadMemStats(&end)
	p.body.closed.Store(true)
	if n := p.body.early.Load(); n > 0 {
		t.Errorf("%d reads outside of the body", n)
	}
	if err != nil && strings.TrimSpace(err.Error()) == "" {
		t.Error("an error that says nothing")
	}
	size := int64(len(m.Text))
	if read := p.body.read.Load(); read > 64<<20+50*size {
		t.Errorf("read %d bytes of a message of %d", read, size)
	}
	if got := int64(end.TotalAlloc - start.TotalAlloc); got > 96<<20+s.Memory*size {
		t.Errorf("allocated %d bytes for a message of %d", got, size)
	}
	for i := range findings {
		s.wellFormed(t, p.in.Message.Envelope, &findings[i])
	}
	if len(findings) > maxFindings {
		t.Errorf("%d findings", len(findings))
	}
	p.body.closed.Store(false)
	p.compare(t, before)
	p.body.closed.Store(true)
	runtime.Gosched()
	if n := p.body.late.Load(); n > 0 {
		t.Errorf("it read the body %d times after it had answered", n)
	}
}

// maxFindings is how many findings a message may make: they are kept with it.
const maxFindings = 10_000

// wellFormed checks a finding as the database, the logs and the flows need it.
func (s Subject) wellFormed(t *testing.T, env *mail.Envelope, f *mail.Finding) {
	t.Helper()
	if problem := Malformed(s.Use, f); problem != "" {
		t.Errorf("%s: %+v", problem, *f)
	}
	for _, key := range f.Recipients {
		if !slices.ContainsFunc(env.Recipients, func(r mail.Recipient) bool { return key == r.Address.Key() || key == r.Original.Key() }) {
			t.Errorf("%s is about %q, who is no recipient", f.Symbol, key)
		}
	}
}

// concurrent has many goroutines use one module and one input.
func (s Subject) concurrent(t *testing.T) {
	module := s.New(t)
	for _, m := range Shared() {
		p := newPatient(t, m, 0)
		alone, err := module.Scan(t.Context(), p.in)
		want := told(alone, err)
		if err != nil {
			t.Errorf("%s: it cannot say, so this tests little: %v", m.Name, err)
		}
		for i := range alone {
			alone[i].Symbol, alone[i].Reason = "changed", "changed by who got it" // they are the caller's
		}
		before := p.snapshot(t)
		got := make([]string, 12)
		var wg sync.WaitGroup
		for i := range got {
			wg.Go(func() { got[i] = told(module.Scan(t.Context(), p.in)) })
		}
		wg.Wait()
		for _, one := range got {
			if one != want {
				t.Errorf("%s: it said\n%s\nand then\n%s", m.Name, want, one)
				break
			}
		}
		p.compare(t, before)
	}
}

// cancelled ends the context before and in the middle of the work.
func (s Subject) cancelled(t *testing.T) {
	module := s.New(t)
	for _, m := range Shared() {
		for _, after := range []int64{0, 1, 3, 10} {
			p := newPatient(t, m, after)
			ctx, cancel := context.WithCancel(t.Context())
			p.body.onNth = cancel
			if after == 0 {
				cancel()
			}
			p.body.armed.Store(true)
			_, err := module.Scan(ctx, p.in)
			cancel()
			if read := p.body.afterEnd.Load(); read > 2<<20 {
				t.Errorf("%s: read %d bytes after its context had ended", m.Name, read)
			}
			if n := p.body.reads.Load(); after == 0 && err == nil && n > 100 {
				t.Errorf("%s: %d reads and no error with a context that had ended", m.Name, n)
			}
		}
	}
	// What a cancelled scan left behind must not be what the next one gets.
	p := newPatient(t, Shared()[0], 0)
	if _, err := module.Scan(t.Context(), p.in); errors.Is(err, context.Canceled) {
		t.Errorf("after others were cancelled: %v", err)
	}
}

// hanging cancels a scan whose other side is silent.
func (s Subject) hanging(t *testing.T) {
	for _, m := range Shared() {
		synctest.Test(t, func(t *testing.T) {
			module := s.Hanging(t)
			p := newPatient(t, m, 0)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				_, _ = module.Scan(ctx, p.in)
			}()
			synctest.Wait()
			select {
			case <-ended:
				t.Errorf("%s: it did not wait for an answer: this tests nothing", m.Name)
			default:
			}
			cancel()
			synctest.Wait()
			select {
			case <-ended:
			default:
				t.Errorf("%s: it still waits", m.Name)
				<-ended
			}
		})
	}
}

// told writes down what a module said.
func told(findings []mail.Finding, err error) string {
	var b strings.Builder
	for _, f := range findings {
		b.WriteString(encode(f))
		b.WriteByte('\n')
	}
	if err != nil {
		b.WriteString("error: " + message.SafeText(err.Error(), 300))
	}
	return b.String()
}
