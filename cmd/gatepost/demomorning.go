package main

import (
	"bytes"
	"context"
	"fmt"
	netmail "net/mail"
	"strings"

	"gatepost/internal/mail"
	"gatepost/internal/quarantine"
	"gatepost/internal/queue"
)

// morning sends what an ordinary morning brings, so that every page of the
// administration has something to show: mail that is delivered, marked, held, refused,
// delayed by greylisting, and mail that waits for a server which does not answer.
func (d *demo) morning(ctx context.Context) error {
	d.say("\n7. An ordinary morning, so that there is something to look at")
	texts, err := demoFiles.ReadFile("demo/morning.txt")
	if err != nil {
		return fmt.Errorf("read messages of the morning: %w", err)
	}
	replies := map[string]int{}
	n := 0
	for text := range bytes.SplitSeq(texts, []byte("\n%\n")) {
		n++
		reply, err := d.sendAsItSays(ctx, text, n)
		if err != nil {
			return err
		}
		code, _, _ := strings.Cut(reply, " ")
		replies[code]++
	}
	d.say("   %d messages: %d accepted, %d asked to come again (greylisting), %d refused", n, replies["250"], replies["451"], replies["550"])
	var waiting, held int
	err = poll(ctx, func() (bool, error) {
		all, err := d.gateway.queue.Count(ctx, queue.Selector{All: true})
		if err != nil {
			return false, err
		}
		if waiting, err = d.gateway.queue.Count(ctx, queue.Selector{Transport: "branch", State: mail.QueueDeferred}); err != nil {
			return false, err
		}
		page, err := d.gateway.services.quarantine.List(ctx, quarantine.Filter{State: quarantine.Held, Limit: 100})
		held = len(page.Items)
		return waiting == all && waiting >= 2 && held >= 2, err
	})
	if err != nil {
		return fmt.Errorf("wait for the mail of the morning: %w", err)
	}
	d.say("   Now %d messages wait in the queue for a server that does not answer, and %d are held in the quarantine.", waiting, held)
	return nil
}

// sendAsItSays sends a message from its From to its To.
func (d *demo) sendAsItSays(ctx context.Context, text []byte, n int) (string, error) {
	m, err := netmail.ReadMessage(bytes.NewReader(text))
	if err != nil {
		return "", fmt.Errorf("read message %d: %w", n, err)
	}
	from, err := netmail.ParseAddress(m.Header.Get("From"))
	if err != nil {
		return "", fmt.Errorf("read sender of message %d: %w", n, err)
	}
	to, err := netmail.ParseAddress(m.Header.Get("To"))
	if err != nil {
		return "", fmt.Errorf("read recipient of message %d: %w", n, err)
	}
	_, domain, _ := strings.Cut(from.Address, "@")
	head := fmt.Sprintf("Message-ID: <morning-%d@%s>\nMIME-Version: 1.0\nContent-Type: text/plain; charset=us-ascii\n", n, domain)
	return d.sendText(ctx, from.Address, to.Address, append([]byte(head), text...))
}
