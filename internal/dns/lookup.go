package dns

import (
	"cmp"
	"context"
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// MX is a mail exchanger.
type MX struct {
	// Host is in lower case without final dot; "." is the null MX of RFC 7505.
	Host string
	Pref uint16
	// Implicit says that the domain has no MX record and is its own exchanger
	// (RFC 5321 §5.1).
	Implicit bool
}

// Null reports the null MX: the domain takes no mail.
func (m MX) Null() bool { return m.Host == "." }

// TLSA is a TLSA record, RFC 6698 §2.1.
type TLSA struct {
	Usage, Selector, Matching uint8
	Data                      []byte
}

// MX returns the exchangers of a domain by rising preference. A domain that
// exists and has no MX record gives one Implicit MX, itself; a null MX is
// returned alone. Names that no host can have are left out. An address literal
// gives itself.
func (r *Resolver) MX(ctx context.Context, domain string) ([]MX, error) {
	list, _, err := r.MXSecure(ctx, domain)
	return list, err
}

// MXSecure is MX, and whether the answer was authenticated by DNSSEC.
func (r *Resolver) MXSecure(ctx context.Context, domain string) ([]MX, bool, error) {
	if addr, ok := parseLiteral(domain); ok {
		return []MX{{Host: addr.String(), Implicit: true}}, false, nil
	}
	name := r.inZone(domain)
	a := r.lookup(ctx, name, dns.TypeMX)
	if a.err != nil && a.err.NoData {
		return []MX{{Host: trimDot(name), Implicit: true}}, a.authentic, nil
	}
	if a.err != nil {
		return nil, false, a.err
	}
	list := make([]MX, 0, len(a.records))
	for _, rr := range a.records {
		mx := rr.(*dns.MX)
		if host, ok := hostName(mx.Mx); ok {
			list = append(list, MX{Host: host, Pref: mx.Preference})
		} else if mx.Mx == "." && len(a.records) == 1 {
			return []MX{{Host: ".", Pref: mx.Preference}}, a.authentic, nil
		}
	}
	if len(list) == 0 {
		return nil, false, &Error{Name: trimDot(name), Type: "MX", Err: errNoUsable}
	}
	slices.SortStableFunc(list, func(a, b MX) int { return cmp.Compare(a.Pref, b.Pref) })
	return list, a.authentic, nil
}

// Addrs returns the addresses of a host, IPv4 first. An address or an address
// literal gives itself, localhost the loopback addresses (RFC 6761 §6.3), and a
// name in the hosts file what stands there.
func (r *Resolver) Addrs(ctx context.Context, host string) ([]netip.Addr, error) {
	list, _, err := r.AddrsSecure(ctx, host)
	return list, err
}

// AddrsSecure is Addrs, and whether all of the answer was authenticated by DNSSEC.
func (r *Resolver) AddrsSecure(ctx context.Context, host string) ([]netip.Addr, bool, error) {
	if addr, ok := parseLiteral(host); ok {
		return []netip.Addr{addr}, false, nil
	}
	if list := r.localAddrs(host); list != nil {
		return list, false, nil
	}
	list, authentic, err := r.addrs(ctx, r.inZone(host))
	if r.zone != "" && IsNotFound(err) && !r.hasZone(host) {
		// The exchangers that a zone names may be hosts of the world outside.
		return r.addrs(ctx, fqdn(host))
	}
	return list, authentic, err
}

// localAddrs returns what is known without asking; nil for nothing.
func (r *Resolver) localAddrs(host string) []netip.Addr {
	name := strings.ToLower(trimDot(host))
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	}
	return slices.Clone(r.hosts[name])
}

// addrs asks for A and AAAA at the same time.
func (r *Resolver) addrs(ctx context.Context, name string) ([]netip.Addr, bool, error) {
	six := make(chan *answer, 1)
	go func() { six <- r.lookup(ctx, name, dns.TypeAAAA) }()
	a4 := r.lookup(ctx, name, dns.TypeA)
	a6 := <-six
	var list []netip.Addr
	for _, rr := range a4.records {
		list = appendAddr(list, rr.(*dns.A).A)
	}
	for _, rr := range a6.records {
		list = appendAddr(list, rr.(*dns.AAAA).AAAA)
	}
	if len(list) > 0 {
		return list, a4.authentic && a6.authentic, nil
	}
	return nil, false, addrError(name, a4, a6)
}

