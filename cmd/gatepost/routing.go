package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"

	"gatepost/internal/config"
	"gatepost/internal/gateway"
	"gatepost/internal/mail"
	"gatepost/internal/policy"
	"gatepost/internal/policy/callout"
	"gatepost/internal/queue"
	"gatepost/internal/recipients"
	"gatepost/internal/rewrite"
	"gatepost/internal/rewrite/leaving"
	"gatepost/internal/rewrite/srs"
	"gatepost/internal/route"
	"gatepost/internal/smtp"
	"gatepost/internal/weblookup"
)

// buildRoutes makes what says where mail goes, and under which addresses.
func (a *app) buildRoutes(g, old *generation) error {
	log := a.logs.Logger("Route")
	domains, err := a.routeDomains(g, old)
	if err != nil {
		return err
	}
	if g.srs, err = srsOf(g.cfg); err != nil {
		return fmt.Errorf("make srs: %w", err)
	}
	g.ours, g.parent = route.Names(domains)
	if g.rewriting, err = g.rewriteEngine(log); err != nil {
		return err
	}
	rc := route.Config{
		Hostname: string(g.cfg.Hostname), Postmaster: g.cfg.Postmaster, Log: log, Domains: domains,
		ContentFlows: make(map[string]string), Rewrite: g.rewriting, SRS: g.srs, AsksMX: make(map[string]bool),
	}
	for i := range g.cfg.Listeners {
		rc.ContentFlows[string(g.cfg.Listeners[i].Name)] = string(g.cfg.Listeners[i].Flows.Content)
	}
	for name, t := range g.transports {
		rc.AsksMX[name] = t.queued.ByDomain
	}
	routes, errs := route.New(rc)
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	g.routes = routes
	g.rewriteOnLeaving()
	return nil
}

// routeDomains are the [[domain]]s as package route wants them.
func (a *app) routeDomains(g, old *generation) ([]route.Domain, error) {
	var all []route.Domain
	for i := range g.cfg.Domains {
		d := &g.cfg.Domains[i]
		rd := route.Domain{
			Name:      string(d.Name),
			Listener:  string(d.Listener),
			Transport: string(d.Transport),
			AsksMX:    g.transports[string(d.Transport)].queued.ByDomain,
			Proxy:     d.Delivery == "proxy",
			CatchAll:  d.CatchAll,
			Delimiter: d.RecipientDelimiter,

			ContentFlow: string(d.Flows.Content),
		}
		for _, alias := range d.Aliases {
			rd.Aliases = append(rd.Aliases, string(alias))
		}
		for _, source := range d.Recipients {
			if source.Kind == "file" {
				rd.RecipientFiles = append(rd.RecipientFiles, source.Arg)
				continue
			}
			named, err := a.recipientSource(g, old, source)
			if err != nil {
				return nil, fmt.Errorf("recipients of domain %s: %s: %w", d.Name, source, err)
			}
			rd.Sources = append(rd.Sources, named)
		}
		all = append(all, rd)
	}
	return all, nil
}

// recipientSource is a place elsewhere that knows recipients.
func (a *app) recipientSource(g, old *generation, s config.Source) (recipients.Named, error) {
	named := recipients.Named{Name: s.String()}
	switch s.Kind {
	case "ldap":
		d := g.directories[s.Arg]
		return keepSource(g, old, named, d, func() recipients.Source { return recipients.Cached(recipients.Func(d.knows), d.keep) })
	case "http":
		w := g.webs[s.Arg]
		query, err := weblookup.Parse(w.request, config.LookupPlaces()...)
		if err != nil {
			return named, err
		}
		return keepSource(g, old, named, w, func() recipients.Source {
			return recipients.Cached(recipients.Func(func(ctx context.Context, address string) (bool, error) {
				answer, err := w.ask(ctx, query, address)
				return err == nil && w.expect.Met(answer), err
			}), w.keep)
		})
	case "callout":
		check, err := a.recipientCallout(g, old)
		if err != nil {
			return named, err
		}
		named.Source, named.Exact = hostKnows{check}, true
	default:
		return named, errors.New("nobody knows what this is")
	}
	return named, nil
}

// keepSource keeps the answers over a reload, as long as those who give them are the
// same: a reload while they are down must not make strangers of known recipients.
func keepSource(g, old *generation, named recipients.Named, asked any, build func() recipients.Source) (recipients.Named, error) {
	source, err := keep(g, old, fmt.Sprintf("recipients %s %p", named.Name, asked), func() (recipients.Source, *keptPart, error) {
		return build(), nil, nil
	})
	named.Source = source
	return named, err
}

// knows reports whether an entry has the address.
func (d *directory) knows(ctx context.Context, address string) (bool, error) {
	found, err := d.Find(ctx, d.filter, address, "1.1") // RFC 4511 §4.5.1.8: no attributes
	return len(found) > 0, err
}

