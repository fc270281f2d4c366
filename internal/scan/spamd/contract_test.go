package spamd

import (
	"testing"

	"gatepost/internal/scan"
	"gatepost/internal/scan/scantest"
)

func TestContract(t *testing.T) {
	with := func(answer string) func(testing.TB) scan.Module {
		return func(t testing.TB) scan.Module {
			f := newFake(t, answer)
			t.Cleanup(f.stop)
			return f.scanner(t, Config{Address: "unix:/fake"})
		}
	}
	scantest.Contract(t, scantest.Subject{
		Use: use, New: with(ok("True ; 12.5 / 5.0", "BAYES_99,\x1b[2J,HTML")), Hanging: with(""),
	})
}
