package intercept

import (
	"context"
	"net/netip"
	"sync"
	"time"
)

// Outgoing is the connections that Dialers have made and not closed, and those
// that they are about to make. It lives as long as the process; the zero value is
// ready. A nil Outgoing remembers nothing.
type Outgoing struct {
	mu      sync.Mutex // held for map accesses only
	open    map[tcpFlow]int
	dialing map[*attempt]bool
}

// tcpFlow is both ends of a connection.
type tcpFlow struct{ from, to netip.AddrPort }

// attempt is a connection that is being made.
type attempt struct {
	owner *Outgoing
	from  netip.Addr // the spoofed address, the zero Addr for one of the host's
	to    netip.AddrPort
	done  chan struct{} // closed when the attempt has ended
}

// maxLoopWait bounds how long mine waits for attempts under way. A connection to
// ourselves is there at once; only the scheduler stands between.
const maxLoopWait = time.Second

func (o *Outgoing) begin(from netip.Addr, to netip.AddrPort) *attempt {
	a := &attempt{owner: o, from: from, to: to, done: make(chan struct{})}
	if o == nil {
		return a
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.dialing == nil {
		o.dialing = make(map[*attempt]bool)
		o.open = make(map[tcpFlow]int)
	}
	o.dialing[a] = true
	return a
}

// end ends the attempt; local is the connection's own address, the zero AddrPort
// if there is none. What it returns forgets the connection.
func (a *attempt) end(local netip.AddrPort) (release func()) {
	o := a.owner
	if o == nil {
		return func() {}
	}
	flow := tcpFlow{local, a.to}
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.dialing, a)
	close(a.done)
	if !local.IsValid() {
		return func() {}
	}
	o.open[flow]++
	return func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.open[flow]--; o.open[flow] <= 0 {
			delete(o.open, flow)
		}
	}
}

// mine reports whether the connection is one of ours that came back. One of
// ours may be accepted before the call that made it has returned, so attempts
// that could be this one are waited for, one second at most. host says that the
// client's address is one of this host's.
func (o *Outgoing) mine(ctx context.Context, client, destination netip.AddrPort, host bool) bool {
	if o == nil {
		return false
	}
	flow := tcpFlow{client, destination}
	o.mu.Lock()
	known := o.open[flow] > 0
	var wait []*attempt
	for a := range o.dialing {
		if a.to == destination && (a.from == client.Addr() || !a.from.IsValid() && host) {
			wait = append(wait, a)
		}
	}
	o.mu.Unlock()
	if known || len(wait) == 0 {
		return known
	}
	timer := time.NewTimer(maxLoopWait)
	defer timer.Stop()
	for _, a := range wait {
		select {
		case <-a.done:
		case <-timer.C:
			return o.has(flow)
		case <-ctx.Done():
			return o.has(flow)
		}
	}
	return o.has(flow)
}

func (o *Outgoing) has(flow tcpFlow) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.open[flow] > 0
}
