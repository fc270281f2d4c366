package intercept

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Mode is how the firewall diverts connections, as the configuration names it.
type Mode string

// The modes.
const (
	// None: connections come to the address that we listen on.
	None Mode = "none"
	// Redirect: the firewall translates the destination to ours, and its
	// connection tracking remembers what it was.
	Redirect Mode = "redirect"
	// TProxy: the firewall hands packets to our socket as they are; the socket
	// then has the address of the server.
	TProxy Mode = "tproxy"
)

// soOriginalDst is SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST of the kernel's
// netfilter headers.
const soOriginalDst = 80

// Listen listens on a TCP address for connections that are diverted to it. The
// network is "tcp", "tcp4" or "tcp6", as for net.Listen. TProxy needs
// CAP_NET_ADMIN or CAP_NET_RAW.
func Listen(ctx context.Context, mode Mode, network, address string) (net.Listener, error) {
	var lc net.ListenConfig
	switch mode {
	case None:
	case Redirect, TProxy:
		// The kernel's firewall knows plain TCP sockets only; clients that speak
		// Multipath TCP fall back to it.
		lc.SetMultipathTCP(false)
	default:
		return nil, fmt.Errorf("listen on %s: no mode of interception is called %q", address, mode)
	}
	if mode == TProxy {
		lc.Control = transparent
	}
	l, err := lc.Listen(ctx, network, address)
	if err != nil && mode == None {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("listen for diverted connections: %w", err)
	}
	return l, nil
}

// transparent lets a socket that is not bound yet take addresses that are not
// this host's.
func transparent(network, _ string, raw syscall.RawConn) error {
	return control(raw, func(fd int) error {
		var err error
		if strings.HasSuffix(network, "6") {
			err = unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_TRANSPARENT, 1)
		} else {
			err = unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_TRANSPARENT, 1)
		}
		return capable("make socket transparent", err)
	})
}

// control runs fn with the descriptor of a connection.
func control(raw syscall.RawConn, fn func(fd int) error) error {
	var err error
	if outer := raw.Control(func(fd uintptr) { err = fn(int(fd)) }); outer != nil {
		return outer
	}
	return err
}

// capable adds to a lack of permission what is missing.
func capable(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%s: %w (needs CAP_NET_ADMIN)", what, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// Original is where the client of a connection that was accepted on a listener
// of that mode wanted to go. A connection that was not diverted, because a
// client came to our own address and port, yields that address and port: Guard
// refuses it. The connection must be one that the operating system accepted,
// without TLS or anything else around it.
func Original(conn net.Conn, mode Mode) (netip.AddrPort, error) {
	local, ok := conn.LocalAddr().(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("find original destination: %T is not a TCP connection", conn)
	}
	here := unmap(local.AddrPort())
	switch mode {
	case None, TProxy:
		return here, nil
	case Redirect:
	default:
		return netip.AddrPort{}, fmt.Errorf("find original destination: no mode of interception is called %q", mode)
	}
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("find original destination: %T has no descriptor", conn)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("find original destination: %w", err)
	}
	var to netip.AddrPort
	err = control(raw, func(fd int) (err error) {
		if here.Addr().Is4() {
			to, err = original4(fd)
		} else {
			to, err = original6(fd)
		}
		return err
	})
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOPROTOOPT):
		// Connection tracking does not know the connection, so nothing translated it.
		return here, nil
	case err != nil:
		return netip.AddrPort{}, fmt.Errorf("find original destination: %w", err)
	}
	return to, nil
}

// original4 asks connection tracking, which answers with a sockaddr_in. The
// library has no getter for that; an ipv6_mreq is large enough for its 16 bytes.
func original4(fd int) (netip.AddrPort, error) {
	m, err := unix.GetsockoptIPv6Mreq(fd, unix.SOL_IP, soOriginalDst)
	if err != nil {
		return netip.AddrPort{}, err
	}
	b := m.Multiaddr
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), binary.BigEndian.Uint16(b[2:4])), nil
}

// original6 asks for a sockaddr_in6, which an ip6_mtuinfo begins with.
func original6(fd int) (netip.AddrPort, error) {
	info, err := unix.GetsockoptIPv6MTUInfo(fd, unix.SOL_IPV6, soOriginalDst)
	if err != nil {
		return netip.AddrPort{}, err
	}
	var port [2]byte
	binary.NativeEndian.PutUint16(port[:], info.Addr.Port)
	ip := netip.AddrFrom16(info.Addr.Addr)
	if info.Addr.Scope_id != 0 && ip.IsLinkLocalUnicast() {
		ip = ip.WithZone(strconv.FormatUint(uint64(info.Addr.Scope_id), 10))
	}
	return netip.AddrPortFrom(ip, binary.BigEndian.Uint16(port[:])), nil
}

func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
