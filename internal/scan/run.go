package scan

import (
	"context"
	"errors"
	"fmt"
	"path"
	"runtime"
	"strings"
	"sync"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/message"
)

// Run asks every block about the message, within the time of budget, and returns
// a report for each in the order of the blocks. It returns when all have answered
// or the budget is spent: a module that does not heed the end of its context is
// left behind, and its report says so.
func Run(ctx context.Context, in *Input, blocks []Block, budget time.Duration, watch Observer) []Report {
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	reports := make([]Report, len(blocks))
	runFirst(ctx, in, blocks, reports)
	for i := range blocks {
		if blocks[i].After {
			in.Reports = finished(reports)
			reports[i] = guarded(ctx, in, &blocks[i])
		}
	}
	in.Reports = finished(reports)
	if watch != nil {
		for i := range reports {
			watch.Scanned(reports[i].Use, reports[i].Worst(), reports[i].Took)
		}
	}
	return reports
}

// runFirst runs the blocks that need no other's findings: those that wait for the
// network beside those that work here.
func runFirst(ctx context.Context, in *Input, blocks []Block, reports []Report) {
	var wg sync.WaitGroup
	for i := range blocks {
		if b := &blocks[i]; b.Waits && !b.After {
			wg.Go(func() { reports[i] = guarded(ctx, in, b) })
		}
	}
	for i := range blocks {
		if b := &blocks[i]; !b.Waits && !b.After {
			reports[i] = guarded(ctx, in, b)
		}
	}
	wg.Wait()
}

// finished returns the reports that are there.
func finished(reports []Report) []Report {
	var done []Report
	for _, r := range reports {
		if r.Use != "" {
			done = append(done, r)
		}
	}
	return done
}

// answer is what came of one call of a module.
type answer struct {
	findings []mail.Finding
	err      error
}

// grace is how long a module may take to notice that its context has ended.
const grace = time.Second

// guarded calls one module and answers in its place if it cannot.
func guarded(ctx context.Context, in *Input, b *Block) Report {
	begun := time.Now()
	if b.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, b.Timeout)
		defer cancel()
	}
	// A goroutine, so that a module that is stuck costs itself and not the session.
	answers := make(chan answer, 1)
	go func() { answers <- call(ctx, in, b) }()
	var got answer
	select {
	case got = <-answers:
	case <-ctx.Done():
		late := time.NewTimer(grace)
		defer late.Stop()
		select {
		case got = <-answers:
		case <-late.C:
			got.err = fmt.Errorf("%w and the module does not stop", context.Cause(ctx))
		}
	}
	r := Report{Key: b.Key, Use: b.Use, Label: b.Label, Findings: got.findings, Took: time.Since(begun)}
	if got.err != nil {
		r.Findings = append(r.Findings, failure(ctx, b, got.err))
	}
	return r
}

// The symbols of the findings for a module that could not say.
const (
	SymbolError   = "error"
	SymbolTimeout = "timeout"
	// SymbolBusy says that the time went by in waiting for its turn: not the message's
	// fault.
	SymbolBusy = "busy"
)

// ErrBusy is in the error of a module all of whose sessions were taken for too long.
var ErrBusy = errors.New("busy")

// failure is the finding for a module that cannot say.
func failure(ctx context.Context, b *Block, err error) mail.Finding {
	// The error may quote what an engine or the message said.
	f := mail.Finding{Module: b.Use, Symbol: SymbolError, Result: mail.Unknown, Reason: message.SafeText(err.Error(), maxReason)}
	switch {
	case errors.Is(err, ErrBusy):
		f.Symbol = SymbolBusy
	case ctx.Err() != nil, errors.Is(err, context.DeadlineExceeded):
		f.Symbol = SymbolTimeout
	}
	return f
}

// call runs the module; a panic in it is an error like any other, so that one
// message cannot take the gateway down.
func call(ctx context.Context, in *Input, b *Block) (a answer) {
	defer func() {
		if p := recover(); p != nil {
			a.err = fmt.Errorf("panic in %s: %s (%s)", b.Use, message.SafeText(fmt.Sprint(p), maxReason/4), callers())
		}
	}()
	a.findings, a.err = b.Module.Scan(ctx, in)
	return a
}

// maxReason bounds what is told of a failure, in bytes.
const maxReason = 1000

// callers says in one line where a panic came from, the innermost place first.
func callers() string {
	pc := make([]uintptr, 64)
	frames := runtime.CallersFrames(pc[:runtime.Callers(0, pc)])
	var places []string
	panicked := false
	for more := true; more && len(places) < 12; {
		var f runtime.Frame
		f, more = frames.Next()
		inRuntime := strings.HasPrefix(f.Function, "runtime.")
		if panicked && !inRuntime {
			places = append(places, fmt.Sprintf("%s:%d", path.Base(f.File), f.Line))
		}
		panicked = panicked || inRuntime && strings.HasSuffix(f.Function, "panic")
	}
	return strings.Join(places, " < ")
}
