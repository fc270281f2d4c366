package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"time"

	"gatepost/internal/config"
	"gatepost/internal/gateway"
	"gatepost/internal/logs"
	"gatepost/internal/mail"
	"gatepost/internal/metrics"
	"gatepost/internal/policy"
	"gatepost/internal/policy/auth"
	"gatepost/internal/pop3proxy"
)

// popComponent is what lines in mail.log about POP3 carry.
const popComponent = "POP-Proxy"

// popRoots are the certificates that may have signed those of the servers behind a
// listener; nil: the system's.
func popRoots(g, old *generation, l *config.Listener) (*x509.CertPool, error) {
	if l.UpstreamTLSCAFile == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(string(l.UpstreamTLSCAFile))
	if err != nil {
		return nil, fmt.Errorf("read upstream_tls_ca_file: %w", err)
	}
	return keep(g, old, "pop roots "+string(pem), func() (*x509.CertPool, *keptPart, error) {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, nil, fmt.Errorf("read upstream_tls_ca_file %s: no certificate", l.UpstreamTLSCAFile)
		}
		return pool, nil, nil
	})
}

// buildPOP makes what listeners for POP3 need, so that nothing can fail when they are
// changed over.
func (a *app) buildPOP(g, old *generation) error {
	for i := range g.cfg.Listeners {
		l := &g.cfg.Listeners[i]
		if !l.POP3() {
			continue
		}
		if _, err := popRoots(g, old, l); err != nil {
			return fmt.Errorf("listener %s: %w", l.Name, err)
		}
	}
	return nil
}

// popConfig is a [[listener]] as package pop3proxy wants it.
func (a *app) popConfig(gen *generation, l *config.Listener) (pop3proxy.Config, error) {
	tlsConfig, err := gen.tlsConfig(l)
	if err != nil {
		return pop3proxy.Config{}, err
	}
	roots, err := popRoots(gen, nil, l)
	if err != nil {
		return pop3proxy.Config{}, err
	}
	limits := &gen.cfg.Limits
	pc := pop3proxy.Config{
		Listener:         string(l.Name),
		Hostname:         string(gen.cfg.Hostname),
		TLSConfig:        tlsConfig,
		TrustedNetworks:  l.TrustedNetworks,
		ProxyFrom:        l.ProxyProtocolFrom,
		Upstream:         pop3proxy.Upstream{Address: l.UpstreamAddress(), Hosts: l.UpstreamHosts, Roots: roots, Dial: a.dialPOP},
		Flow:             string(l.Flows.Content),
		MaxCommandLine:   limits.MaxCommandLine,
		MaxMessageSize:   int64(limits.MaxMessageSize),
		PassLarge:        l.TooLarge == "pass",
		MaxErrors:        limits.MaxErrors,
		ErrorDelay:       limits.ErrorDelay,
		IdleTimeout:      l.IdleTimeout,
		UpstreamTimeout:  l.UpstreamTimeout,
		ConnectTimeout:   l.ConnectTimeout,
		WriteTimeout:     limits.WriteTimeout,
		HandshakeTimeout: limits.HandshakeTimeout,
		DrainTimeout:     limits.DrainTimeout,
		WaitAfter:        l.WaitAfter,
		WaitInterval:     l.WaitInterval,
		KeepReplaced:     !l.DeleteReplaced,
	}
	pc.TLS = map[string]pop3proxy.TLSMode{
		"off": pop3proxy.TLSOff, "starttls": pop3proxy.TLSStart, "required": pop3proxy.TLSRequired, "implicit": pop3proxy.TLSImplicit,
	}[l.TLS]
	pc.Upstream.TLS = map[string]pop3proxy.UpstreamTLS{
		"off": pop3proxy.UpstreamOff, "opportunistic": pop3proxy.UpstreamOpportunistic, "starttls": pop3proxy.UpstreamStart, "implicit": pop3proxy.UpstreamImplicit,
	}[l.UpstreamTLS]
	switch l.Upstream {
	case config.UpstreamLogin:
		pc.Upstream.Mode = pop3proxy.Login
	case config.UpstreamOriginal:
		pc.Upstream.Mode = pop3proxy.Original
	}
	return pc, nil
}

