package netns

import (
	"net/netip"
	"strings"
	"testing"
)

// Host is a namespace with its addresses.
type Host struct {
	*Namespace
	IPv4, IPv6 netip.Addr
}

// Address is the host's in the family of the network "tcp4" or "tcp6".
func (h *Host) Address(network string) netip.Addr {
	if strings.HasSuffix(network, "6") {
		return h.IPv6
	}
	return h.IPv4
}

// Net is a client and a server with a gateway between them.
type Net struct {
	Client, Gateway, Server *Host
	// Interfaces of the gateway.
	ToClient, ToServer string
}

// Topology makes three hosts: the gateway routes between the network of the
// client and that of the server, by IPv4 and IPv6. The gateway's own addresses
// are those on the client's side.
//
//	client eth0 10.9.1.2 ─ 10.9.1.1 clients  gateway  servers 10.9.2.1 ─ 10.9.2.2 eth0 server
//	       fd09:1::2       fd09:1::1                          fd09:2::1   fd09:2::2
func Topology(t testing.TB) *Net {
	t.Helper()
	n := hosts(t, "10.9.2.2", "fd09:2::2")
	gw := n.Gateway
	for _, f := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"} {
		gw.Sysctl(t, f, "1")
	}
	address(t, gw, n.ToClient, "10.9.1.1/24", "fd09:1::1/64")
	address(t, gw, n.ToServer, "10.9.2.1/24", "fd09:2::1/64")
	address(t, n.Client, "eth0", "10.9.1.2/24", "fd09:1::2/64")
	address(t, n.Server, "eth0", "10.9.2.2/24", "fd09:2::2/64")
	for _, r := range []struct {
		h       *Host
		gateway string
	}{{n.Client, "10.9.1.1"}, {n.Client, "fd09:1::1"}, {n.Server, "10.9.2.1"}, {n.Server, "fd09:2::1"}} {
		r.h.Run(t, "ip", "route", "add", "default", "via", r.gateway)
	}
	return n
}

// Bridge makes three hosts in one network: the gateway is a bridge, br0, between
// the client and the server, with an address of its own.
//
//	client eth0 10.9.1.2 ─ clients [br0 10.9.1.1] servers ─ 10.9.1.3 eth0 server
//	       fd09:1::2                fd09:1::1                fd09:1::3
func Bridge(t testing.TB) *Net {
	t.Helper()
	n := hosts(t, "10.9.1.3", "fd09:1::3")
	gw := n.Gateway
	if out, err := gw.Try(t, "", "ip", "link", "add", "br0", "type", "bridge"); err != nil {
		t.Skipf("this kernel makes no bridges: %v: %s", err, out)
	}
	for _, port := range []string{n.ToClient, n.ToServer} {
		gw.Run(t, "ip", "link", "set", port, "master", "br0", "up")
	}
	address(t, gw, "br0", "10.9.1.1/24", "fd09:1::1/64")
	address(t, n.Client, "eth0", "10.9.1.2/24", "fd09:1::2/64")
	address(t, n.Server, "eth0", "10.9.1.3/24", "fd09:1::3/64")
	return n
}

// hosts makes the namespaces and the cables between them.
func hosts(t testing.TB, server4, server6 string) *Net {
	t.Helper()
	n := &Net{ToClient: "clients", ToServer: "servers"}
	n.Client = &Host{New(t, "client"), netip.MustParseAddr("10.9.1.2"), netip.MustParseAddr("fd09:1::2")}
	n.Gateway = &Host{New(t, "gateway"), netip.MustParseAddr("10.9.1.1"), netip.MustParseAddr("fd09:1::1")}
	n.Server = &Host{New(t, "server"), netip.MustParseAddr(server4), netip.MustParseAddr(server6)}
	cable(t, n.Gateway, n.ToClient, n.Client)
	cable(t, n.Gateway, n.ToServer, n.Server)
	return n
}

// cable joins an interface of the gateway with eth0 of a host.
func cable(t testing.TB, gateway *Host, port string, h *Host) {
	t.Helper()
	if out, err := gateway.Try(t, "", "ip", "link", "add", port, "type", "veth", "peer", "name", "eth0"); err != nil {
		t.Skipf("this kernel makes no veth interfaces: %v: %s", err, out)
	}
	gateway.Run(t, "ip", "link", "set", "eth0", "netns", h.path())
}

// address sets both addresses of an interface and brings it up. They can be used
// at once: nobody else has them.
func address(t testing.TB, h *Host, dev, v4, v6 string) {
	t.Helper()
	h.Run(t, "ip", "addr", "add", v4, "dev", dev)
	h.Run(t, "ip", "addr", "add", v6, "dev", dev, "nodad")
	h.Run(t, "ip", "link", "set", dev, "up")
}
