package authres

import (
	"context"
	"errors"
	"net/netip"

	"gatepost/internal/dns"
)

// lookups is what the packages below need of a resolver: exchangers as the MX
// records name them, and "there is none" for every answer that cannot be used.
type lookups struct{ r Resolver }

// TXT returns the texts of a name.
func (l lookups) TXT(ctx context.Context, name string) ([]string, error) {
	list, err := l.r.TXT(ctx, name)
	return list, settled(err)
}

// IPv4 returns the A records of a name.
func (l lookups) IPv4(ctx context.Context, name string) ([]netip.Addr, error) {
	list, err := l.r.IPv4(ctx, name)
	return list, settled(err)
}

// Addrs returns the addresses of a name.
func (l lookups) Addrs(ctx context.Context, name string) ([]netip.Addr, error) {
	list, err := l.r.Addrs(ctx, name)
	return list, settled(err)
}

// PTR returns the names of an address.
func (l lookups) PTR(ctx context.Context, addr netip.Addr) ([]string, error) {
	list, err := l.r.PTR(ctx, addr)
	return list, settled(err)
}

// Exchangers returns the hosts of MX records; a domain that is its own exchanger
// for lack of them has none.
func (l lookups) Exchangers(ctx context.Context, name string) ([]string, error) {
	list, err := l.r.MX(ctx, name)
	if err != nil {
		return nil, settled(err)
	}
	var hosts []string
	for _, mx := range list {
		if mx.Implicit {
			return nil, &dns.Error{Name: name, Type: "MX", NoData: true}
		}
		hosts = append(hosts, mx.Host)
	}
	return hosts, nil
}

// settled makes "there is none" of an error that is final in any way: records
// that nobody can use will not get better.
func settled(err error) error {
	var e *dns.Error
	if !errors.As(err, &e) || e.Temporary || e.NotFound() {
		return err
	}
	return &dns.Error{Name: e.Name, Type: e.Type, NoData: true, Err: e.Err}
}
