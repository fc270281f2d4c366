package main

import (
	"cmp"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"

	"gatepost/internal/certs"
	"gatepost/internal/config"
	"gatepost/internal/dns"
	"gatepost/internal/gateway"
	"gatepost/internal/logs"
	"gatepost/internal/policy/access"
	"gatepost/internal/policy/auth"
	"gatepost/internal/policy/greylist"
	"gatepost/internal/queue"
	"gatepost/internal/rewrite"
	"gatepost/internal/rewrite/srs"
	"gatepost/internal/route"
	"gatepost/internal/smtpclient"
	"gatepost/internal/smtpserver"
	"gatepost/internal/spool"
	"gatepost/internal/transport"
)

// generation is everything that one reading of the configuration makes. It is
// built completely before any of it is used, and then never changed.
type generation struct {
	cfg        *config.Config
	certs      map[certs.Pair]*certs.Store
	transports map[string]builtTransport
	resolver   *dns.Resolver
	routes     *route.Table
	// rewriting and srs change addresses; nil: nothing does. ours tells the domains that
	// are configured by name, parent of which one another is an alias.
	rewriting *rewrite.Engine
	srs       *srs.Rewriter
	ours      func(domain string) bool
	parent    func(domain string) string
	gateway   *gateway.Gateway
	// content is the content flows, modules what they are made of, by the key of
	// their blocks.
	content gateway.Content
	modules map[string]*builtModule
	// parts are what else flows and routes are made of, by digest of their keys.
	parts map[string]*keptPart
	// directories and webs are the [[ldap]] and [[http]] by name.
	directories map[string]*directory
	webs        map[string]*web
	// places knows countries; nil: no database is configured.
	places *access.Places
	// greylists are those of its flows, each once.
	greylists []*greylist.Greylist
	// stages are the flows before content, logins those of the stage auth by listener.
	stages gateway.Stages
	logins map[string]smtpserver.Authenticator
	// webGate decides about logins in the administration.
	webGate *auth.Gate
	// users is what users may do who have logged in.
	users gateway.Users
	// proxies are the transports through which mail is passed while its client waits.
	proxies map[string]gateway.Proxy
}

// builtTransport is a transport with the fingerprint of all that it was made
// from: a reload keeps one whose fingerprint is the same, with its sessions.
type builtTransport struct {
	transport.Transport
	fingerprint string
	kind        string
	queued      queue.TransportConfig
}

// close ends the transports.
func (g *generation) close() error {
	var errs []error
	for _, t := range g.transports {
		errs = append(errs, t.Close())
	}
	for _, m := range g.modules {
		errs = append(errs, m.Close())
	}
	return errors.Join(append(errs, g.closeParts(nil))...)
}

// build makes a generation but for its gateway. old is the generation in use,
// whose unchanged transports are taken over; nil at the start.
func (a *app) build(cfg *config.Config, old *generation) (*generation, error) {
	g := &generation{cfg: cfg, certs: make(map[certs.Pair]*certs.Store), transports: make(map[string]builtTransport),
		parts: make(map[string]*keptPart), directories: make(map[string]*directory), webs: make(map[string]*web),
		logins: make(map[string]smtpserver.Authenticator)}
	if err := a.checkInterception(cfg); err != nil {
		return nil, err
	}
	if err := g.loadCertificates(); err != nil {
		return nil, err
	}
	if err := a.buildTransports(g, old); err != nil {
		return nil, err
	}
	for _, step := range []func(g, old *generation) error{a.buildLookups, a.buildPlaces, a.buildProxies, a.buildRoutes, a.buildContent, a.buildStages, a.buildLogin} {
		if err := step(g, old); err != nil {
			return nil, errors.Join(err, g.closeNew(old))
		}
	}
	return g, nil
}

// closeNew closes the transports that old does not use too.
func (g *generation) closeNew(old *generation) error {
	var errs []error
	for name, t := range g.transports {
		if old == nil || old.transports[name].Transport != t.Transport {
			errs = append(errs, t.Close())
		}
	}
	errs = append(errs, g.closeModules(old)...)
	return errors.Join(append(errs, g.closeParts(old))...)
}

