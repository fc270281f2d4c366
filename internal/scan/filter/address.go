package filter

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"gatepost/internal/mail"
	"gatepost/internal/smtp"
)

// addressList is the patterns of sender and recipient. Addresses, domains and
// local parts are looked up, so that a list may be long.
type addressList struct {
	null   bool
	exact  map[string]struct{} // mail.Address.Key
	locals map[string]struct{} // "postmaster@"
	hosts  hostList            // domains
}

// hostList is patterns of domains and host names.
type hostList struct {
	exact map[string]struct{}
	under map[string]struct{} // ".example.com": the domain and all below it
	exprs []*expr
}

func put(m *map[string]struct{}, key string) {
	if *m == nil {
		*m = map[string]struct{}{}
	}
	(*m)[key] = struct{}{}
}

func has(m map[string]struct{}, key string) bool {
	_, ok := m[key]
	return ok
}

// inSlashes returns the expression in "/expression/".
func inSlashes(s string) (string, bool) {
	if len(s) > 2 && s[0] == '/' && s[len(s)-1] == '/' {
		return s[1 : len(s)-1], true
	}
	return "", false
}

// addresses compiles patterns of addresses: user@domain, @domain, domain,
// .domain (with all subdomains), user@ (in every domain), <> (the null sender)
// and /expression/.
func (c *compiler) addresses(path string, v any) *addressList {
	l := &addressList{}
	for _, v := range c.values(path, v) {
		s := strings.TrimSpace(v.text)
		if source, ok := inSlashes(s); ok {
			if e := c.expr(path, v, source, true); e != nil {
				l.hosts.exprs = append(l.hosts.exprs, e)
			}
			continue
		}
		if err := l.add(s); err != nil {
			c.failValue(path, v, err)
		}
	}
	return l
}

func (l *addressList) add(s string) error {
	local, domain, hasAt := cutLast(s, "@")
	switch {
	case s == "<>":
		l.null = true
	case strings.Contains(s, "*"):
		return fmt.Errorf("%q: no wildcards; example.com is the domain, .example.com the domain and all below it, and /…/ an expression", cut(s))
	case hasAt && domain == "":
		put(&l.locals, strings.ToLower(local))
	case hasAt && local != "":
		a, err := smtp.ParseAddress(s)
		if err != nil {
			return fmt.Errorf("%q is not an address", cut(s))
		}
		put(&l.exact, a.Key())
	case !strings.Contains(domain, ".") && !hasAt && !strings.HasPrefix(domain, "["):
		return fmt.Errorf("%q is neither address nor domain; write %s@ for that name in every domain", cut(s), cut(s))
	default:
		return l.hosts.add(domain)
	}
	return nil
}

// cutLast cuts at the last sep; without one all is after it.
func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return "", s, false
}

func (l *hostList) add(s string) error {
	name, under := strings.CutPrefix(s, ".")
	domain, err := smtp.CanonicalDomain(name)
	if err != nil {
		return fmt.Errorf("%q is not a domain", cut(s))
	}
	if under {
		put(&l.under, domain)
	} else {
		put(&l.exact, domain)
	}
	return nil
}

// match reports whether a pattern fits the address.
func (l *addressList) match(ctx context.Context, a mail.Address) (bool, error) {
	if a.IsNull() {
		return l.null, nil
	}
	key := a.Key()
	if has(l.exact, key) || len(l.locals) > 0 && has(l.locals, strings.ToLower(a.Local)) || l.hosts.lookup(a.Domain) {
		return true, nil
	}
	_, ok, err := findAny(ctx, l.hosts.exprs, key)
	return ok, err
}

// lookup reports whether a domain, lower case, is in the list.
func (l *hostList) lookup(domain string) bool {
	if domain == "" {
		return false
	}
	if has(l.exact, domain) {
		return true
	}
	for d := domain; len(l.under) > 0; {
		if has(l.under, d) {
			return true
		}
		_, rest, ok := strings.Cut(d, ".")
		if !ok {
			break
		}
		d = rest
	}
	return false
}

// match reports whether a host name fits.
func (l *hostList) match(ctx context.Context, name string) (bool, error) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if l.lookup(name) {
		return true, nil
	}
	if name == "" {
		return false, nil
	}
	_, ok, err := findAny(ctx, l.exprs, name)
	return ok, err
}

// hosts compiles patterns of host names: mail.example.com, .example.com and
// /expression/.
func (c *compiler) hosts(path string, v any) *hostList {
	l := &hostList{}
	for _, v := range c.values(path, v) {
		s := strings.TrimSpace(v.text)
		if source, ok := inSlashes(s); ok {
			if e := c.expr(path, v, source, true); e != nil {
				l.exprs = append(l.exprs, e)
			}
			continue
		}
		if s == "" {
			c.failValue(path, v, errors.New("empty"))
		} else if err := l.add(s); err != nil {
			c.failValue(path, v, err)
		}
	}
	return l
}

func senderCondition(l *addressList) condition {
	return condition{cost: costEnvelope, test: func(ctx context.Context, m *material) (answer, error) {
		a := m.envelope().Sender
		if ok, err := l.match(ctx, a); !ok || err != nil {
			return answer{}, err
		}
		return yes(`sender matched "<` + shown(a.Raw) + `>"`), nil
	}}
}

// recipientCondition holds for those recipients that match as they are now, or
// as the client named them.
func recipientCondition(l *addressList) condition {
	return condition{cost: costEnvelope, test: func(ctx context.Context, m *material) (answer, error) {
		list := m.envelope().Recipients
		a := answer{who: who{in: make([]bool, len(list))}}
		for i := range list {
			for _, addr := range [...]mail.Address{list[i].Address, list[i].Original} {
				if addr.IsNull() || a.who.in[i] {
					continue
				}
				ok, err := l.match(ctx, addr)
				if err != nil {
					return answer{}, err
				}
				if ok {
					a.who.in[i] = true
					if len(a.why) == 0 {
						a.why = []string{"recipient matched " + quote(addr.Raw)}
					}
				}
			}
		}
		return a, nil
	}}
}
