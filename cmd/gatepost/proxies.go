package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"gatepost/internal/config"
	"gatepost/internal/gateway"
	"gatepost/internal/mail"
	"gatepost/internal/metrics"
	"gatepost/internal/smtp"
	"gatepost/internal/smtpclient"
	"gatepost/internal/smtpserver"
	"gatepost/internal/transport"
	"gatepost/internal/upstream"
)

// buildProxies makes what mail is passed through to, for the transports of domains
// with delivery = "proxy".
func (a *app) buildProxies(g, old *generation) error {
	g.proxies = make(map[string]gateway.Proxy)
	for i := range g.cfg.Domains {
		d := &g.cfg.Domains[i]
		name := string(d.Transport)
		if _, made := g.proxies[name]; made || d.Delivery != "proxy" {
			continue
		}
		at := slices.IndexFunc(g.cfg.Transports, func(t config.Transport) bool { return t.Name == d.Transport })
		if at < 0 {
			return fmt.Errorf("pass mail for %s through: no transport %s", d.Name, name)
		}
		proxy, err := a.buildProxy(g, old, &g.cfg.Transports[at])
		if err != nil {
			return fmt.Errorf("pass mail through transport %s: %w", name, err)
		}
		g.proxies[name] = proxy
	}
	return nil
}

func (a *app) buildProxy(g, old *generation, t *config.Transport) (gateway.Proxy, error) {
	proxy := gateway.Proxy{Adopt: t.IfUnreachable == "adopt"}
	name := string(t.Name)
	deps := transport.Deps{Observer: a.metrics, Log: a.logs.Logger("Delivery").With("transport", name)}
	if err := addSigning(&deps, g.cfg, t); err != nil {
		return proxy, err
	}
	proxy.Leave = transport.NewMarks(name, deps).Put
	proxy.Passed = func(status mail.OutcomeStatus, took time.Duration) { a.metrics.Attempted(name, status, took) }
	print, err := fingerprint(g.cfg, t)
	if err != nil {
		return proxy, err
	}
	proxy.Server, err = keep(g, old, "upstream "+print, func() (*upstream.Server, *keptPart, error) {
		server, err := a.newUpstream(g, t)
		if err != nil {
			return nil, nil, err
		}
		return server, &keptPart{close: server.Close, name: "upstream " + name, health: func() error { return upstreamHealth(server) }}, nil
	})
	return proxy, err
}

// newUpstream makes the sessions with the hosts of a transport. What they offered
// when they were last spoken to is known again, and asked anew in the background.
func (a *app) newUpstream(g *generation, t *config.Transport) (*upstream.Server, error) {
	uc, err := upstreamConfig(g.cfg, t)
	if err != nil {
		return nil, err
	}
	server, err := upstream.New(uc, upstream.Deps{
		Resolver: g.resolver, Observer: a.metrics.Upstream(string(t.Name)), Log: a.logs.Logger("Upstream"),
		Dial: a.dialer(t.SourceAddress), DialFrom: a.dialFrom,
	})
	if err != nil {
		return nil, err
	}
	known, err := readOffers(offersFile(g.cfg))
	if err != nil {
		a.log.Warn("what upstreams can take is not known until they were asked", "error", err)
	}
	server.Recall(known[string(t.Name)])
	a.serving.Go(func() {
		ctx, cancel := context.WithTimeout(a.running, probeTime)
		defer cancel()
		if err := server.Probe(ctx); err != nil && a.running.Err() == nil {
			a.log.Warn("an upstream could not be asked what it can take", "transport", string(t.Name), "error", err)
		}
	})
	return server, nil
}

// probeTime is how long upstreams have to say what they offer.
const probeTime = time.Minute

// A client waits while these run: the longest that a transport may take in the queue
// would be too long here.
var proxyTimeouts = smtpclient.Timeouts{
	Connect: 10 * time.Second, Banner: 30 * time.Second, Hello: 30 * time.Second, Auth: 30 * time.Second, TLS: 20 * time.Second,
	Mail: time.Minute, Rcpt: 2 * time.Minute, DataDone: 8 * time.Minute,
}

