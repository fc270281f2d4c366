package intercept

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// Conn is a connection that the firewall diverted to us.
type Conn struct {
	net.Conn
	original netip.AddrPort
	err      error
	guard    *Guard
}

// Original is where the client wanted to go; the zero AddrPort where that is not
// known, and then Check is an error.
func (c *Conn) Original() netip.AddrPort { return c.original }

// Check is nil if the connection may go on to its original destination, and else
// says why not; see Guard.Check, by which it may wait a second.
func (c *Conn) Check(ctx context.Context) error {
	if c.err != nil || c.guard == nil {
		return c.err
	}
	remote, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return fmt.Errorf("check diverted connection: %T is not a TCP connection", c.Conn)
	}
	return c.guard.Check(ctx, remote.AddrPort(), c.original)
}

// CloseWrite ends our direction of the connection, so that what was sent is read
// before it is closed.
func (c *Conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Close()
}

// Accepting makes a Listener whose connections are *Conn. guard is asked for each of
// them: who reloads its configuration has another one; nil: none are refused. Mode
// None leaves the listener as it is.
func Accepting(l net.Listener, mode Mode, guard func() *Guard) net.Listener {
	if mode == None {
		return l
	}
	return &listener{Listener: l, mode: mode, guard: guard}
}

type listener struct {
	net.Listener
	mode  Mode
	guard func() *Guard
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &Conn{Conn: conn}
	if l.guard != nil {
		c.guard = l.guard()
	}
	c.original, c.err = Original(conn, l.mode)
	return c, nil
}

// Divertible makes a socket that somebody else opened, a service manager, one that
// connections may be diverted to in that mode. TProxy needs CAP_NET_ADMIN or
// CAP_NET_RAW, unless the socket was made transparent before.
func Divertible(l net.Listener, mode Mode) error {
	if mode != TProxy {
		return nil
	}
	sc, ok := l.(syscall.Conn)
	if !ok {
		return fmt.Errorf("make socket transparent: %T has no descriptor", l)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return fmt.Errorf("make socket transparent: %w", err)
	}
	return control(raw, func(fd int) error {
		// The two options are one flag of the socket in the kernel.
		if on, err := unix.GetsockoptInt(fd, unix.SOL_IP, unix.IP_TRANSPARENT); err == nil && on != 0 {
			return nil
		}
		return capable("make socket transparent", unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_TRANSPARENT, 1))
	})
}
