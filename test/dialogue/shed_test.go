package dialogue

import (
	"strings"
	"testing"

	"gatepost/test/gatepost"
	"gatepost/test/peer"
	"gatepost/test/sink"
	"gatepost/test/wire"
)

// With few descriptors clients are turned away before there are none: those inside can
// still be served.
func TestClientsAreTurnedAwayBeforeDescriptorsRunOut(t *testing.T) {
	t.Parallel()
	peer.Require(t, "prlimit")
	s := next(t, sink.Options{})
	settings := gatepost.Settings{Next: s.Addr, Limits: "max_sessions_per_ip = 1000", More: proxied("live", s.Addr)}
	g := gatepost.Start(t, gatepost.Options{Settings: settings, Wrap: []string{peer.Find("prlimit"), "--nofile=400:400"}})
	var inside []*wire.Conn
	refused := 0
	for range 130 {
		c, err := wire.Dial(g.SMTP, wire.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		r, err := c.Reply()
		switch {
		case err == nil && r.Code == 220:
			inside = append(inside, c)
		case err == nil && strings.HasPrefix(r.String(), "421 4.3.2"):
			refused++
		default:
			t.Fatalf("%v, %v", r, err)
		}
	}
	if len(inside) < 90 || refused < 20 {
		t.Errorf("%d sessions, %d turned away", len(inside), refused)
	}
	for i, c := range inside {
		if _, err := c.Cmd("EHLO client.example"); err != nil {
			t.Fatal(err)
		}
		// All have a session at the server behind at the same time.
		if err := c.Open("ada@out.example", "bob@live.example"); err != nil {
			t.Fatalf("session %d of %d: %v", i, len(inside), err)
		}
	}
	if log := g.MailLog(); !strings.Contains(log, "fewer sessions than max_sessions are possible") {
		t.Error("the log does not say that descriptors are few")
	}
}
