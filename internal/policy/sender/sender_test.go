package sender

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
	"gatepost/internal/smtp"
)

type ours string

func (o ours) Ours(domain string) bool { return domain == string(o) }

func input(t *testing.T, client, sender string) *policy.Input {
	t.Helper()
	e := &mail.Envelope{}
	if sender != "<>" {
		a, err := smtp.ParseAddress(sender)
		if err != nil {
			t.Fatal(err)
		}
		e.Sender = a
	}
	return &policy.Input{Stage: policy.Recipient, Envelope: e,
		Session: &mail.Session{Client: netip.AddrPortFrom(netip.MustParseAddr(client), 4711)}}
}

func resolver(t *testing.T, s *dnstest.Server) *dns.Resolver {
	t.Helper()
	r, err := dns.New(dns.Config{Servers: []string{s.Addr()}, HostsFile: "/dev/null", Timeout: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

const zone = `
	good.example.     IN MX 10 mx.good.example.
	mx.good.example.  IN A 203.0.113.1
	six.example.      IN AAAA 2001:db9::1
	alone.example.    IN A 203.0.113.1
	text.example.     IN TXT "x"
	null.example.     IN MX 0 .
	loop.example.     IN MX 10 mx.loop.example.
	mx.loop.example.  IN A 127.0.0.1
	local.example.    IN MX 10 localhost.
	priv.example.     IN MX 10 mx.priv.example.
	mx.priv.example.  IN A 10.1.2.3
	cgn.example.      IN MX 10 mx.cgn.example.
	mx.cgn.example.   IN A 100.64.1.1
	used.example.     IN A 192.168.7.1
	zero.example.     IN MX 10 mx.zero.example.
	mx.zero.example.  IN A 0.0.0.0
	ip.example.       IN MX 10 203.0.113.1.
	dead.example.     IN MX 10 mx.dead.example.
	mixed.example.    IN MX 10 mx.loop.example.
	mixed.example.    IN MX 20 mx.dead.example.
	mixed.example.    IN MX 30 mx.good.example.
	half.example.     IN MX 10 mx.loop.example.
	half.example.     IN MX 20 mx.down.example.
	many.example.     IN MX 1 a.loop.example.
	many.example.     IN MX 2 b.loop.example.
	many.example.     IN MX 3 c.loop.example.
	many.example.     IN MX 4 d.loop.example.
	many.example.     IN MX 5 e.loop.example.
	many.example.     IN MX 6 mx.good.example.
`

func TestTheDomainOfASender(t *testing.T) {
	server := dnstest.Start(t, zone)
	for _, name := range []string{"down.example", "mx.down.example"} {
		server.Script(name, "*", dnstest.Behaviour{Rcode: "SERVFAIL"})
	}
	d, err := NewDomain(DomainConfig{Resolver: resolver(t, server), Private: []netip.Prefix{netip.MustParsePrefix("192.168.7.0/24")}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, sender, want string }{
		{"the null sender", "<>", ""},
		{"a mail exchanger", "a@good.example", ""},
		{"an address", "a@alone.example", ""},
		{"an IPv6 address", "a@six.example", ""},
		{"a domain that does not exist", "a@nowhere.example", SymbolNonexistent},
		{"a domain with something else", "a@text.example", SymbolNoHost},
		{"an exchanger that does not exist", "a@dead.example", SymbolNoHost},
		{"a null MX", "a@null.example", SymbolNullMX},
		{"an exchanger on loopback", "a@loop.example", SymbolBogusMX},
		{"an exchanger called localhost", "a@local.example", SymbolBogusMX},
		{"an exchanger in a private network", "a@priv.example", SymbolBogusMX},
		{"an exchanger behind a provider", "a@cgn.example", SymbolBogusMX},
		{"an exchanger in a network that is used here", "a@used.example", ""},
		{"an address as exchanger", "a@ip.example", SymbolBogusMX},
		{"one good exchanger among bad ones", "a@mixed.example", ""},
		{"an outage", "a@down.example", SymbolLookup},
		{"an outage of one exchanger", "a@half.example", SymbolLookup},
		{"more exchangers than are looked at", "a@many.example", SymbolLookup},
		{"a literal", "a@[192.0.2.1]", SymbolLiteral},
	} {
		t.Run(c.name, func(t *testing.T) {
			findings, err := d.Check(t.Context(), input(t, "192.0.2.7", c.sender))
			if err != nil {
				t.Fatal(err)
			}
			if c.want == "" && len(findings) == 0 {
				return
			}
			if len(findings) != 1 || findings[0].Symbol != c.want || findings[0].Module != DomainName || findings[0].Reason == "" {
				t.Fatalf("got %+v, want %q", findings, c.want)
			}
			result := mail.Match
			if c.want == SymbolLookup {
				result = mail.Unknown
			}
			if f := findings[0]; f.Result != result || f.Score != DefaultScores()[c.want] {
				t.Errorf("got %+v", f)
			}
		})
	}
	if n := server.Count("mx.good.example", "A"); n != 1 {
		t.Errorf("the good exchanger was asked for %d times, want once for all senders", n)
	}
	if f, err := d.Check(t.Context(), input(t, "192.0.2.7", "a@zero.example")); err != nil || len(f) != 1 || f[0].Result == mail.Clean {
		t.Errorf("an address that is none: %+v, %v", f, err)
	}
}

func TestASenderDomainIsAskedForInBoundedTime(t *testing.T) {
	server := dnstest.Start(t, "")
	server.Script("*", "*", dnstest.Behaviour{Drop: true})
	d, err := NewDomain(DomainConfig{Resolver: resolver(t, server), Timeout: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	f, err := d.Check(t.Context(), input(t, "192.0.2.7", "a@good.example"))
	if err != nil || len(f) != 1 || f[0].Result != mail.Unknown {
		t.Errorf("got %+v, %v", f, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Check(ctx, input(t, "192.0.2.7", "a@good.example")); !errors.Is(err, context.Canceled) {
		t.Errorf("a session that ends: %v", err)
	}
	// Who asks gives the block its own time, or less: that is the name service's fault.
	ctx, cancel = context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if f, err := d.Check(ctx, input(t, "192.0.2.7", "a@good.example")); err != nil || len(f) != 1 || f[0].Symbol != SymbolLookup {
		t.Errorf("a block that runs out of time: %+v, %v", f, err)
	}
}

func TestSendersOfOursFromStrangers(t *testing.T) { // REL-04
	domains := ours("in.example")
	plain, err := NewSpoof(SpoofConfig{Domains: domains, Except: []string{"192.0.2.64/26", "2001:db8::7", "News@in.example"}})
	if err != nil {
		t.Fatal(err)
	}
	strict, err := NewSpoof(SpoofConfig{Domains: domains, Strict: true, Score: 2})
	if err != nil {
		t.Fatal(err)
	}
	all, err := NewSpoof(SpoofConfig{Domains: domains, Except: []string{"in.example"}})
	if err != nil {
		t.Fatal(err)
	}
	spf := func(s *mail.Session) {
		s.Findings = []mail.Finding{{Module: "authres", Symbol: "spf:pass", Name: "in.example"}}
	}
	for _, c := range []struct {
		name           string
		check          *Spoof
		client, sender string
		change         func(*mail.Session)
		score          float64
	}{
		{"a stranger", plain, "198.51.100.1", "ceo@in.example", nil, 5},
		{"a stranger in capitals", plain, "198.51.100.1", "ceo@IN.Example", nil, 5},
		{"another domain", plain, "198.51.100.1", "ceo@out.example", nil, 0},
		{"the null sender", plain, "198.51.100.1", "<>", nil, 0},
		{"a user", plain, "198.51.100.1", "ceo@in.example", func(s *mail.Session) { s.User = "ceo" }, 0},
		{"a trusted client", plain, "198.51.100.1", "ceo@in.example", func(s *mail.Session) { s.Trusted = true }, 0},
		{"a network that may", plain, "192.0.2.65", "ceo@in.example", nil, 0},
		{"its neighbour", plain, "192.0.2.1", "ceo@in.example", nil, 5},
		{"an address that may", plain, "2001:db8::7", "ceo@in.example", nil, 0},
		{"a sender that may", plain, "198.51.100.1", "news@in.example", nil, 0},
		{"a domain that may", all, "198.51.100.1", "ceo@in.example", nil, 0},
		{"SPF allows it", plain, "198.51.100.1", "ceo@in.example", spf, 0},
		{"SPF is not enough", strict, "198.51.100.1", "ceo@in.example", spf, 2},
	} {
		in := input(t, c.client, c.sender)
		if c.change != nil {
			c.change(in.Session)
		}
		f, err := c.check.Check(t.Context(), in)
		score := 0.0
		if len(f) > 0 {
			score = f[0].Score
			if f[0].Result != mail.Match || f[0].Module != SpoofName || f[0].Symbol != SymbolSpoof {
				t.Errorf("%s: %+v", c.name, f)
			}
		}
		if err != nil || score != c.score {
			t.Errorf("%s: %+v, %v, want %g", c.name, f, err, c.score)
		}
	}
}

func TestConfigsThatCannotBeMeant(t *testing.T) {
	r := &dns.Resolver{}
	for want, c := range map[string]DomainConfig{
		"it needs a resolver": {},
		"timeout is -1s":      {Resolver: r, Timeout: -time.Second},
		"max_hosts is -1":     {Resolver: r, MaxHosts: -1},
		`no symbol "x"`:       {Resolver: r, Scores: map[string]float64{"x": 1}},
	} {
		if _, err := NewDomain(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	for want, c := range map[string]SpoofConfig{
		"it needs to know": {},
		`except: "a b"`:    {Domains: ours(""), Except: []string{"a b"}},
		`except: "com"`:    {Domains: ours(""), Except: []string{"com"}},
	} {
		if _, err := NewSpoof(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestRepliesSayWhatIsWrong(t *testing.T) {
	for symbol, want := range map[string]string{SymbolNullMX: "5.7.27", SymbolNonexistent: "5.1.8", SymbolNoHost: "5.1.8"} {
		if got := DomainReply(symbol).Reply(); got.Enhanced != want || got.Code != 550 {
			t.Errorf("%s: %v", symbol, got)
		}
	}
}
