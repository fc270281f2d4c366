package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"gatepost/internal/config"
	"gatepost/internal/gateway"
	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/metrics"
	"gatepost/internal/policy"
	"gatepost/internal/policy/auth"
	"gatepost/internal/policy/auth/authfile"
	"gatepost/internal/policy/auth/authhttp"
	"gatepost/internal/policy/auth/authldap"
	"gatepost/internal/policy/auth/authsmtp"
	"gatepost/internal/transport"
)

// buildLogin makes the flows of the stage auth, and what users may do.
func (a *app) buildLogin(g, old *generation) error {
	guard, err := keepGuard(g, old)
	if err != nil {
		return fmt.Errorf("make [users.guard]: %w", err)
	}
	if err := a.buildPOP(g, old); err != nil {
		return err
	}
	if g.users, err = a.buildUsers(g, old); err != nil {
		return fmt.Errorf("make [users]: %w", err)
	}
	for i := range g.cfg.Listeners {
		l := &g.cfg.Listeners[i]
		if l.AuthUpstream != "" {
			if err := a.buildUpstreamLogin(g, l, guard); err != nil {
				return err
			}
			continue
		}
		if len(l.Auth) == 0 {
			continue // a flow without a way to log in: the check has warned
		}
		f := slices.IndexFunc(g.cfg.Flows, func(f config.Flow) bool { return f.Name == l.Flows.Auth })
		if f < 0 {
			return fmt.Errorf("listener %s: no flow knows its users", l.Name)
		}
		gate, err := a.buildGate(g, old, &g.cfg.Flows[f], guard)
		if err != nil {
			return fmt.Errorf("make flow %s: %w", l.Flows.Auth, err)
		}
		g.logins[string(l.Name)] = login{gate: gate, log: a.logs.Logger("Login"), metrics: a.metrics}
	}
	return a.buildWebGate(g, old)
}

// keepGuard returns the guard of all listeners. It outlives a reload, or everybody
// who is locked would be free again.
func keepGuard(g, old *generation) (*auth.Guard, error) {
	c := &g.cfg.Users.Guard
	return keep(g, old, fmt.Sprintf("guard %+v", *c), func() (*auth.Guard, *keptPart, error) {
		guard, err := newGuard(c)
		return guard, nil, err
	})
}

func newGuard(c *config.Guard) (*auth.Guard, error) {
	return auth.NewGuard(auth.GuardConfig{
		Free: c.Free, Delay: c.Delay, MaxDelay: c.MaxDelay,
		AccountFailures: c.AccountFailures, NetworkFailures: c.NetworkFailures,
		Window: c.Window, Lock: c.Lock, MaxLock: c.MaxLock, KnownFor: c.KnownFor,
		IPv4Bits: c.IPv4Prefix, IPv6Bits: c.IPv6Prefix,
	})
}

// buildUsers is what users may do who have logged in.
func (a *app) buildUsers(g, old *generation) (gateway.Users, error) {
	c := &g.cfg.Users
	var users gateway.Users
	rule, err := auth.ParseSendAs(c.SendAs)
	if err != nil {
		return users, err
	}
	if rule != auth.SendAsAny {
		ours := domainsOf(g.cfg)
		users.MaySend = func(s *mail.Session, sender mail.Address) bool {
			return auth.MaySend(rule, s, sender, ours.Ours)
		}
	}
	lc := auth.LimitsConfig{
		MessagesPerHour: c.MessagesPerHour, MessagesPerDay: c.MessagesPerDay,
		RecipientsPerHour: c.RecipientsPerHour, RecipientsPerDay: c.RecipientsPerDay,
		RecipientsPerMessage: c.RecipientsPerMessage,
	}
	if lc == (auth.LimitsConfig{}) {
		return users, nil
	}
	limits, err := keep(g, old, fmt.Sprintf("user limits %+v", lc), func() (*auth.Limits, *keptPart, error) {
		limits, err := auth.NewLimits(lc)
		return limits, nil, err
	})
	if err != nil {
		return users, err
	}
	users.Allow, users.Held = limits.Allow, a.metrics.HeldForUser
	return users, nil
}

// buildGate makes what asks the blocks of a flow.
func (a *app) buildGate(g, old *generation, f *config.Flow, guard *auth.Guard) (*auth.Gate, error) {
	blocks, err := a.authBlocks(g, old, f)
	if err != nil {
		return nil, err
	}
	return auth.New(auth.Config{Guard: guard, Blocks: blocks, Log: a.logs.Logger("Login")})
}

// authBlocks makes the blocks of a flow that knows users.
func (a *app) authBlocks(g, old *generation, f *config.Flow) ([]auth.Block, error) {
	var blocks []auth.Block
	for i := range f.Blocks {
		b := &f.Blocks[i]
		backend, err := a.buildBackend(g, old, b)
		if err != nil {
			return nil, fmt.Errorf("block %s: %w", b.Use, err)
		}
		blocks = append(blocks, auth.Block{Use: b.Use, Backend: backend, Timeout: b.Timeout, Observe: b.Mode == "observe"})
	}
	return blocks, nil
}

