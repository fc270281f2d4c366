package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"gatepost/internal/admin"
	"gatepost/internal/config"
	changes "gatepost/internal/config/change"
	"gatepost/internal/gateway"
	"gatepost/internal/logs"
	"gatepost/internal/mail"
	"gatepost/internal/metrics"
	"gatepost/internal/queue"
	"gatepost/internal/smtpserver"
	"gatepost/internal/spool"
)

// app is one running gateway: the parts that live as long as it does, and the
// generation, which is what became of the configuration in use.
type app struct {
	file    string
	started time.Time
	sockets *sockets
	logs    *logs.Logs
	log     *slog.Logger
	metrics *metrics.Metrics
	spool   *spool.Spool
	queue   *queue.Queue
	limiter *smtpserver.Limiter
	admin   *admin.Server
	changes *changes.Keeper
	storage *storageWatch
	// services are what the content flows keep records in.
	services services
	// running ends when the process stops; what runs in the background heeds it.
	running      context.Context
	cancel       context.CancelFunc
	interception interception
	// gateway is the present generation's, for reports that the queue writes.
	gateway atomic.Pointer[gateway.Gateway]
	// setupLink is where the first administrator is made; nil: there is one.
	setupLink atomic.Pointer[string]
	// failed gets the error of a listener that ended by itself.
	failed chan error

	mu        sync.Mutex // one start, reload or stop at a time; never held by mail
	gen       *generation
	listeners map[string]*listener
	serving   sync.WaitGroup
	stopped   bool
	// state is what /healthz and status show of the generation.
	state atomic.Pointer[appState]
}

// appState is a snapshot for those who must not wait for a reload.
type appState struct {
	gen       *generation
	loaded    time.Time
	addresses map[string][]string
	reloadErr error
}

// How long stopping may take, in all at most 30 s: sessions finish their
// transactions first, then the attempts under way.
const (
	sessionPatience = 15 * time.Second
	attemptPatience = 8 * time.Second
	adminPatience   = 2 * time.Second
)

// startApp starts a gateway. When it returns without an error mail is accepted.
func startApp(ctx context.Context, file string) (*app, error) {
	cfg, err := loadConfig(file, func(w string) { fmt.Fprintln(os.Stderr, w) })
	if err != nil {
		return nil, err
	}
	a := &app{
		file:      file,
		started:   time.Now(),
		failed:    make(chan error, 1),
		listeners: make(map[string]*listener),
	}
	a.running, a.cancel = context.WithCancel(context.Background())
	if err := a.start(ctx, cfg); err != nil {
		return nil, errors.Join(err, a.Stop())
	}
	a.log.Info("started", "version", readVersion().Version, "config", file, "took", time.Since(a.started))
	return a, nil
}

// start makes the parts from the bottom up.
func (a *app) start(ctx context.Context, cfg *config.Config) (err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.sockets, err = inheritSockets(); err != nil {
		return err
	}
	if a.logs, err = logs.Open(logsConfig(cfg)); err != nil {
		return err
	}
	a.log = a.logs.Logger("Gatepost")
	version := readVersion()
	a.metrics = metrics.New(metrics.Build{Version: version.Version, Revision: version.Revision, GoVersion: version.GoVersion})
	a.limiter = smtpserver.NewLimiter(limiterLimits(cfg))
	a.warnOfFewDescriptors(cfg)
	if err := os.MkdirAll(string(cfg.DataDir), 0o700); err != nil {
		return fmt.Errorf("make data_dir: %w", err)
	}
	if a.spool, err = spool.Open(spool.Options{
		Dir:      filepath.Join(string(cfg.DataDir), "spool"),
		Reserve:  int64(cfg.Limits.FreeDisk),
		Log:      a.logs.Logger("Spool"),
		Observer: a.metrics,
	}); err != nil {
		return err
	}
	if err := a.openServices(ctx, cfg); err != nil {
		return err
	}
	gen, err := a.build(cfg, nil)
	if err != nil {
		return err
	}
	if a.queue, err = queue.New(queueConfig(a, gen)); err != nil {
		return errors.Join(err, gen.close())
	}
	if gen.gateway, err = a.newGateway(gen); err != nil {
		return errors.Join(err, gen.close())
	}
	fresh, err := a.openSockets(cfg)
	if err != nil {
		return errors.Join(err, gen.close())
	}
	return a.launch(ctx, gen, fresh)
}

