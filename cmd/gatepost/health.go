package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gatepost/internal/admin"
	"gatepost/internal/config"
	"gatepost/internal/intercept"
	"gatepost/internal/metrics"
	"gatepost/internal/queue"
	"gatepost/internal/scan/senders"
)

// Checks implements admin.Health.
func (a *app) Checks() []admin.Check {
	state := a.state.Load()
	if state == nil {
		return []admin.Check{admin.Required("start", errors.New("starting"))}
	}
	checks := []admin.Check{
		admin.Required("spool", a.spool.Health()),
		admin.Required("disk", a.spool.CheckSpace(0)),
		admin.Required("queue", a.queueHealth()),
		admin.Advisory("memory", a.roomHealth()),
		admin.Advisory("damaged", a.damage()),
		admin.Advisory("logs", a.logs.Health()),
		admin.Advisory("reload", state.reloadErr),
	}
	for _, p := range a.parts(state.gen) {
		checks = append(checks, admin.Advisory(p.name, p.health()))
	}
	for _, store := range state.gen.certs {
		checks = append(checks, admin.Advisory("certificate", store.Health()))
	}
	return checks
}

// part is something that may be down without mail stopping for good.
type part struct {
	name   string
	health func() error
}

// parts are the database, the scanners and what else flows depend on, by name.
func (a *app) parts(g *generation) []part {
	list := []part{{"store", a.services.store.Health}, {"history", a.services.history.Health}}
	for _, m := range g.modules {
		if m.health != nil {
			list = append(list, part{m.name, m.health})
		}
	}
	for _, p := range g.parts {
		if p.health != nil {
			list = append(list, part{p.name, p.health})
		}
	}
	slices.SortFunc(list, func(x, y part) int { return strings.Compare(x.name, y.name) })
	return list
}

// partsUp tells which of them are well.
func (a *app) partsUp() map[string]bool {
	up := make(map[string]bool)
	if state := a.state.Load(); state != nil {
		for _, p := range a.parts(state.gen) {
			was, known := up[p.name]
			up[p.name] = p.health() == nil && (was || !known)
		}
	}
	return up
}

func (a *app) queueHealth() error {
	stats := a.queue.Stats()
	if stats.Suspended {
		return errors.New("outcomes cannot be stored, so nothing is delivered")
	}
	return nil
}

// damage says that something in the spool needs a look.
func (a *app) damage() error {
	damaged, err := a.spool.SetAside()
	if err != nil {
		return err
	}
	if len(damaged) == 0 {
		return nil
	}
	return fmt.Errorf("%d damaged records were set aside, see docs/operations.md; the latest: %s", len(damaged), damaged[len(damaged)-1].Reason)
}

// certificates lists what the listeners present.
func (a *app) certificates() []metrics.Certificate {
	state := a.state.Load()
	if state == nil {
		return nil
	}
	var list []metrics.Certificate
	for _, store := range state.gen.certs {
		for _, c := range store.Certificates() {
			list = append(list, metrics.Certificate{File: c.File, NotAfter: c.NotAfter})
		}
	}
	return list
}

// queueMetrics sums destinations up by transport.
func queueMetrics(s queue.Stats) metrics.QueueStats {
	m := metrics.QueueStats{
		States:     map[string]int{"incoming": s.Incoming, "active": s.Active, "deferred": s.Deferred, "hold": s.Hold},
		Oldest:     s.Oldest,
		Suspended:  s.Suspended,
		Transports: make(map[string]metrics.TransportStats),
	}
	for _, d := range s.Destinations {
		t := m.Transports[d.Transport]
		t.Active += d.Active
		t.Ready += d.Ready
		t.Waiting += d.Waiting
		t.Hold += d.Hold
		if d.Dead {
			t.Dead++
		}
		if d.Paused {
			t.Paused++
		}
		m.Transports[d.Transport] = t
	}
	return m
}

// status is what `gatepost status` shows.
func (a *app) status() admin.Status {
	st := admin.Status{
		Version:    readVersion().Version,
		PID:        os.Getpid(),
		Started:    a.started,
		ConfigFile: a.file,
		Storage:    a.storage.Storage(),
	}
	if state := a.state.Load(); state != nil {
		st.Hostname = string(state.gen.cfg.Hostname)
		st.ConfigLoaded = state.loaded
		st.Listeners = state.addresses
		st.Upstreams = state.gen.upstreams()
		st.Interception = interceptions(state.gen.cfg)
	}
	return st
}

// serveAdmin starts the API on the unix socket and the public paths on TCP.
func (a *app) serveAdmin(cfg *config.Config) (err error) {
	a.storage = newStorageWatch(cfg)
	a.serving.Go(func() { a.storage.run(a.running) })
	ac := admin.Config{
		Queue:            a.queue,
		Quarantine:       a.services.quarantine,
		Content:          contentAPI{a},
		Again:            again{a},
		Greylist:         greylists{a},
		Senders:          senders.Lists{Store: a.services.store},
		Flows:            flowsAPI{a},
		Routing:          routingAPI{a},
		Configuration:    configAPI{a.changes, a},
		History:          a.services.history,
		LogFiles:         logFiles{a},
		Health:           a,
		Metrics:          a.metrics.Handler(),
		MetricsTokenFile: string(cfg.Admin.MetricsTokenFile),
		Reload:           a.reload,
		Status:           a.status,
		Log:              a.logs.Logger("Admin"),
	}
	if a.services.links != nil {
		ac.DigestLinks = a.services.links
	}
	if a.services.digests != nil {
		ac.Digests = a.services.digests
	}
	if err := a.addWeb(cfg, &ac); err != nil {
		return err
	}
	a.admin, err = admin.New(ac)
	if err != nil {
		return err
	}
	socket, err := admin.ListenSocket(filepath.Join(string(cfg.DataDir), admin.SocketName))
	if err != nil {
		return err
	}
	a.serving.Go(func() {
		if err := a.admin.ServeAPI(socket); err != nil {
			a.fail(fmt.Errorf("serve command socket: %w", err))
		}
	})
	if cfg.Admin.Listen.IsZero() {
		return nil
	}
	public, err := a.listenAdmin(cfg)
	if err != nil {
		return err
	}
	a.inviteSetup(cfg)
	a.serving.Go(func() {
		if err := a.admin.ServePublic(public); err != nil {
			a.fail(fmt.Errorf("serve %s: %w", cfg.Admin.Listen, err))
		}
	})
	return nil
}

func (a *app) listenAdmin(cfg *config.Config) (net.Listener, error) {
	l, err := a.sockets.Listen(cfg.Admin.Listen, intercept.None)
	if err != nil {
		return nil, fmt.Errorf("start admin: %w", err)
	}
	if cfg.Admin.TLSCertFile == "" {
		return l, nil
	}
	pair, err := tls.LoadX509KeyPair(string(cfg.Admin.TLSCertFile), string(cfg.Admin.TLSKeyFile))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start admin: %w", err), l.Close())
	}
	return tls.NewListener(l, &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}), nil
}
