package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"github.com/coreos/go-systemd/v22/activation"

	"gatepost/internal/config"
	"gatepost/internal/intercept"
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

// Listen returns a listener for addr, to which connections may be diverted in the
// mode.
func (s *sockets) Listen(addr config.HostPort, mode intercept.Mode) (net.Listener, error) {
	s.mu.Lock()
	l := s.inherited[socketName(addr)]
	s.mu.Unlock()
	if l != nil {
		if err := intercept.Divertible(l, mode); err != nil {
			return nil, fmt.Errorf("listen on %s: %w, or Transparent=yes in the socket unit", addr, err)
		}
		return duplicate(l)
	}
	l, err := intercept.Listen(context.Background(), mode, addr.Network(), addr.String())
	if errors.Is(err, os.ErrPermission) && mode == intercept.TProxy {
		return nil, fmt.Errorf("listen on %s: %w; see docs/interception.md#rights", addr, err)
	}
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

// duplicate returns a listener of its own on the same socket: what is done to the
// one, deadlines and Close, does nothing to the other.
func duplicate(l net.Listener) (net.Listener, error) {
	d, ok := l.(interface{ File() (*os.File, error) })
	if !ok {
		return nil, fmt.Errorf("socket %s cannot be served", l.Addr())
	}
	f, err := d.File()
	if err != nil {
		return nil, fmt.Errorf("duplicate socket %s: %w", l.Addr(), err)
	}
	defer f.Close()
	other, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("duplicate socket %s: %w", l.Addr(), err)
	}
	return other, nil
}
