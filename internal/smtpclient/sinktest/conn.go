package sinktest

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// conn is one connection.
type conn struct {
	s       *Server
	raw, nc net.Conn
	r       *bufio.Reader
	rec     *record
	number  int
	count   map[string]int
	secure  bool
	gone    bool
	msg     Message
	body    bytes.Buffer
	mailed  bool
	rcpts   int // accepted
}

// tee records what is read.
type tee struct {
	c *conn
}

func (t tee) Read(p []byte) (int, error) {
	n, err := t.c.nc.Read(p)
	t.c.s.mu.Lock()
	defer t.c.s.mu.Unlock()
	if t.c.secure {
		t.c.rec.secret.Write(p[:n])
	} else {
		t.c.rec.clear.Write(p[:n])
	}
	return n, err
}

var errOver = errors.New("over")

func (c *conn) serve() {
	c.r = bufio.NewReader(tee{c})
	if c.answer(Banner, "", "220 sink.example ESMTP\r\n") != nil {
		return
	}
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSuffix(line, "\r\n")
		c.s.mu.Lock()
		c.rec.lines = append(c.rec.lines, line)
		c.s.mu.Unlock()
		if c.command(line) != nil {
			return
		}
	}
}

// answer writes the usual reply or acts by the script. It returns errOver where
// the connection is to be closed.
func (c *conn) answer(stage, line, usual string) error {
	_, err := c.act(stage, line, usual)
	return err
}

// act is answer, and tells what code the client was given.
func (c *conn) act(stage, line, usual string) (code int, err error) {
	c.count[stage]++
	var a *Act
	if c.s.cfg.Script != nil {
		a = c.s.cfg.Script(Event{Stage: stage, Line: line, Conn: c.number, N: c.count[stage], TLS: c.secure, Remote: c.raw.RemoteAddr()})
	}
	if a == nil {
		a = &Act{Usual: true}
	}
	wire := a.Wire
	if a.Usual && a.Late > 0 {
		if err := c.write(usual, 0); err != nil {
			return 0, err
		}
		c.pause(a.Late)
	} else if a.Usual {
		wire = usual + wire
	}
	between := a.Trickle
	if a.Sip > 0 {
		between = 0
	}
	if err := c.write(wire, between); err != nil {
		return 0, err
	}
	switch {
	case a.Stall:
		<-c.s.stop
	case a.Sip > 0:
		c.sip(a)
	case a.Hang:
		io.Copy(io.Discard, c.r)
	}
	if a.Close || a.Hang || a.Stall || a.Sip > 0 {
		return 0, errOver
	}
	if len(wire) >= 3 {
		code, _ = strconv.Atoi(wire[:3])
	}
	return code, nil
}

// pause waits, less if the server is closed.
func (c *conn) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.s.stop:
	}
}

// sip reads slowly until the client goes.
func (c *conn) sip(a *Act) {
	for {
		c.pause(a.Trickle)
		if _, err := io.CopyN(io.Discard, c.r, int64(a.Sip)); err != nil {
			return
		}
	}
}

func (c *conn) write(wire string, pause time.Duration) error {
	if pause == 0 {
		_, err := io.WriteString(c.nc, wire)
		return err
	}
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for i := range len(wire) {
		<-tick.C
		if _, err := io.WriteString(c.nc, wire[i:i+1]); err != nil {
			return err
		}
	}
	return nil
}

// left notes that the client has ended the session.
func (c *conn) left() {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if !c.gone {
		c.gone = true
		c.s.live--
	}
}

