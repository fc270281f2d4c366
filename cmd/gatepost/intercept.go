package main

import (
	"net"
	"net/netip"
	"slices"
	"sync/atomic"

	"gatepost/internal/config"
	"gatepost/internal/intercept"
)

// interception is what this process knows of connections that the firewall diverts
// to it, and of those that it makes itself.
type interception struct {
	guard    atomic.Pointer[intercept.Guard] // of the present configuration
	outgoing intercept.Outgoing
}

// accepting is the socket of a listener as its server has it: connections that were
// diverted come as *intercept.Conn, which knows where they wanted to go and whether
// they may.
func (a *app) accepting(l *config.Listener, ln net.Listener) net.Listener {
	return intercept.Accepting(ln, interceptMode(l), a.interception.guard.Load)
}

// interceptMode is how connections come to a listener.
func interceptMode(l *config.Listener) intercept.Mode {
	if !l.Intercepts() {
		return intercept.None
	}
	return intercept.Mode(l.Interception)
}

// newGuard makes the guard of a configuration. It keeps what is diverted from coming
// back.
func (a *app) newGuard(cfg *config.Config) *intercept.Guard {
	gc := intercept.GuardConfig{Listening: ownAddresses(cfg), Outgoing: &a.interception.outgoing}
	if ip := cfg.Admin.Listen.IP(); ip.IsValid() {
		gc.Listening = append(gc.Listening, netip.AddrPortFrom(ip, uint16(cfg.Admin.Listen.Port)))
	}
	for i := range cfg.Listeners {
		if l := &cfg.Listeners[i]; l.Intercepts() {
			for _, port := range l.InterceptPorts {
				gc.Ports = append(gc.Ports, uint16(port))
			}
		}
	}
	return intercept.NewGuard(gc)
}

// modeChanges names the addresses that would have to be listened on in another way
// than now: a socket is opened for one.
func modeChanges(old, next *config.Config) []string {
	modes := make(map[string]intercept.Mode)
	for i := range old.Listeners {
		for _, addr := range old.Listeners[i].Address {
			modes[addr.String()] = interceptMode(&old.Listeners[i])
		}
	}
	var changed []string
	for i := range next.Listeners {
		for _, addr := range next.Listeners[i].Address {
			if mode, ok := modes[addr.String()]; ok && mode != interceptMode(&next.Listeners[i]) {
				changed = append(changed, "interception at "+addr.String())
			}
		}
	}
	slices.Sort(changed)
	return changed
}
