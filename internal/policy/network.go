package policy

import "net/netip"

// Public reports whether an address is one that hosts on the Internet have: not
// loopback, link-local, multicast, private, or never given out.
func Public(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if !a.IsGlobalUnicast() || a.IsPrivate() {
		return false
	}
	if !a.Is4() {
		return true
	}
	switch b := a.As4(); {
	case b[0] == 0, b[0] >= 240:
		return false
	case b[0] == 100 && b[1]&0xc0 == 64: // behind a provider's translation (RFC 6598)
		return false
	case b[0] == 198 && b[1]&0xfe == 18: // benchmarks
		return false
	}
	return true
}

// Network is the stretch of addresses that usually has one owner: so many bits of
// the address, for IPv4 and for IPv6. The zero Prefix stands for no address.
func Network(a netip.Addr, bits4, bits6 int) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := bits4
	if a.Is6() {
		bits = bits6
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}