func (c *conn) command(line string) error {
	verb, _, _ := strings.Cut(strings.ToUpper(line), " ")
	switch verb {
	case "EHLO", "LHLO":
		return c.answer(Ehlo, line, c.greeting())
	case "HELO":
		return c.answer(Helo, line, "250 sink.example\r\n")
	case "STARTTLS":
		return c.startTLS(line)
	case "AUTH":
		return c.answer(Auth, line, "235 2.7.0 Ok\r\n")
	case "MAIL":
		usual := "250 2.1.0 Ok\r\n"
		if c.mailed {
			usual = "503 5.5.1 Nested MAIL\r\n"
		}
		code, err := c.act(Mail, line, usual)
		if code/100 == 2 {
			c.reset()
			c.mailed, c.msg.From = true, line
		}
		return err
	case "RCPT":
		usual := "250 2.1.5 Ok\r\n"
		if !c.mailed {
			usual = "503 5.5.1 Need MAIL\r\n"
		}
		code, err := c.act(Rcpt, line, usual)
		if code/100 == 2 {
			c.rcpts++
			c.msg.To = append(c.msg.To, line)
		}
		return err
	case "DATA":
		return c.data(line)
	case "BDAT":
		return c.bdat(line)
	case "RSET":
		c.reset()
		return c.answer(Rset, line, "250 2.0.0 Ok\r\n")
	case "QUIT":
		c.left()
		if err := c.answer(Quit, line, "221 2.0.0 Bye\r\n"); err != nil {
			return err
		}
		return errOver
	}
	return c.answer(Other, line, "500 5.5.2 What?\r\n")
}

func (c *conn) reset() {
	c.rcpts, c.mailed = 0, false
	c.body.Reset()
	c.msg = Message{TLS: c.secure, Conn: c.number}
}

func (c *conn) greeting() string {
	lines := append([]string{"sink.example"}, c.s.cfg.Extensions...)
	if c.s.cfg.TLS != nil && !c.s.cfg.HideTLS && !c.secure {
		lines = append(lines, "STARTTLS")
	}
	var b strings.Builder
	for i, l := range lines {
		sep := "-"
		if i == len(lines)-1 {
			sep = " "
		}
		fmt.Fprintf(&b, "250%s%s\r\n", sep, l)
	}
	return b.String()
}

func (c *conn) startTLS(line string) error {
	code, err := c.act(StartTLS, line, "220 2.0.0 Go\r\n")
	if err != nil || code != 220 {
		return err
	}
	if c.s.cfg.TLS == nil {
		return errOver
	}
	tc := tls.Server(c.raw, c.s.cfg.TLS)
	if err := tc.Handshake(); err != nil {
		return err
	}
	c.s.mu.Lock()
	c.nc, c.secure = tc, true
	c.s.mu.Unlock()
	c.r = bufio.NewReader(tee{c})
	return nil
}

func (c *conn) data(line string) error {
	usual := "354 Go\r\n"
	if c.rcpts == 0 {
		usual = "503 5.5.1 No recipients\r\n"
	}
	code, err := c.act(Data, line, usual)
	if err != nil || code != 354 {
		return err
	}
	for {
		l, err := c.r.ReadString('\n')
		if err != nil {
			return err
		}
		if l == ".\r\n" {
			return c.done()
		}
		c.body.WriteString(l)
	}
}

func (c *conn) bdat(line string) error {
	fields := strings.Fields(line)
	n, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return err
	}
	chunk, err := io.ReadAll(io.LimitReader(c.r, n))
	if err == nil && int64(len(chunk)) < n {
		err = io.ErrUnexpectedEOF // a chunk that is cut short is none
	}
	if err != nil {
		return err
	}
	c.body.Write(chunk)
	c.msg.Bdat = true
	if len(fields) > 2 {
		return c.done()
	}
	return c.answer(Bdat, line, "250 2.0.0 Ok\r\n")
}

// done answers the end of a message.
func (c *conn) done() error {
	c.msg.Wire = c.body.String()
	c.s.mu.Lock()
	c.s.messages = append(c.s.messages, c.msg)
	c.s.mu.Unlock()
	n := 1
	if c.s.cfg.LMTP {
		n = c.rcpts
	}
	c.reset()
	for range n {
		if err := c.answer(EOD, "", "250 2.0.0 Ok queued\r\n"); err != nil {
			return err
		}
	}
	return nil
}
