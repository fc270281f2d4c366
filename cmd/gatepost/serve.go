package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/coreos/go-systemd/v22/daemon"

	"gatepost/internal/config"
)

// serveCmd runs the gateway.
type serveCmd struct {
	Config string `short:"c" required:"" type:"path" placeholder:"FILE" help:"Configuration file."`
}

// Help is the long help text.
func (*serveCmd) Help() string {
	return `Runs the gateway in the foreground until SIGTERM or SIGINT: then no new
connections are taken, running transactions finish or get 421, and it exits
within 30 seconds with nothing lost. SIGHUP loads the configuration again, all
or nothing, without dropping a session, and reopens the log files.

Under systemd it tells when it is ready and takes sockets that were opened for it.`
}

// Run implements the subcommand.
func (c *serveCmd) Run() error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	memory := heedMemoryLimit()
	a, err := startApp(ctx, c.Config)
	if err != nil {
		return err
	}
	if memory > 0 && memory < math.MaxInt64 {
		a.log.Info("memory is kept below a limit", "bytes", memory)
	}
	notify(a.log, daemon.SdNotifyReady)
	for {
		select {
		case <-ctx.Done():
			stop() // a second signal ends the process at once
			notify(a.log, daemon.SdNotifyStopping)
			return a.Stop()
		case err := <-a.failed:
			a.log.Error("stopping: a listener failed", "error", err)
			return errors.Join(err, a.Stop())
		case <-hup:
			notify(a.log, daemon.SdNotifyReloading)
			if err := a.reopen(ctx); err != nil {
				a.log.Error("configuration not reloaded, the old one stays in use", "error", err)
			}
			notify(a.log, daemon.SdNotifyReady)
		}
	}
}

// notify tells the service manager; without one it does nothing.
func notify(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("service manager not notified", "error", err)
	}
}

// loadConfig reads the file; the error names every mistake in it. Warnings go
// to standard error only when it is the first load, else to the log.
func loadConfig(file string, warn func(string)) (*config.Config, error) {
	cfg, problems := config.Load(file)
	var lines []string
	for _, p := range problems {
		if p.Severity == config.Warning {
			warn(p.String())
			continue
		}
		lines = append(lines, p.String())
	}
	if len(lines) > 0 {
		return nil, fmt.Errorf("configuration has %d errors:\n%s", len(lines), strings.Join(lines, "\n"))
	}
	return cfg, nil
}
