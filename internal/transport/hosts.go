package transport

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/mtasts"
	"gatepost/internal/smtpclient"
)

// hop is one address that a message may be taken to.
type hop struct {
	target smtpclient.Target
	// name is what a certificate is checked against: the host's name, or its
	// address where it has none; domain is the next-hop domain, "" but for mx.
	name, domain string
	// port is for the name of TLSA records.
	port int
	// weight is the share of its host; 1 for exchangers.
	weight int
	// secure says that DNSSEC vouches for the way from the domain to the address.
	secure bool
	// implicit says that sessions begin with TLS (RFC 8314 §3.3). from is whose address
	// they come from; the zero Addr stands for ours.
	implicit bool
	from     netip.Addr
	// sts is the MTA-STS policy of domain; nil: it has none.
	sts *mtasts.Policy
	// lax says that the message goes without TLS rather than not at all, whatever the
	// domain wants (RFC 8460 §3: a report about TLS that fails).
	lax bool
}

// local reports that the hop is a socket of this machine that no network sees.
func (h *hop) local() bool { return h.target.Network == "unix" }

// route yields the hops to try, best first. Instead of a hop it may yield why
// there is none at this place.
type route = iter.Seq2[hop, *mail.Outcome]

// host is one of Config.Hosts.
type host struct {
	name string
	port int
	// implicit says that sessions begin with TLS.
	implicit bool
	weight   int
	// fixed is the hop of a host that needs no look-up.
	fixed *hop
}

// parseHost reads an entry of Config.Hosts.
func parseHost(s string, cfg *Config) (host, error) {
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		if cfg.Kind != LMTP || path == "" {
			return host{}, fmt.Errorf("host %q: only lmtp can have a path", s)
		}
		return host{fixed: &hop{target: smtpclient.Target{Network: "unix", Address: path}}}, nil
	}
	name, port, err := splitHost(strings.TrimPrefix(s, "tcp:"))
	if err != nil {
		return host{}, fmt.Errorf("host %q: %w", s, err)
	}
	if port == 0 {
		port = defaultPort(cfg)
	}
	h := host{name: name, port: port, implicit: cfg.ImplicitTLS || cfg.Kind == SMTP && port == submissions && cfg.TLS != TLSOff}
	if addr, err := netip.ParseAddr(name); err == nil {
		fixed := tcpHop("", addr, port)
		fixed.implicit = h.implicit
		h.fixed = &fixed
	}
	return h, nil
}

// defaultPort is that of hosts without one.
func defaultPort(cfg *Config) int {
	switch {
	case cfg.Kind == LMTP:
		return 24
	case cfg.ImplicitTLS:
		return submissions
	}
	return 25
}

var errHost = errors.New("want name, name:port, address or [address]:port")

// splitHost splits "name:port"; the port is 0 where there is none.
func splitHost(s string) (name string, port int, err error) {
	if addr, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return addr.String(), 0, nil
	}
	if !strings.Contains(s, ":") {
		s += ":0"
	}
	name, p, err := net.SplitHostPort(s)
	if err != nil || name == "" || strings.ContainsAny(name, " /[]") {
		return "", 0, errHost
	}
	n, err := strconv.ParseUint(p, 10, 16)
	if err != nil {
		return "", 0, errHost
	}
	return name, int(n), nil
}

func tcpHop(name string, addr netip.Addr, port int) hop {
	addr = addr.Unmap()
	h := hop{
		target: smtpclient.Target{Network: "tcp", Address: netip.AddrPortFrom(addr, uint16(port)).String(), Name: name},
		name:   name,
		port:   port,
		weight: 1,
	}
	if name == "" {
		h.name = addr.WithZone("").String()
	}
	return h
}

// hostList is the route of a transport that has Config.Hosts.
type hostList struct {
	hosts    []host
	balance  Balance
	resolver Resolver
	pool     *pool
	turn     atomic.Uint32 // decides among equals

	mu sync.Mutex
	// credit is the state of round-robin, by address.
	credit map[string]int
}

func newHostList(cfg Config, deps Deps, p *pool) (*hostList, error) {
	l := &hostList{balance: cfg.Balance, resolver: deps.Resolver, pool: p}
	var errs []error
	if n := len(cfg.Weights); n > 0 && n != len(cfg.Hosts) {
		errs = append(errs, fmt.Errorf("%d weights for %d hosts", n, len(cfg.Hosts)))
		cfg.Weights = nil
	}
	for i, s := range cfg.Hosts {
		h, err := parseHost(s, &cfg)
		if err == nil && h.fixed == nil && deps.Resolver == nil {
			err = fmt.Errorf("host %q: no resolver for names", s)
		}
		if err != nil {
			errs = append(errs, err)
		}
		h.weight = 1
		if len(cfg.Weights) > 0 {
			h.weight = max(1, cfg.Weights[i])
		}
		l.hosts = append(l.hosts, h)
	}
	if len(l.hosts) == 0 {
		errs = append(errs, errors.New("no hosts"))
	}
	return l, errors.Join(errs...)
}

