// Package wire is an SMTP client for tests that shows what is on the wire: it
// sends exactly the bytes that it is given and returns exactly the reply that
// came. It shares no code with the product on purpose, so that a mistake in the
// product's grammar cannot hide in its own tests.
//
// Invariants:
//   - Every read and write has a deadline; a test that waits for a server which
//     says nothing fails, it does not hang.
//   - Nothing is sent that the test did not ask for: no EHLO, no QUIT.
package wire

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

// Reply is one reply of the server.
type Reply struct {
	Code  int
	Lines []string // the text of each line, without the code
}

// Text is the lines joined by " / ".
func (r Reply) Text() string { return strings.Join(r.Lines, " / ") }

// String is the reply on one line.
func (r Reply) String() string { return strconv.Itoa(r.Code) + " " + r.Text() }

// Positive reports a 2xx code.
func (r Reply) Positive() bool { return r.Code/100 == 2 }

// Has reports whether one of the lines is the word, or starts with it and a
// space: whether an EHLO reply announces an extension.
func (r Reply) Has(word string) bool {
	for _, line := range r.Lines {
		head, _, _ := strings.Cut(line, " ")
		if strings.EqualFold(head, word) {
			return true
		}
	}
	return false
}

// Options of Dial.
type Options struct {
	// Source is the local IP address to connect from, "" for the system's choice.
	// Listeners may trust one loopback address and not another.
	Source string
	// Timeout of each reply and each write; default 20 s.
	Timeout time.Duration
}

// Conn is a connection to an SMTP server.
type Conn struct {
	net.Conn
	r       *bufio.Reader
	timeout time.Duration
}

// Dial connects and does not read the banner.
func Dial(addr string, o Options) (*Conn, error) {
	if o.Timeout == 0 {
		o.Timeout = 20 * time.Second
	}
	d := net.Dialer{Timeout: o.Timeout}
	if o.Source != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(o.Source)}
	}
	c, err := d.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &Conn{Conn: c, r: bufio.NewReader(c), timeout: o.Timeout}, nil
}

// Over is a client over a connection that is there already.
func Over(c net.Conn) *Conn {
	return &Conn{Conn: c, r: bufio.NewReader(c), timeout: 20 * time.Second}
}

// Hello connects, reads the banner and says EHLO; it returns the EHLO reply.
func Hello(addr string, o Options) (*Conn, Reply, error) {
	c, err := Dial(addr, o)
	if err != nil {
		return nil, Reply{}, err
	}
	r, err := c.Reply()
	if err == nil && r.Code != 220 {
		err = fmt.Errorf("banner: %v", r)
	}
	if err == nil {
		r, err = c.Cmd("EHLO client.example")
	}
	if err == nil && r.Code != 250 {
		err = fmt.Errorf("answer to EHLO: %v", r)
	}
	if err != nil {
		c.Close()
		return nil, r, err
	}
	return c, r, nil
}

// Reply reads one reply, multi-line or not.
func (c *Conn) Reply() (Reply, error) {
	if err := c.SetReadDeadline(time.Now().Add(c.timeout)); err != nil {
		return Reply{}, err
	}
	var r Reply
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return r, fmt.Errorf("read reply: %w", err)
		}
		text, ok := strings.CutSuffix(line, "\r\n")
		if !ok || len(text) < 3 {
			return r, fmt.Errorf("not a reply line: %q", line)
		}
		code, err := strconv.Atoi(text[:3])
		if err != nil || r.Code != 0 && code != r.Code {
			return r, fmt.Errorf("not a line of this reply: %q", line)
		}
		r.Code = code
		if len(text) == 3 {
			r.Lines = append(r.Lines, "")
			return r, nil
		}
		r.Lines = append(r.Lines, text[4:])
		switch text[3] {
		case ' ':
			return r, nil
		case '-':
		default:
			return r, fmt.Errorf("not a reply line: %q", line)
		}
	}
}

// Send writes the bytes as they are.
func (c *Conn) Send(raw string) error {
	if err := c.SetWriteDeadline(time.Now().Add(c.timeout)); err != nil {
		return err
	}
	_, err := io.WriteString(c.Conn, raw)
	return err
}

// Cmd sends one line (CRLF is added) and reads one reply.
func (c *Conn) Cmd(format string, args ...any) (Reply, error) {
	if err := c.Send(fmt.Sprintf(format, args...) + "\r\n"); err != nil {
		return Reply{}, err
	}
	return c.Reply()
}

// StartTLS sends STARTTLS and, after a 220, shakes hands. Nothing may be waiting
// unread before it.
func (c *Conn) StartTLS(config *tls.Config) (Reply, error) {
	r, err := c.Cmd("STARTTLS")
	if err != nil || r.Code != 220 {
		return r, err
	}
	if c.r.Buffered() > 0 {
		return r, errors.New("server talks before the handshake")
	}
	tc := tls.Client(c.Conn, config)
	if err := tc.SetDeadline(time.Now().Add(c.timeout)); err != nil {
		return r, err
	}
	if err := tc.Handshake(); err != nil {
		return r, err
	}
	c.Conn, c.r = tc, bufio.NewReader(tc)
	return r, tc.SetDeadline(time.Time{})
}

// Open sends MAIL, RCPT for each recipient and DATA, and fails unless the
// server wants the data now.
func (c *Conn) Open(from string, to ...string) error {
	if r, err := c.Cmd("MAIL FROM:<%s>", from); err != nil || !r.Positive() {
		return refused("MAIL", r, err)
	}
	for _, rcpt := range to {
		if r, err := c.Cmd("RCPT TO:<%s>", rcpt); err != nil || !r.Positive() {
			return refused("RCPT", r, err)
		}
	}
	if r, err := c.Cmd("DATA"); err != nil || r.Code != 354 {
		return refused("DATA", r, err)
	}
	return nil
}

// Deliver sends a whole transaction and returns the reply to the final dot.
// The data has CRLF line ends; dots are stuffed here.
func (c *Conn) Deliver(from string, to []string, data []byte) (Reply, error) {
	if err := c.Open(from, to...); err != nil {
		return Reply{}, err
	}
	if err := c.Send(string(Stuff(data)) + ".\r\n"); err != nil {
		return Reply{}, err
	}
	return c.Reply()
}

// Quit says QUIT and closes, whatever the answer.
func (c *Conn) Quit() {
	// The answer does not matter: the test is done with this connection.
	_, _ = c.Cmd("QUIT")
	c.Close()
}

// Reset closes the connection with a RST instead of a FIN.
func (c *Conn) Reset() error {
	if tc, ok := c.Conn.(*net.TCPConn); ok {
		if err := tc.SetLinger(0); err != nil {
			return err
		}
	}
	return c.Close()
}

// RefusedError is a command that was answered otherwise than Open wanted.
type RefusedError struct {
	Command string
	Reply   Reply
}

func (e *RefusedError) Error() string { return e.Command + ": " + e.Reply.String() }

func refused(command string, r Reply, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	return &RefusedError{command, r}
}

// Stuff doubles dots at the start of lines (RFC 5321 §4.5.2) and adds a final
// CRLF where there is none.
func Stuff(data []byte) []byte {
	var b bytes.Buffer
	b.Grow(len(data) + 64)
	for line := range bytes.Lines(data) {
		if line[0] == '.' {
			b.WriteByte('.')
		}
		b.Write(line)
	}
	if b.Len() > 0 && !bytes.HasSuffix(data, []byte("\r\n")) {
		b.WriteString("\r\n")
	}
	return b.Bytes()
}
