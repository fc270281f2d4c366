package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"gatepost/internal/accounts"
	"gatepost/internal/config"
	"gatepost/internal/gateway"
	"gatepost/internal/mail"
	"gatepost/internal/mailbox"
	"gatepost/internal/message/mimetree"
	"gatepost/internal/quarantine"
	"gatepost/internal/queue"
	"gatepost/internal/scan/bayes"
	"gatepost/internal/scan/reputation"
	"gatepost/internal/store"
)

// services are the parts behind the content flows that live as long as the process.
type services struct {
	store      *store.Store
	bayes      *bayes.Classifier
	learner    *learner
	reputation *reputation.Module // it only learns; blocks have modules of their own
	quarantine *quarantine.Quarantine
	intoQ      *quarantine.Transport
	links      *quarantine.Links   // nil without base_url
	digests    *quarantine.Digests // nil without a digest
	accounts   *accounts.Accounts
	// events are told here besides the history, see historian.
	events    historians
	hooks     []io.Closer // in their order
	history   *historyService
	mailboxes *mailbox.Memory
	suspects  *gateway.Suspects
	scanner   *gateway.Scanner
}

// openServices opens the store and what keeps its records there. A database that
// is away is no error.
func (a *app) openServices(ctx context.Context, cfg *config.Config) error {
	temp := string(cfg.Limits.ScanTemp)
	if err := errors.Join(os.RemoveAll(temp), os.MkdirAll(temp, 0o700)); err != nil {
		return fmt.Errorf("make scan_temp: %w", err)
	}
	url, err := storeURL(&cfg.Store)
	if err != nil {
		return err
	}
	s := &a.services
	if s.store, err = store.Open(ctx, store.Options{
		URL: url, Dir: string(cfg.DataDir), Node: string(cfg.Store.Node), Log: a.logs.Logger("Store"),
	}); err != nil {
		return err
	}
	if err := a.openHistory(ctx, cfg); err != nil {
		return err
	}
	if err := errors.Join(a.makeAccounts(cfg), a.startWebhooks(cfg)); err != nil {
		return err
	}
	if err := a.makeMailboxes(cfg); err != nil {
		return err
	}
	s.bayes = bayes.New(bayesConfig(cfg, s.store, a.logs.Logger("Bayes")))
	s.learner = newLearner(s.bayes, a.logs.Logger("Bayes"))
	if s.reputation, err = reputation.New(reputation.Config{Store: s.store}); err != nil {
		return err
	}
	if s.quarantine, err = quarantine.New(quarantine.Config{
		Store: s.store, Releaser: a, Trainer: trainer{a}, Log: a.logs.Logger("Quarantine"), Keep: cfg.Quarantine.Keep, History: a.historian(),
		Tree: mimetree.Limits{Depth: cfg.Limits.MIMEDepth, Parts: cfg.Limits.MIMEParts}, MaxHeader: int64(cfg.Limits.MaxHeaderSize),
	}); err != nil {
		return err
	}
	if err := a.makeDigests(cfg); err != nil {
		return err
	}
	if s.intoQ, err = quarantine.NewTransport(s.store, a.logs.Logger("Quarantine")); err != nil {
		return err
	}
	if s.suspects, err = gateway.OpenSuspects(filepath.Join(string(cfg.DataDir), "scanning"), a.spool); err != nil {
		return err
	}
	s.scanner = gateway.NewScanner(gateway.ScannerConfig{
		Gateway: a.gateway.Load, Spool: a.spool, Suspects: s.suspects, Healthy: a.healthy, Log: a.logs.Logger("Email-Scanner"),
	})
	s.quarantine.Start(a.running)
	a.serving.Go(func() { s.bayes.Run(a.running) })
	a.serving.Go(func() { s.learner.run(a.running) })
	return nil
}

// healthy reports whether the modules of a kind work, as far as they know.
func (a *app) healthy(use string) bool {
	state := a.state.Load()
	if state == nil {
		return true
	}
	for _, m := range state.gen.modules {
		if m.name == use && m.health != nil && m.health() != nil {
			return false
		}
	}
	return true
}