// results are the values of the directory's attributes for a key of a table.
func (d *directory) results(ctx context.Context, key string) ([]string, error) {
	found, err := d.Find(ctx, d.filter, key, d.attributes...)
	var all []string
	for i := range found {
		for _, name := range d.attributes {
			all = append(all, resultsOf(name, found[i].Get(name))...)
		}
	}
	return all, err
}

// resultsOf are the values of an attribute as results. In proxyAddresses each says of
// what kind it is ("SMTP:", "sip:", "X500:"); those of other kinds than mail are left
// out.
func resultsOf(attribute string, values []string) []string {
	if !strings.EqualFold(attribute, "proxyAddresses") {
		return values
	}
	var all []string
	for _, value := range values {
		if kind, address, ok := strings.Cut(value, ":"); ok && strings.EqualFold(kind, "smtp") {
			all = append(all, address)
		}
	}
	return all
}

// errServiceStatus says that a web service answered neither yes nor no.
var errServiceStatus = errors.New("the service did not say yes or no")

// ask asks the service about an address. An answer that is a failure of the service is
// an error: neither a yes nor a no.
func (w *web) ask(ctx context.Context, q *weblookup.Query, address string) (weblookup.Answer, error) {
	local, domain := address, ""
	if at := strings.LastIndexByte(address, '@'); at >= 0 {
		local, domain = address[:at], address[at+1:]
	}
	answer, err := w.Do(ctx, q, map[string]string{"address": address, "user": address, "local": local, "domain": domain})
	if err == nil && !w.expect.StatusMet(answer.Status) && answer.Status != 404 && answer.Status/100 != 2 {
		return answer, fmt.Errorf("status %d: %w", answer.Status, errServiceStatus)
	}
	return answer, err
}

// hostKnows asks the mail server that the mail is for.
type hostKnows struct{ check *callout.Recipient }

// errNobodySays says that a callout came to nothing.
var errNobodySays = errors.New("no server could say")

// Knows implements recipients.Source.
func (h hostKnows) Knows(ctx context.Context, r *mail.Recipient) (bool, error) {
	findings, err := h.check.Check(ctx, &policy.Input{Stage: policy.Recipient, Session: &mail.Session{}, Recipient: r})
	if err != nil {
		return false, err
	}
	if len(findings) == 0 {
		// A transport_map sends this one where nobody can be asked.
		return false, fmt.Errorf("transport %s: %w", r.Route.Transport, errNobodySays)
	}
	for i := range findings {
		switch f := &findings[i]; f.Result {
		case mail.Match:
			return false, nil
		case mail.Unknown:
			return false, fmt.Errorf("%s: %w", f.Reason, errNobodySays)
		}
	}
	return true, nil
}

// recipientCallout is the one callout that the sources of all domains share.
func (a *app) recipientCallout(g, old *generation) (*callout.Recipient, error) {
	key := fmt.Sprintf("recipient callout %s %+v %+v", g.cfg.Hostname, ownAddresses(g.cfg), g.cfg.DNS)
	for i := range g.cfg.Transports {
		print, err := fingerprint(g.cfg, &g.cfg.Transports[i])
		if err != nil {
			return nil, err
		}
		key += print
	}
	return keep(g, old, key, func() (*callout.Recipient, *keptPart, error) {
		c, err := callout.NewRecipient(callout.Config{
			Hostname: string(g.cfg.Hostname), Own: ownAddresses(g.cfg), Resolver: g.resolver,
			Targets: calloutTargets(g.transports), Log: a.logs.Logger("Route"), Dial: a.dialer(netip.Addr{}),
		})
		if err != nil {
			return nil, nil, err
		}
		return c, &keptPart{close: func() error { c.Close(); return nil }}, nil
	})
}

// rewriteEngine makes the engine of [rewrite]; nil where nothing is rewritten.
func (g *generation) rewriteEngine(log *slog.Logger) (*rewrite.Engine, error) {
	r := &g.cfg.Rewrite
	ec := rewrite.Config{
		CanonicalClasses: classes(r.CanonicalClasses), Masquerade: r.Masquerade, MasqueradeExceptions: r.MasqueradeExceptions,
		MasqueradeClasses: classes(r.MasqueradeClasses), Delimiters: r.RecipientDelimiter, Origin: string(r.Origin),
		Ours: g.ours, Parent: g.parent, HeaderClients: rewrite.Clients(r.HeaderClients),
		ExpansionLimit: r.ExpansionLimit, RecursionLimit: r.RecursionLimit, Log: log,
		HasTransport: func(name string) bool { _, ok := g.transports[name]; return ok },
	}
	for _, name := range r.GenericTransports {
		ec.GenericTransports = append(ec.GenericTransports, string(name))
	}
	tables := 0
	for _, t := range []struct {
		to    *[]rewrite.Table
		parts []config.TableSource
	}{
		{&ec.Canonical, r.Canonical}, {&ec.SenderCanonical, r.SenderCanonical}, {&ec.RecipientCanonical, r.RecipientCanonical},
		{&ec.BCC, r.BCC}, {&ec.SenderBCC, r.SenderBCC}, {&ec.RecipientBCC, r.RecipientBCC}, {&ec.Virtual, r.Virtual},
		{&ec.TransportMap, r.TransportMap}, {&ec.Relocated, r.Relocated}, {&ec.Generic, r.Generic},
	} {
		list, err := g.tables(t.parts)
		if err != nil {
			return nil, err
		}
		*t.to = list
		tables += len(list)
	}
	if tables == 0 && len(r.Masquerade) == 0 {
		return nil, nil
	}
	e, errs := rewrite.New(ec)
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return e, nil
}

