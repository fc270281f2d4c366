package smtpserver

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/mail"
)

func prefixes(p ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range p {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// TestCommandLineLength is LIM-01.
func TestCommandLineLength(t *testing.T) {
	tests := []struct {
		name   string
		length int // of the line with CRLF
		want   string
		closed bool
	}{
		{"512 bytes, as every server must take", 512, "250 2.0.0", false},
		{"our limit", 2048, "250 2.0.0", false},
		{"one more", 2049, "500 5.5.2", false},
		{"4 kB", 4096, "500 5.5.2", false},
		{"1 MB", 1 << 20, "500 5.5.2", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			x := startServer(t, Config{}, Options{})
			c := x.dial().greet()
			go c.conn.Write([]byte("NOOP " + strings.Repeat("x", tt.length-7) + "\r\n"))
			c.expect(tt.want)
			if tt.closed {
				c.expectClosed()
			} else {
				c.inSync()
				c.quit()
			}
			x.stop()
		})
	}
}

// TestALineWithoutEndDoesNotFillMemory is LIM-01's other half.
func TestALineWithoutEndDoesNotFillMemory(t *testing.T) {
	x := startServer(t, Config{}, Options{})
	c := x.dial().greet()
	go func() {
		b := []byte(strings.Repeat("x", 1<<16))
		for {
			if _, err := c.conn.Write(b); err != nil {
				return
			}
		}
	}()
	c.expect("500 5.5.2")
	c.expectClosed()
	c.conn.Close()
	x.stop()
}

// TestAuthLinesMayBeLong is RFC 4954 §4: 12288 octets; TLS-06: no more.
func TestAuthLinesMayBeLong(t *testing.T) {
	cfg := Config{Auth: []string{"PLAIN"}, AuthWithoutTLS: true}
	x := startServer(t, cfg, Options{})
	c := x.dial().greet()
	long := strings.Repeat("AAAA", 3000)
	c.send("AUTH PLAIN", long)
	c.expect("334", "501")
	c.send("AUTH PLAIN " + long)
	c.expect("501")
	c.send("AUTH PLAIN", strings.Repeat("AAAA", 4000))
	c.expect("334", "500 5.5.2")
	// The longer limit is AUTH's alone.
	c.send("NOOP " + long)
	c.expect("500 5.5.2")
	c.inSync()
	c.quit()
	x.stop()
}

// TestJunkCommandsEndTheSession is PIP-04: 100,000 commands that bring no mail.
func TestJunkCommandsEndTheSession(t *testing.T) {
	for _, command := range []string{"NOOP", "RSET", "VRFY x", "HELP", "EHLO c", "BDAT 0"} {
		t.Run(command, func(t *testing.T) {
			x := startServer(t, Config{}, Options{})
			c := x.dial()
			c.expect("220")
			c.send("HELO c", "MAIL FROM:<a@out.example>", "RCPT TO:<v@in.example>")
			c.expect("250", "250", "250")
			go c.conn.Write([]byte(strings.Repeat(command+"\r\n", 100_000)))
			replies := 0
			for r := c.reply(); !strings.HasPrefix(r, "421 4.7.0"); r = c.reply() {
				if replies++; replies > 100 || r == "" {
					t.Fatalf("after %d replies: %q", replies, r)
				}
			}
			if replies < 99 {
				t.Errorf("only %d replies", replies)
			}
			c.expectClosed()
			c.conn.Close()
			x.stop()
		})
	}
}

// TestSessionsPerNetwork is DOS-03: one network's sessions are limited, others' are
// not touched.
func TestSessionsPerNetwork(t *testing.T) {
	x := startServer(t, Config{}, Options{Limiter: NewLimiter(Limits{PerNetwork: 2})})
	first, second := x.dialFrom("192.0.2.7"), x.dialFrom("192.0.2.7")
	first.expect("220")
	second.expect("220")
	third := x.dialFrom("192.0.2.7")
	third.expect("421 4.7.0")
	third.expectClosed()
	other := x.dialFrom("192.0.2.8")
	other.expect("220")
	other.quit()
	first.quit()
	waitForSessions(t, x, 1)
	again := x.dialFrom("192.0.2.7")
	again.expect("220")
	again.quit()
	second.quit()
	// An IPv6 client has a /64 to call from.
	x.dialFrom("2001:db8::1").expect("220")
	x.dialFrom("2001:db8::2").expect("220")
	x.dialFrom("2001:db8::3").expect("421 4.7.0")
	x.dialFrom("2001:db8:0:1::1").expect("220")
	x.stop()
}

// waitForSessions waits until the server has only n sessions left: it ends them
// after it has said goodbye.
func waitForSessions(t *testing.T, x *tester, n int) {
	t.Helper()
	for x.server.opts.Limiter.Sessions() > n {
		runtime.Gosched()
	}
}

func TestSessionsInAll(t *testing.T) {
	limiter := NewLimiter(Limits{Sessions: 1})
	x := startServer(t, Config{}, Options{Limiter: limiter})
	c := x.dial()
	c.expect("220")
	over := x.dial()
	over.expect("421 4.3.2 Too many")
	over.expectClosed()
	limiter.SetLimits(Limits{Sessions: 2})
	more := x.dial()
	more.expect("220")
	x.stop()
}

// TestAProxysSessionsAreItsClients checks whom sessions are counted for, and what a
// hook sees of a client behind a proxy.
func TestAProxysSessionsAreItsClients(t *testing.T) {
	x := startServer(t, Config{ProxyFrom: prefixes("192.0.2.1/32"), XClientFrom: prefixes("192.0.2.2/32"), TrustedNetworks: prefixes("198.51.100.0/24")},
		Options{Limiter: NewLimiter(Limits{PerNetwork: 1})})
	one, two, three := x.dialFrom("192.0.2.1"), x.dialFrom("192.0.2.1"), x.dialFrom("192.0.2.1")
	one.send("PROXY TCP4 198.51.100.7 203.0.113.1 1234 25")
	one.expect("220")
	two.send("PROXY TCP4 198.51.100.8 203.0.113.1 1234 25")
	two.expect("220")
	three.send("PROXY TCP4 198.51.100.7 203.0.113.1 1235 25")
	three.expect("421 4.7.0 Too many")
	x1, x2, x3 := x.dialFrom("192.0.2.2"), x.dialFrom("192.0.2.2"), x.dialFrom("192.0.2.2")
	x1.greet()
	x2.greet()
	x3.greet()
	// The second XCLIENT takes the place of the first.
	x1.send("XCLIENT ADDR=198.51.100.10")
	x1.expect("220")
	x1.send("XCLIENT NAME=mail.example ADDR=198.51.100.9 PORT=99 PROTO=ESMTP HELO=h LOGIN=bob DESTADDR=203.0.113.2 DESTPORT=26")
	x1.expect("220")
	x2.send("XCLIENT ADDR=198.51.100.9")
	x2.expect("421 4.7.0 Too many")
	x2.expectClosed()
	x3.send("XCLIENT ADDR=198.51.100.10")
	x3.expect("220")
	x1.quit()
	one.quit()
	x3.quit()
	two.quit()
	x.stop()
	seen := map[string]mail.Session{}
	for _, s := range x.hooks.sessions {
		seen[s.Client.String()] = s
	}
	if s := seen["198.51.100.7:1234"]; !s.Trusted || s.Local.String() != "203.0.113.1:25" {
		t.Errorf("behind PROXY: %+v", s)
	}
	if s := seen["198.51.100.9:99"]; !s.Trusted || s.Name != "mail.example" || s.User != "bob" || s.Helo != "h" || s.Local.String() != "203.0.113.2:26" {
		t.Errorf("behind XCLIENT: %+v", s)
	}
	if len(x.hooks.sessions) != 5 {
		t.Errorf("%d sessions ended, want 5: who is turned away was not greeted", len(x.hooks.sessions))
	}
}

// scarce is a listener that has no file descriptors for a while.
type scarce struct {
	net.Listener
	mu    sync.Mutex
	fails int
	tries []time.Time
	err   error
}

func (s *scarce) Accept() (net.Conn, error) {
	s.mu.Lock()
	s.tries = append(s.tries, time.Now())
	fail := s.fails > 0
	if fail {
		s.fails--
	}
	s.mu.Unlock()
	if fail {
		return nil, &net.OpError{Op: "accept", Err: s.err}
	}
	return s.Listener.Accept()
}

// TestAcceptDoesNotSpinWithoutDescriptors is DUR-12.
func TestAcceptDoesNotSpinWithoutDescriptors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := startServer(t, Config{}, Options{})
		ln := &scarce{Listener: x.ln, fails: 20, err: syscall.EMFILE}
		x.stop() // its own Serve; a new server takes the other listener
		y := startServer(t, Config{}, Options{})
		ln.Listener = y.ln
		start := time.Now()
		served := make(chan error, 1)
		go func() { served <- y.server.Serve(context.Background(), ln) }()
		<-time.After(time.Minute)
		ln.mu.Lock()
		defer ln.mu.Unlock()
		if n := len(ln.tries); n != 21 || ln.tries[n-1].Sub(start) < 10*time.Second {
			t.Errorf("%d tries in %v", n, ln.tries[n-1].Sub(start))
		}
		y.stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}

