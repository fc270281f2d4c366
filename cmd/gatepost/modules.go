package main

import (
	"crypto/sha256"
	"fmt"
	"os"
	"strings"
	"time"

	"gatepost/internal/config"
	"gatepost/internal/scan"
	"gatepost/internal/scan/authres"
	"gatepost/internal/scan/clamav"
	"gatepost/internal/scan/filter"
	"gatepost/internal/scan/icap"
	"gatepost/internal/scan/links"
	"gatepost/internal/scan/milter"
	"gatepost/internal/scan/reputation"
	"gatepost/internal/scan/rspamd"
	"gatepost/internal/scan/senders"
	"gatepost/internal/scan/spamd"
	"gatepost/internal/scan/structure"
)

// builtModule is a module with what keeps it running.
type builtModule struct {
	scan.Module
	// name is how /healthz calls it; health says how it is, nil where nothing about
	// it can fail by itself.
	name   string
	health func() error
	close  func() error
	// rules names the signatures that it knows now, nil where it has none of its own.
	rules func() string
	// waits and after are those of scan.Block.
	waits, after bool
}

// Close implements io.Closer.
func (m *builtModule) Close() error {
	if m.close == nil {
		return nil
	}
	return m.close()
}

// blockKey names a block with everything that its module is made from: flows that
// ask for the same thing share one module, and a reload keeps it.
func blockKey(cfg *config.Config, b *config.Block) string {
	key := fmt.Sprintf("%s %s %+v", b.Use, b.Timeout, b.Params)
	switch p := b.Params.(type) {
	case *config.StructureBlock:
		key = fmt.Sprintf("structure %d", cfg.Limits.MaxScanSize)
	case *config.ClamAVBlock:
		key = fmt.Sprintf("clamav %s %+v", b.Timeout, cfg.ClamAV)
	case *config.AuthResBlock:
		key += fmt.Sprintf(" %s %+v", cfg.Hostname, cfg.DNS)
	case *config.LinksBlock:
		key += fmt.Sprintf(" %+v", cfg.DNS)
	case *config.FiltersBlock:
		var b strings.Builder
		for _, f := range filtersOf(cfg, p) {
			fmt.Fprintf(&b, "%p ", f.Compiled) // a reload reads their lists anew
		}
		key = "filters " + b.String()
	case *config.MilterBlock:
		key += " " + string(cfg.Hostname)
	case *config.RspamdBlock:
		password, _ := firstLine(p.PasswordFile) // newEngine reports the error
		key += " " + string(cfg.Hostname) + " " + password
	case *config.BayesBlock:
		key += fmt.Sprintf(" %+v", cfg.Bayes)
	}
	return shortKey(b.Use, key)
}

// shortKey is the key of a block that is made from all that text names. It is a
// digest, because keys are shown, and parameters may be secrets.
func shortKey(use, text string) string {
	sum := sha256.Sum256([]byte(text))
	return fmt.Sprintf("%s-%x", use, sum[:6])
}

// moduleFor returns the module of a block: the one of this generation, of the one
// before, or a new one.
func (a *app) moduleFor(g, old *generation, b *config.Block, key string) (scan.Block, error) {
	m := g.modules[key]
	if m == nil && old != nil {
		m = old.modules[key]
	}
	if p, ok := b.Params.(*config.ContentScriptBlock); ok && g.modules[key] == nil {
		// What it asks may be another one now; the program itself is kept.
		var err error
		if m, err = a.scriptModule(g, old, p, key); err != nil {
			return scan.Block{}, err
		}
	}
	if m == nil {
		var err error
		if m, err = a.newModule(g, b); err != nil {
			return scan.Block{}, err
		}
	}
	g.modules[key] = m
	return scan.Block{Key: key, Use: b.Use, Label: b.Label, Module: m, Timeout: b.Timeout, Waits: m.waits, After: m.after}, nil
}

// newModule makes a module from a block's parameters.
func (a *app) newModule(g *generation, b *config.Block) (*builtModule, error) {
	switch p := b.Params.(type) {
	case *config.StructureBlock:
		return &builtModule{Module: structure.New(structure.Config{MaxSize: int64(g.cfg.Limits.MaxScanSize)})}, nil
	case *config.FiltersBlock:
		var compiled []*filter.Filter
		for _, f := range filtersOf(g.cfg, p) {
			compiled = append(compiled, f.Compiled)
		}
		return &builtModule{Module: filter.New(compiled), after: true}, nil
	case *config.ClamAVBlock:
		return a.newClamAV(g, b)
	case *config.AuthResBlock:
		return &builtModule{Module: authres.New(authres.Config{
			Resolver: g.resolver, MaxSignatures: p.MaxSignatures, Timeout: b.Timeout, ARCTrusted: domainNames(p.ARCTrusted),
		}), waits: true}, nil
	case *config.ICAPBlock:
		return newICAP(p, b.Timeout, int64(g.cfg.Limits.MaxScanSize))
	case *config.BayesBlock:
		return &builtModule{Module: a.services.bayes.Module(p.SpamScore, p.HamScore)}, nil
	case *config.ReputationBlock:
		m, err := reputation.New(reputation.Config{
			Store: a.services.store, MaxScore: orNoScore(p.MaxScore), MinScore: orNoScore(p.MinScore),
		})
		return &builtModule{Module: m, after: true}, err
	case *config.SendersBlock:
		return &builtModule{Module: senders.New(senders.Config{Store: a.services.store, Unproven: !p.RequireAuth, Timeout: b.Timeout}), after: true}, nil
	case *config.LinksBlock:
		return &builtModule{Module: links.New(links.Config{
			Zones: zonesOf(p), Resolver: g.resolver, MaxLookups: atMost(p.MaxLookups),
		}), waits: true}, nil
	}
	return newEngine(g, b)
}

