package filter

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"gatepost/internal/message"
)

// clientList is the patterns of client: networks and addresses, which are looked
// up by each length of prefix that occurs, and names.
type clientList struct {
	networks map[netip.Prefix]struct{}
	v4, v6   []int // lengths of prefixes
	names    hostList
}

// clients compiles patterns of clients: 192.0.2.1, 192.0.2.0/24, 2001:db8::/32,
// mail.example.com, .example.com and /expression/ on the name.
func (c *compiler) clients(path string, v any) *clientList {
	l := &clientList{networks: map[netip.Prefix]struct{}{}}
	for _, v := range c.values(path, v) {
		s := strings.TrimSpace(v.text)
		source, isExpr := inSlashes(s)
		prefix, isNetwork := parseNetwork(s)
		switch {
		case isExpr:
			if e := c.expr(path, v, source, true); e != nil {
				l.names.exprs = append(l.names.exprs, e)
			}
		case isNetwork:
			l.add(prefix)
		default:
			if err := l.names.add(s); err != nil || !strings.Contains(s, ".") || strings.Contains(s, "/") {
				c.failValue(path, v, badClient(s))
			}
		}
	}
	return l
}

type badClient string

func (b badClient) Error() string {
	return `"` + cut(string(b)) + `" is neither an address, a network like 192.0.2.0/24, nor a host name`
}

func parseNetwork(s string) (netip.Prefix, bool) {
	if p, err := netip.ParsePrefix(s); err == nil {
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		return p.Masked(), true
	}
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), true
	}
	return netip.Prefix{}, false
}

func (l *clientList) add(p netip.Prefix) {
	l.networks[p] = struct{}{}
	bits := &l.v6
	if p.Addr().Is4() {
		bits = &l.v4
	}
	if !slices.Contains(*bits, p.Bits()) {
		*bits = append(*bits, p.Bits())
	}
}

func (l *clientList) contains(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	bits := l.v6
	if a.Is4() {
		bits = l.v4
	}
	for _, n := range bits {
		if p, err := a.Prefix(n); err == nil {
			if _, ok := l.networks[p]; ok {
				return true
			}
		}
	}
	return false
}

func clientCondition(l *clientList) condition {
	return condition{cost: costEnvelope, test: func(ctx context.Context, m *material) (answer, error) {
		s := &m.envelope().Session
		if a := s.Client.Addr(); a.IsValid() && l.contains(a) {
			return yes("client matched " + quote(a.Unmap().String())), nil
		}
		if ok, err := l.names.match(ctx, s.Name); !ok || err != nil {
			return answer{}, err
		}
		return yes("client matched " + quote(s.Name)), nil
	}}
}

func heloCondition(l *hostList) condition {
	return condition{cost: costEnvelope, test: func(ctx context.Context, m *material) (answer, error) {
		name := m.envelope().Session.Helo
		if ok, err := l.match(ctx, name); !ok || err != nil {
			return answer{}, err
		}
		return yes("helo matched " + quote(name)), nil
	}}
}

// shown makes a value of the message safe without quotes.
func shown(s string) string { return message.SafeText(s, maxShown) }
