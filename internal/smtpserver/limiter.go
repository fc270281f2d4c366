package smtpserver

import (
	"net/netip"
	"sync"
	"sync/atomic"
)

// Limits are the bounds of a Limiter. The zero value of each stands for its
// default.
type Limits struct {
	Sessions   int // in all; default 10000
	PerNetwork int // from one client network; default 50
	IPv4Prefix int // bits of an IPv4 address that make a client network; default 32
	IPv6Prefix int // the same for IPv6; default 64
}

func (l Limits) withDefaults() Limits {
	setDefault(&l.Sessions, 10000)
	setDefault(&l.PerNetwork, 50)
	setDefault(&l.IPv4Prefix, 32)
	setDefault(&l.IPv6Prefix, 64)
	l.IPv4Prefix, l.IPv6Prefix = min(l.IPv4Prefix, 32), min(l.IPv6Prefix, 128)
	return l
}

// Limiter counts sessions, for several servers together.
type Limiter struct {
	// shed says that no session is to be added, whatever the limits.
	shed     atomic.Bool
	mu       sync.Mutex
	limits   Limits
	sessions int
	networks map[netip.Prefix]int
}

// NewLimiter returns a limiter with no sessions.
func NewLimiter(l Limits) *Limiter {
	return &Limiter{limits: l.withDefaults(), networks: make(map[netip.Prefix]int)}
}

// SetLimits changes the limits. Sessions over a new limit stay.
func (l *Limiter) SetLimits(limits Limits) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.limits = limits.withDefaults()
}

// Shed turns all new sessions away, or no longer. Those that are there stay.
func (l *Limiter) Shed(on bool) { l.shed.Store(on) }

// Shedding reports whether all new sessions are turned away.
func (l *Limiter) Shedding() bool { return l.shed.Load() }

// Sessions returns how many sessions there are.
func (l *Limiter) Sessions() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sessions
}

// Enter, Leave, EnterFrom and LeaveFrom are for sessions of other protocols, which the
// same clients make on the same host.
func (l *Limiter) Enter() bool                                      { return l.enter() }
func (l *Limiter) Leave()                                           { l.leave() }
func (l *Limiter) EnterFrom(client netip.Addr) (netip.Prefix, bool) { return l.enterFrom(client) }
func (l *Limiter) LeaveFrom(network netip.Prefix)                   { l.leaveFrom(network) }

// enter counts a session, if there is room for one.
func (l *Limiter) enter() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sessions >= l.limits.Sessions || l.shed.Load() {
		return false
	}
	l.sessions++
	return true
}

func (l *Limiter) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sessions--
}

// enterFrom counts a session of a client, if its network may have one more, and
// returns the network to leave. It is the network at this moment: the prefix
// lengths may change before the session ends.
func (l *Limiter) enterFrom(client netip.Addr) (netip.Prefix, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	bits := l.limits.IPv6Prefix
	if client.Is4() {
		bits = l.limits.IPv4Prefix
	}
	network, err := client.Prefix(bits)
	if err != nil {
		return netip.Prefix{}, true // not an IP connection: nothing to count by
	}
	if l.networks[network] >= l.limits.PerNetwork {
		return netip.Prefix{}, false
	}
	l.networks[network]++
	return network, true
}

func (l *Limiter) leaveFrom(network netip.Prefix) {
	if !network.IsValid() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.networks[network]--; l.networks[network] <= 0 {
		delete(l.networks, network)
	}
}
