package route

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"gatepost/internal/mail"
	"gatepost/internal/rewrite"
)

// firstPostmaster is the postmaster at the first domain that the listener
// serves; of any listener for "".
func (t *Table) firstPostmaster(listener string) mail.Address {
	for _, e := range t.entries {
		if e.Name == AnyDomain || listener != "" && t.find(listener, e.Name, false) != e {
			continue
		}
		return mail.Address{Local: "postmaster", Domain: e.Name, Raw: "postmaster@" + e.Name}
	}
	return mail.Address{}
}

// RouteInternal is the route of mail that Gatepost itself writes. It is not
// checked against sources of recipients: what it is sent for was accepted before.
// Of the transport map only what needs no network counts.
func (t *Table) RouteInternal(to mail.Address) (mail.Route, error) {
	var tables *rewrite.Engine
	if t.rewrite != nil {
		tables = t.rewrite.WithoutNetwork()
	}
	return t.internalRoute(context.Background(), tables, to)
}

// ResolveInternal is RouteInternal with all of the transport map.
func (t *Table) ResolveInternal(ctx context.Context, to mail.Address) (mail.Route, error) {
	return t.internalRoute(ctx, t.rewrite, to)
}

func (t *Table) internalRoute(ctx context.Context, tables *rewrite.Engine, to mail.Address) (mail.Route, error) {
	if to.Domain == "" || strings.HasPrefix(to.Domain, "[") {
		return mail.Route{}, fmt.Errorf("route %q: no domain", to)
	}
	route := mail.Route{Domain: AnyDomain, Transport: BuiltinInternet, NextHop: to.Domain}
	if e := t.internal(to.Domain); e != nil {
		route = e.route(to)
	} else if to.Domain == t.hostname {
		return mail.Route{}, fmt.Errorf("route %s: %w", to, ErrLoop)
	}
	if tables == nil {
		return route, nil
	}
	if err := t.mapRoute(ctx, tables, to, &route, nil); err != nil {
		return mail.Route{}, fmt.Errorf("route %s: %w", to, err)
	}
	return route, nil
}

// mapRoute changes a route as the transport map says.
func (t *Table) mapRoute(ctx context.Context, tables *rewrite.Engine, to mail.Address, route *mail.Route, trace *rewrite.Trace) error {
	hop, ok, err := tables.Transport(ctx, to, trace)
	if !ok || err != nil {
		return err
	}
	route.Proxy = route.Proxy && route.Transport == hop.Transport
	route.Transport, route.NextHop = hop.Transport, ""
	if t.asksMX[hop.Transport] {
		route.NextHop = to.Domain
		if hop.Domain != "" {
			route.NextHop = hop.Domain
		}
	}
	return nil
}

// internal finds an entry without a listener: one for all listeners before one
// for some, a name before "*".
func (t *Table) internal(domain string) *entry {
	if e := t.everywhere.named[domain]; e != nil {
		return e
	}
	i := slices.IndexFunc(t.entries, func(e *entry) bool { return e.Name == domain || slices.Contains(e.Aliases, domain) })
	if i < 0 && domain != t.hostname {
		if t.everywhere.any != nil {
			return t.everywhere.any
		}
		i = slices.IndexFunc(t.entries, func(e *entry) bool { return e.Name == AnyDomain })
	}
	if i < 0 {
		return nil
	}
	return t.entries[i]
}
