package memconn

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
)

// backlog is how many connections may wait for Accept.
const backlog = 128

// Listener is a net.Listener whose connections come from Dial.
type Listener struct {
	addr   netip.AddrPort
	queue  chan net.Conn
	once   sync.Once
	closed chan struct{}
	port   atomic.Uint32
}

// Listen returns a listener with the address 192.0.2.25:25.
func Listen() *Listener {
	return &Listener{
		addr:   netip.MustParseAddrPort("192.0.2.25:25"),
		queue:  make(chan net.Conn, backlog),
		closed: make(chan struct{}),
	}
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.queue:
		return c, nil
	case <-l.closed:
		return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.Addr(), Err: net.ErrClosed}
	}
}

// Close implements net.Listener. Connections that nobody accepted are reset.
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	for {
		select {
		case c := <-l.queue:
			c.(*Conn).Reset()
		default:
			return nil
		}
	}
}

// Addr implements net.Listener.
func (l *Listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.addr) }

// Dial connects from 192.0.2.1 and a port of its own.
func (l *Listener) Dial(ctx context.Context) (*Conn, error) {
	return l.DialFrom(ctx, netip.MustParseAddr("192.0.2.1"))
}

// DialFrom connects from the given address and a port of its own.
func (l *Listener) DialFrom(ctx context.Context, from netip.Addr) (*Conn, error) {
	client, server := pipe(netip.AddrPortFrom(from, uint16(1024+l.port.Add(1)%60000)), l.addr)
	refused := &net.OpError{Op: "dial", Net: "tcp", Addr: l.Addr(), Err: net.ErrClosed}
	select {
	case <-l.closed:
		return nil, refused
	default:
	}
	select {
	case <-l.closed:
		return nil, refused
	case l.queue <- server:
		return client, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
