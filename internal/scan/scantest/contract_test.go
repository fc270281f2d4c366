package scantest_test

import (
	"context"
	"math"
	"strings"
	"testing"

	"gatepost/internal/mail"
	"gatepost/internal/scan"
	"gatepost/internal/scan/scantest"
)

// polite is a module that keeps the contract: it reads all there is.
type polite struct{}

func (polite) Scan(ctx context.Context, in *scan.Input) ([]mail.Finding, error) {
	text, err := in.Text(ctx)
	if err != nil {
		return nil, err
	}
	return []mail.Finding{{Module: "polite", Symbol: "read", Result: mail.Clean, Score: float64(len(text.Texts))}}, nil
}

// waiting is one that asks somebody who does not answer.
type waiting struct{}

func (waiting) Scan(ctx context.Context, _ *scan.Input) ([]mail.Finding, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestPoliteModulePasses(t *testing.T) {
	scantest.Contract(t, scantest.Subject{
		Use: "polite", New: func(testing.TB) scan.Module { return polite{} }, Hanging: func(testing.TB) scan.Module { return waiting{} },
	})
}

func TestMalformedFindingsAreToldApart(t *testing.T) {
	good := mail.Finding{Module: "m", Symbol: "s", Result: mail.Match, Reason: "it is so", Name: "Grüße.txt", Score: -1}
	if p := scantest.Malformed("m", &good); p != "" {
		t.Errorf("a good one: %s", p)
	}
	for name, change := range map[string]func(*mail.Finding){
		"another module":            func(f *mail.Finding) { f.Module = "n" },
		"no symbol":                 func(f *mail.Finding) { f.Symbol = "" },
		"a symbol without end":      func(f *mail.Finding) { f.Symbol = strings.Repeat("s", 301) },
		"a symbol with an escape":   func(f *mail.Finding) { f.Symbol = "\x1b[2J" },
		"no result":                 func(f *mail.Finding) { f.Result = "" },
		"a score that is no number": func(f *mail.Finding) { f.Score = math.NaN() },
		"a score without end":       func(f *mail.Finding) { f.Score = math.Inf(1) },
		"a match without a reason":  func(f *mail.Finding) { f.Reason = "" },
		"a reason of two lines":     func(f *mail.Finding) { f.Reason = "a\nb" },
		"a reason without end":      func(f *mail.Finding) { f.Reason = strings.Repeat("r", 1025) },
		"a reason that turns":       func(f *mail.Finding) { f.Reason = "a\u202eb" },
		"a broken name":             func(f *mail.Finding) { f.Name = "\xff" },
		"a property with a NUL":     func(f *mail.Finding) { f.Properties = []mail.Property{{Name: "n", Value: "\x00"}} },
	} {
		f := good
		change(&f)
		if scantest.Malformed("m", &f) == "" {
			t.Errorf("%s is taken for well formed", name)
		}
	}
}
