package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gatepost/internal/config"
	"gatepost/internal/mail"
	"gatepost/internal/webhook"
	"gatepost/internal/weblookup"
)

// historians are all who keep events, or are told about them.
type historians []mail.Historian

// Note implements mail.Historian.
func (h historians) Note(e *mail.Event) {
	for _, one := range h {
		one.Note(e)
	}
}

// startWebhooks starts to tell the [[admin.webhook]], first what waited for them when the
// last process ended. What waited for those that are not there any more is forgotten.
func (a *app) startWebhooks(cfg *config.Config) error {
	dir := filepath.Join(string(cfg.DataDir), "webhooks")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make room for what waits for webhooks: %w", err)
	}
	var kept []string
	for i := range cfg.Admin.Webhooks {
		c := &cfg.Admin.Webhooks[i]
		file := string(c.Name) + ".waiting"
		kept = append(kept, file)
		hook, web, err := a.makeWebhook(c, filepath.Join(dir, file))
		if err != nil {
			return err
		}
		a.services.events = append(a.services.events, hook)
		a.services.hooks = append(a.services.hooks, hook, web)
		a.serving.Go(func() { hook.Run(a.running) })
	}
	if err := forgetOthers(dir, kept); err != nil {
		// Whatever lies there is no reason to take no mail.
		a.log.Warn("what waits for webhooks that there are no more is not forgotten", "error", err)
	}
	return nil
}

// forgetOthers removes the files of a directory but for some. Directories are nobody's.
func forgetOthers(dir string, but []string) error {
	all, err := os.ReadDir(dir)
	for _, e := range all {
		if !e.IsDir() && !slices.Contains(but, e.Name()) {
			err = errors.Join(err, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return err
}

// makeWebhook makes a hook, and what has to be closed after it. file keeps what waits.
func (a *app) makeWebhook(c *config.AdminWebhook, file string) (*webhook.Hook, io.Closer, error) {
	line, err := firstLine(c.SecretFile)
	if err != nil {
		return nil, nil, fmt.Errorf("make webhook %s: %w", c.Name, err)
	}
	secret, err := webhookSecret(line)
	if err != nil {
		return nil, nil, fmt.Errorf("make webhook %s: %w", c.Name, err)
	}
	web, err := weblookup.New(weblookup.Config{AllowPrivate: c.AllowPrivate, Timeout: c.Timeout, CAFile: string(c.TLSCAFile), Connections: 2, MaxRedirects: -1})
	if err != nil {
		return nil, nil, fmt.Errorf("make webhook %s: %w", c.Name, err)
	}
	wc := webhook.Config{Name: string(c.Name), URL: c.URL, Secret: secret, Client: web.Guarded(), File: file, Log: a.logs.Logger("Webhook")}
	for _, kind := range c.Events {
		wc.Kinds = append(wc.Kinds, mail.EventKind(kind))
	}
	hook, err := webhook.New(wc)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("make webhook %s: %w", c.Name, err), web.Close())
	}
	return hook, web, nil
}

// webhookSecret reads a secret as it is, or as Standard Webhooks write them.
func webhookSecret(s string) ([]byte, error) {
	encoded, ok := strings.CutPrefix(s, "whsec_")
	if !ok {
		return []byte(s), nil
	}
	b, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return nil, fmt.Errorf("read secret: what follows whsec_ is no base64")
	}
	return b, nil
}
