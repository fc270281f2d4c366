package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"slices"
	"strings"
	"time"

	"gatepost/internal/config"
	"gatepost/internal/intercept"
	"gatepost/internal/mail"
	"gatepost/internal/smtpserver"
)

// listener is a running [[listener]]: one server for all of its sockets.
type listener struct {
	server  door
	sockets map[string]socket // by address
}

// door is a server of whatever protocol.
type door interface {
	Serve(ctx context.Context, ln net.Listener) error
	Shutdown(ctx context.Context) error
}

// socket is an address that a server accepts connections on.
type socket struct {
	net.Listener
	stop context.CancelFunc // closes it
}

// reopen is SIGHUP: the log files first, so that logrotate works whatever the
// configuration says, then the configuration.
func (a *app) reopen(ctx context.Context) error {
	return errors.Join(a.logs.Reopen(), a.reload(ctx))
}

// reload loads the configuration again, and keeps what has changed in it by hand.
func (a *app) reload(ctx context.Context) error {
	if err := a.load(ctx); err != nil {
		return err
	}
	a.noteLoaded()
	return nil
}

// load loads the configuration again: all of it, or nothing. Sessions and attempts go
// on with what they began with.
func (a *app) load(context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stopped {
		return errors.New("reload: stopping")
	}
	err := a.exchange()
	a.metrics.ConfigLoaded(err)
	if err != nil {
		state := *a.state.Load()
		state.reloadErr = err
		a.state.Store(&state)
		return err
	}
	a.log.Info("configuration reloaded", "config", a.file)
	return nil
}

// exchange builds the next generation and, when nothing can fail any more, puts
// it in the place of the present one.
func (a *app) exchange() error {
	cfg, err := loadConfig(a.file, func(w string) { a.log.Warn(w) })
	if err != nil {
		return err
	}
	old := a.gen
	if err := needsRestart(old.cfg, cfg); err != nil {
		return err
	}
	gen, err := a.build(cfg, old)
	if err != nil {
		return err
	}
	if gen.gateway, err = a.newGateway(gen); err != nil {
		return errors.Join(err, gen.closeNew(old))
	}
	fresh, err := a.openSockets(cfg)
	if err != nil {
		return errors.Join(err, gen.closeNew(old))
	}
	if err := a.queue.Identify(string(cfg.Hostname), cfg.Postmaster.String()); err != nil {
		return errors.Join(err, closeAll(fresh), gen.closeNew(old))
	}
	if err := a.logs.Reload(logsConfig(cfg)); err != nil {
		return errors.Join(err, closeAll(fresh), gen.closeNew(old))
	}
	a.gateway.Store(gen.gateway)
	a.queue.Reload(a.queueTransports(gen))
	if d := a.services.digests; d != nil && cfg.Quarantine.Digest != nil {
		d.Identify(cfg.Quarantine.Digest.From, string(cfg.Hostname))
	}
	a.limiter.SetLimits(limiterLimits(cfg))
	a.services.history.SetLimits(cfg.History.Keep, int64(cfg.History.MaxSize))
	a.gen = gen
	a.retireParts(old, gen)
	return a.apply(gen, fresh)
}

// outlived is how long a part that a reload replaced may still be busy with what
// began before: sessions keep the flows, attempts the transport that they have.
const outlived = time.Hour

// retireParts closes what the new generation does not use, when nobody can use it
// any more.
func (a *app) retireParts(old, gen *generation) {
	var gone []io.Closer
	for name, t := range old.transports {
		if gen.transports[name].Transport != t.Transport {
			gone = append(gone, t)
		}
	}
	for key, m := range old.modules {
		if gen.modules[key] != m {
			gone = append(gone, m)
		}
	}
	gone = append(gone, old.partsNotOf(gen)...)
	if len(gone) == 0 {
		return
	}
	a.serving.Go(func() {
		wait := time.NewTimer(outlived)
		defer wait.Stop()
		select {
		case <-wait.C:
		case <-a.running.Done():
		}
		for _, c := range gone {
			if err := c.Close(); err != nil {
				a.log.Warn("a part that was replaced did not close well", "error", err)
			}
		}
	})
}

