package pop3

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// client is a POP3 client that keeps every byte as it came.
type client struct {
	t *testing.T
	net.Conn
	r *bufio.Reader
	// greeting is what the server said first.
	greeting string
}

func dial(t *testing.T, addr string) *client {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return over(t, c)
}

// over speaks POP3 over a connection.
func over(t *testing.T, c net.Conn) *client {
	t.Helper()
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(2 * patience))
	p := &client{t: t, Conn: c, r: bufio.NewReader(c)}
	p.greeting = p.line()
	return p
}

// login is a session of a user.
func login(t *testing.T, addr, user, password string) *client {
	t.Helper()
	c := dial(t, addr)
	c.ok("USER " + user)
	c.ok("PASS " + password)
	return c
}

func (c *client) say(line string) {
	c.t.Helper()
	if _, err := fmt.Fprintf(c.Conn, "%s\r\n", line); err != nil {
		c.t.Fatalf("%s: %v", line, err)
	}
}

func (c *client) line() string {
	c.t.Helper()
	line, err := c.r.ReadString('\n')
	if err != nil {
		c.t.Fatalf("read a line: %q %v", line, err)
	}
	return strings.TrimSuffix(line, "\r\n")
}

// cmd is the first line of an answer.
func (c *client) cmd(line string) string {
	c.t.Helper()
	c.say(line)
	return c.line()
}

func (c *client) ok(line string) string {
	c.t.Helper()
	answer := c.cmd(line)
	if !strings.HasPrefix(answer, "+OK") {
		c.t.Fatalf("%s: %s", line, answer)
	}
	return answer
}

// many is the rest of an answer of several lines, byte for byte, without the last.
func (c *client) many() []byte {
	c.t.Helper()
	var all bytes.Buffer
	for {
		line, err := c.r.ReadBytes('\n')
		if err != nil {
			c.t.Fatalf("read an answer of several lines: %v after %d bytes", err, all.Len())
		}
		if string(line) == ".\r\n" {
			return all.Bytes()
		}
		all.Write(line)
	}
}

func (c *client) list(line string) []byte {
	c.t.Helper()
	c.ok(line)
	return c.many()
}