// makeDigests makes the links for recipients and the mails that they stand in.
func (a *app) makeDigests(cfg *config.Config) (err error) {
	s := &a.services
	if cfg.Admin.BaseURL == "" {
		return nil
	}
	if s.links, err = quarantine.NewLinks(quarantine.LinkConfig{Quarantine: s.quarantine, BaseURL: string(cfg.Admin.BaseURL)}); err != nil {
		return err
	}
	d := cfg.Quarantine.Digest
	if d == nil {
		return nil
	}
	s.digests, err = quarantine.NewDigests(quarantine.DigestConfig{
		Links: s.links, Submitter: notices{a}, Hour: d.At.Hour(), Minute: d.At.Minute(), From: d.From,
		Hostname: string(cfg.Hostname), Ours: a.isOurs, Log: a.logs.Logger("Quarantine"),
	})
	return err
}

// isOurs reports whether a domain is configured by name, or an alias of one that is:
// recipients elsewhere get no digests.
func (a *app) isOurs(domain string) bool {
	state := a.state.Load()
	return state != nil && state.gen.ours(domain)
}

// notices queues digests: with the present generation's routing, and to nobody but
// their recipient.
type notices struct{ *app }

// SubmitReport implements quarantine.Submitter.
func (a notices) SubmitReport(ctx context.Context, to mail.Address, digest io.Reader) error {
	g := a.gateway.Load()
	if g == nil {
		return errors.New("submit digest: not started yet")
	}
	return g.SubmitNotice(ctx, to, digest)
}

// storeURL is the URL with the password from its file.
func storeURL(s *config.Store) (string, error) {
	if s.PasswordFile == "" {
		return s.URL, nil
	}
	password, err := firstLine(s.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("open store: %w", err)
	}
	u, err := url.Parse(s.URL)
	if err != nil {
		return "", errors.New("the store's url cannot be read") // the error may quote a password
	}
	u.User = url.UserPassword(u.User.Username(), password)
	return u.String(), nil
}

// closeServices ends them; nothing uses them any more.
func (a *app) closeServices() []error {
	s := &a.services
	var errs []error
	if s.quarantine != nil {
		ctx, cancel := context.WithTimeout(context.Background(), adminPatience)
		errs = append(errs, s.quarantine.Stop(ctx))
		cancel()
	}
	if s.suspects != nil {
		errs = append(errs, s.suspects.Close())
	}
	if s.history != nil {
		errs = append(errs, s.history.Close())
	}
	for _, hook := range s.hooks {
		errs = append(errs, hook.Close())
	}
	if s.store != nil {
		errs = append(errs, s.store.Close())
	}
	return errs
}

// Release implements quarantine.Releaser with the present generation's routing.
func (a *app) Release(ctx context.Context, env *mail.Envelope, body mail.Body) (mail.ID, error) {
	g := a.gateway.Load()
	if g == nil {
		return mail.ID{}, errors.New("release: not started yet")
	}
	if env.Session.Protocol == mail.POP3 && toMailbox(env) {
		return a.releaseToMailbox(ctx, g, env, body)
	}
	return g.Release(ctx, env, body)
}

// forEver is a time to give up after which nothing in the queue ever is given up:
// what waits for the scanner or the quarantine has nobody to be returned to.
const forEver = 100 * 365 * 24 * time.Hour

// internalTransports are those that every queue has.
func (a *app) internalTransports(cfg *config.Config) map[string]queue.TransportConfig {
	scanners := cfg.Limits.Scanners
	if scanners == 0 {
		scanners = 2 * runtime.GOMAXPROCS(0)
	}
	return map[string]queue.TransportConfig{
		gateway.ScannerTransport: {Transport: a.services.scanner, Incoming: true, Policy: queue.Policy{
			Sessions: scanners, GiveUpAfter: forEver, Final: true, Discard: true,
			Delays: []time.Duration{5 * time.Second, 10 * time.Second, 20 * time.Second, 30 * time.Second},
		}},
		gateway.QuarantineTransport: {Transport: a.services.intoQ, Policy: queue.Policy{
			Sessions: 4, GiveUpAfter: forEver, Final: true, Discard: true,
			Delays: []time.Duration{2 * time.Second, 5 * time.Second, 15 * time.Second, 30 * time.Second},
		}},
	}
}
