package main

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"gatepost/internal/mail"
	"gatepost/internal/smtp"
	"gatepost/internal/smtpclient"
)

// send gives one of the embedded messages to the gateway, as a mail server of
// the outside world would, and returns the gateway's last word.
func (d *demo) send(ctx context.Context, from, to, file string) (string, error) {
	text, err := demoFiles.ReadFile("demo/" + file)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", file, err)
	}
	return d.sendText(ctx, from, to, text)
}

// sendText is send for a message in memory, with the line ends of Unix.
func (d *demo) sendText(ctx context.Context, from, to string, text []byte) (string, error) {
	sender, err := smtp.ParseAddress(from)
	if err != nil {
		return "", fmt.Errorf("parse %s: %w", from, err)
	}
	recipient, err := smtp.ParseAddress(to)
	if err != nil {
		return "", fmt.Errorf("parse %s: %w", to, err)
	}
	dialer := smtpclient.NewDialer(smtpclient.Config{Hostname: "mail." + sender.Domain})
	conn, err := dialer.Dial(ctx, smtpclient.Target{Network: "tcp", Address: d.SMTP})
	if err != nil {
		return "", fmt.Errorf("connect to the gateway: %w", err)
	}
	defer conn.Quit()
	outcomes, err := conn.Send(ctx, &smtpclient.Request{
		Sender:     sender,
		Recipients: []mail.Recipient{{Address: recipient, Original: recipient}},
		Content:    demoContent(bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n"))),
		Body:       mail.Body8Bit,
	})
	if err != nil {
		return "", fmt.Errorf("send to %s: %w", to, err)
	}
	return outcomes[0].Reply.String(), nil
}

// demoContent is a message in memory.
type demoContent []byte

// Size implements smtpclient.Content.
func (c demoContent) Size() int64 { return int64(len(c)) }

// WriteTo implements smtpclient.Content.
func (c demoContent) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(c)
	return int64(n), err
}