// backendKey names everything that the backend of a block is made from.
func backendKey(g *generation, b *config.Block) string {
	key := fmt.Sprintf("%s %+v", b.Use, b.Params)
	switch p := b.Params.(type) {
	case *config.AuthSMTPBlock:
		key += fmt.Sprintf(" %s %s", b.Timeout, g.transports[string(p.Transport)].fingerprint)
	case *config.AuthLDAPBlock:
		key += fmt.Sprintf(" %p", g.directories[string(p.LDAP)])
	case *config.AuthHTTPBlock:
		key += fmt.Sprintf(" %p", g.webs[string(p.HTTP)])
	case *config.ScriptBlock:
		key += " " + scriptSurroundings(g)
	}
	return key
}

// buildBackend makes what a block asks, or takes it over.
func (a *app) buildBackend(g, old *generation, b *config.Block) (policy.AuthBackend, error) {
	if p, ok := b.Params.(*config.ScriptBlock); ok {
		return a.scriptBackend(g, old, p)
	}
	return keep(g, old, backendKey(g, b), func() (policy.AuthBackend, *keptPart, error) {
		switch p := b.Params.(type) {
		case *config.AuthFileBlock:
			return a.buildUsersFile(p)
		case *config.AuthSMTPBlock:
			hosts, ok := g.transports[string(p.Transport)].Transport.(transport.Login)
			if !ok {
				return nil, nil, fmt.Errorf("nobody can log in at transport %s", p.Transport)
			}
			backend, err := authsmtp.New(authsmtp.Config{
				Hosts: hosts, Cleartext: p.Cleartext, Timeout: b.Timeout, Concurrency: p.Sessions, CacheFor: orNever(p.CacheFor),
			})
			return backend, nil, err
		case *config.AuthLDAPBlock:
			return buildAuthLDAP(g, p)
		case *config.AuthHTTPBlock:
			w := g.webs[string(p.HTTP)]
			if w == nil {
				return nil, nil, fmt.Errorf("there is no [[http]] %q", p.HTTP)
			}
			backend, err := authhttp.New(authhttp.Config{Client: w.Client, Request: w.request, Expect: w.expect})
			return backend, nil, err
		}
		return nil, nil, fmt.Errorf("no such block: %T", b.Params)
	})
}

// orNever is a time of the configuration for those who take 0 for their default:
// there, below 0 is none.
func orNever(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}

func (a *app) buildUsersFile(p *config.AuthFileBlock) (policy.AuthBackend, *keptPart, error) {
	log := a.logs.Logger("Login")
	backend, err := authfile.New(authfile.Config{File: string(p.File), Log: log})
	if err != nil {
		return nil, nil, err
	}
	for _, w := range backend.Warnings() {
		log.Warn(w, "file", string(p.File))
	}
	return backend, nil, nil
}

func buildAuthLDAP(g *generation, p *config.AuthLDAPBlock) (policy.AuthBackend, *keptPart, error) {
	d := g.directories[string(p.LDAP)]
	if d == nil {
		return nil, nil, fmt.Errorf("there is no [[ldap]] %q", p.LDAP)
	}
	c := authldap.Config{Directory: d.Directory, BindAs: p.BindAs}
	if p.BindAs == "" {
		c.Filter, c.UserAttribute, c.SenderAttributes = p.Filter, p.UserAttribute, p.SenderAttributes
		if c.Filter == "" {
			c.Filter = filterOf(g.cfg, p.LDAP)
		}
	}
	backend, err := authldap.New(c)
	return backend, nil, err
}

// filterOf is the filter of a directory as the configuration has it.
func filterOf(cfg *config.Config, name config.Name) string {
	i := slices.IndexFunc(cfg.LDAP, func(l config.LDAP) bool { return l.Name == name })
	if i < 0 {
		return ""
	}
	return cfg.LDAP[i].Filter
}

// login is the gate of a listener; what it decides is logged and counted.
type login struct {
	gate    *auth.Gate
	log     *slog.Logger
	metrics *metrics.Metrics
}

// Authenticate implements smtpserver.Authenticator.
func (l login) Authenticate(ctx context.Context, s *mail.Session, user, password string) mail.Decision {
	d := l.gate.Authenticate(ctx, s, user, password)
	result := loginResult(&d)
	l.metrics.Login(s.Listener, result)
	text, level := "login failed", slog.LevelInfo
	switch result {
	case metrics.LoginOK:
		text = "logged in"
		if d.User != "" {
			user = d.User
		}
	case metrics.LoginUnknown:
		text, level = "nobody can tell whether a login is right", slog.LevelWarn
	case metrics.LoginLocked:
		text = "login refused"
	}
	l.log.LogAttrs(ctx, level, text, slog.String("session", s.ID.String()), slog.String("listener", s.Listener),
		slog.String("client", s.Client.String()), slog.String("user", message.SafeText(user, 255)), slog.String("reason", d.Reason))
	return d
}

// loginResult sums a decision of a gate up. Where nobody was asked there are no
// findings.
func loginResult(d *mail.Decision) string {
	switch {
	case d.Act == mail.Accept:
		return metrics.LoginOK
	case d.Act == mail.Reject:
		return metrics.LoginFailed
	case len(d.Findings) == 0:
		return metrics.LoginLocked
	}
	return metrics.LoginUnknown
}
