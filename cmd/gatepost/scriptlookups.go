package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gatepost/internal/config"
	"gatepost/internal/dns"
	"gatepost/internal/dns/dnslist"
	"gatepost/internal/ldap"
	"gatepost/internal/mail"
	"gatepost/internal/policy"
	"gatepost/internal/policy/access"
	"gatepost/internal/policy/auth/authsmtp"
	"gatepost/internal/policy/callout"
	"gatepost/internal/policy/rate"
	"gatepost/internal/script"
	"gatepost/internal/smtp"
	"gatepost/internal/transport"
	"gatepost/internal/weblookup"
)

// scriptParts are what the scripts of a generation ask, all of them together.
type scriptParts struct {
	script.Lookups
	web  *weblookup.Client
	rcpt *callout.Recipient
}

// scriptParts makes what scripts ask, or takes it over.
func (a *app) scriptParts(g, old *generation) (*scriptParts, error) {
	// These outlive every reload, or limits could be got round by one.
	cache, err := keep(g, old, "scripts: cache", func() (*script.MemoryCache, *keptPart, error) {
		return script.NewMemoryCache(0), nil, nil
	})
	if err != nil {
		return nil, err
	}
	rates, err := keep(g, old, "scripts: rates", func() (*rate.Counter, *keptPart, error) { return rate.NewCounter(0), nil, nil })
	if err != nil {
		return nil, err
	}
	dir := filepath.Dir(a.file)
	files, err := keep(g, old, "scripts: files "+dir, func() (*script.Lists, *keptPart, error) {
		return script.NewLists(dir, a.logger("Script")), nil, nil
	})
	if err != nil {
		return nil, err
	}
	return keep(g, old, scriptSurroundings(g), func() (*scriptParts, *keptPart, error) {
		p := &scriptParts{Lookups: script.Lookups{
			DNS: scriptDNS{dns.Settled{R: g.resolver}}, DNSBL: scriptLists{g.resolver}, LDAP: scriptLDAP(g.directories),
			Files: files, Rates: scriptRates{rates}, Cache: cache,
		}}
		if err := a.addSMTP(g, p); err != nil {
			return nil, nil, err
		}
		if g.places != nil {
			p.Countries = g.places
		}
		return p, &keptPart{close: p.close}, nil
	})
}

// scriptSurroundings names everything that scriptParts is made from.
func scriptSurroundings(g *generation) string {
	var b strings.Builder
	fmt.Fprintf(&b, "scripts: %s %v %+v %v", g.cfg.Hostname, ownAddresses(g.cfg), g.cfg.DNS, placesOf(g.cfg))
	for _, t := range g.cfg.Transports {
		fmt.Fprintf(&b, " %s %x", t.Name, g.transports[string(t.Name)].fingerprint)
	}
	for i := range g.cfg.LDAP {
		fmt.Fprintf(&b, " %s %p", g.cfg.LDAP[i].Name, g.directories[string(g.cfg.LDAP[i].Name)])
	}
	for i := range g.cfg.HTTP {
		fmt.Fprintf(&b, " %s %s %p", g.cfg.HTTP[i].Name, g.cfg.HTTP[i].URL, g.webs[string(g.cfg.HTTP[i].Name)])
	}
	return b.String()
}

func (p *scriptParts) close() error {
	p.rcpt.Close()
	return p.web.Close()
}

// addSMTP makes what asks mail servers and web services.
func (a *app) addSMTP(g *generation, p *scriptParts) error {
	logins := make(map[string]*authsmtp.Backend)
	for name, t := range g.transports {
		hosts, ok := t.Transport.(transport.Login)
		if !ok {
			continue
		}
		// Where tls = "off" is written the administrator has decided.
		b, err := authsmtp.New(authsmtp.Config{Hosts: hosts, Cleartext: transportOf(g.cfg, name).TLS == "off"})
		if err != nil {
			return err
		}
		logins[name] = b
	}
	web, err := weblookup.New(weblookup.Config{Resolver: g.resolver})
	if err != nil {
		return err
	}
	rcpt, err := callout.NewRecipient(callout.Config{
		Hostname: string(g.cfg.Hostname), Own: ownAddresses(g.cfg), Resolver: g.resolver, Targets: calloutTargets(g.transports), Log: a.logger("Callout"),
		Dial: a.dialer(netip.Addr{}),
	})
	if err != nil {
		return errors.Join(err, web.Close())
	}
	p.web, p.rcpt = web, rcpt
	p.SMTP, p.HTTP = scriptSMTP{g.transports, logins, rcpt}, scriptWeb{websByHost(g), web}
	return nil
}

