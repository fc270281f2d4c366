package rspamd

import (
	"fmt"
	"net/http"
	"testing"

	"gatepost/internal/scan"
	"gatepost/internal/scan/scantest"
)

func TestContract(t *testing.T) {
	with := func(h http.HandlerFunc) func(testing.TB) scan.Module {
		return func(t testing.TB) scan.Module {
			f := newFake(t, "", h)
			s := f.scanner(t, Config{})
			t.Cleanup(func() { f.stop(s) })
			return s
		}
	}
	silent := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	scantest.Contract(t, scantest.Subject{Use: use, New: with(says(fmt.Sprintf(twoSyms, "add header"))), Hanging: with(silent)})
}
