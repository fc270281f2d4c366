package weblookup

import (
	"net/netip"
	"strings"
)

// special are the networks that are no public hosts (RFC 6890 and the registries
// of IANA that continue it), but for those that netip knows.
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"), // shared by carriers
	netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.0.2.0/24"),
	netip.MustParsePrefix("192.88.99.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"),
	netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("2001::/23"), // Teredo, ORCHID and others
	netip.MustParsePrefix("2001:db8::/32"),
	netip.MustParsePrefix("3fff::/20"),
}

// global is what IPv6 hands out to hosts; all else there is special.
var global = netip.MustParsePrefix("2000::/3")

// embedding are the networks of IPv6 whose addresses stand for one of IPv4, and at
// which byte that begins.
var embedding = []struct {
	prefix netip.Prefix
	at     int
}{
	{netip.MustParsePrefix("64:ff9b::/96"), 12}, // RFC 6052 §2.1
	{netip.MustParsePrefix("2002::/16"), 2},     // 6to4
	{netip.MustParsePrefix("::/96"), 12},        // "IPv4-compatible"
}

// metadata are where clouds tell their guests secrets, beside the link-local one.
var metadata = []netip.Addr{
	netip.MustParseAddr("100.100.100.200"),
	netip.MustParseAddr("fd00:ec2::254"),
}

// allowed reports whether a connection may go there.
func allowed(a netip.Addr, private bool) bool {
	a = a.Unmap().WithZone("")
	for _, e := range embedding {
		// ::1 and :: are what they are.
		if e.prefix.Contains(a) && !a.IsLoopback() && !a.IsUnspecified() {
			raw := a.As16()
			v4, _ := netip.AddrFromSlice(raw[e.at : e.at+4])
			return allowed(v4, private)
		}
	}
	if !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || a.IsLinkLocalUnicast() {
		return false
	}
	for _, m := range metadata {
		if a == m {
			return false
		}
	}
	if private {
		return true
	}
	if a.IsLoopback() || a.IsPrivate() || a.Is6() && !global.Contains(a) {
		return false
	}
	for _, p := range special {
		if p.Contains(a) {
			return false
		}
	}
	return true
}

// disguised reports a host that some programs take for an IPv4 address though it
// is not written as one: "2130706433", "0177.1", "0x7f.0.0.1".
func disguised(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return false
	}
	host = strings.TrimSuffix(host, ".")
	last := strings.ToLower(host[strings.LastIndexByte(host, '.')+1:])
	if last == "" {
		return true
	}
	digits, hex := strings.CutPrefix(last, "0x")
	return strings.Trim(digits, "0123456789") == "" || hex && strings.Trim(digits, "0123456789abcdef") == ""
}