// resolve returns the hops of one host.
func (l *hostList) resolve(ctx context.Context, h host) ([]hop, *mail.Outcome) {
	if h.fixed != nil {
		fixed := *h.fixed
		fixed.weight = h.weight
		return []hop{fixed}, nil
	}
	addrs, secure, err := l.resolver.AddrsSecure(ctx, h.name)
	if err != nil {
		return nil, addressFailure(h.name, err)
	}
	hops := make([]hop, len(addrs))
	for i, a := range addrs {
		hops[i] = tcpHop(h.name, a, h.port)
		hops[i].secure, hops[i].implicit, hops[i].weight = secure, h.implicit, h.weight
	}
	return hops, nil
}

// addressFailure is the outcome where a host's address cannot be found. A host
// that the administrator configured and that has no address is his mistake, and
// an exchanger without one is skipped, so both wait; mx decides for itself.
func addressFailure(name string, err error) *mail.Outcome {
	o := ownOutcome(mail.Deferred, mail.ReplyDNSFailed, "dns", err)
	o.Host = name
	return &o
}

// ownOutcome is an outcome in our own words.
func ownOutcome(status mail.OutcomeStatus, key mail.ReplyKey, stage string, cause error) mail.Outcome {
	o := mail.Outcome{Status: status, Reply: key.Reply(), Stage: stage, Time: time.Now()}
	if cause != nil {
		o.Cause = cause.Error()
	}
	return o
}

// route yields the hops of all hosts in the order of the balance; those that
// rest come last.
func (l *hostList) route(ctx context.Context) route {
	if l.balance == Failover {
		return restedLast(l.pool, l.inOrder(ctx))
	}
	return restedLast(l.pool, l.balanced(ctx))
}

// inOrder resolves a host only when it is its turn: a name service that is down
// matters only when the hosts before were not to be had.
func (l *hostList) inOrder(ctx context.Context) route {
	return func(yield func(hop, *mail.Outcome) bool) {
		for _, h := range l.hosts {
			hops, failure := l.resolve(ctx, h)
			if failure != nil && !yield(hop{}, failure) {
				return
			}
			for _, hp := range hops {
				if !yield(hp, nil) {
					return
				}
			}
		}
	}
}

// balanced knows all hops before it chooses.
func (l *hostList) balanced(ctx context.Context) route {
	return func(yield func(hop, *mail.Outcome) bool) {
		var hops []hop
		for hp, failure := range l.inOrder(ctx) {
			if failure == nil {
				hops = append(hops, hp)
			} else if !yield(hop{}, failure) {
				return
			}
		}
		if len(hops) == 0 {
			return
		}
		if l.balance == LeastSessions {
			first := int(l.turn.Add(1)-1) % len(hops)
			hops = slices.Concat(hops[first:], hops[:first])
			l.pool.sortByBusy(hops)
		} else {
			l.inTurn(hops)
		}
		for _, hp := range hops {
			if !yield(hp, nil) {
				return
			}
		}
	}
}

// inTurn orders hops for round-robin: each gains its weight, and the richest one goes
// first and pays for all. So turns are spread evenly: 3:1 is A A B A and not A A A B.
func (l *hostList) inTurn(hops []hop) {
	l.mu.Lock()
	defer l.mu.Unlock()
	// Addresses that the name service no longer gives are forgotten.
	credit := make(map[string]int, len(hops))
	total := 0
	for _, h := range hops {
		credit[h.target.Address] = l.credit[h.target.Address] + h.weight
		total += h.weight
	}
	slices.SortStableFunc(hops, func(a, b hop) int { return cmp.Compare(credit[b.target.Address], credit[a.target.Address]) })
	credit[hops[0].target.Address] -= total
	l.credit = credit
}

// restedLast moves the hops that rest to the end: they are tried only where nobody
// else took the message.
func restedLast(p *pool, in route) route {
	return func(yield func(hop, *mail.Outcome) bool) {
		var resting []hop
		for hp, failure := range in {
			if failure == nil && p.resting(hp.target.Address) {
				resting = append(resting, hp)
			} else if !yield(hp, failure) {
				return
			}
		}
		for _, hp := range resting {
			if !yield(hp, nil) {
				return
			}
		}
	}
}