// rewriterOf keeps nobody from becoming somebody: an interface that holds a nil engine.
func rewriterOf(g *generation) gateway.Rewriter {
	if g.rewriting == nil {
		return nil
	}
	return g.rewriting
}

// tables are the parts of a table of [rewrite]. Lines that stand together stay so.
func (g *generation) tables(parts []config.TableSource) ([]rewrite.Table, error) {
	var all []rewrite.Table
	for _, p := range parts {
		switch p.Kind {
		case "file":
			all = append(all, rewrite.Table{File: p.Arg})
		case "inline":
			if n := len(all) - 1; n >= 0 && all[n].Lines != nil {
				all[n].Lines = append(all[n].Lines, p.Arg)
				continue
			}
			all = append(all, rewrite.Table{Lines: []string{p.Arg}})
		case "ldap":
			d := g.directories[p.Arg]
			all = append(all, rewrite.Table{Lookup: rewrite.LookupFunc(d.results), Name: p.String(), Keep: d.keep})
		case "http":
			w := g.webs[p.Arg]
			query, err := weblookup.Parse(w.request, config.LookupPlaces()...)
			if err != nil {
				return nil, fmt.Errorf("table %s: %w", p, err)
			}
			all = append(all, rewrite.Table{Name: p.String(), Keep: w.keep, Lookup: rewrite.LookupFunc(
				func(ctx context.Context, key string) ([]string, error) { return w.results(ctx, query, key) })})
		}
	}
	return all, nil
}

// results are the lines of the service's answer about a key of a table.
func (w *web) results(ctx context.Context, q *weblookup.Query, key string) ([]string, error) {
	answer, err := w.ask(ctx, q, key)
	if err != nil || !w.expect.StatusMet(answer.Status) {
		return nil, err
	}
	var all []string
	for line := range strings.Lines(string(answer.Body)) {
		if line = strings.TrimSpace(line); line != "" {
			all = append(all, line)
		}
	}
	return all, nil
}

// classes are places in which addresses stand.
func classes(names []string) rewrite.Class {
	var all rewrite.Class
	for _, name := range names {
		switch name {
		case "envelope_sender":
			all |= rewrite.EnvelopeSender
		case "envelope_recipient":
			all |= rewrite.EnvelopeRecipient
		case "header_sender":
			all |= rewrite.HeaderSender
		case "header_recipient":
			all |= rewrite.HeaderRecipient
		}
	}
	return all
}

// srsOf makes the rewriter of [srs]; nil where there is none.
func srsOf(cfg *config.Config) (*srs.Rewriter, error) {
	c := &cfg.SRS
	if c.SecretFile == "" {
		return nil, nil
	}
	text, err := os.ReadFile(string(c.SecretFile))
	if err != nil {
		return nil, err
	}
	var secrets []string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimRight(line, "\r\n"); line != "" {
			secrets = append(secrets, line)
		}
	}
	domain := string(c.Domain)
	if domain == "" {
		domain = string(cfg.Hostname)
	}
	return srs.New(srs.Config{Secrets: secrets, Domain: domain, MaxAge: c.MaxAge, HashLength: c.HashLength})
}

// rewriteOnLeaving puts generic and SRS in front of the transports.
func (g *generation) rewriteOnLeaving() {
	for name, t := range g.transports {
		t.queued.Transport = t.Transport
		local := slices.Contains([]string{"maildir", "discard", "lmtp"}, t.kind)
		if g.rewriting != nil && g.rewriting.Leaves(name) || g.srs != nil && !local {
			l := leaving.New(leaving.Config{
				Transport: t.Transport, Name: name, Engine: g.rewriting, SRS: g.srs, Ours: g.ours,
				MaxHeader: int64(g.cfg.Limits.MaxHeaderSize),
			})
			t.queued.Transport = l
			if p, ok := g.proxies[name]; ok {
				p.Rename = l
				g.proxies[name] = p
			}
		}
		g.transports[name] = t
	}
}

// canonicalAddress reads an address of the command line.
func canonicalAddress(text string) (mail.Address, error) {
	a, err := smtp.ParseAddress(text)
	if err != nil {
		return a, fmt.Errorf("%q is no address: %w", text, err)
	}
	return a, nil
}

var _ queue.Transport = (*leaving.Leaving)(nil)
