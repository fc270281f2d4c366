package intercept

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Dialer connects from behind a firewall that diverts connections to us. The
// zero Dialer connects as any program does.
type Dialer struct {
	// Mark is put on the packets of our own connections, so that the firewall does
	// not divert them again; 0 for none. It needs CAP_NET_ADMIN.
	Mark uint32
	// Spoof is the address to connect from although it is not ours: the client's.
	// The port is another one than the client's own connection has. The answers
	// must come by this host, and its firewall must hand them to us, as the rules of
	// mode TProxy do. It needs CAP_NET_ADMIN. The zero Addr leaves the
	// address to the system.
	Spoof netip.Addr
	// Source is an address of this host to connect from, where Spoof is not set; the
	// zero Addr leaves it to the system.
	Source netip.Addr
	// Outgoing, where set, remembers the connections, so that a Guard knows them
	// when they come back to us.
	Outgoing *Outgoing
}

// Permitted is nil if this process may mark its connections and take clients'
// addresses; else it is an error that says what is missing. Diverted connections
// of mode Redirect can be had without, where the firewall leaves alone what this
// host itself sends.
func Permitted() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("try to mark a socket: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, 1); err != nil {
		return capable("mark socket", err)
	}
	return capable("make socket transparent", unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_TRANSPARENT, 1))
}

// errFamily is that the address to connect from is not of the family of the server.
var errFamily = errors.New("the address is of the other family")

// DialContext connects to an IP address and port; network is "tcp", "tcp4" or
// "tcp6". Names are not looked up: what was diverted has an address.
func (d Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", address, err)
	}
	to = unmap(to)
	dialer := net.Dialer{Control: d.control}
	if from := d.from(); from.IsValid() {
		if from.Is4() != to.Addr().Is4() {
			return nil, fmt.Errorf("dial %s from %s: %w", address, from, errFamily)
		}
		dialer.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
	}
	attempt := d.Outgoing.begin(d.Spoof.Unmap(), to)
	c, err := dialer.DialContext(ctx, network, to.String())
	if err != nil {
		attempt.end(netip.AddrPort{})
		return nil, err
	}
	conn := &outgoingConn{TCPConn: c.(*net.TCPConn)}
	conn.release = attempt.end(unmap(conn.LocalAddr().(*net.TCPAddr).AddrPort()))
	return conn, nil
}

// from is the address to connect from; the zero Addr leaves it to the system.
func (d Dialer) from() netip.Addr {
	if d.Spoof.IsValid() {
		return d.Spoof.Unmap()
	}
	return d.Source.Unmap()
}

// control prepares the socket before it is bound.
func (d Dialer) control(network, address string, raw syscall.RawConn) error {
	if d.Mark != 0 {
		err := control(raw, func(fd int) error {
			return capable("mark socket", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(d.Mark)))
		})
		if err != nil {
			return err
		}
	}
	if !d.Spoof.IsValid() {
		return nil
	}
	if err := transparent(network, address, raw); err != nil {
		return err
	}
	return control(raw, func(fd int) error {
		level, freebind := unix.SOL_IP, unix.IP_FREEBIND
		if strings.HasSuffix(network, "6") {
			level, freebind = unix.SOL_IPV6, unix.IPV6_FREEBIND
		}
		if err := unix.SetsockoptInt(fd, level, freebind, 1); err != nil {
			return capable("let socket take a client's address", err)
		}
		// The port is chosen when the destination is known, so that one client may
		// have more connections than there are ports.
		return capable("put off the choice of a port", unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1))
	})
}

// outgoingConn is a connection that is forgotten when it is closed.
type outgoingConn struct {
	*net.TCPConn
	release func()
	once    sync.Once
}

// Close implements net.Conn.
func (c *outgoingConn) Close() error {
	c.once.Do(c.release)
	return c.TCPConn.Close()
}
