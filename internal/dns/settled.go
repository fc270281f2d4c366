package dns

import (
	"context"
	"errors"
	"net/netip"
)

// Settled is a resolver for those who ask what a domain says about its mail:
// exchangers as the MX records name them, and "there is none" for every answer that
// cannot be used. Records that nobody can use will not get better.
type Settled struct{ R Lookups }

// Lookups is what Settled asks; *Resolver is one.
type Lookups interface {
	TXT(ctx context.Context, name string) ([]string, error)
	IPv4(ctx context.Context, name string) ([]netip.Addr, error)
	Addrs(ctx context.Context, name string) ([]netip.Addr, error)
	MX(ctx context.Context, name string) ([]MX, error)
	PTR(ctx context.Context, addr netip.Addr) ([]string, error)
}

// TXT returns the texts of a name.
func (l Settled) TXT(ctx context.Context, name string) ([]string, error) {
	list, err := l.R.TXT(ctx, name)
	return list, settled(err)
}

// IPv4 returns the A records of a name.
func (l Settled) IPv4(ctx context.Context, name string) ([]netip.Addr, error) {
	list, err := l.R.IPv4(ctx, name)
	return list, settled(err)
}

// Addrs returns the addresses of a name.
func (l Settled) Addrs(ctx context.Context, name string) ([]netip.Addr, error) {
	list, err := l.R.Addrs(ctx, name)
	return list, settled(err)
}

// PTR returns the names of an address.
func (l Settled) PTR(ctx context.Context, addr netip.Addr) ([]string, error) {
	list, err := l.R.PTR(ctx, addr)
	return list, settled(err)
}

// Exchangers returns the hosts of MX records; a domain that is its own exchanger
// for lack of them has none.
func (l Settled) Exchangers(ctx context.Context, name string) ([]string, error) {
	list, err := l.R.MX(ctx, name)
	if err != nil {
		return nil, settled(err)
	}
	var hosts []string
	for _, mx := range list {
		if mx.Implicit {
			return nil, &Error{Name: name, Type: "MX", NoData: true}
		}
		hosts = append(hosts, mx.Host)
	}
	return hosts, nil
}

// settled makes "there is none" of an error that is final in any way.
func settled(err error) error {
	var e *Error
	if !errors.As(err, &e) || e.Temporary || e.NotFound() {
		return err
	}
	return &Error{Name: e.Name, Type: e.Type, NoData: true, Err: e.Err}
}
