package icap

import (
	"bufio"
	"io"
	"strings"
	"testing"

	"gatepost/internal/memconn"
	"gatepost/internal/scan"
	"gatepost/internal/scan/scantest"
)

func TestContract(t *testing.T) {
	scantest.Contract(t, scantest.Subject{
		Use: use,
		New: func(t testing.TB) scan.Module {
			f := newFake(t)
			f.answer = func(r request) string {
				f.with(func() { f.requests = nil })
				if strings.Contains(r.body, "evil") {
					return strings.Replace(infected, "Eicar", "Ei\x1b[2Jcar", 1)
				}
				return clean
			}
			s := f.scanner(t, Config{})
			t.Cleanup(func() { stop(t, s, f) })
			return s
		},
		Hanging: func(t testing.TB) scan.Module {
			l := memconn.Listen()
			f := &fake{t: t, l: l}
			f.wg.Go(func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					f.wg.Go(func() {
						defer c.Close()
						_, _ = io.Copy(io.Discard, bufio.NewReader(c))
					})
				}
			})
			s := f.scanner(t, Config{})
			t.Cleanup(func() { stop(t, s, f) })
			return s
		},
	})
}
