package upstream_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/smtpclient/sinktest"
	"gatepost/internal/upstream"
)

// originals makes a Server whose upstreams are named by their clients.
func (n *network) originals(cfg upstream.Config) *upstream.Server {
	n.t.Helper()
	cfg.Name, cfg.Hostname, cfg.Original = "test", "gw.example", true
	s, err := upstream.New(cfg, upstream.Deps{Dial: n.dial, Observer: n,
		DialFrom: func(ctx context.Context, from netip.Addr, network, address string) (net.Conn, error) {
			n.note("from %s to %s", from, address)
			return n.dial(ctx, network, address)
		}})
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { s.Close() })
	return s
}

// bound is an envelope of a client that wanted to go there.
func bound(t testing.TB, client, to string) *mail.Envelope {
	env := envelope(t)
	env.Session.Client = netip.MustParseAddrPort(client)
	if to != "" {
		env.Session.Original = netip.MustParseAddrPort(to)
	}
	return env
}

func TestEachClientGetsTheServerThatItWasMeantFor(t *testing.T) {
	n := newNetwork(t)
	one := n.host("192.0.2.1:25", sinktest.Config{})
	two := n.host("[2001:db8::2]:587", sinktest.Config{})
	s := n.originals(upstream.Config{})
	for _, to := range []string{"192.0.2.1:25", "[2001:db8::2]:587", "192.0.2.1:25"} {
		if res := deliverAs(t, s, bound(t, "198.51.100.7:1", to), short); brief(res) != "eod 250 answered" {
			t.Errorf("%s: %s (%v)", to, brief(res), res.Err)
		}
	}
	if len(one.Messages()) != 2 || len(two.Messages()) != 1 || n.dialed() != "192.0.2.1:25 [2001:db8::2]:587" {
		t.Errorf("%d and %d messages", len(one.Messages()), len(two.Messages()))
	}
	if got := n.seen(); strings.Contains(got, "192.0.2.1") || !strings.Contains(got, "session original true") {
		t.Errorf("counted by the name of each server: %s", got)
	}
	if h := s.Health().Hosts; len(h) != 1 || h[0].Host != "original" || h[0].Open != 2 || h[0].Idle != 2 {
		t.Errorf("health %+v", h)
	}
	if res := deliverAs(t, s, bound(t, "198.51.100.7:1", "192.0.2.3:25"), short); brief(res) != "connect 451 unreached" {
		t.Errorf("nobody there: %s", brief(res))
	}
	if res := deliverAs(t, s, bound(t, "198.51.100.7:1", ""), short); brief(res) != "connect 451 unreached" || n.dialed() != "192.0.2.3:25" {
		t.Errorf("not diverted: %s", brief(res))
	}
}

func TestServersSeeTheirClientsOnly(t *testing.T) {
	n := newNetwork(t)
	sink := n.host("192.0.2.1:25", sinktest.Config{})
	n.host("[2001:db8::2]:25", sinktest.Config{})
	s := n.originals(upstream.Config{Spoof: true})
	for _, c := range [][2]string{
		{"198.51.100.7:1", "192.0.2.1:25"}, {"198.51.100.8:1", "192.0.2.1:25"}, {"198.51.100.7:2", "192.0.2.1:25"},
		{"[2001:db8::7]:1", "[2001:db8::2]:25"}, {"198.51.100.7:3", "[2001:db8::2]:25"},
	} {
		if res := deliverAs(t, s, bound(t, c[0], c[1]), short); !res.OK() {
			t.Errorf("%s (%v)", brief(res), res.Err)
		}
	}
	var from []string
	for _, e := range strings.Split(n.seen(), ", ") {
		if strings.HasPrefix(e, "from ") {
			from = append(from, e)
		}
	}
	want := "from 198.51.100.7 to 192.0.2.1:25; from 198.51.100.8 to 192.0.2.1:25; from 2001:db8::7 to [2001:db8::2]:25"
	if got := strings.Join(from, "; "); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if m := sink.Messages(); len(m) != 3 || m[0].Conn != m[2].Conn || m[0].Conn == m[1].Conn {
		t.Errorf("messages %+v", m)
	}
}

