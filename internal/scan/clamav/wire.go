package clamav

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

// client speaks clamd's protocol, a connection for each command: a session would
// save the connection and tie the answers of several streams together, so that
// one lost answer makes all that follow wrong.
type client struct {
	dial    func(ctx context.Context) (net.Conn, error)
	timeout time.Duration
	max     int64
	buffers sync.Pool
}

const (
	// instream is the command, in the form whose answers end with NUL.
	instream = "zINSTREAM\x00"
	// chunkSize is how much goes to clamd at once; clamd itself reads by this
	// much, and more gains nothing on a local socket.
	chunkSize = 128 << 10
	// maxAnswer bounds an answer: clamd's own are below 1 KiB.
	maxAnswer = 16 << 10
)

// verdict is what a complete answer says.
type verdict uint8

const (
	clean verdict = iota
	infected
	oversized
)

// answer is a complete answer to a stream.
type answer struct {
	verdict verdict
	name    string // of the signature
}

// sourceError is an error of what is to be scanned, not of clamd.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return "read what is to be scanned: " + e.err.Error() }
func (e *sourceError) Unwrap() error { return e.err }

func newClient(cfg Config) *client {
	c := &client{dial: cfg.dial, timeout: cfg.Timeout, max: cfg.MaxSize}
	c.buffers.New = func() any {
		b := make([]byte, len(instream)+4+chunkSize+4)
		copy(b, instream)
		return &b
	}
	return c
}

// command gives a command without arguments and returns the answer.
func (c *client) command(ctx context.Context, name string) (string, error) {
	var text string
	err := c.exchange(ctx, func(conn net.Conn) error {
		if _, err := io.WriteString(conn, "z"+name+"\x00"); err != nil {
			return err
		}
		var err error
		text, err = readAnswer(conn)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("ask clamd %s: %w", name, err)
	}
	return text, nil
}

// scan streams r to clamd. It returns how many bytes it read, which is nothing
// asked for nothing. A nil error means that clamd has seen all of r and that the
// answer is complete.
func (c *client) scan(ctx context.Context, r io.Reader) (answer, int64, error) {
	buf := c.buffers.Get().(*[]byte)
	defer c.buffers.Put(buf)
	s := sender{r: r, buf: *buf, max: c.max}
	// The first chunk is read before connecting: clamd has a thread waiting for
	// each connection, and many readings are empty.
	if err := s.fill(); err != nil || s.n == 0 {
		return answer{}, 0, err
	}
	var a answer
	err := c.exchange(ctx, func(conn net.Conn) error {
		sent := s.send(conn)
		if src := (*sourceError)(nil); errors.As(sent, &src) || errors.Is(sent, errOversized) {
			return sent
		}
		// Where sending failed, clamd may have said why before it hung up. That it
		// takes no more is believed then; nothing else is.
		text, err := readAnswer(conn)
		if text == sizeExceeded {
			return errOversized
		}
		switch {
		case sent != nil && text != "":
			return fmt.Errorf("send: %w (clamd says %q)", sent, safe(text))
		case sent != nil:
			return fmt.Errorf("send: %w", sent)
		case err != nil:
			return err
		}
		a, err = parseAnswer(text)
		return err
	})
	if errors.Is(err, errOversized) {
		return answer{verdict: oversized}, s.total, nil
	}
	if err != nil {
		return answer{}, s.total, fmt.Errorf("scan with clamd: %w", err)
	}
	return a, s.total, nil
}

// exchange connects and runs one dialogue within the time for it.
func (c *client) exchange(ctx context.Context, dialogue func(net.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	conn, err := c.dial(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("connect: %w", context.Cause(ctx))
		}
		return fmt.Errorf("connect: %w", err)
	}
	defer conn.Close()
	// A deadline in the past wakes reads and writes, those to come included.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := dialogue(conn); err != nil {
		if ctx.Err() != nil && errors.Is(err, os.ErrDeadlineExceeded) {
			return context.Cause(ctx)
		}
		return err
	}
	return nil
}

var errOversized = errors.New("larger than clamd takes")

// sender streams a reader in chunks: a length of four bytes, big endian, and as
// many bytes; a length of 0 ends the stream.
type sender struct {
	r     io.Reader
	buf   []byte // command, length, data, room for the end
	max   int64
	n     int // bytes of data in buf
	total int64
	end   bool
}

const dataAt = len(instream) + 4

// fill reads the next chunk.
func (s *sender) fill() error {
	n, err := io.ReadFull(s.r, s.buf[dataAt:dataAt+chunkSize])
	s.n, s.total = n, s.total+int64(n)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		s.end = true
	case err != nil:
		return &sourceError{err}
	}
	return nil
}

// send writes the command and all chunks, the first of which is in the buffer.
func (s *sender) send(conn net.Conn) error {
	from := 0 // the command goes with the first chunk
	for {
		if s.total > s.max {
			return errOversized
		}
		binary.BigEndian.PutUint32(s.buf[dataAt-4:], uint32(s.n))
		to := dataAt + s.n
		if s.n == 0 {
			to = dataAt - 4
		}
		if s.end {
			clear(s.buf[to : to+4])
			to += 4
		}
		if _, err := conn.Write(s.buf[from:to]); err != nil {
			return err
		}
		if s.end {
			return nil
		}
		if err := s.fill(); err != nil {
			return err
		}
		from = dataAt - 4
	}
}

// sizeExceeded is the answer to more than StreamMaxLength, after which clamd hangs
// up although there is more to read: a reset may follow.
const sizeExceeded = "INSTREAM size limit exceeded. ERROR"

// readAnswer reads up to the end of the connection and returns the answer without
// the NUL that ends it. With an error it returns what may be one.
func readAnswer(conn io.Reader) (string, error) {
	b, err := io.ReadAll(io.LimitReader(conn, maxAnswer+1))
	text, behind, ended := bytes.Cut(b, []byte{0})
	switch {
	case err != nil && ended && len(behind) == 0:
		return string(text), fmt.Errorf("read answer: %w", err)
	case err != nil:
		return "", fmt.Errorf("read answer: %w", err)
	case len(b) > maxAnswer:
		return "", fmt.Errorf("answer of more than %d bytes", maxAnswer)
	case len(b) == 0:
		return "", fmt.Errorf("read answer: %w", io.ErrUnexpectedEOF)
	case !ended:
		return "", fmt.Errorf("answer is cut off: %q", safe(string(text)))
	case len(behind) > 0:
		return "", fmt.Errorf("more than one answer: %q", safe(string(b)))
	}
	return string(text), nil
}

// parseAnswer understands the answer to a stream.
func parseAnswer(text string) (answer, error) {
	if text == "stream: OK" {
		return answer{verdict: clean}, nil
	}
	if name, ok := strings.CutPrefix(text, "stream: "); ok {
		if name, ok = strings.CutSuffix(name, " FOUND"); ok && strings.TrimSpace(name) != "" {
			return answer{verdict: infected, name: name}, nil
		}
	}
	return answer{}, fmt.Errorf("clamd answers %q", safe(text))
}