// dialPOP connects to a POP3 server, unless that is this process.
func (a *app) dialPOP(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := a.dialer(netip.Addr{})(ctx, network, address)
	if err != nil {
		return nil, err
	}
	tcp, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return conn, nil
	}
	to := tcp.AddrPort()
	for _, own := range ownAddresses(a.listening()) {
		at := own.Addr().Unmap()
		if own.Port() == to.Port() && (at == to.Addr().Unmap() || at.IsUnspecified() && to.Addr().IsLoopback()) {
			conn.Close()
			return nil, fmt.Errorf("%s is a listener of this host", address)
		}
	}
	return conn, nil
}

// listening is the configuration whose listeners are open.
func (a *app) listening() *config.Config {
	if state := a.state.Load(); state != nil {
		return state.gen.cfg
	}
	return &config.Config{}
}

// popHooks joins the POP3 proxy to the spine.
func (a *app) popHooks(gen *generation, l *config.Listener) (pop3proxy.Hooks, error) {
	guard, err := keepGuard(gen, nil)
	if err != nil {
		return pop3proxy.Hooks{}, err
	}
	hooks := pop3proxy.Hooks{Guard: popGuard{guard}, Traffic: popTraffic{logs: a.logs, log: a.logs.Logger("Login"), history: a.historian()}}
	if l.Flows.Content != "" {
		hooks.Scanner = popScanner{a}
	}
	return hooks, nil
}

// applyPOP starts or changes the server of a listener for POP3.
func (a *app) applyPOP(gen *generation, l *config.Listener, running door) (door, error) {
	pc, err := a.popConfig(gen, l)
	if err != nil {
		return nil, err
	}
	hooks, err := a.popHooks(gen, l)
	if err != nil {
		return nil, err
	}
	if server, ok := running.(*pop3proxy.Server); ok {
		return server, server.Reload(pc, hooks)
	}
	return pop3proxy.New(pc, hooks, pop3proxy.Options{
		Limiter: a.limiter, Log: a.logs.Logger(popComponent), Observer: popObserver{a.metrics},
	})
}

// popScanner fits the gateway to the proxy's interface, which the gateway, a level below,
// cannot name. It is the present generation's: a session may last for days.
type popScanner struct{ *app }

// Retrieve implements pop3proxy.Scanner.
func (s popScanner) Retrieve(ctx context.Context, env *mail.Envelope, key mail.Mailed) (pop3proxy.Retrieval, error) {
	r, err := s.gateway.Load().Retrieve(ctx, env, key)
	if err != nil {
		return nil, err
	}
	return popRetrieval{r}, nil
}

// Known implements pop3proxy.Scanner.
func (s popScanner) Known(ctx context.Context, env *mail.Envelope, key mail.Mailed) (*pop3proxy.Retrieved, bool) {
	r, ok := s.gateway.Load().Known(ctx, env, key)
	if !ok {
		return nil, false
	}
	return retrieved(r), true
}

type popRetrieval struct{ *gateway.Retrieval }

// Judge implements pop3proxy.Retrieval.
func (r popRetrieval) Judge(ctx context.Context) (*pop3proxy.Retrieved, error) {
	done, err := r.Retrieval.Judge(ctx)
	if err != nil {
		return nil, err
	}
	return retrieved(done), nil
}

func retrieved(r *gateway.Retrieved) *pop3proxy.Retrieved {
	return &pop3proxy.Retrieved{Pass: r.Pass, Edits: r.Edits, Body: r.Body, Notice: r.Notice, Verdict: r.Verdict, Reason: r.Reason, Cached: r.Cached, ID: r.ID}
}

// popGuard has failed logins counted with those of all other protocols.
type popGuard struct{ *auth.Guard }

// Begin implements pop3proxy.Guard.
func (g popGuard) Begin(ctx context.Context, s *mail.Session, user string) pop3proxy.Attempt {
	return popAttempt{g.Guard.Begin(ctx, s, user)}
}

type popAttempt struct{ auth.Attempt }

// Done implements pop3proxy.Attempt.
func (a popAttempt) Done(result pop3proxy.LoginResult, secret string) {
	answer := policy.AuthUnknown
	switch result {
	case pop3proxy.LoginOK:
		answer = policy.AuthYes
	case pop3proxy.LoginFailed:
		answer = policy.AuthNo
	}
	a.Attempt.Done(answer, secret)
}

// popObserver fits the metrics to the proxy's interface.
type popObserver struct{ *metrics.Metrics }

// POPRetrieved implements pop3proxy.Observer.
func (o popObserver) POPRetrieved(listener string, fate pop3proxy.Fate, size int64, took time.Duration) {
	o.Metrics.POPRetrieved(listener, string(fate), size, took)
}