func TestClientsArePromisedWhatTheirServerCan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		n.host("192.0.2.1:25", sinktest.Config{Extensions: []string{"8BITMIME", "SIZE 1000"}})
		n.host("192.0.2.2:25", sinktest.Config{Extensions: []string{"SMTPUTF8", "DSN"}})
		s := n.originals(upstream.Config{})
		one, two, three := bound(t, "198.51.100.7:1", "192.0.2.1:25").Session, bound(t, "198.51.100.7:1", "192.0.2.2:25").Session, bound(t, "198.51.100.7:1", "192.0.2.3:25").Session
		if c, known := s.CapabilitiesFor(&one); known || c.EightBit {
			t.Errorf("known before it was asked: %+v", c)
		}
		for range 2 {
			for _, c := range []*mail.Session{&one, &two, &three} {
				s.Meet(t.Context(), c)
			}
		}
		if got := n.dialed(); got != "192.0.2.1:25 192.0.2.2:25 192.0.2.3:25 192.0.2.3:25" {
			t.Errorf("dialled %s", got)
		}
		if c, _ := s.CapabilitiesFor(&one); !c.EightBit || c.SMTPUTF8 || c.SizeLimit != 1000 {
			t.Errorf("the first can %+v", c)
		}
		if c, _ := s.CapabilitiesFor(&two); c.EightBit || !c.SMTPUTF8 || !c.DSN {
			t.Errorf("the second can %+v", c)
		}
		if c, known := s.CapabilitiesFor(&three); known || fmt.Sprint(c) != fmt.Sprint(upstream.Capabilities{}) {
			t.Errorf("who is not there can %+v", c)
		}
		// The session that was opened to ask serves the mail.
		if res := deliverAs(t, s, bound(t, "198.51.100.7:1", "192.0.2.1:25"), short); !res.OK() || n.dialed() != "" {
			t.Errorf("%s, and another session was opened", brief(res))
		}
		time.Sleep(2 * time.Hour)
		s.Meet(t.Context(), &one)
		if got := n.dialed(); got != "192.0.2.1:25" {
			t.Errorf("after two hours it dialled %q", got)
		}
		fresh := n.originals(upstream.Config{})
		fresh.Recall(s.Known())
		if c, known := fresh.CapabilitiesFor(&two); !known || !c.DSN {
			t.Errorf("after a restart the second can %+v", c)
		}
	})
}

// Who waits for one server gets no session with another.
func TestClientsWaitForTheirOwnServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		one := n.host("192.0.2.1:25", sinktest.Config{})
		two := n.host("192.0.2.2:25", sinktest.Config{})
		s := n.originals(upstream.Config{Sessions: 1})
		first, _ := s.Begin(t.Context(), bound(t, "198.51.100.7:1", "192.0.2.1:25"))
		other, _ := s.Begin(t.Context(), bound(t, "198.51.100.7:1", "192.0.2.2:25"))
		done := make(chan upstream.Result)
		go func() { done <- deliverAs(t, s, bound(t, "198.51.100.8:1", "192.0.2.1:25"), short) }()
		synctest.Wait()
		other.Abort()
		synctest.Wait()
		select {
		case res := <-done:
			t.Fatalf("served by another server: %s", brief(res))
		default:
		}
		first.Abort()
		if res := <-done; !res.OK() || len(one.Messages()) != 1 || len(two.Messages()) != 0 {
			t.Errorf("%s; %d and %d messages", brief(res), len(one.Messages()), len(two.Messages()))
		}
	})
}

// Behind a firewall that translates destinations, Local is ours: servers are told
// where the client connected to.
func TestServersAreToldWhereTheClientConnectedTo(t *testing.T) {
	n := newNetwork(t)
	ln := &proxied{Listener: n.listen("192.0.2.1:25")}
	sinktest.Start(t, ln, sinktest.Config{})
	s := n.originals(upstream.Config{Identity: upstream.IdentityProxyV1})
	if res := deliverAs(t, s, bound(t, "198.51.100.7:1", "192.0.2.1:25"), short); !res.OK() {
		t.Fatalf("%s (%v)", brief(res), res.Err)
	}
	if h := ln.headers[0]; h.Source.String() != "198.51.100.7:1" || h.Original.String() != "192.0.2.1:25" {
		t.Errorf("told %+v", h)
	}
}
