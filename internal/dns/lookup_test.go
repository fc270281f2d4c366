package dns

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"gatepost/internal/dns/dnstest"
)

func compareAddrs() cmp.Option { return cmpopts.EquateComparable(netip.Addr{}) }

// DUR-25.
func TestOutcomesOfAnMXLookup(t *testing.T) {
	const zone = `
		good.example.     300 IN MX 20 mx2.good.example.
		good.example.     300 IN MX 10 MX1.Good.Example.
		implicit.example. 300 IN A 192.0.2.1
		null.example.     300 IN MX 0 .
		alias.example.    300 IN CNAME good.example.
		chain1.example.   300 IN CNAME chain2.example.
		chain2.example.   300 IN CNAME alias.example.
		dangling.example. 300 IN CNAME nothing.example.
		aliasof.example.  300 IN CNAME implicit.example.
		loop1.example.    300 IN CNAME loop2.example.
		loop2.example.    300 IN CNAME loop1.example.
	`
	good := []MX{{Host: "mx1.good.example", Pref: 10}, {Host: "mx2.good.example", Pref: 20}}
	tests := []struct {
		name, domain string
		script       *dnstest.Behaviour
		want         []MX
		fails        Error // the kind
	}{
		{name: "records by preference", domain: "good.example", want: good},
		{name: "another spelling of the name", domain: "GOOD.Example.", want: good},
		{name: "no MX record", domain: "implicit.example", want: []MX{{Host: "implicit.example", Implicit: true}}},
		{name: "null MX", domain: "null.example", want: []MX{{Host: "."}}},
		{name: "an alias", domain: "alias.example", want: good},
		{name: "a chain of aliases", domain: "chain1.example", want: good},
		{name: "an alias of a name without MX", domain: "aliasof.example", want: []MX{{Host: "aliasof.example", Implicit: true}}},
		{name: "an alias of nothing", domain: "dangling.example", fails: Error{NXDomain: true, Rcode: "NXDOMAIN"}},
		{name: "aliases in a circle", domain: "loop1.example", fails: Error{}},
		{name: "no such name", domain: "nothing.example", fails: Error{NXDomain: true, Rcode: "NXDOMAIN"}},
		{name: "SERVFAIL", domain: "good.example", script: &dnstest.Behaviour{Rcode: "SERVFAIL"}, fails: Error{Temporary: true, Rcode: "SERVFAIL"}},
		{name: "REFUSED", domain: "good.example", script: &dnstest.Behaviour{Rcode: "REFUSED"}, fails: Error{Temporary: true, Rcode: "REFUSED"}},
		{name: "no answer", domain: "good.example", script: &dnstest.Behaviour{Drop: true}, fails: Error{Temporary: true}},
		{name: "truncated", domain: "good.example", script: &dnstest.Behaviour{Truncate: true}, want: good},
		{name: "truncated, and TCP fails", domain: "good.example", script: &dnstest.Behaviour{Truncate: true, CloseTCP: true}, fails: Error{Temporary: true}},
		{name: "SERVFAIL once", domain: "good.example", script: &dnstest.Behaviour{Rcode: "SERVFAIL", Times: 1}, want: good},
		{name: "no answer once", domain: "good.example", script: &dnstest.Behaviour{Drop: true, Times: 1}, want: good},
		{name: "a server that knows no EDNS", domain: "good.example", script: &dnstest.Behaviour{Rcode: "FORMERR", Times: 1}, want: good},
		{name: "a name that is none", domain: "a..example", fails: Error{NXDomain: true}},
		{name: "a name with a space", domain: "a b.example", fails: Error{NXDomain: true}},
		{name: "a name with an escape", domain: `a\.b.example`, fails: Error{NXDomain: true}},
		{name: "a name that is too long", domain: strings.Repeat("a.", 127) + "example", fails: Error{NXDomain: true}},
		{name: "no name", domain: "", fails: Error{NXDomain: true}},
		{name: "an address literal", domain: "[192.0.2.7]", want: []MX{{Host: "192.0.2.7", Implicit: true}}},
		{name: "an IPv6 literal", domain: "[IPv6:2001:db8::7]", want: []MX{{Host: "2001:db8::7", Implicit: true}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := dnstest.Start(t, zone)
			r := newTest(t, Config{Servers: []string{s.Addr()}, Timeout: 500 * time.Millisecond})
			if tt.script != nil {
				s.Script(tt.domain, "MX", *tt.script)
			}
			got, err := r.MX(t.Context(), tt.domain)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("records (-want +got):\n%s (error %v)", diff, err)
			}
			if tt.want != nil {
				if err != nil {
					t.Error(err)
				}
				return
			}
			e := asError(t, err)
			if e.Temporary != tt.fails.Temporary || e.NXDomain != tt.fails.NXDomain || e.NoData != tt.fails.NoData || e.Rcode != tt.fails.Rcode {
				t.Errorf("got %+v, want the kind of %+v", e, tt.fails)
			}
			if e.Type != "MX" || e.Name != strings.ToLower(strings.TrimSuffix(tt.domain, ".")) {
				t.Errorf("the error is about %s of %q", e.Type, e.Name)
			}
		})
	}
}

