package transport

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"

	"gatepost/internal/dns"
	"gatepost/internal/mail"
	"gatepost/internal/mtasts"
	"gatepost/internal/tlsrpt"
)

// mxTransport delivers to the mail exchangers of a domain.
type mxTransport struct {
	relay    *relay
	resolver Resolver
	hostname string
	port     int
	own      []netip.AddrPort
	// local are this machine's addresses, for listeners on all of them.
	local []netip.Addr
	sts   STS // nil: nobody asks
}

// maxExchangers bounds how many exchangers of one domain are looked at.
const maxExchangers = 20

func newMX(cfg Config, deps Deps) (Transport, error) {
	if cfg.Port < 1 || cfg.Port > 65535 {
		return nil, fmt.Errorf("port %d is out of range", cfg.Port)
	}
	r, err := newRelay(cfg, deps, newPool(cfg))
	if err != nil {
		return nil, err
	}
	t := &mxTransport{relay: r, resolver: deps.Resolver, hostname: cfg.Hostname, port: cfg.Port, own: cfg.Own, sts: deps.STS}
	for _, own := range cfg.Own {
		if own.Addr().IsUnspecified() {
			if t.local, err = machineAddresses(); err != nil {
				return nil, err
			}
			break
		}
	}
	return t, nil
}

func machineAddresses() ([]netip.Addr, error) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list own addresses: %w", err)
	}
	var addrs []netip.Addr
	for _, a := range list {
		if n, ok := a.(*net.IPNet); ok {
			if addr, ok := netip.AddrFromSlice(n.IP); ok {
				addrs = append(addrs, addr.Unmap())
			}
		}
	}
	return addrs, nil
}

// Close implements Transport.
func (t *mxTransport) Close() error {
	t.relay.close()
	return nil
}

// Deliver implements Transport. Without a NextHop the recipients' own domains are
// asked, one after the other.
func (t *mxTransport) Deliver(ctx context.Context, d *mail.Delivery) []mail.Outcome {
	if d.NextHop != "" || sameDomain(d.Recipients) {
		return t.toDomain(ctx, d)
	}
	out := make([]mail.Outcome, len(d.Recipients))
	byDomain := make(map[string][]int)
	var order []string
	for i, r := range d.Recipients {
		if _, ok := byDomain[r.Address.Domain]; !ok {
			order = append(order, r.Address.Domain)
		}
		byDomain[r.Address.Domain] = append(byDomain[r.Address.Domain], i)
	}
	for _, domain := range order {
		part := *d
		part.Recipients = nil
		for _, i := range byDomain[domain] {
			part.Recipients = append(part.Recipients, d.Recipients[i])
		}
		for n, o := range t.toDomain(ctx, &part) {
			out[byDomain[domain][n]] = o
		}
	}
	return out
}

func sameDomain(list []mail.Recipient) bool {
	return !slices.ContainsFunc(list, func(r mail.Recipient) bool { return r.Address.Domain != list[0].Address.Domain })
}

// toDomain delivers where all recipients have the same next hop.
func (t *mxTransport) toDomain(ctx context.Context, d *mail.Delivery) []mail.Outcome {
	domain := d.NextHop
	if domain == "" && len(d.Recipients) > 0 {
		domain = d.Recipients[0].Address.Domain
	}
	return t.relay.deliver(ctx, d, func(ctx context.Context) route {
		way := restedLast(t.relay.pool, t.route(ctx, domain))
		if t.sts == nil {
			return way
		}
		return withPolicy(way, t.policyOf(ctx, domain))
	})
}

// policyOf is the MTA-STS policy of a domain. That one which is announced cannot be had
// is for its owner to know.
func (t *mxTransport) policyOf(ctx context.Context, domain string) *mtasts.Policy {
	found := t.sts.Policy(ctx, domain)
	if found.Err != nil && t.relay.reports != nil {
		t.relay.reports.Note(tlsrpt.Session{Domain: domain, Policy: tlsrpt.Policy{Type: tlsrpt.STS}, Failure: tlsrpt.Failure{Type: string(found.Err.Kind), Reason: found.Err.Err.Error()}})
	}
	return found.Policy
}

