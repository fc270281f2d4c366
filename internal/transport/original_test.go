package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"gatepost/internal/dns"
	"gatepost/internal/mail"
	"gatepost/internal/memconn"
	"gatepost/internal/smtpclient/sinktest"
)

// original makes a transport to original destinations; spoofed gets who connections
// came from.
func (n *network) original(cfg Config, check func(netip.AddrPort) error, spoofed *[]string) Transport {
	n.t.Helper()
	cfg.Name, cfg.Hostname, cfg.Kind, cfg.Port = "test", "gw.example", Original, 25
	resolver := names{mx: map[string][]dns.MX{"out.example": {{Host: "mx.out.example"}}},
		addrs: map[string][]netip.Addr{"mx.out.example": {netip.MustParseAddr("192.0.2.9")}}}
	tr, err := New(cfg, Deps{Resolver: resolver, Dial: n.dial, Check: check,
		DialFrom: func(ctx context.Context, from netip.Addr, network, address string) (net.Conn, error) {
			*spoofed = append(*spoofed, from.String()+" to "+address)
			return n.dial(ctx, network, address)
		}})
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { tr.Close() })
	return tr
}

// meant is a delivery of mail that a client brought for a server.
func meant(t *testing.T, client, to string) *mail.Delivery {
	d := delivery(t, short, "b@out.example")
	d.NextHop = to
	d.Message.Envelope.Session.Client = netip.MustParseAddrPort(client)
	return d
}

func TestMailGoesToItsOriginalDestination(t *testing.T) {
	n := newNetwork(t)
	for _, a := range []string{"192.0.2.1:25", "192.0.2.1:587", "[2001:db8::1]:25", "192.0.2.9:25"} {
		n.host(a, sinktest.Config{})
	}
	var spoofed []string
	tr := n.original(Config{Spoof: true}, nil, &spoofed)
	for _, c := range [][3]string{
		{"198.51.100.7:1", "192.0.2.1:25", "192.0.2.1:25"},
		{"198.51.100.7:2", "192.0.2.1:587", "192.0.2.1:587"},
		{"198.51.100.8:1", "192.0.2.1:25", "192.0.2.1:25"},
		{"[2001:db8::7]:1", "[2001:db8::1]:25", "[2001:db8::1]:25"},
		{"198.51.100.7:3", "[2001:db8::1]:25", "[2001:db8::1]:25"},
		// What came by no diverted connection goes to the domain's exchangers.
		{"198.51.100.7:4", "out.example", "192.0.2.9:25"},
		{"198.51.100.7:4", "", ""}, // by the same session
	} {
		if got := briefs(tr.Deliver(t.Context(), meant(t, c[0], c[1]))); got != "delivered eod 250" {
			t.Errorf("%s for %s: %s", c[0], c[1], got)
		}
		if got := n.dialed(); got != c[2] {
			t.Errorf("%s for %s: dialled %q", c[0], c[1], got)
		}
	}
	want := "198.51.100.7 to 192.0.2.1:25, 198.51.100.7 to 192.0.2.1:587, 198.51.100.8 to 192.0.2.1:25, 2001:db8::7 to [2001:db8::1]:25"
	if got := strings.Join(spoofed, ", "); got != want {
		t.Errorf("in the names of %s", got)
	}
	// A session in the name of a client is used again for him, and for nobody else.
	tr.Deliver(t.Context(), meant(t, "198.51.100.8:9", "192.0.2.1:25"))
	tr.Deliver(t.Context(), meant(t, "198.51.100.9:9", "192.0.2.1:25"))
	if got := n.dialed(); got != "192.0.2.1:25" || len(spoofed) != 5 {
		t.Errorf("dialled %q, in the names of %q", got, spoofed)
	}
}

func TestMailThatWouldComeBackWaits(t *testing.T) {
	n := newNetwork(t)
	tr := n.original(Config{}, func(to netip.AddrPort) error { return errors.New("here is " + to.String()) }, nil)
	got := tr.Deliver(t.Context(), meant(t, "198.51.100.7:1", "192.0.2.1:25"))
	if briefs(got) != "deferred connect own 451" || got[0].Cause != "here is 192.0.2.1:25" || n.dialed() != "" {
		t.Errorf("%+v", got)
	}
	if got := briefs(tr.Deliver(t.Context(), meant(t, "198.51.100.7:1", "out.example"))); got != "deferred connect own 451" || n.dialed() != "192.0.2.9:25" {
		t.Errorf("by MX: %s", got)
	}
}

func TestPort465BeginsWithTLS(t *testing.T) {
	n := newNetwork(t)
	ln := memconn.Listen()
	n.hosts["192.0.2.1:465"] = ln
	cert := newAuthority(t).server(time.Now().Add(time.Hour), "x")
	sink := sinktest.Start(t, tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{cert}}), sinktest.Config{})
	for _, mode := range []TLSMode{TLSOpportunistic, TLSOff, TLSRequire} {
		tr := n.original(Config{TLS: mode}, nil, nil)
		got := tr.Deliver(t.Context(), meant(t, "198.51.100.7:1", "192.0.2.1:465"))
		if briefs(got) != "delivered eod 250" || !got[0].TLS.Active() || got[0].TLS.Verified {
			t.Errorf("%s: %+v", mode, got)
		}
	}
	if len(sink.Messages()) != 3 {
		t.Errorf("%d messages", len(sink.Messages()))
	}
}