func TestServeReportsABrokenListener(t *testing.T) {
	x := startServer(t, Config{}, Options{})
	err := x.server.Serve(context.Background(), &scarce{Listener: x.ln, fails: 1, err: syscall.EBADF})
	if !errors.Is(err, syscall.EBADF) {
		t.Errorf("got %v", err)
	}
	x.ln.Close()
	x.stop()
}

// TestAFullSpoolIsATemporaryRefusal is DUR-08 as the session sees it: the message is
// read to its real end, and the session goes on.
func TestAFullSpoolIsATemporaryRefusal(t *testing.T) {
	x := startServer(t, Config{}, Options{})
	x.hooks.writeErr, x.hooks.failAfter = noSpace{}, 1<<20
	c := x.dial().greet()
	c.send("MAIL FROM:<a@out.example>", "RCPT TO:<v@in.example>", "DATA")
	c.expect("250", "250", "354")
	body := "\r\n" + strings.Repeat(strings.Repeat("x", 98)+"\r\n", 30_000)
	c.sendRaw(body + ".\r\n")
	c.expect("452 4.3.1")
	c.inSync()
	x.hooks.writeErr, x.hooks.openErr = nil, errors.New("disk on fire")
	c.send("MAIL FROM:<a@out.example>", "RCPT TO:<v@in.example>", "DATA")
	c.expect("250", "250", "451 4.3.0")
	x.hooks.openErr = nil
	c.send("MAIL FROM:<a@out.example>", "RCPT TO:<v@in.example>", "DATA")
	c.expect("250", "250", "354")
	c.sendRaw(body + ".\r\n")
	c.expect("250")
	c.quit()
	if mails := x.stop(); len(mails) != 1 || mails[0].body != body {
		t.Errorf("%d mails", len(mails))
	}
}

func TestMessageSizeLimit(t *testing.T) {
	for size, want := range map[int]string{99: "250", 100: "250", 101: "552 5.3.4"} {
		x := startServer(t, Config{MaxMessageSize: 100}, Options{})
		c := x.dial().intoData()
		c.sendRaw("\r\n" + strings.Repeat("x", size-4) + "\r\n.\r\n")
		c.expect(want)
		c.inSync()
		c.quit()
		x.stop()
	}
}

// TestRecipientLimit is LIM-04.
func TestRecipientLimit(t *testing.T) {
	x := startServer(t, Config{MaxRecipients: 100}, Options{})
	c := x.dial().greet()
	c.send("MAIL FROM:<a@out.example>" + strings.Repeat("\r\nRCPT TO:<v@in.example>", 103))
	c.expect("250")
	for range 100 {
		c.expect("250 2.1.5")
	}
	c.expect("452 4.5.3", "452 4.5.3", "452 4.5.3")
	c.send("DATA", "x", ".")
	c.expect("354", "250")
	c.quit()
	if mails := x.stop(); len(mails) != 1 || len(mails[0].env.Recipients) != 100 {
		t.Errorf("got %d mails", len(mails))
	}
}
