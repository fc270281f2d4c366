package greylist

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/smtp"
	"gatepost/internal/store"
)

// ErrAllow says what can be allowed.
var ErrAllow = errors.New("want an address, a network, a domain, user@domain, or to:user@domain or to:domain for a recipient")

// ParseAllow returns the form of something that an administrator allows in which
// it is kept: "192.0.2.7", "192.0.2.0/20", "example.org" (the domain that SPF or DKIM
// proved, or of the sender, and those below it), "user@example.org" (a sender),
// "to:user@example.com" and "to:example.com" (who never has to wait for mail).
func ParseAllow(s string) (string, error) {
	s = strings.TrimSpace(s)
	if p, ok := parseNetwork(s); ok {
		if p.IsSingleIP() {
			return p.Addr().String(), nil
		}
		return p.String(), nil
	}
	rest, to := strings.CutPrefix(s, "to:")
	prefix := ""
	if to {
		prefix = "to:"
	}
	if strings.Contains(rest, "@") {
		a, err := smtp.ParseAddress(rest)
		if err != nil {
			return "", ErrAllow
		}
		return prefix + a.Key(), nil
	}
	domain, err := smtp.CanonicalDomain(rest)
	if err != nil || strings.HasPrefix(domain, "[") || !strings.Contains(domain, ".") || isNumber(domain[strings.LastIndexByte(domain, '.')+1:]) {
		return "", ErrAllow
	}
	return prefix + domain, nil
}

func parseNetwork(s string) (netip.Prefix, bool) {
	if p, err := netip.ParsePrefix(s); err == nil && !p.Addr().Is4In6() {
		return p.Masked(), true
	}
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), true
	}
	return netip.Prefix{}, false
}

// allowList is what administrators allowed, as it was read last.
type allowList struct {
	mu       sync.RWMutex
	names    map[string]bool
	networks []netip.Prefix
	next     time.Time // when it is to be read again
}

// maxAllowed bounds how many entries are read.
const maxAllowed = 10_000

// allows reports whether an administrator allowed this.
func (g *Greylist) allows(ctx context.Context, s *mail.Session, env *mail.Envelope, t store.GreylistTriplet) bool {
	client := s.Client.Addr().Unmap().WithZone("")
	for _, p := range g.config.Allow {
		if p.Contains(client) {
			return true
		}
	}
	if l := g.allowed; l.due(time.Now(), g.config.AllowEvery) {
		g.readAllowed(ctx)
	}
	return g.allowed.has(client, env.Sender, t)
}

// due reports, to one caller of many, that the list is to be read. Until then, and
// where that fails, the others go on with what there is.
func (l *allowList) due(now time.Time, every time.Duration) bool {
	l.mu.RLock()
	next := l.next
	l.mu.RUnlock()
	if now.Before(next) {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.next != next {
		return false
	}
	l.next = now.Add(every)
	return true
}

// readAllowed reads the list; where that fails the old one holds.
func (g *Greylist) readAllowed(ctx context.Context) {
	if g.paused() != nil {
		return
	}
	limited, cancel := context.WithTimeout(ctx, g.config.Timeout)
	defer cancel()
	names, networks := map[string]bool{}, []netip.Prefix(nil)
	q := store.GreylistQuery{Kind: store.GreylistAllowKind, Limit: 1000}
	for len(names)+len(networks) < maxAllowed {
		found, more, err := g.config.Store.FindGreylist(limited, q)
		if err != nil {
			if ctx.Err() == nil {
				g.pause(err)
			}
			return
		}
		for _, e := range found {
			if p, ok := parseNetwork(e.Source); ok {
				networks = append(networks, p)
			} else {
				names[e.Source] = true
			}
		}
		if !more {
			break
		}
		q.After = &found[len(found)-1]
	}
	g.allowed.set(names, networks)
}

func (l *allowList) set(names map[string]bool, networks []netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.names, l.networks = names, networks
}

// stale makes the next check read the list.
func (l *allowList) stale() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next = time.Time{}
}

func (l *allowList) has(client netip.Addr, sender mail.Address, t store.GreylistTriplet) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, p := range l.networks {
		if p.Contains(client) {
			return true
		}
	}
	if len(l.names) == 0 {
		return false
	}
	_, to, _ := strings.Cut(t.Recipient, "@")
	return l.names[sender.Key()] || l.names["to:"+t.Recipient] || l.names["to:"+to] ||
		l.hasDomain(sender.Domain) || l.hasDomain(t.Source)
}

// hasDomain reports whether the domain or one above it is allowed.
func (l *allowList) hasDomain(domain string) bool {
	for domain != "" {
		if l.names[domain] {
			return true
		}
		_, domain, _ = strings.Cut(domain, ".")
	}
	return false
}
