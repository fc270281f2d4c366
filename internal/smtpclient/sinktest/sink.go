// Package sinktest is a next hop for tests: a small SMTP or LMTP server that does
// what its script says, on any listener, and records every byte that it is sent.
// It is lenient on purpose: what is wrong with a client shows in the record.
package sinktest

import (
	"bytes"
	"crypto/tls"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// Stages of a conversation, as scripts see them.
const (
	Banner   = "banner"
	Ehlo     = "ehlo" // LHLO too
	Helo     = "helo"
	StartTLS = "starttls"
	Auth     = "auth"
	Mail     = "mail"
	Rcpt     = "rcpt"
	Data     = "data"
	Bdat     = "bdat"
	EOD      = "eod" // the final dot, or the last chunk; under LMTP once per recipient
	Rset     = "rset"
	Quit     = "quit"
	Other    = "other"
)

// Act is what the server does instead of its usual answer.
type Act struct {
	// Wire is written as it is; "" with Usual unset is silence.
	Wire string
	// Usual writes the usual answer, before Wire.
	Usual bool
	// Trickle is the pause between the bytes of Wire.
	Trickle time.Duration
	// Close ends the connection afterwards; Hang reads on and says nothing more
	// until the client goes; Stall does not even read.
	Close, Hang, Stall bool
	// Late delays Wire, the usual answer being given at once.
	Late time.Duration
	// Sip reads the message after DATA in portions of so many bytes, with pauses of
	// Trickle.
	Sip int
}

// Reply is the act of answering with these lines, CRLF added.
func Reply(lines ...string) *Act { return &Act{Wire: strings.Join(lines, "\r\n") + "\r\n"} }

// Event is what a script is asked about.
type Event struct {
	Stage string
	// Line is the command without CRLF; "" for Banner and EOD.
	Line string
	// Conn counts the connections, N this stage in this connection, both from 1.
	Conn, N int
	// TLS says that the connection is encrypted.
	TLS bool
	// Remote is the client's address.
	Remote net.Addr
}

// Config is what a server is like.
type Config struct {
	// Extensions are the lines of the EHLO answer after the name.
	Extensions []string
	LMTP       bool
	// TLS makes STARTTLS work; it is announced unless HideTLS is set.
	TLS     *tls.Config
	HideTLS bool
	// Script returns nil for the usual.
	Script func(Event) *Act
}

// Message is a message that was taken, or not, with the reply it got.
type Message struct {
	From string // the whole MAIL command
	To   []string
	// Wire is the data as it came, with dot-stuffing and without the final dot.
	Wire string
	Bdat bool
	TLS  bool
	Conn int
}

// Body is the data without dot-stuffing.
func (m Message) Body() string {
	if m.Bdat {
		return m.Wire
	}
	body := strings.ReplaceAll("\r\n"+m.Wire, "\r\n.", "\r\n")
	return body[2:]
}

// Server is a running server.
type Server struct {
	cfg Config
	ln  net.Listener
	wg  sync.WaitGroup
	// stop is closed by Close.
	stop     chan struct{}
	stopOnce sync.Once

	mu       sync.Mutex
	conns    []*record
	open     map[net.Conn]bool
	live     int // connections that have not said QUIT
	peak     int
	messages []Message
}

// record is what one connection was sent.
type record struct {
	clear, secret bytes.Buffer // before and under TLS
	lines         []string
}

// Start serves on ln until the test ends.
func Start(t testing.TB, ln net.Listener, cfg Config) *Server {
	s := &Server{cfg: cfg, ln: ln, open: make(map[net.Conn]bool), stop: make(chan struct{})}
	s.wg.Go(s.accept)
	t.Cleanup(s.Close)
	return s
}

// Listen starts a server on a loopback port.
func Listen(t testing.TB, cfg Config) *Server {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return Start(t, ln, cfg)
}

// Addr is where the server listens.
func (s *Server) Addr() string { return s.ln.Addr().String() }

// Port is the port of Addr.
func (s *Server) Port() int { return s.ln.Addr().(*net.TCPAddr).Port }

// Close ends the server and its connections, and waits for them.
func (s *Server) Close() {
	s.stopOnce.Do(func() { close(s.stop) })
	s.ln.Close()
	s.Drop()
	s.wg.Wait()
}

// Drop closes the connections that are open, as a restart would.
func (s *Server) Drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.open {
		c.Close()
	}
}

// Messages returns the messages so far.
func (s *Server) Messages() []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Message(nil), s.messages...)
}

// Conns is how many connections there were.
func (s *Server) Conns() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Peak is how many connections there were at the same time; one that has said
// QUIT does not count.
func (s *Server) Peak() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.peak
}

// Lines returns the commands of all connections in their order.
func (s *Server) Lines() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var lines []string
	for _, r := range s.conns {
		lines = append(lines, r.lines...)
	}
	return lines
}

// Clear returns every byte that came in clear text, on all connections.
func (s *Server) Clear() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	for _, r := range s.conns {
		b.Write(r.clear.Bytes())
	}
	return b.String()
}

// Raw returns every byte of all connections as the server read it, in clear text
// and under TLS.
func (s *Server) Raw() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	for _, r := range s.conns {
		b.Write(r.clear.Bytes())
		b.Write(r.secret.Bytes())
	}
	return b.String()
}

func (s *Server) accept() {
	for {
		nc, err := s.ln.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.open[nc] = true
		s.live++
		s.peak = max(s.peak, s.live)
		rec := &record{}
		s.conns = append(s.conns, rec)
		n := len(s.conns)
		s.mu.Unlock()
		s.wg.Go(func() {
			c := &conn{s: s, nc: nc, raw: nc, rec: rec, number: n, count: make(map[string]int)}
			c.serve()
			nc.Close()
			c.left()
			s.mu.Lock()
			delete(s.open, nc)
			s.mu.Unlock()
		})
	}
}
