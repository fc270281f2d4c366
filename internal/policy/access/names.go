package access

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"gatepost/internal/dns"
	"gatepost/internal/mail"
	"gatepost/internal/message"
)

// Resolver looks names up; *dns.Resolver is one, and its cache is the check's.
type Resolver interface {
	PTR(ctx context.Context, addr netip.Addr) ([]string, error)
	Addrs(ctx context.Context, host string) ([]netip.Addr, error)
}

// maxNames bounds how many names of one address are looked at: whoever owns the
// reverse zone may give it thousands.
const maxNames = 10

// byName returns the entry that has a name of the client. Names are looked up only
// where a list has any; unknown says that this was not possible.
func (c *Check) byName(ctx context.Context, lists []*list, s *mail.Session) (h hit, unknown []mail.Finding) {
	if !slices.ContainsFunc(lists, func(l *list) bool { return len(l.names) > 0 }) {
		return hit{}, nil
	}
	if s.Name != "" {
		// A believed XCLIENT gives names that were confirmed by who sent it.
		return c.match(lists, s.Name), nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	client := s.Client.Addr().Unmap().WithZone("")
	names, err := c.cfg.Resolver.PTR(ctx, client)
	if err != nil {
		return hit{}, trouble(err)
	}
	var best hit
	for _, name := range names[:min(len(names), maxNames)] {
		found := c.match(lists, name)
		if !found.found || best.found && !found.before(best) {
			continue
		}
		confirmed, err := c.confirm(ctx, name, client)
		if err != nil {
			unknown = trouble(err)
		}
		if confirmed {
			best = found
		}
	}
	return best, unknown
}

// before reports that h decides where o would as well.
func (h hit) before(o hit) bool {
	if h.length != o.length {
		return h.length > o.length
	}
	return h.allow && !o.allow
}

// confirm reports that a name, which the owner of the address chose freely, has
// that address itself.
func (c *Check) confirm(ctx context.Context, name string, client netip.Addr) (bool, error) {
	addrs, err := c.cfg.Resolver.Addrs(ctx, name)
	if err != nil {
		return false, err
	}
	return slices.Contains(addrs, client), nil
}

// trouble is the finding of a name that cannot be looked up now; nil where it is
// certain that there is none.
func trouble(err error) []mail.Finding {
	if dns.IsNotFound(err) {
		return nil
	}
	return []mail.Finding{{
		Module: Use, Symbol: "name", Result: mail.Unknown,
		Reason: message.SafeText("the client's name cannot be looked up: "+err.Error(), 300),
	}}
}

// match returns the longest entry that has a name.
func (c *Check) match(lists []*list, name string) hit {
	var best hit
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	for i, l := range lists {
		if len(l.names) == 0 {
			continue
		}
		for part := name; ; {
			if n, ok := l.names[part]; ok {
				found := hit{
					found: true, allow: c.lists[i].allow, entry: part, list: c.lists[i].name,
					text: l.reason(n), what: name, length: len(part),
				}
				if !best.found || found.before(best) {
					best = found
				}
				break // what follows is shorter
			}
			dot := strings.IndexByte(part[1:], '.')
			if dot < 0 {
				break
			}
			part = part[1+dot:]
		}
	}
	return best
}
