package pop3proxy

import (
	"testing"

	"gatepost/test/popserver"
)

func TestAConnectionThatWasNotDivertedLeadsNowhere(t *testing.T) {
	in(t, popserver.New(hello), Config{Upstream: Upstream{Mode: Original}}, func(x *tester) {
		c := x.connect()
		c.expect("-ERR [SYS/PERM]")
		c.closed()
		if len(x.dialed) != 0 {
			t.Errorf("connected to %v", x.dialed)
		}
	})
}
