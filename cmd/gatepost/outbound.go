package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"

	"gatepost/internal/config"
	"gatepost/internal/mail"
	"gatepost/internal/mtasts"
	"gatepost/internal/tlsrpt"
	"gatepost/internal/transport"
)

// buildPolicies makes what transports of kind mx share, also for those that are taken
// over from old.
func (a *app) buildPolicies(g, old *generation) error {
	if _, err := a.policyCache(g, old); err != nil {
		return err
	}
	if !g.cfg.TLSReports.Enabled {
		return nil
	}
	_, err := a.tlsReports(g, old)
	return err
}

// addPolicies gives a transport of kind mx what domains publish about TLS, and takes
// from it how that went.
func (a *app) addPolicies(deps *transport.Deps, g, old *generation, t *config.Transport) error {
	if t.Kind != "mx" {
		return nil
	}
	if t.MTASTS && t.TLS != "off" && t.TLS != "verify" {
		cache, err := a.policyCache(g, old)
		if err != nil {
			return err
		}
		deps.STS = cache
	}
	if g.cfg.TLSReports.Enabled {
		reports, err := a.tlsReports(g, old)
		if err != nil {
			return err
		}
		deps.Reports = reports
	}
	return nil
}

// policyCache is the one cache of MTA-STS policies.
func (a *app) policyCache(g, old *generation) (*mtasts.Cache, error) {
	return keep(g, old, fmt.Sprintf("mta-sts %+v", g.cfg.DNS), func() (*mtasts.Cache, *keptPart, error) {
		cache, err := mtasts.New(mtasts.Config{
			Dir: filepath.Join(string(g.cfg.DataDir), "mta-sts"), Resolver: g.resolver, Log: a.logs.Logger("MTA-STS"),
		})
		if err != nil {
			return nil, nil, err
		}
		return cache, &keptPart{name: "mta-sts", close: func() error {
			cache.Close()
			return nil
		}}, nil
	})
}

// tlsReports is the one collector of reports about TLS, at work in the background.
func (a *app) tlsReports(g, old *generation) (*tlsrpt.Collector, error) {
	r := &g.cfg.TLSReports
	return keep(g, old, reportsKey(g.cfg), func() (*tlsrpt.Collector, *keptPart, error) {
		c, err := tlsrpt.Open(tlsrpt.Config{
			Dir: filepath.Join(string(g.cfg.DataDir), "tls-reports"), Hostname: string(g.cfg.Hostname), From: r.From, Organization: r.Organization,
			Resolver: g.resolver, Submit: a.submitTLSReport, Log: a.logs.Logger("TLS-Reports"),
		})
		if err != nil {
			return nil, nil, err
		}
		ctx, cancel := context.WithCancel(a.running)
		var running sync.WaitGroup
		running.Go(func() { c.Run(ctx) })
		return c, &keptPart{name: "tls-reports", close: func() error {
			cancel()
			running.Wait()
			return nil
		}}, nil
	})
}

// reportsKey is all that reports about TLS depend on.
func reportsKey(cfg *config.Config) string {
	return fmt.Sprintf("tls-reports %+v %s %+v", cfg.TLSReports, cfg.Hostname, cfg.DNS)
}

var errNotStarted = errors.New("not started yet")

// submitTLSReport sends a report with the present generation's routing.
func (a *app) submitTLSReport(ctx context.Context, to mail.Address, text io.Reader) error {
	g := a.gateway.Load()
	if g == nil {
		return errNotStarted
	}
	return g.SubmitTLSReport(ctx, to, text)
}
