package transport

import (
	"net/netip"
	"testing"
	"time"

	"gatepost/internal/dns"
	"gatepost/internal/dns/dnstest"
	"gatepost/internal/mail"
	"gatepost/internal/smtpclient/sinktest"
)

// What the name service says decides between bounce, retry and delivery. This
// goes through a real name server and the real resolver.
func TestDNSOutcomes(t *testing.T) {
	zone := `
		good.example.       IN MX 10 mx.good.example.
		mx.good.example.    IN A 192.0.2.1
		implicit.example.   IN A 192.0.2.1
		six.example.        IN MX 10 mx6.six.example.
		mx6.six.example.    IN AAAA 2001:db8::1
		null.example.       IN MX 0 .
		second.example.     IN MX 10 nowhere.second.example.
		second.example.     IN MX 20 mx.good.example.
		third.example.      IN MX 10 broken.third.example.
		third.example.      IN MX 20 mx.good.example.
		noaddress.example.  IN MX 10 nowhere.noaddress.example.
		halfbroken.example. IN MX 10 nowhere.halfbroken.example.
		halfbroken.example. IN MX 20 broken.third.example.
		nothing.example.    IN TXT "no address, no exchanger"
		servfail.example.   IN MX 10 mx.good.example.
		refused.example.    IN MX 10 mx.good.example.
		silent.example.     IN MX 10 mx.good.example.
		cut.example.        IN MX 10 mx.good.example.
		long.example.       IN MX 10 mx.good.example.
		loop.example.       IN MX 10 self.loop.example.
		self.loop.example.  IN A 192.0.2.99
		backup.example.     IN MX 10 down.backup.example.
		backup.example.     IN MX 20 self.loop.example.
		backup.example.     IN MX 30 mx.good.example.
		down.backup.example. IN A 192.0.2.66
		mixed.example.      IN MX 10 down.backup.example.
		mixed.example.      IN MX 20 nowhere.mixed.example.
	`
	server := dnstest.Start(t, zone)
	server.Script("broken.third.example", "*", dnstest.Behaviour{Rcode: "SERVFAIL"})
	server.Script("servfail.example", "MX", dnstest.Behaviour{Rcode: "SERVFAIL"})
	server.Script("refused.example", "MX", dnstest.Behaviour{Rcode: "REFUSED"})
	server.Script("silent.example", "MX", dnstest.Behaviour{Drop: true})
	server.Script("cut.example", "MX", dnstest.Behaviour{Truncate: true, CloseTCP: true})
	server.Script("long.example", "MX", dnstest.Behaviour{Truncate: true})
	resolver, err := dns.New(dns.Config{Servers: []string{server.Addr()}, Timeout: 500 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		domain   string
		want     string
		enhanced string
		host     string
	}{
		{"good.example", "delivered eod 250", "2.0.0", "mx.good.example [192.0.2.1]:25"},
		{"implicit.example", "delivered eod 250", "2.0.0", "implicit.example [192.0.2.1]:25"},
		{"six.example", "delivered eod 250", "2.0.0", "mx6.six.example [2001:db8::1]:25"},
		{"long.example", "delivered eod 250", "2.0.0", "mx.good.example [192.0.2.1]:25"},
		{"[192.0.2.1]", "delivered eod 250", "2.0.0", "[192.0.2.1]:25"},
		{"[IPv6:2001:db8::1]", "delivered eod 250", "2.0.0", "[2001:db8::1]:25"},
		{"second.example", "delivered eod 250", "2.0.0", "mx.good.example [192.0.2.1]:25"},
		{"third.example", "delivered eod 250", "2.0.0", "mx.good.example [192.0.2.1]:25"},
		{"null.example", "failed dns own 556", "5.1.10", "null.example"},
		{"nxdomain.example", "failed dns own 550", "5.1.2", "nxdomain.example"},
		{"nothing.example", "failed dns own 550", "5.4.4", "nothing.example"},
		{"noaddress.example", "failed dns own 550", "5.4.4", "nowhere.noaddress.example"},
		{"halfbroken.example", "deferred dns own 451", "4.4.3", "broken.third.example"},
		{"servfail.example", "deferred dns own 451", "4.4.3", "servfail.example"},
		{"refused.example", "deferred dns own 451", "4.4.3", "refused.example"},
		{"silent.example", "deferred dns own 451", "4.4.3", "silent.example"},
		{"cut.example", "deferred dns own 451", "4.4.3", "cut.example"},
		{"loop.example", "failed dns own 554", "5.4.6", "loop.example"},
		{"backup.example", "deferred connect own 451", "4.4.1", "down.backup.example [192.0.2.66]:25"},
		{"mixed.example", "deferred connect own 451", "4.4.1", "down.backup.example [192.0.2.66]:25"},
	} {
		t.Run(tc.domain, func(t *testing.T) {
			n := newNetwork(t)
			n.host("192.0.2.1:25", sinktest.Config{})
			n.host("[2001:db8::1]:25", sinktest.Config{})
			tr := n.transport(Config{Kind: MX, Own: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.99:25")}}, resolver)
			out := tr.Deliver(t.Context(), delivery(t, short, "r1@"+tc.domain, "r2@"+tc.domain))
			for _, o := range out {
				if brief(o) != tc.want || o.Reply.Enhanced != tc.enhanced || o.Host != tc.host {
					t.Errorf("%s %s at %q (%s), want %s %s at %q", brief(o), o.Reply, o.Host, o.Cause, tc.want, tc.enhanced, tc.host)
				}
			}
		})
	}
}

func TestMXLookupOfATransport(t *testing.T) {
	server := dnstest.Start(t, `
		out.example.int.zone. IN MX 10 mx.out.example.int.zone.
		mx.out.example.int.zone. IN A 192.0.2.1
	`)
	general, err := dns.New(dns.Config{Servers: []string{"127.0.0.1:9"}, Timeout: 500 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	n := newNetwork(t)
	n.host("192.0.2.1:2525", sinktest.Config{})
	tr := n.transport(Config{Kind: MX, Port: 2525}, general.WithLookup("int.zone", []string{server.Addr()}))
	out := tr.Deliver(t.Context(), delivery(t, short, "r@out.example"))
	if briefs(out) != "delivered eod 250" {
		t.Errorf("%s (%s)", briefs(out), out[0].Cause)
	}
	if out[0].Status != mail.Delivered || server.Count("out.example.int.zone", "MX") != 1 {
		t.Errorf("queries %+v", server.Queries())
	}
}