func domainNames(list []config.DomainName) []string {
	var names []string
	for _, d := range list {
		names = append(names, string(d))
	}
	return names
}

// zonesOf are the lists of a block links.
func zonesOf(p *config.LinksBlock) []links.Zone {
	var zones []links.Zone
	for _, z := range p.Zones {
		zones = append(zones, links.Zone{Name: string(z.Domain), Low: z.Low, High: z.High, Score: z.Score})
	}
	return zones
}

// orNoScore is a limit of the configuration, where 0 is none.
func orNoScore(v float64) float64 {
	if v == 0 {
		return reputation.NoScore
	}
	return v
}

// atMost is a bound of the configuration for those who take 0 for their default:
// there, below 0 is none.
func atMost(n int) int {
	if n == 0 {
		return -1
	}
	return n
}

// newEngine makes a client of a milter, an rspamd or a spamd.
func newEngine(g *generation, b *config.Block) (*builtModule, error) {
	hostname := string(g.cfg.Hostname)
	switch p := b.Params.(type) {
	case *config.MilterBlock:
		s, err := milter.New(milter.Config{Address: p.Address.Socket(), Hostname: hostname, Timeout: b.Timeout})
		if err != nil {
			return nil, err
		}
		return &builtModule{Module: s, name: "milter", health: s.Health, waits: true}, nil
	case *config.RspamdBlock:
		password, err := firstLine(p.PasswordFile)
		if err != nil {
			return nil, err
		}
		s, err := rspamd.New(rspamd.Config{
			URL: string(p.URL), Password: password, Hostname: hostname, Scale: scaleOf(p.Scale, rspamd.NoScale), Timeout: b.Timeout,
		})
		if err != nil {
			return nil, err
		}
		return &builtModule{Module: s, name: "rspamd", health: s.Health, close: s.Close, waits: true}, nil
	case *config.SpamdBlock:
		s, err := spamd.New(spamd.Config{Address: p.Address.Socket(), User: p.User, Scale: scaleOf(p.Scale, spamd.NoScale), Timeout: b.Timeout})
		if err != nil {
			return nil, err
		}
		return &builtModule{Module: s, name: "spamd", health: s.Health, waits: true}, nil
	}
	return nil, fmt.Errorf("no such block: %s", b.Use)
}

// scaleOf is a scale of the configuration, where 0 is none and not the default.
func scaleOf(v, none float64) float64 {
	if v == 0 {
		return none
	}
	return v
}

// firstLine reads a secret from its file; "" for no file.
func firstLine(file config.Path) (string, error) {
	if file == "" {
		return "", nil
	}
	text, err := os.ReadFile(string(file))
	if err != nil {
		return "", err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return strings.TrimRight(line, "\r"), nil
}

func newICAP(p *config.ICAPBlock, timeout time.Duration, maxSize int64) (*builtModule, error) {
	s, err := icap.New(icap.Config{URL: string(p.URL), Timeout: timeout, MaxSize: maxSize})
	if err != nil {
		return nil, err
	}
	return &builtModule{Module: s, name: "icap", health: s.Health, close: s.Close, waits: true}, nil
}

func (a *app) newClamAV(g *generation, b *config.Block) (*builtModule, error) {
	c := &g.cfg.ClamAV
	timeout := b.Timeout
	if timeout == 0 {
		timeout = c.Timeout
	}
	s, err := clamav.New(clamav.Config{
		Address: c.Address.Socket(), Timeout: timeout, MaxSize: int64(c.MaxSize),
		Sessions: c.Sessions, Canary: c.CanaryInterval, Log: a.logs.Logger("ClamAV"),
	})
	if err != nil {
		return nil, err
	}
	s.Start(a.running)
	return &builtModule{Module: s, name: "clamav", health: s.Health, close: s.Close, waits: true,
		rules: func() string { state := s.State(); return state.Version + " " + state.Database }}, nil
}

// closeModules closes the modules that old does not use too.
func (g *generation) closeModules(old *generation) []error {
	var errs []error
	for key, m := range g.modules {
		if old == nil || old.modules[key] != m {
			errs = append(errs, m.Close())
		}
	}
	return errs
}