// newGateway makes the spine of a generation.
func (a *app) newGateway(g *generation) (*gateway.Gateway, error) {
	mailboxes, err := a.mailboxesOf(g)
	if err != nil {
		return nil, err
	}
	return gateway.New(gateway.Config{
		Hostname:      string(g.cfg.Hostname),
		Postmaster:    g.cfg.Postmaster,
		Spool:         a.spool,
		Queue:         a.queue,
		Router:        g.routes,
		Log:           a.logs.Logger("SMTP-Proxy"),
		WaitLog:       a.logs.Logger("Scanner-Queue"),
		Traffic:       a.logs,
		History:       a.historian(),
		MaxHops:       g.cfg.Limits.MaxHops,
		MaxHeaderSize: int64(g.cfg.Limits.MaxHeaderSize),
		Rewriter:      rewriterOf(g),
		Stages:        g.stages,
		Content:       g.content,

		UnknownRecipient: a.services.reputation.UnknownRecipient,
		Sent:             g.sent,
		Queued:           queuedListeners(g.cfg),
		ByDomain:         g.byDomain(),
		Originals:        g.originals(),
		Users:            g.users,
		Proxies:          g.proxies,
		Mailboxes:        mailboxes,
		DeferMixed:       deferMixed(g.cfg),
	})
}

// byDomain are the transports that ask for the exchangers of a domain.
func (g *generation) byDomain() map[string]bool {
	all := make(map[string]bool)
	for name, t := range g.transports {
		all[name] = t.queued.ByDomain
	}
	return all
}

// originals are the transports that lead to where diverted connections were meant for.
func (g *generation) originals() map[string]bool {
	all := make(map[string]bool)
	for name, t := range g.transports {
		all[name] = t.kind == "original"
	}
	return all
}

// loadCertificates reads the pairs of all listeners; a listener without one gets
// the self-signed certificate.
func (g *generation) loadCertificates() error {
	for i := range g.cfg.Listeners {
		l := &g.cfg.Listeners[i]
		if l.TLS == "off" {
			continue
		}
		pair, err := g.pairFor(l)
		if err != nil {
			return err
		}
		if g.certs[pair] != nil {
			continue
		}
		if g.certs[pair], err = certs.Load(pair); err != nil {
			return fmt.Errorf("load certificate of listener %s: %w", l.Name, err)
		}
	}
	return nil
}

// pairFor is the certificate of a listener.
func (g *generation) pairFor(l *config.Listener) (certs.Pair, error) {
	switch {
	case l.TLSCertFile != "":
		return certs.Pair{CertFile: string(l.TLSCertFile), KeyFile: string(l.TLSKeyFile)}, nil
	case g.cfg.TLS.CertFile != "":
		return certs.Pair{CertFile: string(g.cfg.TLS.CertFile), KeyFile: string(g.cfg.TLS.KeyFile)}, nil
	}
	return certs.SelfSigned(string(g.cfg.DataDir), string(g.cfg.Hostname))
}

// tlsConfig is what the sessions of a listener use; nil for tls = "off".
func (g *generation) tlsConfig(l *config.Listener) (*tls.Config, error) {
	if l.TLS == "off" {
		return nil, nil
	}
	pair, err := g.pairFor(l)
	if err != nil {
		return nil, err
	}
	version, err := certs.Version(g.cfg.TLS.MinVersion)
	if err != nil {
		return nil, err
	}
	return g.certs[pair].ServerConfig(version), nil
}

// buildTransports makes the configured transports and the built-in one.
func (a *app) buildTransports(g, old *generation) error {
	resolver, err := dns.New(dns.Config{Servers: hostPorts(g.cfg.DNS.Servers), Timeout: g.cfg.DNS.Timeout})
	if err != nil {
		return err
	}
	g.resolver = resolver
	if err := a.buildPolicies(g, old); err != nil {
		return errors.Join(err, g.closeNew(old))
	}
	all := append([]config.Transport{builtinInternet()}, g.cfg.Transports...)
	for i := range all {
		t := &all[i]
		print, err := fingerprint(g.cfg, t)
		if err == nil && old != nil && old.transports[string(t.Name)].fingerprint == print {
			g.transports[string(t.Name)] = old.transports[string(t.Name)]
			continue
		}
		if err == nil {
			err = a.buildTransport(g, old, t, print)
		}
		if err != nil {
			return errors.Join(fmt.Errorf("make transport %s: %w", t.Name, err), g.closeNew(old))
		}
	}
	return nil
}

