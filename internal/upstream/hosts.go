package upstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"gatepost/internal/smtpclient"
)

// host is one of Config.Hosts.
type host struct {
	configured string // as the configuration has it
	name       string // "" where it is only known by address
	fixed      netip.Addr
	port       int
	weight     int
	// implicit says that sessions begin with TLS, whatever the configuration.
	implicit bool
	// credit is the state of round-robin, under Server.mu.
	credit int
}

var (
	errHost   = errors.New("want name, name:port, address or [address]:port")
	errWeight = errors.New("weight is not between 1 and 1000")
)

// parseHost reads an entry of Config.Hosts.
func parseHost(h Host, defaultPort int) (*host, error) {
	out := &host{configured: h.Address, port: defaultPort, weight: cmp.Or(h.Weight, 1)}
	if out.weight < 1 || out.weight > 1000 {
		return nil, fmt.Errorf("host %q: %w", h.Address, errWeight)
	}
	if addr, err := netip.ParseAddr(strings.Trim(h.Address, "[]")); err == nil {
		out.fixed = addr.Unmap()
		return out, nil
	}
	out.name = h.Address
	if name, port, err := net.SplitHostPort(h.Address); err == nil {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return nil, fmt.Errorf("host %q: %w", h.Address, errHost)
		}
		out.name, out.port = name, int(n)
	}
	if addr, err := netip.ParseAddr(out.name); err == nil {
		out.name, out.fixed = "", addr.Unmap()
		return out, nil
	}
	if out.name == "" || strings.ContainsAny(out.name, " :/[]") {
		return nil, fmt.Errorf("host %q: %w", h.Address, errHost)
	}
	return out, nil
}

// target is the host at one of its addresses.
func (h *host) target(addr netip.Addr) smtpclient.Target {
	return smtpclient.Target{Network: "tcp", Address: netip.AddrPortFrom(addr.Unmap(), uint16(h.port)).String(), Name: h.name}
}

// tlsName is what its certificate must be for.
func (h *host) tlsName() string {
	if h.name == "" {
		return h.fixed.WithZone("").String()
	}
	return h.name
}

// resolve returns the addresses of a host, best first.
func (s *Server) resolve(ctx context.Context, h *host) ([]*endpoint, error) {
	addrs, secure := []netip.Addr{h.fixed}, false
	if !h.fixed.IsValid() {
		var err error
		if addrs, secure, err = s.deps.Resolver.AddrsSecure(ctx, h.name); err != nil {
			return nil, fmt.Errorf("find %s: %w", h.name, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*endpoint, len(addrs))
	for i, addr := range addrs {
		out[i] = s.endpointLocked(h, h.target(addr))
		out[i].secure = secure
	}
	return out, nil
}

// order returns the hosts in the order in which they are to be tried.
func (s *Server) order() []*host {
	if s.cfg.Balance == Failover || len(s.hosts) == 1 {
		return s.hosts
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out := slices.Clone(s.hosts)
	if s.cfg.Balance == LeastSessions {
		busy := make(map[*host]int)
		for _, ep := range s.endpoints {
			busy[ep.host] += ep.open - len(ep.idle)
		}
		s.turn++
		first := s.turn % len(out) // decides among equals
		out = slices.Concat(out[first:], out[:first])
		slices.SortStableFunc(out, func(a, b *host) int {
			// The load that one more session would make of each.
			return cmp.Compare((busy[a]+1)*b.weight, (busy[b]+1)*a.weight)
		})
		return out
	}
	// Smooth weighted round-robin: each host gains its weight, the richest one pays
	// for all. Its turns are spread evenly, 3:1 is A A B A and not A A A B.
	total := 0
	for _, h := range s.hosts {
		h.credit += h.weight
		total += h.weight
	}
	slices.SortStableFunc(out, func(a, b *host) int { return cmp.Compare(b.credit, a.credit) })
	out[0].credit -= total
	return out
}