func upstreamConfig(cfg *config.Config, t *config.Transport) (upstream.Config, error) {
	tc, err := transportConfig(cfg, t)
	if err != nil {
		return upstream.Config{}, err
	}
	uc := upstream.Config{
		Name: string(t.Name), Hostname: string(cfg.Hostname), Balance: upstream.Balance(t.Balance), Port: t.Port,
		TLS: upstream.TLSMode(t.TLS), ImplicitTLS: t.ImplicitTLS, TLSName: string(t.TLSName), Auth: tc.Auth, Identity: upstream.Identity(t.ClientIdentity),
		Source: t.SourceAddress, Sessions: t.ProxySessions, MessagesPerSession: t.MessagesPerSession, IdleTimeout: t.Timeouts.Idle,
		Timeouts: shorter(tc.Timeouts, proxyTimeouts),
		Original: t.Kind == "original", Spoof: t.SpoofClient,
	}
	for i, h := range t.Hosts {
		host := upstream.Host{Address: h.String()}
		if len(t.Weights) > 0 {
			host.Weight = t.Weights[i]
		}
		uc.Hosts = append(uc.Hosts, host)
	}
	if t.TLSCAFile != "" {
		pem, err := os.ReadFile(string(t.TLSCAFile))
		if err != nil {
			return uc, err
		}
		uc.Roots = x509.NewCertPool()
		if !uc.Roots.AppendCertsFromPEM(pem) {
			return uc, fmt.Errorf("%s holds no certificate", t.TLSCAFile)
		}
	}
	return uc, nil
}

// shorter are the configured times, where they are not longer than those of a proxy.
func shorter(t, most smtpclient.Timeouts) smtpclient.Timeouts {
	for _, p := range []struct {
		have *time.Duration
		most time.Duration
	}{
		{&t.Connect, most.Connect}, {&t.Banner, most.Banner}, {&t.Hello, most.Hello}, {&t.Auth, most.Auth},
		{&t.TLS, most.TLS}, {&t.Mail, most.Mail}, {&t.Rcpt, most.Rcpt}, {&t.DataDone, most.DataDone},
	} {
		*p.have = min(*p.have, p.most)
	}
	return t
}

// upstreamHealth names the hosts that could not be spoken to.
func upstreamHealth(s *upstream.Server) error {
	var down []string
	for _, h := range s.Health().Hosts {
		if h.Failures > 0 {
			down = append(down, fmt.Sprintf("%s failed %d times in a row", h.Address, h.Failures))
		}
	}
	if len(down) == 0 {
		return nil
	}
	return errors.New(strings.Join(down, "; "))
}

// offer is what a listener may promise in the name of the upstreams that its mail may
// be passed through to; nil: nothing is passed through.
func (g *generation) offer(l *config.Listener) func(s *mail.Session, own smtp.Extensions) smtpserver.Offer {
	servers := g.serversOf(l)
	if len(servers) == 0 {
		return nil
	}
	return func(client *mail.Session, own smtp.Extensions) smtpserver.Offer {
		// One that nobody knows yet can do nothing.
		all, _ := servers[0].CapabilitiesFor(client)
		for _, s := range servers[1:] {
			c, _ := s.CapabilitiesFor(client)
			all = all.And(c)
		}
		return smtpserver.Offer{Extensions: all.Restrict(own), MessageSize: all.SizeLimit, Recipients: all.RcptMax}
	}
}

// serversOf are the upstreams that mail of a listener may be passed through to.
func (g *generation) serversOf(l *config.Listener) []*upstream.Server {
	var servers []*upstream.Server
	for i := range g.cfg.Domains {
		d := &g.cfg.Domains[i]
		if p, ok := g.proxies[string(d.Transport)]; ok && d.Delivery == "proxy" && (d.Listener == "*" || d.Listener == l.Name) && !slices.Contains(servers, p.Server) {
			servers = append(servers, p.Server)
		}
	}
	return servers
}

// deferMixed are the listeners with mixed = "defer".
func deferMixed(cfg *config.Config) map[string]bool {
	all := make(map[string]bool)
	for i := range cfg.Listeners {
		all[string(cfg.Listeners[i].Name)] = cfg.Listeners[i].Mixed == "defer"
	}
	return all
}

// upstreams are those of the present configuration, as status shows them.
func (g *generation) upstreams() map[string]upstream.Health {
	all := make(map[string]upstream.Health, len(g.proxies))
	for name, p := range g.proxies {
		all[name] = p.Server.Health()
	}
	return all
}

// upstreamStats are their sessions, for the metrics.
func (a *app) upstreamStats() []metrics.UpstreamStats {
	state := a.state.Load()
	if state == nil {
		return nil
	}
	var all []metrics.UpstreamStats
	for name, h := range state.gen.upstreams() {
		for _, host := range h.Hosts {
			all = append(all, metrics.UpstreamStats{Transport: name, Host: host.Host, Address: host.Address, Open: host.Open, Idle: host.Idle})
		}
	}
	return all
}

// meeting is the hook for HELO: a server that a client named by its connection is
// asked what it can take before that is promised in its name.
type meeting []*upstream.Server

// Helo implements smtpserver.HeloHook.
func (m meeting) Helo(ctx context.Context, s *mail.Session) mail.Decision {
	for _, server := range m {
		server.Meet(ctx, s)
	}
	return mail.Decision{}
}
