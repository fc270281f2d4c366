package callout

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"gatepost/internal/dns"
	"gatepost/internal/policy"
	"gatepost/internal/smtpclient"
)

var (
	errNullMX = errors.New("the domain takes no mail")
	errOwn    = errors.New("the mail of the domain comes to this gateway")
	errNoHost = errors.New("no mail exchanger can be reached")
)

// maxExchangers bounds how many exchangers of one domain are looked at.
const maxExchangers = 10

// exchangers returns the mail exchangers of a domain as hops, as many as will be
// tried. public leaves out those that no host of the Internet could have.
func (v *caller) exchangers(ctx context.Context, domain string, public bool) ([]Hop, error) {
	list, err := v.config.Resolver.MX(ctx, domain)
	if err != nil {
		return nil, err
	}
	if list[0].Null() {
		return nil, errNullMX // RFC 7505 §3
	}
	var hops []Hop
	failure := errNoHost
	for _, mx := range list[:min(len(list), maxExchangers)] {
		addrs, err := v.config.Resolver.Addrs(ctx, mx.Host)
		if err != nil {
			failure = fmt.Errorf("%w: %w", errNoHost, err)
			continue
		}
		if strings.EqualFold(mx.Host, v.config.Hostname) || slices.ContainsFunc(addrs, v.atOurPort) {
			// RFC 5321 §5.1: where we are one of them, only better ones count.
			failure = errOwn
			break
		}
		for _, a := range addrs {
			if !public || v.config.Private || policy.Public(a) {
				hops = append(hops, v.exchanger(mx, a))
			}
		}
		if len(hops) >= v.config.MaxHosts {
			break
		}
	}
	if len(hops) == 0 {
		return nil, failure
	}
	return hops, nil
}

// isOwn reports that this gateway itself would answer at the address.
func (v *caller) isOwn(a netip.AddrPort) bool {
	ip := a.Addr().Unmap().WithZone("")
	return slices.ContainsFunc(v.config.Own, func(own netip.AddrPort) bool {
		return own.Port() == a.Port() &&
			(own.Addr().Unmap() == ip || own.Addr().IsUnspecified() && (ip.IsLoopback() || slices.Contains(v.machine, ip)))
	})
}

// machineAddresses returns the addresses of this machine if listeners are on all
// of them.
func machineAddresses(own []netip.AddrPort) ([]netip.Addr, error) {
	if !slices.ContainsFunc(own, func(a netip.AddrPort) bool { return a.Addr().IsUnspecified() }) {
		return nil, nil
	}
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list own addresses: %w", err)
	}
	var addrs []netip.Addr
	for _, a := range list {
		if n, ok := a.(*net.IPNet); ok {
			if addr, ok := netip.AddrFromSlice(n.IP); ok {
				addrs = append(addrs, addr.Unmap())
			}
		}
	}
	return addrs, nil
}

// others leaves out what leads to this gateway itself.
func (v *caller) others(hops []Hop) ([]Hop, error) {
	left := slices.DeleteFunc(slices.Clone(hops), func(h Hop) bool {
		a, err := netip.ParseAddrPort(h.Address)
		return err == nil && v.isOwn(a)
	})
	if len(left) == 0 {
		return nil, errOwn
	}
	return left, nil
}

func (v *caller) atOurPort(a netip.Addr) bool {
	return v.isOwn(netip.AddrPortFrom(a, uint16(v.config.Port)))
}

// exchanger is a hop that is spoken to under TLS if it offers that: whoever listens
// on the way need not learn who writes to us. Nothing depends on its certificate.
func (v *caller) exchanger(mx dns.MX, a netip.Addr) Hop {
	return Hop{
		Target: smtpclient.Target{Network: "tcp", Address: netip.AddrPortFrom(a.Unmap(), uint16(v.config.Port)).String(), Name: mx.Host},
		TLS:    &tls.Config{ServerName: mx.Host, InsecureSkipVerify: true, MinVersion: tls.VersionTLS12},
	}
}
