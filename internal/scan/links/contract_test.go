package links_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"gatepost/internal/dns"
	"gatepost/internal/scan"
	"gatepost/internal/scan/links"
	"gatepost/internal/scan/scantest"
)

// listing is a resolver that has every second name on its list.
type listing struct{}

func (listing) IPv4(_ context.Context, name string) ([]netip.Addr, error) {
	if len(name)%2 == 0 || strings.HasPrefix(name, "evil.") {
		return []netip.Addr{netip.MustParseAddr("127.0.1.2")}, nil
	}
	return nil, &dns.Error{Name: name, Type: "A", NXDomain: true}
}

// silence is a resolver that never answers.
type silence struct{}

func (silence) IPv4(ctx context.Context, _ string) ([]netip.Addr, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestContract(t *testing.T) {
	with := func(r links.Resolver) func(testing.TB) scan.Module {
		return func(t testing.TB) scan.Module {
			return links.New(links.Config{Zones: zones(t, "dbl.example.org", "uri.example.org*2"), Resolver: r})
		}
	}
	scantest.Contract(t, scantest.Subject{Use: "links", New: with(listing{}), Hanging: with(silence{})})
}
