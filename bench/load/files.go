package main

import (
	"bytes"
	"fmt"
	"net/mail"
	"os"
	"path/filepath"
	"strings"

	"gatepost/test/wire"
)

// letter is a message of a file, with CRLF and dots as they are sent.
type letter struct{ from, data string }

// files sends the messages of the directory in turn.
func (s settings) files() error {
	names, err := filepath.Glob(filepath.Join(s.dir, "*"))
	if err != nil {
		return err
	}
	var letters []letter
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return fmt.Errorf("read message: %w", err)
		}
		text = bytes.ReplaceAll(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
		letters = append(letters, letter{from: s.sender(text), data: string(wire.Stuff(text)) + ".\r\n"})
	}
	if len(letters) == 0 {
		return fmt.Errorf("no messages in %q", s.dir)
	}
	return s.each(s.sessions, func(c *wire.Conn, i int) error {
		l := letters[i%len(letters)]
		if err := c.Open(l.from, s.to); err != nil {
			return err
		}
		if err := c.Send(l.data); err != nil {
			return err
		}
		r, err := c.Reply()
		if err == nil && r.Code != 250 {
			err = fmt.Errorf("answer to the final dot of message %s: %v", names[i%len(names)], r)
		}
		return err
	})
}

// sender is the author of a message, where that is an address that every server
// takes, or else the one of the command line.
func (s settings) sender(text []byte) string {
	m, err := mail.ReadMessage(bytes.NewReader(text))
	if err != nil {
		return s.from
	}
	a, err := mail.ParseAddress(m.Header.Get("From"))
	if err != nil {
		return s.from
	}
	for _, r := range a.Address {
		if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_+@", r) {
			return s.from
		}
	}
	return a.Address
}

// standFor makes the session that of the i-th client in the Internet (RFC 5737
// has networks that are nobody's).
func standFor(c *wire.Conn, i int) error {
	r, err := c.Cmd("XCLIENT ADDR=198.51.100.%d NAME=mx%d.client.example", 1+i%250, i)
	if err == nil && r.Code != 220 {
		err = fmt.Errorf("answer to XCLIENT: %v", r)
	}
	if err != nil {
		return err
	}
	if r, err = c.Cmd("EHLO mx%d.client.example", i); err == nil && r.Code != 250 {
		err = fmt.Errorf("answer to EHLO: %v", r)
	}
	return err
}