func (a *app) buildTransport(g, old *generation, t *config.Transport, print string) error {
	tc, err := transportConfig(g.cfg, t)
	if err != nil {
		return err
	}
	resolver := g.resolver
	if t.Lookup.Zone != "" || len(t.Lookup.Query) > 0 {
		resolver = resolver.WithLookup(string(t.Lookup.Zone), hostPorts(t.Lookup.Query))
	}
	deps := transport.Deps{
		Resolver: resolver,
		Observer: a.metrics,
		Log:      a.logs.Logger("Delivery"),
		Dial:     a.dialer(t.SourceAddress),
		DialFrom: a.dialFrom,
		Check:    a.mayGoTo,
	}
	if err := errors.Join(addSigning(&deps, g.cfg, t), a.addPolicies(&deps, g, old, t)); err != nil {
		return err
	}
	made, err := transport.New(tc, deps)
	if err != nil {
		return err
	}
	g.transports[string(t.Name)] = builtTransport{
		Transport:   made,
		fingerprint: print,
		kind:        t.Kind,
		queued: queue.TransportConfig{
			Transport: made,
			ByDomain:  t.Kind == "mx" || t.Kind == "original",
			Policy:    queuePolicy(t),
		},
	}
	return nil
}

// fingerprint names everything that a transport is made from, the contents of
// its files included.
func fingerprint(cfg *config.Config, t *config.Transport) (string, error) {
	h := sha256.New()
	files := []config.Path{t.TLSCAFile}
	// %+v of a pointer would be its address.
	plain := *t
	plain.Auth = nil
	fmt.Fprintf(h, "%+v|%s|%+v|%+v", plain, cfg.Hostname, cfg.DNS, ownAddresses(cfg))
	if t.Kind == "mx" {
		fmt.Fprintf(h, "|%s", reportsKey(cfg))
	}
	if t.Auth != nil {
		fmt.Fprintf(h, "|%+v", *t.Auth)
		files = append(files, t.Auth.PasswordFile)
	}
	for _, key := range keysOfTransport(cfg, t) {
		fmt.Fprintf(h, "|%+v", *key)
		files = append(files, key.KeyFile)
	}
	for _, name := range files {
		if name == "" {
			continue
		}
		b, err := os.ReadFile(string(name))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "|%d:%s", len(b), b)
	}
	return string(h.Sum(nil)), nil
}

// builtinInternet is the transport for our own reports where no "*" domain is
// configured (docs/adr/0003).
func builtinInternet() config.Transport {
	return config.Transport{
		Name: route.BuiltinInternet, Kind: "mx", TLS: "opportunistic", MTASTS: true, Port: 25,
		Retry: config.Retry{OnGiveUp: "dsn"},
	}
}

func transportConfig(cfg *config.Config, t *config.Transport) (transport.Config, error) {
	tc := transport.Config{
		Name:               string(t.Name),
		Kind:               transport.Kind(t.Kind),
		Hostname:           string(cfg.Hostname),
		Hosts:              nextHops(t.Hosts),
		Balance:            transport.Balance(t.Balance),
		Weights:            t.Weights,
		Port:               cmp.Or(t.Port, 25),
		Spoof:              t.SpoofClient,
		Own:                ownAddresses(cfg),
		TLS:                transport.TLSMode(t.TLS),
		ImplicitTLS:        t.ImplicitTLS,
		TLSCAFile:          string(t.TLSCAFile),
		TLSName:            string(t.TLSName),
		Source:             t.SourceAddress,
		Sessions:           t.Sessions,
		MessagesPerSession: t.MessagesPerSession,
		IdleTimeout:        t.Timeouts.Idle,
		MaxHosts:           t.Timeouts.MaxHosts,
		Rest:               t.Timeouts.Rest,
		RestMax:            t.Timeouts.RestMax,
		Timeouts:           clientTimeouts(&t.Timeouts),
		Path:               string(t.Path),
	}
	if t.Auth == nil {
		return tc, nil
	}
	password, err := firstLine(t.Auth.PasswordFile)
	if err != nil {
		return tc, fmt.Errorf("read password_file: %w", err)
	}
	tc.Auth = &smtpclient.Credentials{
		Mechanism: t.Auth.Mechanism, Username: t.Auth.Username, Password: password,
		// An administrator who writes tls = "off" beside a password has decided.
		AllowCleartext: t.TLS == "off",
	}
	return tc, nil
}

