package firewall

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// Mode is how connections are diverted, as the configuration names it.
type Mode string

// The modes.
const (
	Redirect Mode = "redirect" // destination translated; works for any listening socket
	TProxy   Mode = "tproxy"   // packets handed over as they are; also lets answers to a spoofed client back in
)

// Defaults of the numbers in a Config. They mean nothing; they are only unlikely
// to be in use already.
const (
	DefaultOwnMark    = 0x67700001
	DefaultDivertMark = 0x67700002
	DefaultTable      = 26417
	DefaultPriority   = 26417
)

// Divert sends connections to some ports to one listening address.
type Divert struct {
	// Ports are the ports that clients connect to.
	Ports []uint16
	// To is where Gatepost listens: an address of this host, or an unspecified one,
	// 0.0.0.0 for connections by IPv4 and :: for those by IPv6.
	To netip.AddrPort
}

// Bridge is a bridge of this host.
type Bridge struct {
	// Ports are the names of the interfaces that are its ports.
	Ports []string
	// MAC is the bridge's own address, of 6 bytes. One that was set by hand stays
	// the same when ports come and go.
	MAC net.HardwareAddr
}

// Config is what is diverted.
type Config struct {
	Mode    Mode
	Diverts []Divert
	// Interfaces names those on which clients' connections come in; a "*" at the
	// end stands for the rest of the name. Empty: all of them.
	Interfaces []string
	// Bridges are those that carry connections past this host: what is diverted is
	// taken out of them. The rules for IP see it come in on the bridge.
	Bridges []Bridge
	// ExemptClients and ExemptServers are networks from which and to which nothing
	// is diverted.
	ExemptClients, ExemptServers []netip.Prefix
	// Output diverts the connections that programs on this host make, too; those
	// of ExemptUsers, by uid, go their own way.
	Output      bool
	ExemptUsers []uint32
	// OwnMark is the mark on connections that Gatepost makes (intercept.Dialer).
	OwnMark uint32
	// DivertMark is the mark on diverted packets, for TProxy, Table the number of
	// the routing table for them, at most 2^31-1, and Priority that of the rule
	// that leads there, 1 to 32765.
	DivertMark      uint32
	Table, Priority int
}

func (c Config) withDefaults() Config {
	c.OwnMark = cmp.Or(c.OwnMark, DefaultOwnMark)
	c.DivertMark = cmp.Or(c.DivertMark, DefaultDivertMark)
	c.Table = cmp.Or(c.Table, DefaultTable)
	c.Priority = cmp.Or(c.Priority, DefaultPriority)
	return c
}

// validate returns everything that is wrong, joined.
func (c Config) validate() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Mode != Redirect && c.Mode != TProxy {
		fail("no mode is called %q; there are redirect and tproxy", string(c.Mode))
	}
	if len(c.Diverts) == 0 {
		fail("nothing is to be diverted")
	}
	taken := map[divertedPort]netip.AddrPort{}
	for _, d := range c.Diverts {
		if err := c.checkDivert(d, taken); err != nil {
			errs = append(errs, err)
		}
	}
	names := slices.Clone(c.Interfaces)
	for _, b := range c.Bridges {
		if len(b.Ports) == 0 || len(b.MAC) != 6 {
			fail("a bridge has ports and an address of 6 bytes, not %q and %q", b.Ports, b.MAC)
		}
		names = append(names, b.Ports...)
	}
	for _, name := range names {
		if !validInterface(name) {
			fail("%q is no name of an interface", name)
		}
	}
	for _, p := range slices.Concat(c.ExemptClients, c.ExemptServers) {
		if !p.IsValid() {
			fail("an exempt network is not valid")
		}
	}
	if c.OwnMark == c.DivertMark {
		fail("the mark of our own connections and that of diverted ones are both %#x", c.OwnMark)
	}
	errs = append(errs, c.checkRouting())
	return errors.Join(errs...)
}

// divertedPort is a port in one IP family.
type divertedPort struct {
	v4   bool
	port uint16
}

func (c Config) checkDivert(d Divert, taken map[divertedPort]netip.AddrPort) error {
	to := d.To
	switch {
	case !to.IsValid() || to.Port() == 0:
		return fmt.Errorf("%s is no address to divert to: it needs an IP address and a port", to)
	case to.Addr().Is4In6() || to.Addr().Zone() != "":
		return fmt.Errorf("%s cannot be diverted to: write it without zone and as IPv4 or IPv6", to)
	case to.Addr().IsLoopback() && !c.Output:
		return fmt.Errorf("%s cannot be reached by what comes from other hosts: listen on an address of an interface", to)
	case len(d.Ports) == 0:
		return fmt.Errorf("nothing is to be diverted to %s: there are no ports", to)
	}
	for _, port := range d.Ports {
		key := divertedPort{to.Addr().Is4(), port}
		before, twice := taken[key]
		switch {
		case port == 0:
			return fmt.Errorf("port 0 cannot be diverted to %s", to)
		case twice && before != to:
			return fmt.Errorf("port %d is to be diverted to %s and to %s", port, before, to)
		}
		taken[key] = to
	}
	return nil
}

// checkRouting keeps our numbers out of the kernel's own tables and rules.
func (c Config) checkRouting() error {
	switch {
	case c.Table < 1 || c.Table > 1<<31-1 || c.Table >= 253 && c.Table <= 255:
		return fmt.Errorf("%d cannot be our routing table: 253 to 255 are the system's, the others begin at 1", c.Table)
	case c.Priority < 1 || c.Priority > 32765:
		return fmt.Errorf("%d cannot be the priority of our routing rule: it must be 1 to 32765, before the main table's", c.Priority)
	}
	return nil
}

// validInterface accepts what a name of an interface can be without quoting
// trouble: the kernel allows up to 15 bytes without "/" and space.
func validInterface(name string) bool {
	if name == "" || name == "." || name == ".." || len(name) > 15 {
		return false
	}
	for i, r := range name {
		switch {
		case r == '*' && i == len(name)-1 && i > 0:
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '-', r == '_', r == '@', r == ':', r == '+':
		default:
			return false
		}
	}
	return true
}
