package spf

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
)

// evaluation is one check with what it has cost so far.
type evaluation struct {
	cfg    *Config
	client netip.Addr
	// What macros stand for. sender is the domain of MAIL, or of HELO.
	helo, local, sender string

	lookups, voids int
	// names are the client's proven host names, once they were looked up.
	names     []string
	namesDone bool
}

// verdict is how an evaluation, or that of an included record, ends.
type verdict struct {
	status Status
	term   string
	reason string
}

// stop is an error that ends the whole evaluation.
type stop struct {
	status Status
	reason string
	// placed says that reason already tells which term of which record it was.
	placed bool
}

// Error implements error.
func (s *stop) Error() string { return s.reason }

func permanent(format string, args ...any) *stop {
	return &stop{status: PermError, reason: fmt.Sprintf(format, args...)}
}

func temporary(err error) *stop {
	return &stop{status: TempError, reason: "the DNS does not answer: " + err.Error()}
}

// checkHost is check_host() of RFC 7208 §4. Its depth is bounded by MaxLookups.
func (e *evaluation) checkHost(ctx context.Context, domain string) verdict {
	r, v := e.fetch(ctx, domain)
	if r == nil {
		return v
	}
	for i := range r.directives {
		d := &r.directives[i]
		matched, err := e.matches(ctx, d, domain)
		if err != nil && err.placed {
			return verdict{err.status, d.text, err.reason}
		}
		if err != nil {
			return verdict{err.status, d.text, fmt.Sprintf("%s in the record of %s: %s", d.text, domain, err.reason)}
		}
		if matched {
			return e.matched(d, domain)
		}
	}
	if r.redirect != nil {
		return e.redirected(ctx, r.redirect, domain)
	}
	// RFC 7208 §4.7.
	return verdict{Neutral, "", "the record of " + domain + " does not mention " + e.client.String()}
}

func (e *evaluation) matched(d *directive, domain string) verdict {
	verb := map[Status]string{Pass: "permits", Fail: "forbids", SoftFail: "does not expect", Neutral: "says nothing about"}[d.qualifier]
	return verdict{d.qualifier, d.text, fmt.Sprintf("%s in the record of %s %s %s", d.text, domain, verb, e.client)}
}

// fetch returns the record of a domain, or nil and what follows.
func (e *evaluation) fetch(ctx context.Context, domain string) (*record, verdict) {
	texts, err := e.cfg.Resolver.TXT(ctx, domain)
	if err != nil && !notFound(err) {
		return nil, verdict{status: TempError, reason: temporary(err).reason}
	}
	var found []string
	for _, text := range texts {
		if isRecord(text) {
			found = append(found, text)
		}
	}
	switch {
	case len(found) == 0:
		return nil, verdict{status: None, reason: domain + " has no record"}
	case len(found) > 1: // RFC 7208 §4.5
		return nil, verdict{status: PermError, reason: domain + " has several records"}
	case len(found[0]) > e.cfg.MaxRecord:
		return nil, verdict{status: PermError, reason: "the record of " + domain + " is too long"}
	}
	r, err := parseRecord(found[0])
	if err != nil {
		return nil, verdict{status: PermError, reason: "the record of " + domain + " is malformed: " + err.Error()}
	}
	return r, verdict{}
}

// redirected hands over to another record, RFC 7208 §6.1.
func (e *evaluation) redirected(ctx context.Context, m macros, domain string) verdict {
	if err := e.count(); err != nil {
		return verdict{status: err.status, reason: err.reason}
	}
	target := e.expand(ctx, m, domain)
	if target == "" {
		return verdict{status: PermError, reason: "redirect in the record of " + domain + " has no domain name"}
	}
	v := e.checkHost(ctx, target)
	if v.status == None {
		v.status = PermError
	}
	return v
}

// count notes a term that asks the DNS.
func (e *evaluation) count() *stop {
	if e.lookups++; e.lookups > e.cfg.MaxLookups {
		return permanent("more than %d terms need the DNS", e.cfg.MaxLookups)
	}
	return nil
}

// void notes a name without an answer.
func (e *evaluation) void() *stop {
	if e.voids++; e.voids > max(0, e.cfg.MaxVoid) {
		return permanent("more than %d names are not there", max(0, e.cfg.MaxVoid))
	}
	return nil
}

