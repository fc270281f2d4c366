package callout

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/dns"
	"gatepost/internal/mail"
	"gatepost/internal/memconn"
	"gatepost/internal/smtpclient/sinktest"
)

// transports are the hops of transports by name.
type transports map[string][]Hop

func (tr transports) Target(_ context.Context, r mail.Route) ([]Hop, error) {
	if r.Transport == "broken" {
		return nil, errors.New("no such transport")
	}
	hops, ok := tr[r.Transport]
	if !ok {
		return nil, ErrNoCallout
	}
	return hops, nil
}

func TestRecipientsAreVerifiedAtTheirNextHop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		inside := w.host(t, "unused.example", "10.0.0.5", knows("550 5.7.1 restricted", "bob"))
		backup := w.host(t, "in.example", "10.0.0.6", knows(noUser, "bob"))
		lmtpListener := memconn.Listen()
		w.hosts["/run/lmtp"] = lmtpListener
		lmtp := sinktest.Start(t, lmtpListener, sinktest.Config{LMTP: true, Script: knows(noUser, "bob")})
		c := w.config()
		c.Own = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:25"), netip.MustParseAddrPort("[::]:2525")}
		unix := Hop{LMTP: true}
		unix.Network, unix.Address = "unix", "/run/lmtp"
		c.Targets = transports{
			"inside": {hop("10.0.0.5:25")}, "mx": nil, "lmtp": {unix}, "down": {hop("10.0.0.7:25")},
			"us": {hop("127.0.0.1:25")}, "us-too": {hop("[::1]:2525")}, "us-first": {hop("127.0.0.1:25"), hop("10.0.0.5:25")},
		}
		r, err := NewRecipient(c)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct{ name, transport, nextHop, recipient, want string }{
			{"taken", "inside", "", "bob@in.example", SymbolExists},
			{"refused, for whatever reason", "inside", "", "eve@in.example", SymbolRejected},
			{"by the exchangers of its domain", "mx", "", "bob@in.example", SymbolExists},
			{"by those of the next hop", "mx", "in.example", "eve@other.example", SymbolRejected},
			{"over LMTP", "lmtp", "", "eve@in.example", SymbolRejected},
			{"over LMTP, taken", "lmtp", "", "bob@in.example", SymbolExists},
			{"an outage", "down", "", "bob@in.example", SymbolUnavailable},
			{"a loop", "us", "", "bob@in.example", SymbolUnavailable},
			{"a loop on any address", "us-too", "", "bob@in.example", SymbolUnavailable},
			{"a loop that has a way out", "us-first", "", "bob@in.example", SymbolExists},
			{"nobody to ask", "maildir", "", "bob@in.example", ""},
		} {
			in := input(t, "x@out.example", c.recipient)
			in.Recipient.Route.Transport, in.Recipient.Route.NextHop = c.transport, c.nextHop
			in.Session.Trusted = true // makes no difference
			if f := expect(t, r, in, c.want); t.Failed() {
				t.Fatalf("%s: %+v", c.name, f)
			}
		}
		world := input(t, "x@out.example", "bob@out.example")
		world.Recipient.Route.Domain = "*"
		before := w.called()
		expect(t, r, world, "")
		broken := input(t, "x@out.example", "bob@in.example")
		broken.Recipient.Route.Transport = "broken"
		if _, err := r.Check(t.Context(), broken); err == nil || w.called() != before {
			t.Errorf("a transport that is not there: %v", err)
		}
		r.Close()
		for _, s := range []*sinktest.Server{inside, backup, lmtp} {
			s.Close()
		}
	})
}

func TestANextHopThatWantsALogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		server := w.server(t, "x.example", "10.0.0.5", sinktest.Config{Script: knows(noUser)})
		h := hop("10.0.0.5:25")
		h.RequireTLS, h.TLS = true, w.mxHop(t).TLS
		c := w.config()
		c.Targets = transports{"inside": {h}}
		r, err := NewRecipient(c)
		if err != nil {
			t.Fatal(err)
		}
		f := expect(t, r, input(t, "x@out.example", "eve@in.example"), SymbolUnavailable)
		if !strings.Contains(f.Reason, "STARTTLS") {
			t.Errorf("got %+v", f)
		}
		r.Close()
		server.Close()
	})
}

// mxHop is the hop that verify-sender makes of an exchanger.
func (w *world) mxHop(t *testing.T) Hop {
	t.Helper()
	s, err := NewSender(w.config())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	return s.exchanger(dns.MX{Host: "mx.example"}, netip.MustParseAddr("203.0.113.1"))
}

func TestConfigsThatCannotBeMeant(t *testing.T) {
	w := newWorld()
	for want, change := range map[string]func(*Config){
		`"" is no host name`:     func(c *Config) { c.Hostname = "" },
		"timeout is -1s":         func(c *Config) { c.Timeout = -time.Second },
		"negative_for is -1s":    func(c *Config) { c.NegativeFor = -time.Second },
		"per_target is -1":       func(c *Config) { c.PerTarget = -1 },
		"it needs a resolver":    func(c *Config) { c.Resolver = nil },
		"port 70000":             func(c *Config) { c.Port = 70000 },
		"domains that are ours":  func(c *Config) { c.Domains = nil },
		"know the transports":    func(c *Config) {},
		"max_hosts is -1":        func(c *Config) { c.MaxHosts = -1 },
		"cache_size is -1 and m": func(c *Config) { c.CacheSize = -1 },
	} {
		c := w.config()
		change(&c)
		_, err := NewSender(c)
		if err == nil {
			_, err = NewRecipient(c)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
