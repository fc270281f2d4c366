package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/activation"

	"gatepost/internal/config"
)

// sockets opens listening sockets, or takes those that systemd opened for us:
// an inherited socket belongs to the configured address that it is bound to.
// A socket that was inherited stays open over reloads, because nobody could
// open it again.
type sockets struct {
	mu        sync.Mutex // guards inherited; held only for map accesses
	inherited map[string]net.Listener
}

// inheritSockets takes what the service manager passed (sd_listen_fds(3)).
func inheritSockets() (*sockets, error) {
	s := &sockets{inherited: make(map[string]net.Listener)}
	listeners, err := activation.Listeners()
	if err != nil {
		return nil, fmt.Errorf("take sockets from the service manager: %w", err)
	}
	for _, l := range listeners {
		if l != nil {
			s.inherited[l.Addr().String()] = l
		}
	}
	return s, nil
}

// Listen returns a listener for addr.
func (s *sockets) Listen(addr config.HostPort) (net.Listener, error) {
	s.mu.Lock()
	l := s.inherited[socketName(addr)]
	s.mu.Unlock()
	if l != nil {
		return newKeepOpen(l)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), addr.Network(), addr.String())
	if errors.Is(err, os.ErrPermission) {
		return nil, fmt.Errorf("listen on %s: %w (ports below 1024 need CAP_NET_BIND_SERVICE, see docs/operations.md)", addr, err)
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	return l, nil
}

// socketName is the name under which systemd's socket for addr is known: with
// ":25" it binds [::]:25.
func socketName(addr config.HostPort) string {
	if addr.Unix == "" && addr.Host == "" {
		addr.Host = "::"
	}
	return addr.String()
}

// deadliner is what TCP and unix listeners can do besides Accept.
type deadliner interface{ SetDeadline(t time.Time) error }

// keepOpen is an inherited listener. Close ends Accept but keeps the socket, by
// a deadline in the past.
type keepOpen struct{ net.Listener }

// newKeepOpen takes off the deadline that an earlier Close has left.
func newKeepOpen(l net.Listener) (net.Listener, error) {
	d, ok := l.(deadliner)
	if !ok {
		return nil, fmt.Errorf("inherited socket %s cannot be served", l.Addr())
	}
	if err := d.SetDeadline(time.Time{}); err != nil {
		return nil, fmt.Errorf("take inherited socket: %w", err)
	}
	return keepOpen{l}, nil
}

func (k keepOpen) Accept() (net.Conn, error) {
	conn, err := k.Listener.Accept()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, net.ErrClosed
	}
	return conn, err
}

func (k keepOpen) Close() error {
	return k.Listener.(deadliner).SetDeadline(time.Unix(1, 0))
}
