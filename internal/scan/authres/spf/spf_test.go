package spf

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/dns"
	"gatepost/internal/mail"
	"gatepost/internal/smtp"
)

const client = "192.0.2.1"

func address(t testing.TB, s string) mail.Address {
	t.Helper()
	if s == "" {
		return mail.Address{}
	}
	a, err := smtp.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func check(t testing.TB, z Resolver, sender string) Result {
	t.Helper()
	return New(Config{Resolver: z}).Check(t.Context(), Query{
		Client: netip.MustParseAddr(client), Helo: "helo.example", Sender: address(t, sender),
	})
}

func TestRecords(t *testing.T) {
	tests := []struct {
		name, record string
		want         Status
	}{
		{"an address", "v=spf1 ip4:192.0.2.1 -all", Pass},
		{"a network", "v=spf1 ip4:192.0.2.0/24 -all", Pass},
		{"another network", "v=spf1 ip4:198.51.100.0/24 -all", Fail},
		{"the softer end", "v=spf1 ~all", SoftFail},
		{"no word about it", "v=spf1 ip4:198.51.100.1", Neutral},
		{"names in any case", "V=SPF1 IP4:192.0.2.1 -ALL", Pass},
		{"several spaces", "v=spf1   ip4:192.0.2.1    -all  ", Pass},
		{"another version", "v=spf10 +all", None},
		{"an error behind the match", "v=spf1 ip4:192.0.2.1 ip4:boo -all", PermError},
		{"an unknown mechanism", "v=spf1 foo:bar +all", PermError},
		{"an unknown modifier", "v=spf1 foo=bar +all", Pass},
		{"a line end between terms", "v=spf1 ip4:198.51.100.1\n+all", PermError},
		{"a leading zero", "v=spf1 ip4:192.0.2.1/032 -all", PermError},
		{"a prefix that is too long", "v=spf1 a/33 -all", PermError},
		{"an address with a zone", "v=spf1 ip6:fe80::1%eth0 -all", PermError},
		{"a macro that is for explanations", "v=spf1 exists:%{c}.example -all", PermError},
		{"an open macro", "v=spf1 exists:%{d -all", PermError},
		{"two redirects", "v=spf1 redirect=a.example redirect=a.example", PermError},
		{"redirect behind all", "v=spf1 -all redirect=pass.example", Fail},
		{"redirect", "v=spf1 redirect=pass.example", Pass},
		{"redirect to nothing", "v=spf1 redirect=none.example", PermError},
		{"include", "v=spf1 include:pass.example -all", Pass},
		{"include of one that fails", "v=spf1 include:fail.example ~all", SoftFail},
		{"include of nothing", "v=spf1 include:none.example -all", PermError},
		{"include of an outage", "v=spf1 include:down.example -all", TempError},
		{"a host", "v=spf1 a:host.example -all", Pass},
		{"a host's network", "v=spf1 a:near.example/24 -all", Pass},
		{"exchangers", "v=spf1 mx:mx.example -all", Pass},
		{"no implicit exchanger", "v=spf1 mx:host.example -all", Fail},
		{"a null MX", "v=spf1 mx:null.example -all", Fail},
		{"exists", "v=spf1 exists:%{ir}.%{v}.%{l}.list.example -all", Pass},
		{"ptr", "v=spf1 ptr:names.example -all", Pass},
		{"ptr that only claims", "v=spf1 ptr:liar.example -all", Fail},
		{"the name of the client", "v=spf1 exists:%{p}.p.example -all", Pass},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			z := newZone(`
				pass.example TXT v=spf1 +all
				fail.example TXT v=spf1 -all
				down.example TIMEOUT
				host.example A 192.0.2.1
				near.example A 192.0.2.77
				mx.example MX host.example
				null.example MX .
				1.2.0.192.in-addr.joe.list.example A 127.0.0.2
				1.2.0.192.in-addr.arpa PTR Mail.Names.Example.
				1.2.0.192.in-addr.arpa PTR x.liar.example
				mail.names.example A 192.0.2.1
				x.liar.example A 192.0.2.2
				mail.names.example.p.example A 127.0.0.2
			`)
			z.records["a.example"] = []rr{{"TXT", tt.record}}
			if got := check(t, z, "joe@a.example"); got.Status != tt.want {
				t.Errorf("got %+v, want %s", got, tt.want)
			}
		})
	}
}

