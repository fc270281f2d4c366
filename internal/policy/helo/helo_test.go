package helo

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"gatepost/internal/dns"
	"gatepost/internal/dns/dnstest"
	"gatepost/internal/mail"
	"gatepost/internal/policy"
)

type ours string

func (o ours) Ours(domain string) bool { return domain == string(o) }

func resolver(t *testing.T, s *dnstest.Server) *dns.Resolver {
	t.Helper()
	r, err := dns.New(dns.Config{Servers: []string{s.Addr()}, HostsFile: "/dev/null", Timeout: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func input(client, helo string) *policy.Input {
	return &policy.Input{Stage: policy.Recipient, Envelope: &mail.Envelope{}, Session: &mail.Session{
		Client: netip.AddrPortFrom(netip.MustParseAddr(client), 4711),
		Local:  netip.MustParseAddrPort("198.51.100.9:25"), Helo: helo}}
}

func TestWhatANameSays(t *testing.T) {
	server := dnstest.Start(t, `
		mail.example.org. IN A 203.0.113.1
		six.example.org.  IN AAAA 2001:db8::1
		mx.example.net.   IN MX 10 mail.example.org.
		null.example.net. IN MX 0 .
		txt.example.net.  IN TXT "x"
		two.example.net.  IN MX 10 a.example.net.
	`)
	server.Script("down.example.org", "*", dnstest.Behaviour{Rcode: "SERVFAIL"})
	server.Script("half.example.org", "MX", dnstest.Behaviour{Rcode: "SERVFAIL"})
	server.Add(t, `half.example.org. IN TXT "x"`)
	h, err := New(Config{Resolver: resolver(t, server), Names: []string{"GW.example.com"},
		Addresses: []netip.Addr{netip.MustParseAddr("198.51.100.8")}, Domains: ours("example.com")})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, client, helo, want string }{
		{"a host with an address", "192.0.2.7", "Mail.Example.ORG", ""},
		{"a host with an IPv6 address", "192.0.2.7", "six.example.org", ""},
		{"a domain with mail", "192.0.2.7", "mx.example.net", ""},
		{"a domain that takes no mail", "192.0.2.7", "null.example.net", SymbolUnresolvable},
		{"a name with something else", "192.0.2.7", "txt.example.net", SymbolUnresolvable},
		{"a name that does not exist", "192.0.2.7", "nowhere.example.org", SymbolUnresolvable},
		{"an outage", "192.0.2.7", "down.example.org", SymbolLookup},
		{"an outage of the second look", "192.0.2.7", "half.example.org", SymbolLookup},
		{"its own address", "192.0.2.7", "[192.0.2.7]", ""},
		{"its own address, mapped", "::ffff:192.0.2.7", "[192.0.2.7]", ""},
		{"its own IPv6 address", "2001:db8::7", "[IPv6:2001:DB8:0::7]", ""},
		{"another address", "192.0.2.7", "[192.0.2.8]", SymbolLiteral},
		{"our address", "192.0.2.7", "[198.51.100.8]", SymbolOwnAddress},
		{"the address it connected to", "192.0.2.7", "198.51.100.9", SymbolOwnAddress},
		{"an address without brackets", "192.0.2.7", "192.0.2.7", SymbolBareAddress},
		{"an IPv6 address without tag", "2001:db8::7", "[2001:db8::7]", SymbolBareAddress},
		{"another address without brackets", "192.0.2.7", "192.0.2.8", SymbolLiteral},
		{"our name", "192.0.2.7", "gw.EXAMPLE.com", SymbolOwnName},
		{"our domain", "192.0.2.7", "example.com", SymbolOwnName},
		{"no domain", "192.0.2.7", "friend", SymbolUnqualified},
		{"localhost", "192.0.2.7", "localhost", SymbolLocalhost},
		{"below localhost", "192.0.2.7", "mail.localhost", SymbolLocalhost},
		{"localhost.localdomain", "192.0.2.7", "localhost.localdomain", SymbolLocalhost},
		{"localhost itself", "127.0.0.1", "localhost", ""},
		{"nonsense", "192.0.2.7", "?", SymbolSyntax},
		{"two dots", "192.0.2.7", "a..b", SymbolSyntax},
		{"half a literal", "192.0.2.7", "[192.0.2.7", SymbolSyntax},
		{"no HELO", "192.0.2.7", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			findings, err := h.Check(t.Context(), input(c.client, c.helo))
			if err != nil {
				t.Fatal(err)
			}
			if c.want == "" && len(findings) == 0 {
				return
			}
			if len(findings) != 1 || findings[0].Symbol != c.want || findings[0].Module != Name || findings[0].Reason == "" {
				t.Fatalf("got %+v, want %q", findings, c.want)
			}
			f := findings[0]
			if wantResult := map[bool]mail.Result{true: mail.Unknown, false: mail.Match}[c.want == SymbolLookup]; f.Result != wantResult || f.Score != DefaultScores()[c.want] {
				t.Errorf("got %+v", f)
			}
		})
	}
}

func TestClientsThatMayRelayAreSpared(t *testing.T) {
	h, err := New(Config{Names: []string{"gw.example.com"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range []func(*mail.Session){func(s *mail.Session) { s.Trusted = true }, func(s *mail.Session) { s.User = "bob" }} {
		in := input("192.0.2.7", "gw.example.com")
		change(in.Session)
		if f, err := h.Check(t.Context(), in); f != nil || err != nil {
			t.Errorf("got %+v, %v", f, err)
		}
	}
	if f, err := h.Check(t.Context(), input("192.0.2.7", "nowhere.invalid")); f != nil || err != nil {
		t.Errorf("without a resolver: %+v, %v", f, err)
	}
}

func TestScoresAreConfigured(t *testing.T) {
	h, err := New(Config{Scores: map[string]float64{SymbolUnqualified: 7}})
	if err != nil {
		t.Fatal(err)
	}
	if f, err := h.Check(t.Context(), input("192.0.2.7", "friend")); err != nil || len(f) != 1 || f[0].Score != 7 {
		t.Errorf("got %+v, %v", f, err)
	}
	for want, c := range map[string]Config{
		`no symbol "helo"`:       {Scores: map[string]float64{"helo": 1}},
		`timeout is -1s`:         {Timeout: -time.Second},
		`"a b" is no host name`:  {Names: []string{"a b"}},
		`"x..y" is no host name`: {Names: []string{"x..y"}},
	} {
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestASlowNameServiceIsUnknown(t *testing.T) {
	server := dnstest.Start(t, "")
	server.Script("*", "*", dnstest.Behaviour{Drop: true})
	h, err := New(Config{Resolver: resolver(t, server), Timeout: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	f, err := h.Check(t.Context(), input("192.0.2.7", "mail.example.org"))
	if err != nil || len(f) != 1 || f[0].Result != mail.Unknown {
		t.Errorf("got %+v, %v", f, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Check(ctx, input("192.0.2.7", "mail.example.org")); !errors.Is(err, context.Canceled) {
		t.Errorf("a session that ends: %v", err)
	}
	// Who asks gives the block its own time, or less: that is the name service's fault.
	ctx, cancel = context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if f, err := h.Check(ctx, input("192.0.2.7", "mail.example.org")); err != nil || len(f) != 1 || f[0].Symbol != SymbolLookup {
		t.Errorf("a block that runs out of time: %+v, %v", f, err)
	}
}

func FuzzHelo(f *testing.F) {
	for _, s := range []string{"mail.example.org", "[192.0.2.1]", "[IPv6:::1]", "[::1", "1.2.3.4", "localhost", "\x00", "é.example", "["} {
		f.Add(s)
	}
	h, err := New(Config{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, s string) {
		findings, err := h.Check(t.Context(), input("192.0.2.7", s))
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range findings {
			if x.Symbol == "" || strings.ContainsAny(x.Reason+x.Name, "\r\n\x00") {
				t.Errorf("%q: %+v", s, x)
			}
		}
	})
}
