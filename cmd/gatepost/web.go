package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"gatepost/internal/accounts"
	"gatepost/internal/admin"
	"gatepost/internal/admin/pages"
	"gatepost/internal/config"
	"gatepost/internal/mail"
	"gatepost/internal/policy/auth"
)

// makeAccounts makes the accounts of the administration, which commands need as well.
func (a *app) makeAccounts(cfg *config.Config) (err error) {
	a.services.accounts, err = accounts.New(accounts.Config{
		Store: a.services.store, Idle: cfg.Admin.SessionIdle, Absolute: cfg.Admin.SessionLife, AuditKeep: cfg.Admin.AuditKeep,
	})
	return err
}

// addWeb adds the pages and the API on TCP to the administration's parts.
func (a *app) addWeb(cfg *config.Config, ac *admin.Config) error {
	ac.Accounts, ac.Historian = a.services.accounts, a.historian()
	if !cfg.Admin.Web || cfg.Admin.Listen.IsZero() {
		return nil
	}
	providers, err := a.makeProviders(cfg)
	if err != nil {
		return err
	}
	ac.Gate, err = admin.NewGate(admin.GateConfig{
		Accounts: a.services.accounts, Check: webLogin{a}, BaseURL: string(cfg.Admin.BaseURL),
		Proxies: cfg.Admin.TrustedProxies, Providers: providers, Domains: a.withAliases,
	})
	if err != nil {
		return err
	}
	site, err := pages.New(a.pagesConfig(cfg, ac))
	if err != nil {
		return err
	}
	ac.Pages = site
	a.serving.Go(func() { a.services.accounts.Run(a.running) })
	return nil
}

// pagesConfig is what the pages show of the gateway.
func (a *app) pagesConfig(cfg *config.Config, ac *admin.Config) pages.Config {
	return pages.Config{
		Gate: ac.Gate, Log: a.logs.Logger("Admin"), Configuration: ac.Configuration, Keys: keysAPI{a}, Bayes: contentAPI{a}.BayesStatus,
		TestMail: a.sendTestMail, Again: ac.Again, Country: a.country,
		Hostname: a.hostname(cfg), Quarantine: a.services.quarantine, Queue: ac.Queue, Greylist: greylists{a}, Senders: ac.Senders,
		Transports: a.transportNames, History: ac.History, LogFiles: ac.LogFiles, Health: ac.Health, Storage: a.storage.Storage, Digests: ac.Digests,
	}
}

// hostname is the name of the present generation, at first that of cfg.
func (a *app) hostname(cfg *config.Config) func() string {
	return func() string {
		if state := a.state.Load(); state != nil {
			return string(state.gen.cfg.Hostname)
		}
		return string(cfg.Hostname)
	}
}

// withAliases adds the aliases that domains have now: mail to an alias is its parent's.
func (a *app) withAliases(domains []string) []string {
	state := a.state.Load()
	if state == nil || len(domains) == 0 {
		return domains
	}
	all := slices.Clone(domains)
	for i := range state.gen.cfg.Domains {
		d := &state.gen.cfg.Domains[i]
		if !slices.Contains(domains, string(d.Name)) {
			continue
		}
		for _, alias := range d.Aliases {
			if !slices.Contains(all, string(alias)) {
				all = append(all, string(alias))
			}
		}
	}
	return all
}

// webLogin decides about logins with what the present generation knows.
type webLogin struct{ *app }

// Authenticate implements admin.Checker.
func (w webLogin) Authenticate(ctx context.Context, s *mail.Session, user, password string) mail.Decision {
	state := w.state.Load()
	if state == nil || state.gen.webGate == nil {
		return mail.Decision{Act: mail.Defer, Reply: mail.ReplyAuthTempFail.Reply(), Reason: "not started yet"}
	}
	return login{gate: state.gen.webGate, log: w.logs.Logger("Login"), metrics: w.metrics}.Authenticate(ctx, s, user, password)
}

// buildWebGate makes what decides about logins in the administration: the accounts
// first, then the flow that knows end users. Its guard is not that of the mail
// listeners: who guesses there locks nobody out here.
func (a *app) buildWebGate(g, old *generation) error {
	c := &g.cfg.Users.Guard
	guard, err := keep(g, old, fmt.Sprintf("web guard %+v", *c), func() (*auth.Guard, *keptPart, error) {
		guard, err := newGuard(c)
		return guard, nil, err
	})
	if err != nil {
		return fmt.Errorf("make the guard of the administration: %w", err)
	}
	blocks := []auth.Block{{Use: admin.LocalBlock, Backend: admin.LocalUsers{Accounts: a.services.accounts}}}
	if name := g.cfg.Admin.Flows.Auth; name != "" {
		f := slices.IndexFunc(g.cfg.Flows, func(f config.Flow) bool { return f.Name == name })
		if f < 0 {
			return fmt.Errorf("admin: there is no flow %s", name)
		}
		more, err := a.authBlocks(g, old, &g.cfg.Flows[f])
		if err != nil {
			return fmt.Errorf("make flow %s: %w", name, err)
		}
		blocks = append(blocks, more...)
	}
	g.webGate, err = auth.New(auth.Config{Guard: guard, Blocks: blocks, Log: a.logs.Logger("Login")})
	return err
}

// inviteSetup prints the one-time link for the first account where there is none. A
// store that is away is waited for.
func (a *app) inviteSetup(cfg *config.Config) {
	if !cfg.Admin.Web || cfg.Admin.Listen.IsZero() {
		return
	}
	a.serving.Go(func() {
		tick := time.NewTicker(5 * time.Second)
		defer tick.Stop()
		for {
			ctx, cancel := context.WithTimeout(a.running, 5*time.Second)
			token, err := a.services.accounts.BeginSetup(ctx)
			cancel()
			if err == nil {
				if token != "" {
					a.setupLink.Store(new(a.webAddress(cfg) + "/setup/" + token))
					fmt.Fprintf(os.Stderr, "\nThe web administration has no administrator yet. Make one here:\n  %s\n\n", *a.setupLink.Load())
				}
				return
			}
			select {
			case <-a.running.Done():
				return
			case <-tick.C:
			}
		}
	})
}

// webAddress is how people reach the pages, as far as it is known.
func (a *app) webAddress(cfg *config.Config) string {
	if cfg.Admin.BaseURL != "" {
		return string(cfg.Admin.BaseURL)
	}
	scheme := "http"
	if cfg.Admin.TLSCertFile != "" {
		scheme = "https"
	}
	address := cfg.Admin.Listen
	if ip := address.IP(); ip.IsValid() && !ip.IsUnspecified() {
		return scheme + "://" + address.String()
	}
	return fmt.Sprintf("%s://%s:%d", scheme, cfg.Hostname, address.Port)
}

// transportNames are the transports that the queue can send by now.
func (a *app) transportNames() []string {
	state := a.state.Load()
	if state == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(state.gen.transports))
}
