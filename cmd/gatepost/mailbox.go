package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"os"
	"slices"

	"gatepost/internal/config"
	"gatepost/internal/gateway"
	"gatepost/internal/mail"
	"gatepost/internal/mailbox"
	"gatepost/internal/message/notice"
)

// makeMailboxes makes the memory of messages in mailboxes.
func (a *app) makeMailboxes(cfg *config.Config) (err error) {
	s := &a.services
	if s.mailboxes, err = mailbox.New(mailbox.Config{
		Store: s.store, Log: a.logs.Logger("POP-Proxy"), Keep: cfg.Quarantine.RememberFor, Most: int64(cfg.Quarantine.RememberMessages),
	}); err != nil {
		return err
	}
	a.serving.Go(func() { s.mailboxes.Run(a.running) })
	return nil
}

// mailboxesOf is what the gateway needs for mail that is fetched from mailboxes.
func (a *app) mailboxesOf(g *generation) (gateway.Mailboxes, error) {
	m := gateway.Mailboxes{Memory: a.services.mailboxes, Hold: a.hold, Kept: g.cfg.Quarantine.Keep, From: g.cfg.Quarantine.NoticeFrom}
	if !slices.ContainsFunc(g.cfg.Listeners, func(l config.Listener) bool { return l.POP3() }) {
		return m, nil
	}
	var text []byte
	var err error
	if file := g.cfg.Quarantine.NoticeFile; file != "" {
		if text, err = os.ReadFile(string(file)); err != nil {
			return m, fmt.Errorf("read notice_file: %w", err)
		}
	}
	if m.Text, err = notice.Parse(string(text)); err != nil {
		return m, err
	}
	m.Rules, err = rulesOf(a.file, g)
	return m, err
}

// hold puts the original of a message that a POP3 client does not get into the
// quarantine.
func (a *app) hold(ctx context.Context, m mail.Message, r mail.Recipient) error {
	r.Route.Transport = gateway.QuarantineTransport
	d := &mail.Delivery{
		ID: mail.QueueID{Message: m.Envelope.ID, N: 1}, Message: m, Recipients: []mail.Recipient{r},
	}
	for _, o := range a.services.intoQ.Deliver(ctx, d) {
		if o.Status != mail.Delivered {
			return errors.New(o.Cause)
		}
	}
	return nil
}

// releaseToMailbox lets the original pass when its reader fetches it the next time; it
// lies in his mailbox still. Where nothing is known of that any more it is mailed to him,
// if there is a way.
func (a *app) releaseToMailbox(ctx context.Context, g *gateway.Gateway, env *mail.Envelope, body mail.Body) (mail.ID, error) {
	allowed, err := a.services.mailboxes.Allow(ctx, env.ID)
	switch {
	case err != nil:
		return mail.ID{}, err
	case allowed:
		// Under its own ID: nothing is queued.
		return env.ID, nil
	}
	id, err := g.Release(ctx, env, body)
	if err != nil {
		return id, fmt.Errorf("nothing is known of the mailbox that it came from, and it cannot be mailed: %w", err)
	}
	return id, nil
}

// toMailbox reports whether a release is for the reader himself, and not for others whom
// somebody named.
func toMailbox(env *mail.Envelope) bool {
	return len(env.Recipients) == 1 && env.Recipients[0].Route.Domain == "pop3"
}

// rulesOf names all that verdicts follow from: the configuration with the files that it
// names, and the signatures of scanners, which change while it stays. What the Bayesian
// filter learns is not among it: it learns all day.
func rulesOf(file string, g *generation) (func() string, error) {
	h := sha256.New()
	if err := addFile(h, file); err != nil {
		return nil, err
	}
	for _, f := range g.cfg.Files() {
		// One that is not there was found by the check, or belongs to nothing that judges.
		if err := addFile(h, f.Path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	fixed := h.Sum(nil)
	return func() string {
		h := sha256.New()
		h.Write(fixed)
		for _, key := range slices.Sorted(maps.Keys(g.modules)) {
			if m := g.modules[key]; m.rules != nil {
				fmt.Fprintf(h, "|%s %s", m.name, m.rules())
			}
		}
		return fmt.Sprintf("%x", h.Sum(nil)[:16])
	}, nil
}

func addFile(h hash.Hash, name string) error {
	f, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("digest rules: %w", err)
	}
	defer f.Close()
	n, err := io.Copy(h, f)
	if err != nil {
		return fmt.Errorf("digest rules: %w", err)
	}
	fmt.Fprintf(h, "|%d|%s|", n, name)
	return nil
}