// matches evaluates a mechanism, RFC 7208 §5.
func (e *evaluation) matches(ctx context.Context, d *directive, domain string) (bool, *stop) {
	switch d.mechanism {
	case "all":
		return true, nil
	case "ip4", "ip6":
		return d.network.Contains(e.client), nil
	}
	if err := e.count(); err != nil {
		return false, err
	}
	target := domain
	if d.domain != nil {
		target = e.expand(ctx, d.domain, domain)
	}
	switch {
	case d.mechanism == "include":
		return e.include(ctx, target)
	case target == "":
		// A name that cannot exist does not (RFC 7208 §4.8).
		return false, e.void()
	case d.mechanism == "a":
		addrs, err := e.addrs(ctx, target)
		return e.within(d, addrs), orVoid(e, addrs, err)
	case d.mechanism == "mx":
		return e.exchanger(ctx, d, target)
	case d.mechanism == "exists":
		// The type is A for clients of any kind, RFC 7208 §5.7.
		addrs, err := e.cfg.Resolver.IPv4(ctx, target)
		return len(addrs) > 0, orVoid(e, addrs, err)
	case d.mechanism == "ptr":
		return e.named(ctx, target)
	}
	return false, permanent("unknown mechanism")
}

// orVoid is what an answer means beside a match: an outage ends the evaluation,
// an empty answer counts as void.
func orVoid[T any](e *evaluation, answer []T, err error) *stop {
	switch {
	case err != nil && !notFound(err):
		return temporary(err)
	case len(answer) == 0:
		return e.void()
	}
	return nil
}

// include evaluates another record, RFC 7208 §5.2.
func (e *evaluation) include(ctx context.Context, target string) (bool, *stop) {
	if target == "" {
		return false, permanent("there is no domain name")
	}
	switch v := e.checkHost(ctx, target); v.status {
	case Pass:
		return true, nil
	case Fail, SoftFail, Neutral:
		return false, nil
	case TempError:
		return false, &stop{TempError, v.reason, true}
	default:
		return false, &stop{PermError, v.reason, true}
	}
}

// addrs are the addresses of a host of the client's kind. An answer of only the
// other kind is not void: whoever has no IPv6 would otherwise fail for all who
// do.
func (e *evaluation) addrs(ctx context.Context, host string) ([]netip.Addr, error) {
	if e.client.Is4() {
		return e.cfg.Resolver.IPv4(ctx, host)
	}
	return e.cfg.Resolver.Addrs(ctx, host)
}

func (e *evaluation) within(d *directive, addrs []netip.Addr) bool {
	for _, addr := range addrs {
		bits := d.bits6
		if addr.Is4() {
			bits = d.bits4
		}
		if netip.PrefixFrom(addr, bits).Contains(e.client) {
			return true
		}
	}
	return false
}

// exchanger is mx, RFC 7208 §5.4: there is no implicit exchanger, and a domain
// with too many is an error (§4.6.4).
func (e *evaluation) exchanger(ctx context.Context, d *directive, target string) (bool, *stop) {
	list, err := e.cfg.Resolver.Exchangers(ctx, target)
	if s := orVoid(e, list, err); s != nil {
		return false, s
	}
	if len(list) > e.cfg.MaxHosts {
		return false, permanent("%s has more than %d exchangers", target, e.cfg.MaxHosts)
	}
	for _, host := range list {
		if host == "." {
			continue
		}
		addrs, err := e.addrs(ctx, host)
		if err != nil && !notFound(err) {
			return false, temporary(err)
		}
		if e.within(d, addrs) {
			return true, nil
		}
	}
	return false, nil
}

// named is ptr, RFC 7208 §5.5.
func (e *evaluation) named(ctx context.Context, target string) (bool, *stop) {
	for _, name := range e.provenNames(ctx) {
		if isBelow(name, target) {
			return true, nil
		}
	}
	return false, nil
}

func isBelow(name, domain string) bool {
	return name == domain || strings.HasSuffix(name, "."+domain)
}

// provenNames are the names of the client's address that have this address. What
// cannot be looked up is not proven, and is no error (RFC 7208 §5.5).
func (e *evaluation) provenNames(ctx context.Context) []string {
	if e.namesDone {
		return e.names
	}
	e.namesDone = true
	names, err := e.cfg.Resolver.PTR(ctx, e.client)
	if err != nil {
		return nil
	}
	for _, name := range names[:min(len(names), e.cfg.MaxHosts)] {
		name = strings.ToLower(strings.TrimSuffix(name, "."))
		addrs, err := e.addrs(ctx, name)
		if err != nil {
			continue
		}
		for _, addr := range addrs {
			if addr == e.client {
				e.names = append(e.names, name)
				break
			}
		}
	}
	return e.names
}

// clientName is %{p}: the domain itself, a name below it, or any, in this order
// (RFC 7208 §7.3).
func (e *evaluation) clientName(ctx context.Context, domain string) string {
	best := "unknown"
	for _, name := range e.provenNames(ctx) {
		switch {
		case name == domain:
			return name
		case isBelow(name, domain) && !isBelow(best, domain), best == "unknown":
			best = name
		}
	}
	return best
}
