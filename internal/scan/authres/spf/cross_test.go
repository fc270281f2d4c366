package spf

import (
	"context"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"testing"

	library "blitiri.com.ar/go/spf"
)

// second is a zone as another implementation asks it.
type second struct{ *zone }

func libraryError(err error) error {
	if err == nil {
		return nil
	}
	return &net.DNSError{Err: err.Error(), IsNotFound: notFound(err), IsTemporary: !notFound(err)}
}

func (s second) LookupTXT(ctx context.Context, name string) ([]string, error) {
	list, err := s.TXT(ctx, name)
	return list, libraryError(err)
}

func (s second) LookupMX(ctx context.Context, name string) ([]*net.MX, error) {
	hosts, err := s.Exchangers(ctx, name)
	var list []*net.MX
	for _, host := range hosts {
		list = append(list, &net.MX{Host: host})
	}
	return list, libraryError(err)
}

func (s second) LookupIPAddr(ctx context.Context, name string) ([]net.IPAddr, error) {
	addrs, err := s.IPv4(ctx, name)
	var list []net.IPAddr
	for _, addr := range addrs {
		list = append(list, net.IPAddr{IP: addr.AsSlice()})
	}
	return list, libraryError(err)
}

func (s second) LookupAddr(ctx context.Context, addr string) ([]string, error) {
	list, err := s.PTR(ctx, netip.MustParseAddr(addr))
	return list, libraryError(err)
}

// Records made of what both implementations should agree on, put together at
// random. Mistakes in a record are left to the suite: the other one finds them
// only when it comes to them.
func TestAnotherImplementationAgrees(t *testing.T) {
	terms := []string{
		"a", "mx", "a:host.example", "a:near.example/24", "mx:mx.example", "mx:far.example/8", "ip4:192.0.2.1", "ip4:198.51.100.0/24", "ip6:2001:db8::/32",
		"include:one.example", "include:two.example", "include:three.example", "exists:%{ir}.list.example", "exists:%{l}.%{d2}", "exists:%{o}.%{h}.x.example",
		"ptr:names.example", "a:missing.example", "include:down.example", "exists:%{l1r+}.l.example", "all", "redirect=one.example", "redirect=two.example", "x=y",
	}
	rng := rand.New(rand.NewPCG(7, 208))
	record := func() string {
		text, redirects := "v=spf1", 0
		for range rng.IntN(6) {
			term := terms[rng.IntN(len(terms))]
			if strings.Contains(term, "redirect=") {
				if redirects++; redirects > 1 {
					continue
				}
			} else if !strings.Contains(term, "x=y") {
				term = []string{"", "-", "~", "?", "+"}[rng.IntN(5)] + term
			}
			text += " " + term
		}
		return text
	}
	seen := map[Status]int{}
	for range 20000 {
		z := newZone(`
			host.example A 192.0.2.1
			near.example A 192.0.2.77
			mx.example MX host.example
			far.example MX near.example
			1.2.0.192.list.example A 127.0.0.2
			joe.l.example A 127.0.0.2
			joe.a.example A 127.0.0.2
			1.2.0.192.in-addr.arpa PTR mail.names.example
			mail.names.example A 192.0.2.1
			down.example TIMEOUT
		`)
		for _, name := range []string{"a.example", "one.example", "two.example", "three.example"} {
			z.records[name] = []rr{{"TXT", record()}}
		}
		got := check(t, z, "joe+tag@a.example")
		want, _ := library.CheckHostWithSender(net.ParseIP(client), "helo.example", "joe+tag@a.example", library.WithResolver(second{z}))
		if string(got.Status) != string(want) {
			t.Fatalf("got %+v, the other says %s: %v", got, want, z.records)
		}
		seen[got.Status]++
	}
	for _, s := range []Status{Pass, Fail, SoftFail, Neutral, TempError, PermError} {
		if seen[s] < 100 {
			t.Errorf("only %d records give %s", seen[s], s)
		}
	}
}
