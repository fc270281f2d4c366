package scan_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/scan"
)

// module is what a test has it do.
type module func(ctx context.Context, in *scan.Input) ([]mail.Finding, error)

func (m module) Scan(ctx context.Context, in *scan.Input) ([]mail.Finding, error) { return m(ctx, in) }

type body struct{ *strings.Reader }

func (b body) Size() int64 { return b.Reader.Size() }

func input(t *testing.T, text string) *scan.Input {
	t.Helper()
	m := mail.Message{Envelope: &mail.Envelope{}, Body: body{strings.NewReader(strings.ReplaceAll(text, "\n", "\r\n"))}}
	in, err := scan.NewInput(t.Context(), m, scan.Inbound, scan.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return in
}

const plain = "Subject: hello\n\nbody\n"

func found(symbol string) []mail.Finding {
	return []mail.Finding{{Module: "m", Symbol: symbol, Result: mail.Match}}
}

func TestEveryBlockHasAReportInItsPlace(t *testing.T) {
	blocks := []scan.Block{
		{Key: "1", Use: "a", Waits: true, Module: module(func(context.Context, *scan.Input) ([]mail.Finding, error) { return found("one"), nil })},
		{Key: "2", Use: "b", Module: module(func(context.Context, *scan.Input) ([]mail.Finding, error) { return nil, nil })},
		{Key: "3", Use: "c", After: true, Module: module(func(_ context.Context, in *scan.Input) ([]mail.Finding, error) {
			if _, ok := in.Finding("m", "one"); !ok || len(in.Reports) != 3 {
				return nil, errors.New("the others' findings are not there")
			}
			return found("three"), nil
		})},
		{Key: "4", Use: "d", Module: module(func(context.Context, *scan.Input) ([]mail.Finding, error) {
			return found("four"), errors.New("half way")
		})},
	}
	reports := scan.Run(t.Context(), input(t, plain), blocks, time.Minute, nil)
	want := []struct {
		worst   mail.Result
		symbols string
	}{{mail.Match, "one"}, {mail.Clean, ""}, {mail.Match, "three"}, {mail.Match, "four error"}}
	for i, w := range want {
		var symbols []string
		for _, f := range reports[i].Findings {
			symbols = append(symbols, f.Symbol)
		}
		if reports[i].Key != blocks[i].Key || reports[i].Worst() != w.worst || strings.Join(symbols, " ") != w.symbols {
			t.Errorf("report %d: %+v", i, reports[i])
		}
	}
}

func TestModuleThatPanicsIsUnknownAndTheOthersGoOn(t *testing.T) {
	reports := scan.Run(t.Context(), input(t, plain), []scan.Block{
		{Key: "1", Use: "bad", Module: module(func(context.Context, *scan.Input) ([]mail.Finding, error) {
			panic("index\nout of range \u202e" + strings.Repeat("x", 5000))
		})},
		{Key: "2", Use: "good", Module: module(func(context.Context, *scan.Input) ([]mail.Finding, error) { return found("x"), nil })},
	}, time.Minute, nil)
	reason := reports[0].Findings[0].Reason
	if reports[0].Worst() != mail.Unknown || !strings.Contains(reason, "panic in bad: index") || !strings.Contains(reason, "(run_test.go:") {
		t.Errorf("report %+v", reports[0])
	}
	if len(reason) > 1024 || strings.ContainsAny(reason, "\n\u202e") {
		t.Errorf("the reason is not one safe line: %q", reason)
	}
	if reports[1].Worst() != mail.Match {
		t.Errorf("report %+v", reports[1])
	}
}

func TestBudgetEndsModulesThatDoNotListen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		defer close(release)
		deaf := module(func(context.Context, *scan.Input) ([]mail.Finding, error) { <-release; return nil, nil })
		polite := module(func(ctx context.Context, _ *scan.Input) ([]mail.Finding, error) { <-ctx.Done(); return nil, ctx.Err() })
		begun := time.Now()
		reports := scan.Run(t.Context(), input(t, plain), []scan.Block{
			{Key: "1", Use: "deaf", Waits: true, Module: deaf},
			{Key: "2", Use: "polite", Waits: true, Module: polite},
			{Key: "3", Use: "short", Waits: true, Module: polite, Timeout: time.Second},
		}, 10*time.Second, nil)
		if took := time.Since(begun); took > 12*time.Second {
			t.Errorf("took %v of a budget of 10 s", took)
		}
		for _, r := range reports {
			if len(r.Findings) != 1 || r.Findings[0].Symbol != "timeout" || r.Findings[0].Result != mail.Unknown {
				t.Errorf("report %+v", r)
			}
		}
		if reports[2].Took > 2*time.Second {
			t.Errorf("the block with a timeout of its own took %v", reports[2].Took)
		}
	})
}
