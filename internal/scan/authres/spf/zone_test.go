package spf

import (
	"context"
	"net/netip"
	"strings"
	"sync"

	"gatepost/internal/dns"
)

// rr is a record of a test zone: kind and value; "TIMEOUT" has none.
type rr struct{ kind, value string }

// zone is a Resolver over records by lower-case name. It counts what it is asked.
type zone struct {
	records map[string][]rr
	mu      sync.Mutex
	asked   int
}

// newZone reads lines "name KIND value".
func newZone(text string) *zone {
	z := &zone{records: map[string][]rr{}}
	for line := range strings.SplitSeq(text, "\n") {
		f := strings.SplitN(strings.TrimSpace(line), " ", 3)
		if len(f) < 2 {
			continue
		}
		z.records[f[0]] = append(z.records[f[0]], rr{f[1], strings.Join(f[2:], "")})
	}
	return z
}

// find returns the values of a kind, behind CNAMEs.
func (z *zone) find(name, kind string) ([]string, error) {
	z.mu.Lock()
	z.asked++
	z.mu.Unlock()
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	for range 5 {
		list, ok := z.records[name]
		if !ok {
			return nil, &dns.Error{Name: name, Type: kind, NXDomain: true}
		}
		var values []string
		cname := ""
		for _, r := range list {
			switch {
			case r.kind == kind:
				values = append(values, r.value)
			case r.kind == "CNAME":
				cname = r.value
			case r.kind == "TIMEOUT" && len(values) == 0:
				return nil, &dns.Error{Name: name, Type: kind, Temporary: true}
			}
		}
		switch {
		case len(values) > 0:
			return values, nil
		case cname == "":
			return nil, &dns.Error{Name: name, Type: kind, NoData: true}
		}
		name = strings.ToLower(strings.TrimSuffix(cname, "."))
	}
	return nil, &dns.Error{Name: name, Type: kind, Temporary: true}
}

func (z *zone) TXT(_ context.Context, name string) ([]string, error) { return z.find(name, "TXT") }

func (z *zone) IPv4(_ context.Context, name string) ([]netip.Addr, error) {
	values, err := z.find(name, "A")
	return parseAll(values), err
}

func (z *zone) Addrs(_ context.Context, name string) ([]netip.Addr, error) {
	four, err4 := z.find(name, "A")
	six, err6 := z.find(name, "AAAA")
	list := append(parseAll(four), parseAll(six)...)
	switch {
	case len(list) > 0:
		return list, nil
	case dns.IsTemporary(err4):
		return nil, err4
	}
	return nil, err6
}

func parseAll(values []string) []netip.Addr {
	var list []netip.Addr
	for _, v := range values {
		list = append(list, netip.MustParseAddr(v))
	}
	return list
}

func (z *zone) Exchangers(_ context.Context, name string) ([]string, error) {
	return z.find(name, "MX")
}

func (z *zone) PTR(_ context.Context, addr netip.Addr) ([]string, error) {
	return z.find(reverse(addr), "PTR")
}

// reverse is the name under which an address has its host names.
func reverse(addr netip.Addr) string {
	const hex = "0123456789abcdef"
	name := ""
	if addr.Is4() {
		for _, c := range addr.As4() {
			name = netip.AddrFrom4([4]byte{3: c}).String()[len("0.0.0."):] + "." + name
		}
		return name + "in-addr.arpa"
	}
	for _, c := range addr.As16() {
		name = string([]byte{hex[c&15], '.', hex[c>>4], '.'}) + name
	}
	return name + "ip6.arpa"
}