// needsRestart refuses changes that a running process cannot make.
func needsRestart(old, next *config.Config) error {
	keys := restartKeys(old, next)
	if len(keys) == 0 {
		return nil
	}
	return fmt.Errorf("a change of %s needs a restart; nothing was changed", strings.Join(keys, ", "))
}

// restartKeys names the changes that a running process cannot make.
func restartKeys(old, next *config.Config) []string {
	var keys []string
	for key, same := range map[string]bool{
		"data_dir":            old.DataDir == next.DataDir,
		"admin":               reflect.DeepEqual(old.Admin, next.Admin),
		"queue":               reflect.DeepEqual(old.Queue, next.Queue),
		"bayes":               reflect.DeepEqual(old.Bayes, next.Bayes),
		"history.max_backlog": old.History.MaxBacklog == next.History.MaxBacklog,
		"quarantine":          sameQuarantine(old.Quarantine, next.Quarantine),
		"store":               sameStore(old, next),
		"limits.scan_temp":    old.Limits.ScanTemp == next.Limits.ScanTemp,
		"limits.free_disk":    old.Limits.FreeDisk == next.Limits.FreeDisk,
	} {
		if !same {
			keys = append(keys, key)
		}
	}
	keys = append(keys, modeChanges(old, next)...)
	keys = append(keys, protocolChanges(old, next)...)
	slices.Sort(keys)
	return keys
}

// sameQuarantine reports whether nothing differs but in whose name mail about the
// quarantine is written.
func sameQuarantine(old, next config.Quarantine) bool {
	for _, q := range []*config.Quarantine{&old, &next} {
		q.NoticeFrom, q.NoticeFile = mail.Address{}, ""
		if q.Digest != nil {
			digest := *q.Digest
			digest.From, q.Digest = mail.Address{}, &digest
		}
	}
	return reflect.DeepEqual(old, next)
}

// sameStore reports whether the records stay where they are. A node that is called
// like the host keeps its old name in them until it is started again.
func sameStore(old, next *config.Config) bool {
	was, will := old.Store, next.Store
	if string(was.Node) == string(old.Hostname) && string(will.Node) == string(next.Hostname) {
		will.Node = was.Node
	}
	return was == will
}

// protocolChanges names the listeners that would have to speak another protocol: one
// server has the sockets of a listener.
func protocolChanges(old, next *config.Config) []string {
	protocols := make(map[config.Name]string)
	for i := range old.Listeners {
		protocols[old.Listeners[i].Name] = old.Listeners[i].Protocol
	}
	var changed []string
	for i := range next.Listeners {
		l := &next.Listeners[i]
		if was, ok := protocols[l.Name]; ok && was != l.Protocol {
			changed = append(changed, "protocol of the listener "+string(l.Name))
		}
	}
	return changed
}

// openSockets opens the addresses that are new in cfg.
func (a *app) openSockets(cfg *config.Config) (map[string]net.Listener, error) {
	fresh := make(map[string]net.Listener)
	for i := range cfg.Listeners {
		l := &cfg.Listeners[i]
		running := a.listeners[string(l.Name)]
		for _, addr := range l.Address {
			if running != nil && running.sockets[addr.String()].Listener != nil {
				continue
			}
			socket, err := a.openSocket(addr, interceptMode(l))
			if err != nil {
				return nil, errors.Join(fmt.Errorf("start listener %s: %w", l.Name, err), closeAll(fresh))
			}
			fresh[socketKey(l, addr)] = socket
		}
	}
	return fresh, nil
}

// openSocket opens an address, or takes a part in it where another listener has
// it and may give it up with this reload.
func (a *app) openSocket(addr config.HostPort, mode intercept.Mode) (net.Listener, error) {
	for _, l := range a.listeners {
		if s, ok := l.sockets[addr.String()]; ok {
			return duplicate(s.Listener)
		}
	}
	return a.sockets.Listen(addr, mode)
}

