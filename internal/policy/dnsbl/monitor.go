package dnsbl

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"gatepost/internal/dns"
	"gatepost/internal/dns/dnslist"
)

// Status is how a list is, for the status page and for alarms.
type Status struct {
	Zone string
	// On says that the list is asked.
	On bool
	// IPv4 and IPv6 say which clients it is asked about.
	IPv4, IPv6 bool
	// Reason is what is wrong, "" for nothing. It may be set while the list is still on.
	Reason string
	// Since is when it was switched on or off; zero: at the start. Checked is when
	// its test points were last asked for; zero: not yet.
	Since, Checked time.Time
}

// What is wrong with a list.
var (
	errListsAll  = errors.New("it lists what must not be listed (127.0.0.1): it lists everything")
	errListsNone = errors.New("it does not list the test address 127.0.0.2: it lists nothing")
)

// maxFailures is how many times in a row a list may not answer before it is
// switched off. One outage of the resolver is not the fault of all lists.
const maxFailures = 2

// health is what is known of a list. Until it was checked it is asked.
type health struct {
	mu       *sync.Mutex
	off      error // why it is off; nil: it is on
	v4, v6   bool
	trouble  error // what the last check said
	failures int
	since    time.Time
	checked  time.Time
}

func newHealth() health { return health{mu: new(sync.Mutex), v4: true, v6: true} }

// asks reports whether the list is asked about a family, and why not if that is a
// trouble.
func (h *health) asks(v4 bool) (bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.off != nil {
		return false, h.off
	}
	return v4 && h.v4 || !v4 && h.v6, nil
}

// Health tells how the lists are, in the order of the configuration.
func (c *Check) Health() []Status {
	list := make([]Status, len(c.zones))
	for i, z := range c.zones {
		h := &z.health
		h.mu.Lock()
		list[i] = Status{Zone: z.Name, On: h.off == nil, IPv4: h.v4, IPv6: h.v6, Since: h.since, Checked: h.checked}
		if h.trouble != nil {
			list[i].Reason = cause(h.trouble)
		}
		h.mu.Unlock()
	}
	return list
}

// Watch asks for the test points of the lists at once and then every MonitorEvery,
// until ctx ends. It switches lists off that misbehave, and on when they are well.
func (c *Check) Watch(ctx context.Context) {
	if c.cfg.MonitorEvery < 0 {
		return
	}
	var wg sync.WaitGroup
	for _, z := range c.zones {
		wg.Go(func() { c.watch(ctx, z) })
	}
	wg.Wait()
}

func (c *Check) watch(ctx context.Context, z *zone) {
	for ctx.Err() == nil {
		next := c.cfg.MonitorEvery
		if c.examine(ctx, z) {
			next = min(next, c.cfg.RetryEvery)
		}
		timer := time.NewTimer(next)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

// examine asks for the test points of one list and reports trouble.
func (c *Check) examine(ctx context.Context, z *zone) bool {
	limited, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	p := probe(limited, c.cfg.Resolver, z.Zone)
	if ctx.Err() != nil {
		return false // the gateway stops
	}
	was, is, changed := z.health.update(p)
	switch {
	case changed && is != nil:
		c.cfg.Log.Error("list switched off", slog.String("zone", z.Name), slog.String("reason", cause(is)))
	case changed:
		c.cfg.Log.Info("list switched on again", slog.String("zone", z.Name), slog.String("was", cause(was)))
	case p.err != nil:
		c.cfg.Log.Warn("list does not answer its test points", slog.String("zone", z.Name), slog.String("reason", cause(p.err)))
	}
	return p.err != nil
}

// probed is what the test points of a list say.
type probed struct {
	v4, v6 bool
	err    error
	// passing says that the trouble may be the network's: no answer came.
	passing bool
}

// update takes over what a probe said. was and is are why the list is off.
func (h *health) update(p probed) (was, is error, changed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	was = h.off
	h.checked, h.trouble = time.Now(), p.err
	switch {
	case p.err == nil:
		h.off, h.failures, h.v4, h.v6 = nil, 0, p.v4, p.v6
	case p.passing:
		if h.failures++; h.failures >= maxFailures && h.off == nil {
			h.off = p.err
		}
	default:
		h.failures = maxFailures
		h.off = p.err
	}
	changed = (was == nil) != (h.off == nil)
	if changed {
		h.since = h.checked
	}
	return was, h.off, changed
}

// probe asks for the four test points of a list (RFC 5782 §5). A list need not
// have both families.
func probe(ctx context.Context, resolver Resolver, z dnslist.Zone) probed {
	points := [4]struct {
		name   string
		listed bool
		err    error
	}{{name: z.TestListed4()}, {name: z.TestUnlisted4()}, {name: z.TestListed6()}, {name: z.TestUnlisted6()}}
	var wg sync.WaitGroup
	for i := range points {
		wg.Go(func() { points[i].listed, points[i].err = present(ctx, resolver, points[i].name) })
	}
	wg.Wait()
	for _, p := range points {
		if p.err != nil {
			return probed{err: p.err, passing: dns.IsTemporary(p.err) || errors.Is(p.err, context.DeadlineExceeded)}
		}
	}
	switch {
	case points[1].listed || points[3].listed:
		return probed{err: errListsAll}
	case !points[0].listed && !points[2].listed:
		return probed{err: errListsNone}
	}
	return probed{v4: points[0].listed, v6: points[2].listed}
}

// present reports whether a name has an answer that a list gives, be it of a kind
// that this zone is asked for or not.
func present(ctx context.Context, resolver Resolver, name string) (bool, error) {
	addrs, err := resolver.IPv4(ctx, name)
	switch {
	case dns.IsNotFound(err):
		return false, nil
	case err != nil:
		return false, err
	}
	for _, addr := range addrs {
		if (dnslist.Zone{}).Meaning(addr) == dnslist.Refused {
			return false, refusal(addr)
		}
	}
	return true, nil
}

func refusal(addr netip.Addr) error { return fmt.Errorf("it answers %s", addr) }
