package main

import (
	"encoding/base64"
	"fmt"
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

// startWebhooks starts to tell the [[admin.webhook]].
func (a *app) startWebhooks(cfg *config.Config) error {
	for i := range cfg.Admin.Webhooks {
		c := &cfg.Admin.Webhooks[i]
		line, err := firstLine(c.SecretFile)
		if err != nil {
			return fmt.Errorf("make webhook %s: %w", c.Name, err)
		}
		secret, err := webhookSecret(line)
		if err != nil {
			return fmt.Errorf("make webhook %s: %w", c.Name, err)
		}
		web, err := weblookup.New(weblookup.Config{AllowPrivate: c.AllowPrivate, Timeout: c.Timeout, CAFile: string(c.TLSCAFile), Connections: 2, MaxRedirects: -1})
		if err != nil {
			return fmt.Errorf("make webhook %s: %w", c.Name, err)
		}
		wc := webhook.Config{Name: string(c.Name), URL: c.URL, Secret: secret, Client: web.Guarded(), Log: a.logs.Logger("Webhook")}
		for _, kind := range c.Events {
			wc.Kinds = append(wc.Kinds, mail.EventKind(kind))
		}
		hook, err := webhook.New(wc)
		if err != nil {
			return fmt.Errorf("make webhook %s: %w", c.Name, err)
		}
		a.services.events = append(a.services.events, hook)
		a.serving.Go(func() { hook.Run(a.running) })
	}
	return nil
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