// AUT-04.
func TestLimits(t *testing.T) {
	var terms, exchangers, hosts strings.Builder
	for i := range 11 {
		fmt.Fprintf(&terms, " a:h%d.example", i)
		fmt.Fprintf(&hosts, "h%d.example A 198.51.100.1\n", i)
		fmt.Fprintf(&exchangers, "many.example MX h%d.example\n", i)
	}
	tests := []struct {
		name, zone string
		want       Status
		reason     string
	}{
		{"eleven terms", "a.example TXT v=spf1" + terms.String() + " -all\n" + hosts.String(), PermError, "more than 10 terms"},
		{"three void names", "a.example TXT v=spf1 a:x.example a:y.example a:z.example +all", PermError, "more than 2 names"},
		{"two void names", "a.example TXT v=spf1 a:x.example a:y.example +all", Pass, "permits"},
		{"eleven exchangers", "a.example TXT v=spf1 mx:many.example +all\n" + exchangers.String() + hosts.String(), PermError, "exchangers"},
		{"an include of itself", "a.example TXT v=spf1 include:a.example +all", PermError, "more than 10 terms"},
		{"a redirect to itself", "a.example TXT v=spf1 redirect=a.example", PermError, "more than 10 terms"},
		{"two records", "a.example TXT v=spf1 +all\na.example TXT v=spf1 -all", PermError, "several records"},
		{"a huge record", "a.example TXT v=spf1 " + strings.Repeat("ip4:198.51.100.1 ", 300) + "+all", PermError, "too long"},
		{"a long name of macros loses its left", "a.example TXT v=spf1 exists:" + strings.Repeat("%{d}.", 40) + "x.example -all", Fail, "forbids"},
		{"no answer", "a.example TIMEOUT", TempError, "does not answer"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			z := newZone(tt.zone)
			got := check(t, z, "joe@a.example")
			if got.Status != tt.want || !strings.Contains(got.Reason, tt.reason) {
				t.Errorf("got %+v, want %s, %q", got, tt.want, tt.reason)
			}
			if z.asked > 12 {
				t.Errorf("%d questions", z.asked)
			}
		})
	}
}

func TestLocalPartsDoNotMoveTheDomain(t *testing.T) {
	z := newZone(`
		a.example TXT v=spf1 exists:%{l}.l.example -all
		q"@a.example TXT v=spf1 +all
		q@a.example TXT v=spf1 +all
	`)
	for _, sender := range []string{`"p@q"@a.example`, `"p q\" "@a.example`, `"..."@a.example`, `"a..b"@a.example`} {
		if got := check(t, z, sender); got.Status != Fail || got.Domain != "a.example" {
			t.Errorf("%s: %+v", sender, got)
		}
	}
}

func TestIdentity(t *testing.T) {
	z := newZone("helo.example TXT v=spf1 +all\na.example TXT v=spf1 -all")
	if got := check(t, z, ""); got.Status != Pass || got.Domain != "helo.example" || !got.Helo {
		t.Errorf("the null sender: %+v", got)
	}
	if got := check(t, z, "x@a.example"); got.Status != Fail || got.Helo {
		t.Errorf("a sender: %+v", got)
	}
	for _, helo := range []string{"", "localhost", "[192.0.2.1]", "a..example", "192.0.2.1 ", "x\r\ny.example"} {
		got := New(Config{Resolver: z}).Check(t.Context(), Query{Client: netip.MustParseAddr(client), Helo: helo})
		if got.Status != None || !mail.IsASCII(got.Domain) || strings.ContainsAny(got.Domain, "\r\n") {
			t.Errorf("HELO %q: %+v", helo, got)
		}
	}
}

func TestClientOfIPv6(t *testing.T) {
	z := newZone(`
		a.example TXT v=spf1 a:four.example a:four.example a:four.example ip6:2001:db8::/32 -all
		four.example A 192.0.2.1
	`)
	q := Query{Client: netip.MustParseAddr("2001:db8::1"), Sender: address(t, "x@a.example")}
	if got := New(Config{Resolver: z}).Check(t.Context(), q); got.Status != Pass {
		t.Errorf("hosts without IPv6 are no void names: %+v", got)
	}
	q.Client = netip.MustParseAddr("::ffff:192.0.2.1")
	if got := New(Config{Resolver: z}).Check(t.Context(), q); got.Status != Pass || got.Term != "a:four.example" {
		t.Errorf("an IPv4 address in IPv6: %+v", got)
	}
}

// silent never answers.
type silent struct{ *zone }

func (silent) TXT(ctx context.Context, name string) ([]string, error) {
	<-ctx.Done()
	return nil, &dns.Error{Name: name, Type: "TXT", Temporary: true, Err: ctx.Err()}
}

func TestACheckEndsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		if got := check(t, silent{newZone("")}, "x@a.example"); got.Status != TempError {
			t.Errorf("%+v", got)
		}
		if took := time.Since(begun); took != 20*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

func FuzzRecord(f *testing.F) {
	for _, s := range []string{
		"v=spf1 a mx:x.example/24//64 ip4:192.0.2.0/24 ip6:2001:db8::/32 include:y.example ?exists:%{ir}.%{l1r+-}.z.example ~all",
		"v=spf1 redirect=%{d2}.example exp=e.%{o}", "v=spf1 a:%{", "v=spf1 a:%%%_%-.example", "v=spf1 ptr mx//0 -all:", "v=spf1 ip4:1.2.3.4/ ",
	} {
		f.Add(s, "p@q")
	}
	f.Fuzz(func(t *testing.T, text, local string) {
		z := newZone("")
		z.records["a.example"] = []rr{{"TXT", text}}
		got := New(Config{Resolver: z}).Check(t.Context(), Query{
			Client: netip.MustParseAddr(client), Helo: local, Sender: mail.Address{Local: local, Domain: "a.example", Raw: "x@a.example"},
		})
		if z.asked > 40 {
			t.Errorf("%d questions", z.asked)
		}
		for _, s := range []string{got.Reason, got.Term, got.Domain} {
			if strings.ContainsAny(s, "\r\n\x00") || len(s) > 300 {
				t.Errorf("%q", s)
			}
		}
		switch got.Status {
		case None, Neutral, Pass, Fail, SoftFail, PermError:
		default:
			t.Errorf("%+v", got)
		}
	})
}