// POPLogin implements pop3proxy.Observer.
func (o popObserver) POPLogin(listener string, result pop3proxy.LoginResult) {
	o.Login(listener, popLoginResult(result))
}

func popLoginResult(r pop3proxy.LoginResult) string {
	switch r {
	case pop3proxy.LoginOK:
		return metrics.LoginOK
	case pop3proxy.LoginFailed:
		return metrics.LoginFailed
	case pop3proxy.LoginRefused:
		return metrics.LoginLocked
	}
	return metrics.LoginUnknown
}

// popTraffic tells logs and history what passed.
type popTraffic struct {
	logs    *logs.Logs
	log     *slog.Logger
	history mail.Historian
}

// Retrieved implements pop3proxy.Traffic.
func (t popTraffic) Retrieved(env *mail.Envelope, m pop3proxy.MessageSummary) {
	line := logs.Retrieval{
		ID: env.ID, Verb: m.Verb, Number: m.Number, UIDL: m.UIDL, Result: string(m.Fate), Reason: m.Reason,
		Fetch: m.Fetch, Scan: m.Scan, Took: m.Total, Waits: m.Waits, SizeAtServer: max(m.Size, env.Size),
	}
	if r := m.Result; r != nil {
		line.Verdict, line.Cached = r.Verdict, r.Cached
		if !r.ID.IsZero() {
			line.ID = r.ID
		}
	}
	t.logs.POPRetrieval(env, line)
	e := mail.Event{Kind: mail.EventFetch, Stage: m.Verb, Reason: m.Reason, Took: m.Total.Round(time.Microsecond)}
	e.AboutMessage(env)
	e.Message, e.Result = line.ID, fetchResult(m.Fate)
	t.history.Note(&e)
}

// fetchResult is what history calls what a client got.
func fetchResult(f pop3proxy.Fate) mail.EventResult {
	switch f {
	case pop3proxy.FateReplaced:
		return mail.EventReplaced
	case pop3proxy.FatePassed, pop3proxy.FateUnscanned:
		return mail.EventPassed
	case pop3proxy.FateRefused:
		return mail.EventRefused
	}
	return mail.EventFailed
}

// LoggedIn implements pop3proxy.Traffic.
func (t popTraffic) LoggedIn(s *mail.Session, user string, result pop3proxy.LoginResult, reason string) {
	text, how := "login failed", mail.EventFailed
	switch result {
	case pop3proxy.LoginOK:
		text, how = "logged in", mail.EventOK
	case pop3proxy.LoginUnknown:
		text, how = "the server could not tell whether a login is right", mail.EventDeferred
	case pop3proxy.LoginRefused:
		text, how = "login refused", mail.EventRefused
	}
	t.log.Info(text, "session", s.ID.String(), "listener", s.Listener, "client", s.Client.String(), "user", user, "server", s.Server, "reason", reason)
	e := mail.Event{Kind: mail.EventLogin, Result: how, Reason: reason}
	e.About(s)
	e.User = user
	t.history.Note(&e)
}

// Ended implements pop3proxy.Traffic.
func (t popTraffic) Ended(s *mail.Session, sum pop3proxy.Summary) {
	attrs := []slog.Attr{
		slog.String("reason", sum.Reason), slog.Int("messages", sum.Messages), slog.Int("replaced", sum.Replaced),
		slog.Int("deleted", sum.Deleted), slog.Int("errors", sum.Errors), slog.Int64("bytes", sum.BytesOut),
	}
	if sum.UpstreamTLS.Active() {
		attrs = append(attrs, slog.String("upstream_tls", sum.UpstreamTLS.Version), slog.Bool("upstream_verified", sum.UpstreamTLS.Verified))
	}
	t.logs.POPSession(s, append(attrs, slog.Duration("duration", sum.Duration.Round(time.Microsecond)))...)
	if s.User == "" {
		return
	}
	e := mail.Event{Kind: mail.EventSession, Result: mail.EventOK, Reason: sum.Reason, Took: sum.Duration.Round(time.Microsecond), Details: []mail.Property{
		{Name: "messages", Value: fmt.Sprint(sum.Messages)}, {Name: "replaced", Value: fmt.Sprint(sum.Replaced)}, {Name: "deleted", Value: fmt.Sprint(sum.Deleted)},
	}}
	e.About(s)
	t.history.Note(&e)
}