var errOwn = errors.New("this host is the best mail exchanger of the domain")

// route yields the addresses of the domain's exchangers, RFC 5321 §5.1: by
// preference, those of one preference in random order. Where this host is among
// them, only better ones count.
func (t *mxTransport) route(ctx context.Context, domain string) route {
	return func(yield func(hop, *mail.Outcome) bool) {
		list, secure, err := t.resolver.MXSecure(ctx, domain)
		if err != nil {
			yield(hop{}, domainFailure(domain, err))
			return
		}
		if list[0].Null() {
			yield(hop{}, routeOutcome(mail.ReplyNullMX, domain, nil)) // RFC 7505 §4
			return
		}
		list = list[:min(len(list), maxExchangers)]
		for first := true; len(list) > 0; first = false {
			n := sameLevel(list)
			level, failures, own := t.level(ctx, list[:n], domain, secure)
			if own {
				if first {
					yield(hop{}, routeOutcome(mail.ReplyLoopsBack, domain, errOwn))
				}
				return
			}
			for i := range failures {
				if !yield(hop{}, &failures[i]) {
					return
				}
			}
			for _, h := range level {
				if !yield(h, nil) {
					return
				}
			}
			list = list[n:]
		}
	}
}

// sameLevel counts the exchangers at the start that have the same preference.
func sameLevel(list []dns.MX) int {
	n := 1
	for n < len(list) && list[n].Pref == list[0].Pref {
		n++
	}
	return n
}

// level resolves the exchangers of one preference, shuffled. own says that this
// host is one of them.
func (t *mxTransport) level(ctx context.Context, list []dns.MX, domain string, secure bool) (hops []hop, failures []mail.Outcome, own bool) {
	list = slices.Clone(list)
	rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	for _, mx := range list {
		if strings.EqualFold(mx.Host, t.hostname) {
			return nil, nil, true
		}
		addrs, addrSecure, err := t.resolver.AddrsSecure(ctx, mx.Host)
		if err != nil {
			failures = append(failures, *exchangerFailure(mx.Host, err))
			continue
		}
		for _, a := range addrs {
			if t.isOwn(a) {
				return nil, nil, true
			}
			name := mx.Host
			if name == a.String() {
				name = "" // an address literal
			}
			h := tcpHop(name, a, t.port)
			h.domain, h.secure = domain, secure && addrSecure
			hops = append(hops, h)
		}
	}
	return hops, failures, false
}

// isOwn reports that this gateway itself would answer at the address.
func (t *mxTransport) isOwn(a netip.Addr) bool {
	for _, own := range t.own {
		if int(own.Port()) != t.port {
			continue
		}
		if own.Addr().Unmap() == a || own.Addr().IsUnspecified() && (a.IsLoopback() || slices.Contains(t.local, a)) {
			return true
		}
	}
	return false
}

// routeOutcome is what the name service says for certain.
func routeOutcome(key mail.ReplyKey, host string, cause error) *mail.Outcome {
	o := ownOutcome(mail.Failed, key, "dns", cause)
	o.Host = host
	return &o
}

// domainFailure is the outcome where the exchangers of a domain cannot be found.
func domainFailure(domain string, err error) *mail.Outcome {
	var e *dns.Error
	switch {
	case errors.As(err, &e) && e.NXDomain:
		return routeOutcome(mail.ReplyNoDomain, domain, err)
	case errors.As(err, &e) && !e.Temporary:
		return routeOutcome(mail.ReplyNoRoute, domain, err)
	}
	return addressFailure(domain, err)
}

// exchangerFailure is the outcome where an exchanger has no address. Where that
// holds for all of them the domain cannot be reached.
func exchangerFailure(name string, err error) *mail.Outcome {
	var e *dns.Error
	if errors.As(err, &e) && !e.Temporary {
		return routeOutcome(mail.ReplyNoRoute, name, err)
	}
	return addressFailure(name, err)
}