func TestNullMX(t *testing.T) {
	if !(MX{Host: "."}).Null() || (MX{Host: "a."}).Null() {
		t.Error("Null is wrong")
	}
}

func TestMXNamesThatNoHostCanHaveAreLeftOut(t *testing.T) {
	r, _ := start(t, `
		mixed.example. IN MX 10 192.0.2.1.
		mixed.example. IN MX 20 a\032b.example.
		mixed.example. IN MX 30 .
		mixed.example. IN MX 40 good.example.
		mixed.example. IN MX 50 a\.b.example.
		mixed.example. IN MX 60 \013\010rcpt.example.
		none.example.  IN MX 10 192.0.2.1.
		none.example.  IN MX 20 x\000y.example.
	`)
	got, err := r.MX(t.Context(), "mixed.example")
	if diff := cmp.Diff([]MX{{Host: "good.example", Pref: 40}}, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	_, err = r.MX(t.Context(), "none.example")
	if e := asError(t, err); e.Temporary || e.NotFound() {
		t.Errorf("a domain whose exchangers are unusable: %+v", e)
	}
}

func TestAddrs(t *testing.T) {
	r, s := start(t, `
		both.example.   IN A    192.0.2.1
		both.example.   IN A    192.0.2.2
		both.example.   IN AAAA 2001:db8::1
		four.example.   IN A    192.0.2.4
		six.example.    IN AAAA 2001:db8::6
		alias.example.  IN CNAME both.example.
		mapped.example. IN AAAA ::ffff:192.0.2.9
		bad.example.    IN A    0.0.0.0
		bad.example.    IN A    255.255.255.255
		bad.example.    IN A    224.0.0.1
		bad.example.    IN AAAA ::
		half.example.   IN A    192.0.2.5
		text.example.   IN TXT  "no address"
		broken.example. IN TXT  "no address"
	`)
	s.Script("half.example", "AAAA", dnstest.Behaviour{Rcode: "SERVFAIL"})
	s.Script("broken.example", "AAAA", dnstest.Behaviour{Rcode: "SERVFAIL"})
	tests := []struct {
		host  string
		want  []netip.Addr
		fails Error
	}{
		{host: "both.example", want: addrs("192.0.2.1", "192.0.2.2", "2001:db8::1")},
		{host: "BOTH.example.", want: addrs("192.0.2.1", "192.0.2.2", "2001:db8::1")},
		{host: "four.example", want: addrs("192.0.2.4")},
		{host: "six.example", want: addrs("2001:db8::6")},
		{host: "alias.example", want: addrs("192.0.2.1", "192.0.2.2", "2001:db8::1")},
		{host: "mapped.example", want: addrs("192.0.2.9")},
		{host: "half.example", want: addrs("192.0.2.5")},
		{host: "bad.example", fails: Error{}},
		{host: "text.example", fails: Error{NoData: true}},
		{host: "broken.example", fails: Error{Temporary: true}},
		{host: "nothing.example", fails: Error{NXDomain: true}},
		{host: "localhost", want: addrs("127.0.0.1", "::1")},
		{host: "x.LOCALHOST.", want: addrs("127.0.0.1", "::1")},
		{host: "192.0.2.77", want: addrs("192.0.2.77")},
		{host: "[192.0.2.77]", want: addrs("192.0.2.77")},
		{host: "[IPv6:2001:db8::77]", want: addrs("2001:db8::77")},
		{host: "::ffff:192.0.2.77", want: addrs("192.0.2.77")},
		{host: "[192.0.2.77", fails: Error{NXDomain: true}},
	}
	for _, tt := range tests {
		t.Run(tt.host, func(t *testing.T) {
			got, err := r.Addrs(t.Context(), tt.host)
			if diff := cmp.Diff(tt.want, got, compareAddrs()); diff != "" {
				t.Errorf("(-want +got):\n%s (error %v)", diff, err)
			}
			if tt.want != nil {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if e := asError(t, err); e.Temporary != tt.fails.Temporary || e.NXDomain != tt.fails.NXDomain || e.NoData != tt.fails.NoData {
				t.Errorf("got %+v, want the kind of %+v", e, tt.fails)
			}
		})
	}
	for _, host := range []string{"localhost", "192.0.2.77", "2001:db8::77"} {
		if s.Count(host, "A") > 0 {
			t.Errorf("%s was asked for", host)
		}
	}
}

func TestTheHostsFileComesFirst(t *testing.T) {
	file := filepath.Join(t.TempDir(), "hosts")
	text := "# comment\n192.0.2.1 Exchange exchange.example # more\n2001:db8::1\texchange\nnonsense line\n\n192.0.2.9\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s := dnstest.Start(t, "exchange.example. IN A 198.51.100.1\nother.example. IN A 198.51.100.2")
	r := newTest(t, Config{Servers: []string{s.Addr()}, HostsFile: file})
	for host, want := range map[string][]netip.Addr{
		"exchange":         addrs("192.0.2.1", "2001:db8::1"),
		"EXCHANGE.example": addrs("192.0.2.1"),
		"other.example":    addrs("198.51.100.2"),
	} {
		got, err := r.Addrs(t.Context(), host)
		if diff := cmp.Diff(want, got, compareAddrs()); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", host, err, diff)
		}
		if len(got) > 0 {
			got[0] = netip.Addr{} // the caller's copy
		}
	}
	again, err := r.Addrs(t.Context(), "exchange")
	if err != nil || !again[0].IsValid() {
		t.Errorf("a caller changed the hosts: %v, %v", again, err)
	}
	// Servers of a lookup's own are asked about everything.
	got, err := r.WithLookup("", []string{s.Addr()}).Addrs(t.Context(), "exchange.example")
	if diff := cmp.Diff(addrs("198.51.100.1"), got, compareAddrs()); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
}

func TestIPv4AsksForNothingElse(t *testing.T) {
	s := dnstest.Start(t, `
		listed.list.example. 300 IN A 127.0.1.2
		listed.list.example. 300 IN AAAA ::1
		listed.list.example. 300 IN A 127.255.255.254
	`)
	s.Script("broken.list.example", "A", dnstest.Behaviour{Rcode: "SERVFAIL"})
	r, err := New(Config{Servers: []string{s.Addr()}, HostsFile: os.DevNull})
	if err != nil {
		t.Fatal(err)
	}
	got, err := r.IPv4(t.Context(), "Listed.list.example")
	slices.SortFunc(got, netip.Addr.Compare)
	if want := []netip.Addr{netip.MustParseAddr("127.0.1.2"), netip.MustParseAddr("127.255.255.254")}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := r.IPv4(t.Context(), "clean.list.example"); !IsNotFound(err) {
		t.Errorf("got %v", err)
	}
	if _, err := r.IPv4(t.Context(), "broken.list.example"); !IsTemporary(err) {
		t.Errorf("got %v", err)
	}
	for _, q := range s.Queries() {
		if q.Type != "A" {
			t.Errorf("asked for %+v", q)
		}
	}
}

func TestTXT(t *testing.T) {
	r, _ := start(t, `
		text.example. IN TXT "v=spf1 " "-all"
		text.example. IN TXT "quote \" backslash \\ byte \228 tab \009"
	`)
	got, err := r.TXT(t.Context(), "text.example")
	slices.Sort(got)
	want := []string{"quote \" backslash \\ byte \xe4 tab \t", "v=spf1 -all"}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	if _, err := r.TXT(t.Context(), "none.example"); !IsNotFound(err) {
		t.Errorf("got %v", err)
	}
}

func TestPTR(t *testing.T) {
	r, s := start(t, `
		1.2.0.192.in-addr.arpa. IN PTR Mail.Example.
		1.2.0.192.in-addr.arpa. IN PTR a\013\010b.example.
		2.2.0.192.in-addr.arpa. IN PTR <script>.example.
		1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. IN PTR six.example.
	`)
	for addr, want := range map[string]string{"192.0.2.1": "mail.example", "::ffff:192.0.2.1": "mail.example", "2001:db8::1": "six.example"} {
		got, err := r.PTR(t.Context(), netip.MustParseAddr(addr))
		if err != nil || len(got) != 1 || got[0] != want {
			t.Errorf("%s: got %q, %v, want %q", addr, got, err, want)
		}
	}
	_, err := r.PTR(t.Context(), netip.MustParseAddr("192.0.2.2"))
	if e := asError(t, err); e.Temporary || e.NotFound() {
		t.Errorf("a name that no host can have: %v", err)
	}
	_, err = r.PTR(t.Context(), netip.MustParseAddr("192.0.2.3"))
	if !asError(t, err).NXDomain {
		t.Errorf("no name: %v", err)
	}
	_, err = r.PTR(t.Context(), netip.Addr{})
	if !asError(t, err).NXDomain || s.Count("", "PTR") > 0 {
		t.Errorf("no address: %v", err)
	}
}

func TestTLSAAndAuthenticity(t *testing.T) {
	const zone = `
		_25._tcp.mx.example. IN TLSA 3 1 1 00ff10
		example. IN MX 10 mx.example.
		mx.example. IN A 192.0.2.1
		mx.example. IN AAAA 2001:db8::1
		cname.example. IN CNAME mx.example.
	`
	want := []TLSA{{Usage: 3, Selector: 1, Matching: 1, Data: []byte{0, 0xff, 0x10}}}
	for _, authentic := range []bool{true, false} {
		r, s := start(t, zone)
		s.Script("*", "*", dnstest.Behaviour{Authentic: authentic})
		got, secure, err := r.TLSA(t.Context(), "_25._tcp.mx.example")
		if diff := cmp.Diff(want, got); diff != "" || err != nil || secure != authentic {
			t.Errorf("TLSA: authentic %v, %v\n%s", secure, err, diff)
		}
		_, secure, err = r.TLSA(t.Context(), "_26._tcp.mx.example")
		if secure != authentic || !asError(t, err).NXDomain {
			t.Errorf("no TLSA: authentic %v, %v", secure, err)
		}
		if _, secure, err = r.MXSecure(t.Context(), "example"); secure != authentic || err != nil {
			t.Errorf("MX: authentic %v, %v", secure, err)
		}
		if _, secure, err = r.AddrsSecure(t.Context(), "cname.example"); secure != authentic || err != nil {
			t.Errorf("addresses: authentic %v, %v", secure, err)
		}
	}
}

func TestOneInsecurePartMakesAddressesInsecure(t *testing.T) {
	r, s := start(t, "mx.example. IN A 192.0.2.1\nmx.example. IN AAAA 2001:db8::1")
	s.Script("mx.example", "A", dnstest.Behaviour{Authentic: true})
	if _, secure, err := r.AddrsSecure(t.Context(), "mx.example"); secure || err != nil {
		t.Errorf("authentic %v, %v", secure, err)
	}
}

func TestTheADBitOfAServerFromResolvConfCountsOnlyOnLoopback(t *testing.T) {
	file := filepath.Join(t.TempDir(), "resolv.conf")
	for text, want := range map[string][]server{
		"nameserver 127.0.0.1\nnameserver ::1\n":     {{netip.MustParseAddrPort("127.0.0.1:53"), true}, {netip.MustParseAddrPort("[::1]:53"), true}},
		"nameserver 192.0.2.1\nsearch example.org\n": {{netip.MustParseAddrPort("192.0.2.1:53"), false}},
		"nameserver nonsense\n":                      {{netip.MustParseAddrPort("127.0.0.1:53"), true}},
		"":                                           {{netip.MustParseAddrPort("127.0.0.1:53"), true}},
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := systemServers(Config{ResolvConf: file})
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: got %v, %v, want %v", text, got, err, want)
		}
	}
	got, err := systemServers(Config{ResolvConf: filepath.Join(t.TempDir(), "none")})
	if err != nil || len(got) != 1 || !got[0].trusted {
		t.Errorf("no file: got %v, %v", got, err)
	}
}

