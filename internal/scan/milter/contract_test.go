package milter

import (
	"testing"

	"gatepost/internal/scan"
	"gatepost/internal/scan/scantest"
)

func TestContract(t *testing.T) {
	with := func(answer script) func(testing.TB) scan.Module {
		return func(t testing.TB) scan.Module {
			f := newFake(t, answer)
			t.Cleanup(f.stop)
			return f.scanner(t, Config{Address: "unix:/fake"})
		}
	}
	edits := on(cmdEOM, "hX-\x1bA\x00b\x1b[2J\r\nSubject: y\x00", "m\x00\x00\x00\x01Subject\x00new\x00", "e<\x01>\x00", "-<alice@here.example>\x00", "q\x1b[2J\x00", "c")
	scantest.Contract(t, scantest.Subject{Use: use, New: with(edits), Hanging: with(on(cmdEOM, "-"))})
}

func TestContractOfOneThatRefuses(t *testing.T) {
	scantest.Contract(t, scantest.Subject{Use: use, New: func(t testing.TB) scan.Module {
		f := newFake(t, on(cmdEOM, "y550 5.7.1 no\x1b[2J\x00"))
		t.Cleanup(f.stop)
		return f.scanner(t, Config{Address: "unix:/fake"})
	}})
}
