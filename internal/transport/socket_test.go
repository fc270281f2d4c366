package transport

import (
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"gatepost/internal/smtpclient"
	"gatepost/internal/smtpclient/sinktest"
)

// These tests use real sockets.

func TestSourceAddress(t *testing.T) {
	var from atomic.Value
	s := sinktest.Listen(t, sinktest.Config{Script: func(e sinktest.Event) *sinktest.Act {
		from.Store(e.Remote.String())
		return nil
	}})
	cfg := Config{Name: "t", Kind: SMTP, Hostname: "gw.example", Hosts: []string{s.Addr()}, Source: netip.MustParseAddr("127.0.0.2")}
	tr, err := New(cfg, Deps{})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	if mustDeliver(t, tr); !strings.HasPrefix(from.Load().(string), "127.0.0.2:") {
		t.Errorf("from %s", from.Load())
	}
	// A source address is never left out silently for hosts of the other family.
	cfg.Source = netip.MustParseAddr("::1")
	six, err := New(cfg, Deps{})
	if err != nil {
		t.Fatal(err)
	}
	defer six.Close()
	out := six.Deliver(t.Context(), delivery(t, short, "r@out.example"))
	if briefs(out) != "deferred connect own 451" || !strings.Contains(out[0].Cause, "family") {
		t.Errorf("%s (%s)", briefs(out), out[0].Cause)
	}
}

func TestLMTPOverASocketOfTheMachine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lmtp")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := sinktest.Start(t, ln, sinktest.Config{LMTP: true, Extensions: []string{"PIPELINING"}, Script: func(e sinktest.Event) *sinktest.Act {
		if e.Stage == sinktest.EOD && e.N%2 == 0 {
			return sinktest.Reply("550 5.2.1 no")
		}
		return nil
	}})
	tr, err := New(Config{Name: "t", Kind: LMTP, Hostname: "gw.example", Hosts: []string{"unix:" + path}}, Deps{})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	d := delivery(t, short, "1@out.example", "2@out.example")
	// No network is involved, which is all that REQUIRETLS asks for.
	d.Message.Envelope.RequireTLS = true
	out := tr.Deliver(t.Context(), d)
	if briefs(out) != "delivered eod 250, failed eod 550" || out[0].Host != path {
		t.Errorf("%s at %s", briefs(out), out[0].Host)
	}
	if lines := s.Lines(); lines[0] != "LHLO gw.example" {
		t.Errorf("commands %q", lines)
	}
}

func TestRestartOfTheNextHopGoesUnnoticed(t *testing.T) {
	s := sinktest.Listen(t, sinktest.Config{Extensions: []string{"PIPELINING"}})
	tr, err := New(Config{Name: "t", Kind: SMTP, Hostname: "gw.example", Hosts: []string{s.Addr()}, Timeouts: smtpclient.Timeouts{}}, Deps{})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	for range 5 {
		mustDeliver(t, tr)
		s.Drop()
	}
	if s.Conns() != 5 || len(s.Messages()) != 5 {
		t.Errorf("%d connections, %d messages", s.Conns(), len(s.Messages()))
	}
}
