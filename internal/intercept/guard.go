package intercept

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Why a destination is refused.
var (
	// ErrSelf is a destination where Gatepost itself would answer.
	ErrSelf = errors.New("the destination is this host")
	// ErrLoop is a connection of our own that was diverted to us.
	ErrLoop = errors.New("the connection is one of our own")
	// ErrNowhere is a destination that no server can have: a broadcast, multicast or
	// unspecified address, or port 0.
	ErrNowhere = errors.New("the destination is no server's address")
)

// GuardConfig is what a Guard knows about this host.
type GuardConfig struct {
	// Listening is every address and port where this process listens; an
	// unspecified address, as 0.0.0.0 is, stands for all addresses of the host in
	// its family, and [::] for those of IPv4 as well.
	Listening []netip.AddrPort
	// Ports are the destination ports that the firewall diverts to us. On this host's own
	// addresses they are refused: what is diverted on its way to a server is not
	// meant for the gateway.
	Ports []uint16
	// HostServers takes that back: a mail server that is not ours runs on this
	// host, at one of Ports and an address where we do not listen.
	HostServers bool
	// Outgoing is where Dialers remember their connections; nil: loops are found by
	// address alone.
	Outgoing *Outgoing
	// Addresses lists the addresses of this host; default: those of its
	// interfaces, asked again after five seconds.
	Addresses func() ([]netip.Addr, error)
}

// Guard refuses connections that would come back to ourselves. It may be used
// by any number of goroutines.
type Guard struct {
	cfg GuardConfig

	mu    sync.Mutex // never held while addresses are listed
	known []netip.Addr
	asked time.Time
}

// addressesKept is how long the addresses of the host are taken for true.
const addressesKept = 5 * time.Second

// NewGuard returns a Guard.
func NewGuard(c GuardConfig) *Guard {
	if c.Addresses == nil {
		c.Addresses = interfaceAddresses
	}
	return &Guard{cfg: c}
}

// Check is nil if a connection from client may go on to destination; else it is
// ErrSelf, ErrLoop or ErrNowhere with the addresses, or what went wrong when
// this host's addresses were listed. It may wait a second for connections that
// are being made.
func (g *Guard) Check(ctx context.Context, client, destination netip.AddrPort) error {
	client, destination = unmap(client), unmap(destination)
	if err := g.CheckDestination(destination); err != nil {
		return err
	}
	host, err := g.hostAddresses()
	if err != nil {
		return fmt.Errorf("go on to %s: %w", destination, err)
	}
	if g.cfg.Outgoing.mine(ctx, client, destination, isHost(host, client.Addr())) {
		return fmt.Errorf("go on from %s to %s: %w", client, destination, ErrLoop)
	}
	return nil
}

// CheckDestination is Check for a connection that was kept for later: nobody has
// connected to here now.
func (g *Guard) CheckDestination(destination netip.AddrPort) error {
	destination = unmap(destination)
	to := destination.Addr()
	if !to.IsValid() || to.IsUnspecified() || to.IsMulticast() || destination.Port() == 0 || to == broadcast {
		return fmt.Errorf("go on to %s: %w", destination, ErrNowhere)
	}
	host, err := g.hostAddresses()
	if err != nil {
		return fmt.Errorf("go on to %s: %w", destination, err)
	}
	if g.self(destination, isHost(host, to)) {
		return fmt.Errorf("go on to %s: %w", destination, ErrSelf)
	}
	return nil
}

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

func (g *Guard) self(destination netip.AddrPort, host bool) bool {
	for _, l := range g.cfg.Listening {
		if l = unmap(l); l.Port() != destination.Port() {
			continue
		}
		anywhere := l.Addr().IsUnspecified() && (l.Addr().Is6() || destination.Addr().Is4())
		if l.Addr().WithZone("") == destination.Addr().WithZone("") || host && anywhere {
			return true
		}
	}
	return host && !g.cfg.HostServers && slices.Contains(g.cfg.Ports, destination.Port())
}

// isHost reports whether an address is one of the host's; all of 127.0.0.0/8 is.
func isHost(host []netip.Addr, a netip.Addr) bool {
	return a.IsLoopback() || slices.Contains(host, a.WithZone(""))
}

func (g *Guard) hostAddresses() ([]netip.Addr, error) {
	g.mu.Lock()
	known, asked := g.known, g.asked
	g.mu.Unlock()
	if !asked.IsZero() && time.Since(asked) < addressesKept {
		return known, nil
	}
	known, err := g.cfg.Addresses()
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.known, g.asked = known, time.Now()
	return known, nil
}

func interfaceAddresses() ([]netip.Addr, error) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list addresses of this host: %w", err)
	}
	var addrs []netip.Addr
	for _, a := range list {
		if n, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok {
				addrs = append(addrs, ip.Unmap())
			}
		}
	}
	return addrs, nil
}
