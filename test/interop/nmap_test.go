package interop

import (
	"net"
	"strings"
	"testing"

	"gatepost/test/gatepost"
	"gatepost/test/peer"
	"gatepost/test/sink"
)

// REL-01: nmap tries sixteen ways of relaying through the gateway.
func TestNmapFindsNoOpenRelay(t *testing.T) {
	peer.Require(t, "nmap")
	g, next := pair(t, gatepost.Settings{Limits: "max_errors = 1000"})
	out := openRelay(t, g.SMTP)
	if !strings.Contains(out, "Server doesn't seem to be an open relay, all tests failed") {
		t.Errorf("nmap does not say that all its tests failed:\n%s", out)
	}
	if n := len(next.Mails()); n != 0 {
		t.Errorf("%d mails arrived, want none", n)
	}
	// The sink takes everything: nmap must see that, or it sees nothing.
	if out := openRelay(t, sink.Start(t, sink.Options{}).Addr); !strings.Contains(out, "Server is an open relay (16/16 tests)") {
		t.Errorf("nmap does not see an open relay where there is one:\n%s", out)
	}
}

func openRelay(t *testing.T, addr string) string {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	// The plus sign runs the script although the port is not one of mail's.
	return peer.Run(t, "", "nmap", "-n", "-Pn", "-p", port, "--script", "+smtp-open-relay", host).Output
}