func TestWithLookup(t *testing.T) {
	general, s := start(t, `
		example.org.              IN MX 10 public.example.org.
		example.org.zone.test.    IN MX 10 inside.example.net.
		example.org.zone.test.    IN MX 20 named.zone.test.
		plain.example.zone.test.  IN A  192.0.2.1
		inside.example.net.       IN A  192.0.2.2
		both.example.net.         IN A  192.0.2.3
		both.example.net.zone.test. IN A 192.0.2.4
		named.zone.test.          IN A  192.0.2.5
	`)
	r := general.WithLookup("Zone.Test.", nil)
	got, err := r.MX(t.Context(), "example.org")
	want := []MX{{Host: "inside.example.net", Pref: 10}, {Host: "named.zone.test", Pref: 20}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	got, err = r.MX(t.Context(), "plain.example")
	if diff := cmp.Diff([]MX{{Host: "plain.example.zone.test", Implicit: true}}, got); diff != "" || err != nil {
		t.Errorf("implicit: %v\n%s", err, diff)
	}
	if _, err := r.MX(t.Context(), "public.example.org"); !asError(t, err).NXDomain {
		t.Errorf("a domain that the zone does not have: %v", err)
	}
	for host, want := range map[string]string{
		"plain.example.zone.test": "192.0.2.1", "inside.example.net": "192.0.2.2",
		"both.example.net": "192.0.2.4", "named.zone.test": "192.0.2.5",
	} {
		if got, err := r.Addrs(t.Context(), host); err != nil || !slices.Equal(got, addrs(want)) {
			t.Errorf("%s: got %v, %v, want %s", host, got, err, want)
		}
	}
	if n := s.Count("named.zone.test.zone.test", "A"); n > 0 {
		t.Error("the zone was appended twice")
	}
	if got, err := general.MX(t.Context(), "example.org"); err != nil || got[0].Host != "public.example.org" {
		t.Errorf("the general resolver changed: %v, %v", got, err)
	}
}

func TestWithLookupAsksItsOwnServers(t *testing.T) {
	general, s := start(t, "example.org. IN MX 10 public.example.org.")
	other := dnstest.Start(t, "example.org. IN MX 10 private.example.org.")
	r := general.WithLookup("", []string{other.Addr()})
	for range 2 {
		for r, want := range map[*Resolver]string{general: "public.example.org", r: "private.example.org"} {
			if got, err := r.MX(t.Context(), "example.org"); err != nil || got[0].Host != want {
				t.Errorf("got %v, %v, want %s", got, err, want)
			}
		}
	}
	if s.Count("example.org", "MX") != 1 || other.Count("example.org", "MX") != 1 {
		t.Error("an answer was not cached")
	}
	_, err := general.WithLookup("", []string{"not an address"}).MX(t.Context(), "example.org")
	if e := asError(t, err); !e.Temporary || !strings.Contains(err.Error(), `"not an address"`) {
		t.Errorf("a malformed server: %v", err)
	}
}

func TestParseServer(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1": "192.0.2.1:53", "192.0.2.1:5353": "192.0.2.1:5353",
		"2001:db8::1": "[2001:db8::1]:53", "[2001:db8::1]:5353": "[2001:db8::1]:5353",
		"": "", "ns.example": "", "192.0.2.1:0": "", "192.0.2.1:dns": "", "[2001:db8::1]": "", "192.0.2.1:65536": "",
	} {
		got, err := ParseServer(in)
		if want == "" {
			if err == nil {
				t.Errorf("%q is taken for %v", in, got)
			}
		} else if err != nil || got.String() != want {
			t.Errorf("%q: got %v, %v, want %s", in, got, err, want)
		}
	}
	if _, err := New(Config{Servers: []string{"ns.example"}}); err == nil {
		t.Error("New takes a server that is no address")
	}
}