// IPv4 asks for the A records of a name and for nothing else: the answers of
// lists, which are no hosts. Neither the hosts file nor the zone of a transport
// has a say.
func (r *Resolver) IPv4(ctx context.Context, name string) ([]netip.Addr, error) {
	a := r.lookup(ctx, fqdn(name), dns.TypeA)
	if a.err != nil {
		return nil, a.err
	}
	list := make([]netip.Addr, 0, len(a.records))
	for _, rr := range a.records {
		list = appendAddr(list, rr.(*dns.A).A)
	}
	if len(list) == 0 {
		return nil, addrError(name, a)
	}
	return list, nil
}

// addrError is why a host has no address. An outage of one type counts more
// than the absence of the other, which may be all that is wrong.
func addrError(name string, answers ...*answer) *Error {
	var found *Error
	for _, a := range answers {
		switch {
		case a.err == nil: // records, but no usable one
			found = cmp.Or(found, &Error{Name: trimDot(name), Type: "A", Err: errNoUsable})
		case a.err.Temporary:
			return a.err
		case found == nil || a.err.NXDomain:
			found = a.err
		}
	}
	return found
}

// appendAddr leaves out what no mail host can have. Loopback stays: who resolves
// to us is the transport's business.
func appendAddr(list []netip.Addr, b []byte) []netip.Addr {
	addr, ok := netip.AddrFromSlice(b)
	addr = addr.Unmap()
	if !ok || addr.IsUnspecified() || addr.IsMulticast() || addr == broadcast || slices.Contains(list, addr) {
		return list
	}
	return append(list, addr)
}

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// TXT returns the texts of a name, each with its strings joined (RFC 7208 §3.3).
func (r *Resolver) TXT(ctx context.Context, name string) ([]string, error) {
	a := r.lookup(ctx, fqdn(name), dns.TypeTXT)
	if a.err != nil {
		return nil, a.err
	}
	list := make([]string, len(a.records))
	for i, rr := range a.records {
		list[i] = unescapeText(strings.Join(rr.(*dns.TXT).Txt, ""))
	}
	return list, nil
}

// PTR returns the host names of an address, in lower case without final dot.
// Names that no host can have are left out.
func (r *Resolver) PTR(ctx context.Context, addr netip.Addr) ([]string, error) {
	name, err := dns.ReverseAddr(addr.Unmap().WithZone("").String())
	if err != nil {
		return nil, &Error{Name: addr.String(), Type: "PTR", NXDomain: true, Err: errBadName}
	}
	a := r.lookup(ctx, name, dns.TypePTR)
	if a.err != nil {
		return nil, a.err
	}
	var list []string
	for _, rr := range a.records {
		if host, ok := hostName(rr.(*dns.PTR).Ptr); ok {
			list = append(list, host)
		}
	}
	if len(list) == 0 {
		return nil, &Error{Name: trimDot(name), Type: "PTR", Err: errNoUsable}
	}
	return list, nil
}

// TLSA returns the TLSA records of a name such as "_25._tcp.mx.example.org" and
// whether they were authenticated by DNSSEC; others must not be used (RFC 7672
// §2.1). The flag also holds for an authenticated "no such record".
func (r *Resolver) TLSA(ctx context.Context, name string) ([]TLSA, bool, error) {
	a := r.lookup(ctx, fqdn(name), dns.TypeTLSA)
	if a.err != nil {
		return nil, a.authentic, a.err
	}
	list := make([]TLSA, 0, len(a.records))
	for _, rr := range a.records {
		t := rr.(*dns.TLSA)
		data, err := hex.DecodeString(t.Certificate)
		if err != nil {
			continue
		}
		list = append(list, TLSA{Usage: t.Usage, Selector: t.Selector, Matching: t.MatchingType, Data: data})
	}
	return list, a.authentic, nil
}