// transportOf is a transport as the configuration has it; the zero Transport for one
// that is built in.
func transportOf(cfg *config.Config, name string) config.Transport {
	i := slices.IndexFunc(cfg.Transports, func(t config.Transport) bool { return string(t.Name) == name })
	if i < 0 {
		return config.Transport{}
	}
	return cfg.Transports[i]
}

// placesOf are the databases that blocks "access" name.
func placesOf(cfg *config.Config) []string {
	var files []string
	for i := range cfg.Flows {
		for j := range cfg.Flows[i].Blocks {
			p, ok := cfg.Flows[i].Blocks[j].Params.(*config.AccessBlock)
			if !ok {
				continue
			}
			for _, file := range p.MMDBFile {
				if !slices.Contains(files, string(file)) {
					files = append(files, string(file))
				}
			}
		}
	}
	return files
}

// buildPlaces makes what knows countries, for scripts and for the page of a message.
func (a *app) buildPlaces(g, old *generation) (err error) {
	files := placesOf(g.cfg)
	if len(files) == 0 {
		return nil
	}
	g.places, err = keep(g, old, fmt.Sprintf("places %q", files), func() (*access.Places, *keptPart, error) {
		places, err := access.OpenPlaces(files, a.logger("Access"))
		return places, nil, err
	})
	return err
}

// country is where an address is, as "DE"; "" where no database is configured or it
// does not know.
func (a *app) country(addr netip.Addr) string {
	state := a.state.Load()
	if state == nil || state.gen.places == nil || !addr.IsValid() {
		return ""
	}
	return state.gen.places.Country(addr)
}

// scriptDNS implements script.DNS.
type scriptDNS struct{ dns.Settled }

// Lookup implements script.DNS.
func (d scriptDNS) Lookup(ctx context.Context, name, kind string) (list []string, err error) {
	name = strings.TrimSuffix(name, ".")
	switch kind {
	case "A", "AAAA":
		list, err = d.addresses(ctx, name, kind)
	case "MX":
		list, err = d.Exchangers(ctx, name)
	case "TXT":
		list, err = d.TXT(ctx, name)
	case "PTR":
		var addr netip.Addr
		if addr, err = netip.ParseAddr(name); err != nil {
			return nil, errors.New("PTR wants an address")
		}
		list, err = d.PTR(ctx, addr.Unmap())
	}
	if dns.IsNotFound(err) {
		return nil, nil
	}
	return list, err
}

func (d scriptDNS) addresses(ctx context.Context, name, kind string) (list []string, err error) {
	var addrs []netip.Addr
	if kind == "A" {
		addrs, err = d.IPv4(ctx, name)
	} else {
		addrs, err = d.Addrs(ctx, name)
	}
	for _, addr := range addrs {
		if (kind == "A") == addr.Unmap().Is4() {
			list = append(list, addr.Unmap().String())
		}
	}
	return list, err
}

// scriptLists implements script.DNSBL.
type scriptLists struct{ resolver *dns.Resolver }

// Listed implements script.DNSBL.
func (l scriptLists) Listed(ctx context.Context, zone string, addr netip.Addr) ([]string, error) {
	z, err := dnslist.ParseZone(zone)
	if err != nil {
		return nil, err
	}
	answers, err := l.resolver.IPv4(ctx, z.Query(addr))
	if dns.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var listed []string
	for _, answer := range answers {
		switch z.Meaning(answer) {
		case dnslist.Listed:
			listed = append(listed, answer.String())
		case dnslist.Refused:
			err = fmt.Errorf("%s refuses to answer (%s)", z.Name, answer)
		}
	}
	if len(listed) > 0 {
		return listed, nil
	}
	return nil, err
}

// scriptLDAP implements script.LDAP.
type scriptLDAP map[string]*directory

func (l scriptLDAP) find(server string) (*directory, error) {
	if d := l[server]; d != nil {
		return d, nil
	}
	return nil, fmt.Errorf("there is no [[ldap]] %q", server)
}

// Bind implements script.LDAP.
func (l scriptLDAP) Bind(ctx context.Context, server, name, password string) (bool, error) {
	d, err := l.find(server)
	if err != nil {
		return false, err
	}
	if err = d.Directory.Bind(ctx, name, password); errors.Is(err, ldap.ErrCredentials) {
		return false, nil
	}
	return err == nil, err
}