// launch begins to work: reports and the queue first, then the listeners.
func (a *app) launch(ctx context.Context, gen *generation, fresh map[string]net.Listener) error {
	a.gateway.Store(gen.gateway)
	a.gen = gen
	if err := a.queue.Start(ctx); err != nil {
		return errors.Join(err, closeAll(fresh))
	}
	if err := a.apply(gen, fresh); err != nil {
		return err
	}
	if a.services.digests != nil {
		a.services.digests.Start(a.running)
	}
	a.serving.Go(func() { a.keepOffers(offersFile(gen.cfg)) })
	a.serving.Go(a.watchMemory)
	a.watch()
	if err := a.keepChanges(gen.cfg); err != nil {
		return err
	}
	return a.serveAdmin(gen.cfg)
}

// SubmitReport implements queue.Bouncer with the present generation's routing.
func (a *app) SubmitReport(ctx context.Context, to mail.Address, report io.Reader) error {
	g := a.gateway.Load()
	if g == nil {
		return errors.New("submit report: not started yet")
	}
	return g.SubmitReport(ctx, to, report)
}

// Stop ends the gateway in good order: no new connections, transactions finish
// or get 421, attempts end, everything that was accepted stays in the spool.
func (a *app) Stop() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stopped {
		return nil
	}
	a.stopped = true
	begun := time.Now()
	errs := []error{a.stopListeners()}
	if a.admin != nil {
		ctx, cancel := context.WithTimeout(context.Background(), adminPatience)
		errs = append(errs, a.admin.Shutdown(ctx))
		cancel()
	}
	if a.services.digests != nil {
		ctx, cancel := context.WithTimeout(context.Background(), adminPatience)
		errs = append(errs, a.services.digests.Stop(ctx))
		cancel()
	}
	if a.queue != nil {
		ctx, cancel := context.WithTimeout(context.Background(), attemptPatience)
		errs = append(errs, a.queue.Stop(ctx))
		cancel()
	}
	if a.gen != nil {
		errs = append(errs, a.gen.close())
	}
	a.cancel()
	a.serving.Wait()
	if a.changes != nil {
		errs = append(errs, a.changes.Close())
	}
	errs = append(errs, a.closeServices()...)
	if a.spool != nil {
		errs = append(errs, a.spool.Close())
	}
	if a.logs == nil {
		return errors.Join(errs...)
	}
	a.log.Info("stopped", "took", time.Since(begun))
	return errors.Join(append(errs, a.logs.Close())...)
}

// stopListeners shuts all servers down at once.
func (a *app) stopListeners() error {
	ctx, cancel := context.WithTimeout(context.Background(), sessionPatience)
	defer cancel()
	var wg sync.WaitGroup
	for name, l := range a.listeners {
		wg.Go(func() {
			// Sessions of SMTP that had to be cut off were answered 421: their clients try again.
			if err := l.server.Shutdown(ctx); err != nil {
				a.log.Warn("sessions were cut off", "listener", name, "error", err)
			}
		})
	}
	wg.Wait()
	return nil
}

// watch shows the parts' state in the metrics.
func (a *app) watch() {
	a.metrics.WatchQueue(func() metrics.QueueStats { return queueMetrics(a.queue.Stats()) })
	a.metrics.WatchLogs(a.logs.Dropped)
	a.metrics.WatchHistory(a.historyMetrics)
	a.metrics.WatchChecks(a.partsUp)
	a.metrics.WatchReady(func() bool { return admin.Report(a).Ready })
	a.metrics.WatchCertificates(a.certificates)
	a.metrics.WatchUpstreams(a.upstreamStats)
	a.metrics.ConfigLoaded(nil)
}
