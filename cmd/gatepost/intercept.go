package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"gatepost/internal/config"
	"gatepost/internal/firewall"
	"gatepost/internal/intercept"
)

// interception is what this process knows of connections that the firewall diverts
// to it, and of those that it makes itself.
type interception struct {
	guard    atomic.Pointer[intercept.Guard] // of the present configuration
	outgoing intercept.Outgoing
	// on says that connections are diverted to here, mark what our own ones carry then;
	// 0 where this process may set none: the firewall knows them by its user.
	on   atomic.Bool
	mark atomic.Uint32
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

// intercepting reports whether connections are diverted to this process.
func intercepting(cfg *config.Config) bool {
	return slices.ContainsFunc(cfg.Listeners, func(l config.Listener) bool { return l.Intercepts() })
}

// interceptions tell for status what is diverted to which listener.
func interceptions(cfg *config.Config) map[string]string {
	all := make(map[string]string)
	for i := range cfg.Listeners {
		l := &cfg.Listeners[i]
		if !l.Intercepts() {
			continue
		}
		ports := make([]string, len(l.InterceptPorts))
		for j, port := range l.InterceptPorts {
			ports[j] = strconv.Itoa(port)
		}
		all[string(l.Name)] = l.Interception + " from ports " + strings.Join(ports, ", ")
	}
	return all
}

// checkInterception refuses what this process may not do, before mail is accepted
// that it could not deliver.
func (a *app) checkInterception(cfg *config.Config) error {
	on := intercepting(cfg)
	if err := intercept.Permitted(); on && err != nil {
		for i := range cfg.Transports {
			if t := &cfg.Transports[i]; t.SpoofClient {
				return fmt.Errorf("transport %s: spoof_client: %w; see docs/interception.md#rights", t.Name, err)
			}
		}
		a.log.Info("our own connections carry no mark: with gatepost firewall --local, give --exempt-user", "error", err)
	} else if on {
		a.interception.mark.Store(firewall.DefaultOwnMark)
	}
	a.interception.on.Store(on)
	return nil
}

// dialer connects to mail servers from an address of this host; the zero Addr leaves
// it to the system. Where connections are diverted to this process, the firewall knows
// ours and does not divert them again, and they are known if they come back all the
// same.
func (a *app) dialer(source netip.Addr) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if network != "unix" && (a.interception.on.Load() || source.IsValid()) {
			d := intercept.Dialer{Mark: a.interception.mark.Load(), Source: source, Outgoing: &a.interception.outgoing}
			return d.DialContext(ctx, network, address)
		}
		var plain net.Dialer
		return plain.DialContext(ctx, network, address)
	}
}

// dialFrom connects from the address of a client.
func (a *app) dialFrom(ctx context.Context, from netip.Addr, network, address string) (net.Conn, error) {
	d := intercept.Dialer{Mark: a.interception.mark.Load(), Spoof: from, Outgoing: &a.interception.outgoing}
	return d.DialContext(ctx, network, address)
}

// mayGoTo is nil unless a connection would come back to this process.
func (a *app) mayGoTo(to netip.AddrPort) error {
	guard := a.interception.guard.Load()
	if guard == nil {
		return nil
	}
	return guard.CheckDestination(to)
}