// Search implements script.LDAP. The values are in the filter already, escaped.
func (l scriptLDAP) Search(ctx context.Context, server, filter string, attributes []string) ([]map[string][]string, error) {
	d, err := l.find(server)
	if err != nil {
		return nil, err
	}
	found, err := d.Directory.SearchText(ctx, filter, attributes...)
	if err != nil {
		return nil, err
	}
	entries := make([]map[string][]string, len(found))
	for i := range found {
		entries[i] = map[string][]string{"dn": {found[i].DN}}
		for _, a := range found[i].Attributes {
			entries[i][strings.ToLower(a.Name)] = a.Values
		}
	}
	return entries, nil
}

// scriptSMTP implements script.SMTP.
type scriptSMTP struct {
	transports map[string]builtTransport
	logins     map[string]*authsmtp.Backend
	rcpt       *callout.Recipient
}

// Auth implements script.SMTP.
func (s scriptSMTP) Auth(ctx context.Context, name, user, password string) (bool, error) {
	b := s.logins[name]
	if b == nil {
		return false, fmt.Errorf("nobody can log in at a transport %q", name)
	}
	answer, err := b.Authenticate(ctx, nil, user, password)
	return answer.Result == policy.AuthYes, err
}

// Rcpt implements script.SMTP.
func (s scriptSMTP) Rcpt(ctx context.Context, name, address string) (bool, error) {
	t, ok := s.transports[name]
	if !ok {
		return false, fmt.Errorf("there is no transport %q", name)
	}
	to, err := smtp.ParseAddress(address)
	if err != nil {
		return false, fmt.Errorf("%q is not an address", address)
	}
	r := mail.Recipient{Address: to, Original: to, Route: mail.Route{Domain: to.Domain, Transport: name}}
	if t.queued.ByDomain {
		r.Route.NextHop = to.Domain
	}
	findings, err := s.rcpt.Check(ctx, &policy.Input{Stage: policy.Recipient, Session: &mail.Session{}, Recipient: &r})
	if err != nil {
		return false, err
	}
	for i := range findings {
		switch findings[i].Symbol {
		case callout.SymbolRejected:
			return false, nil
		case callout.SymbolExists, callout.SymbolCatchAll:
			return true, nil
		}
		err = errors.New(findings[i].Reason)
	}
	if err == nil {
		err = fmt.Errorf("nobody behind the transport %q can be asked", name)
	}
	return false, err
}

// scriptWeb implements script.HTTP: a service of an [[http]] is asked by its rules, all
// else is not on a private address.
type scriptWeb struct {
	known map[string]*weblookup.Client
	other *weblookup.Client
}

// websByHost are the services of the configuration by scheme and host.
func websByHost(g *generation) map[string]*weblookup.Client {
	known := make(map[string]*weblookup.Client)
	for i := range g.cfg.HTTP {
		c := &g.cfg.HTTP[i]
		// Places stand behind the host only.
		if place, ok := placeOf(c.URL); ok && known[place] == nil {
			known[place] = g.webs[string(c.Name)].Client
		}
	}
	return known
}

// placeOf is the scheme and the host of a URL, perhaps of a template.
func placeOf(text string) (string, bool) {
	scheme, rest, ok := strings.Cut(text, "://")
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		rest = rest[:i]
	}
	u, err := url.Parse(scheme + "://" + rest)
	if !ok || err != nil {
		return "", false
	}
	return strings.ToLower(u.Scheme + "://" + u.Host), true
}

// Get implements script.HTTP.
func (w scriptWeb) Get(ctx context.Context, address string) (status int, body string, err error) {
	q, err := weblookup.Parse(weblookup.Request{URL: address})
	if err != nil {
		return 0, "", err
	}
	client := w.other
	if place, ok := placeOf(address); ok && w.known[place] != nil {
		client = w.known[place]
	}
	answer, err := client.Do(ctx, q, nil)
	return answer.Status, string(answer.Body), err
}

// scriptRates implements script.Rates.
type scriptRates struct{ *rate.Counter }

// Over implements script.Rates.
func (r scriptRates) Over(_ context.Context, key string, n int, per time.Duration) (bool, error) {
	return r.Counter.Over(key, rate.Limit{Count: int64(n), Period: per, Burst: int64(n)}), nil
}
