package main

import (
	"context"
	"errors"
	"io"
	"time"

	"gatepost/internal/admin"
	"gatepost/internal/config"
	changes "gatepost/internal/config/change"
)

// lookEvery is how often changes by hand are looked for that nobody has loaded.
const lookEvery = 15 * time.Second

// keepChanges begins to keep what is changed in the configuration.
func (a *app) keepChanges(cfg *config.Config) (err error) {
	a.changes, err = changes.Open(changes.Config{
		File: a.file, DataDir: string(cfg.DataDir), Log: a.logs.Logger("Config"), Reload: a.load,
		InUse:        func() *config.Config { return a.state.Load().gen.cfg },
		NeedsRestart: func(next *config.Config) []string { return restartKeys(a.state.Load().gen.cfg, next) },
	})
	if err != nil {
		return err
	}
	a.noteLoaded()
	a.serving.Go(func() { a.changes.Watch(a.running, lookEvery) })
	return nil
}

// noteLoaded keeps what was changed by hand. That it can't be kept is no reason not to
// use it.
func (a *app) noteLoaded() {
	if err := a.changes.Loaded(); err != nil {
		a.log.Error("the configuration that is in use is not kept as a revision", "error", err)
	}
}

// configAPI is the configuration for the API and the pages.
type configAPI struct {
	*changes.Keeper
	app *app
}

// Try implements admin.Configuration: a generation is built of the candidate, gone
// through and closed again. It opens no socket and delivers nothing.
func (c configAPI) Try(ctx context.Context, what changes.Change, q admin.FlowQuery, body io.Reader) (_ any, err error) {
	if what.Text == nil && len(what.Files) == 0 {
		return flowsAPI{c.app}.ExplainFlows(ctx, q, body)
	}
	cfg, release, err := c.Candidate(what)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, release()) }()
	gen, done, err := c.app.candidate(cfg)
	if err != nil {
		return nil, &changes.BadError{Text: err.Error()}
	}
	defer func() { err = errors.Join(err, done()) }()
	return c.app.explainFlows(ctx, gen, q, body)
}

// candidate builds a generation that is not put to use. Parts that it has in common with
// the one in use are shared; the function that it returns closes the others.
func (a *app) candidate(cfg *config.Config) (*generation, func() error, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stopped {
		return nil, nil, errors.New("stopping")
	}
	old := a.gen
	gen, err := a.build(cfg, old)
	if err != nil {
		return nil, nil, err
	}
	if gen.gateway, err = a.newGateway(gen); err != nil {
		return nil, nil, errors.Join(err, gen.closeNew(old))
	}
	return gen, func() error { return gen.closeNew(old) }, nil
}
