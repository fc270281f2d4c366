package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/message"
)

// sendTestMail queues a mail that says nothing but that it came through, to somebody
// whose domain is ours.
func (a *app) sendTestMail(ctx context.Context, to mail.Address, by string) error {
	state, g := a.state.Load(), a.gateway.Load()
	if state == nil || g == nil {
		return errors.New("send test mail: not started yet")
	}
	if !state.gen.ours(to.Domain) {
		return fmt.Errorf("%s is at no domain of this gateway", message.SafeText(to.String(), 255))
	}
	cfg := state.gen.cfg
	now := time.Now()
	var b strings.Builder
	for _, line := range []string{
		"From: Gatepost <" + cfg.Postmaster.String() + ">",
		"To: <" + to.String() + ">",
		"Subject: Test mail from Gatepost",
		"Date: " + now.Format(time.RFC1123Z),
		"Message-ID: <" + mail.NewID().String() + "@" + string(cfg.Hostname) + ">",
		"Auto-Submitted: auto-generated",
		"MIME-Version: 1.0",
		"Content-Type: text/plain; charset=utf-8",
		"",
		"This mail came through " + string(cfg.Hostname) + ".",
		"It was sent from the web administration by " + message.SafeText(by, 100) + ".",
	} {
		b.WriteString(line + "\r\n")
	}
	return g.SubmitNotice(ctx, to, strings.NewReader(b.String()))
}