func clientTimeouts(t *config.Timeouts) smtpclient.Timeouts {
	return smtpclient.Timeouts{
		Connect: t.Connect, Banner: t.Banner, Hello: t.Hello, TLS: t.TLS, Auth: t.Auth,
		Mail: t.Mail, Rcpt: t.Rcpt, DataInit: t.Data, DataBlock: t.Block, DataDone: t.Done, Quit: t.Quit,
		MinRate: int64(t.MinRate),
	}
}

func queuePolicy(t *config.Transport) queue.Policy {
	return queue.Policy{
		Sessions:    t.Sessions,
		Delays:      t.Retry.Delays,
		GiveUpAfter: t.Retry.GiveUpAfter,
		WarnAfter:   t.Retry.WarnAfter,
		Discard:     t.Retry.OnGiveUp == "discard",
		Final:       t.Kind == "maildir" || t.Kind == "lmtp" || t.Kind == "discard",
	}
}

func queueConfig(a *app, g *generation) queue.Config {
	return queue.Config{
		Store:          spoolStore{a.spool},
		Gone:           func(err error) bool { return errors.Is(err, spool.ErrNotFound) || errors.Is(err, spool.ErrCorrupt) },
		Transports:     a.queueTransports(g),
		Bouncer:        a,
		Log:            a.logs.Logger("Queue"),
		Observer:       a.metrics,
		History:        a.historian(),
		Hostname:       string(g.cfg.Hostname),
		Postmaster:     g.cfg.Postmaster.String(),
		MaxActive:      g.cfg.Queue.MaxActive,
		MemoryBudget:   int64(g.cfg.Queue.Memory),
		MaxReturn:      int64(g.cfg.Queue.MaxReturn),
		MaxRest:        g.cfg.Queue.MaxRest,
		ReportsPerHour: g.cfg.Queue.MaxReportsPerHour,
	}
}

// queueTransports are the configured transports and those that are always there.
func (a *app) queueTransports(g *generation) map[string]queue.TransportConfig {
	m := make(map[string]queue.TransportConfig, len(g.transports)+2)
	for name, t := range g.transports {
		m[name] = t.queued
	}
	maps.Copy(m, a.internalTransports(g.cfg))
	return m
}

// queuedListeners are the listeners whose mail is scanned after the answer.
func queuedListeners(cfg *config.Config) map[string]bool {
	queued := make(map[string]bool)
	for i := range cfg.Listeners {
		queued[string(cfg.Listeners[i].Name)] = cfg.Listeners[i].Processing == "queued"
	}
	return queued
}

// spoolStore is the spool as the queue wants it.
type spoolStore struct{ *spool.Spool }

// Scan implements queue.Reader.
func (s spoolStore) Scan(fn func(queue.Entry) error) error {
	return s.Spool.Scan(func(e spool.Entry) error { return fn(queue.Entry(e)) })
}

func logsConfig(cfg *config.Config) logs.Config {
	var level slog.Level
	switch cfg.LogLevel {
	case "debug":
		level = slog.LevelDebug
	case "warn":
		level = slog.LevelWarn
	case "error":
		level = slog.LevelError
	}
	return logs.Config{
		Dir:     string(cfg.LogDir),
		Level:   level,
		Format:  logs.Format(cfg.LogFormat),
		MaxSize: int64(cfg.LogMaxSize),
		Backups: cfg.LogKeep,
	}
}

// ownAddresses are the addresses that we listen on, so that a transport can tell
// when mail would come back.
func ownAddresses(cfg *config.Config) []netip.AddrPort {
	var own []netip.AddrPort
	for i := range cfg.Listeners {
		for _, addr := range cfg.Listeners[i].Address {
			ip, err := netip.ParseAddr(cmp.Or(addr.Host, "::"))
			if err == nil && addr.Unix == "" {
				own = append(own, netip.AddrPortFrom(ip, uint16(addr.Port)))
			}
		}
	}
	return own
}

func hostPorts(list []config.HostPort) []string {
	var out []string
	for _, h := range list {
		out = append(out, h.String())
	}
	return out
}

// nextHops are hosts as package transport writes them.
func nextHops(list []config.HostPort) []string {
	var out []string
	for _, h := range list {
		if h.Unix != "" {
			out = append(out, "unix:"+h.Unix)
			continue
		}
		out = append(out, h.String())
	}
	return out
}