// socketKey names a socket of a listener in the map of new sockets.
func socketKey(l *config.Listener, addr config.HostPort) string {
	return string(l.Name) + " " + addr.String()
}

func closeAll(sockets map[string]net.Listener) error {
	var errs []error
	for _, s := range sockets {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

// apply makes the listeners those of gen.
func (a *app) apply(gen *generation, fresh map[string]net.Listener) error {
	var errs []error
	a.interception.guard.Store(a.newGuard(gen.cfg))
	kept := make(map[string]bool)
	for i := range gen.cfg.Listeners {
		l := &gen.cfg.Listeners[i]
		kept[string(l.Name)] = true
		errs = append(errs, a.applyListener(gen, l, fresh))
	}
	for name, l := range a.listeners {
		if !kept[name] {
			a.retire(name, l)
		}
	}
	a.state.Store(&appState{gen: gen, loaded: time.Now(), addresses: a.addresses()})
	return errors.Join(errs...)
}

// applyListener starts or changes one listener.
func (a *app) applyListener(gen *generation, l *config.Listener, fresh map[string]net.Listener) error {
	running := a.listeners[string(l.Name)]
	if running == nil {
		running = &listener{sockets: make(map[string]socket)}
	}
	apply := a.applySMTP
	if l.POP3() {
		apply = a.applyPOP
	}
	server, err := apply(gen, l, running.server)
	if err != nil {
		return err
	}
	running.server = server
	a.listeners[string(l.Name)] = running
	wanted := make(map[string]bool)
	for _, addr := range l.Address {
		wanted[addr.String()] = true
		if ln := fresh[socketKey(l, addr)]; ln != nil {
			running.sockets[addr.String()] = a.serve(running.server, ln, a.accepting(l, ln))
		}
	}
	for addr, s := range running.sockets {
		if !wanted[addr] {
			s.stop()
			delete(running.sockets, addr)
		}
	}
	return nil
}

// applySMTP starts or changes the server of a listener for SMTP.
func (a *app) applySMTP(gen *generation, l *config.Listener, running door) (door, error) {
	sc, err := serverConfig(gen, l)
	if err != nil {
		return nil, err
	}
	hooks := hooksOf(gen, l)
	hooks.History = a.historian()
	if server, ok := running.(*smtpserver.Server); ok {
		return server, server.Reload(sc, hooks)
	}
	return smtpserver.New(sc, hooks, smtpserver.Options{
		Limiter: a.limiter, Log: a.logs.Logger("SMTP-Proxy"), Observer: a.metrics,
	})
}

// serve accepts connections on a socket, as accepting gives them, until it is
// stopped.
func (a *app) serve(server door, ln, accepting net.Listener) socket {
	ctx, cancel := context.WithCancel(context.Background())
	a.serving.Go(func() {
		if err := server.Serve(ctx, accepting); err != nil {
			a.fail(err)
		}
	})
	return socket{ln, func() {
		cancel()
		// Not only when Serve gets to it: once this returns, every new connection
		// is for the listener that has the address then. Serve closes it again,
		// and nobody minds.
		_ = ln.Close()
	}}
}

// fail reports a listener that ended by itself; the first one is enough.
func (a *app) fail(err error) {
	select {
	case a.failed <- err:
	default:
	}
}

// retire ends a listener that is not configured any more. Its sessions may
// finish what they are doing.
func (a *app) retire(name string, l *listener) {
	delete(a.listeners, name)
	for _, s := range l.sockets {
		s.stop()
	}
	a.serving.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), sessionPatience)
		defer cancel()
		if err := l.server.Shutdown(ctx); err != nil {
			a.log.Warn("sessions were cut off", "listener", name, "error", err)
		}
	})
}

// addresses are what is listened on, by listener.
func (a *app) addresses() map[string][]string {
	m := make(map[string][]string)
	for name, l := range a.listeners {
		for addr := range l.sockets {
			m[name] = append(m[name], addr)
		}
	}
	return m
}
