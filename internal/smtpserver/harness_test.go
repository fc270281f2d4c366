package smtpserver

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"gatepost/internal/mail"
	"gatepost/internal/memconn"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tester is a server with hooks that obey the names they are given: a recipient
// "reject@…" is rejected, "slow@…" takes 7 s, and so on.
type tester struct {
	t      testing.TB
	server *Server
	ln     *memconn.Listener
	served chan error
	hooks  *scriptedHooks
}

func startServer(t testing.TB, c Config, o Options) *tester {
	t.Helper()
	c.Listener, c.Hostname = "in", "gw.example"
	h := &scriptedHooks{counts: map[string]int{}}
	srv, err := New(c, h.all(), o)
	if err != nil {
		t.Fatal(err)
	}
	x := &tester{t: t, server: srv, ln: memconn.Listen(), served: make(chan error, 1), hooks: h}
	go func() { x.served <- srv.Serve(context.Background(), x.ln) }()
	// After a failed test, too, nothing may be left running.
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		defer cancel()
		srv.Shutdown(ctx)
	})
	return x
}

// stop shuts the server down and returns what it has accepted.
func (x *tester) stop() []received {
	x.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := x.server.Shutdown(ctx); err != nil {
		x.t.Error(err)
	}
	if err := <-x.served; err != nil {
		x.t.Error(err)
	}
	if n := x.server.opts.Limiter.Sessions(); n != 0 {
		x.t.Errorf("the limiter still counts %d sessions", n)
	}
	x.hooks.mu.Lock()
	defer x.hooks.mu.Unlock()
	if open := x.hooks.counts["open"] - x.hooks.counts["committed"] - x.hooks.counts["aborted"]; open != 0 {
		x.t.Errorf("%d intakes were neither committed nor aborted", open)
	}
	return x.hooks.mails
}

// dial connects a client that speaks lines.
func (x *tester) dial() *client {
	x.t.Helper()
	return x.dialFrom("192.0.2.1")
}

func (x *tester) dialFrom(addr string) *client {
	x.t.Helper()
	conn, err := x.ln.DialFrom(x.t.Context(), netip.MustParseAddr(addr))
	if err != nil {
		x.t.Fatal(err)
	}
	x.t.Cleanup(func() { conn.Close() })
	return &client{t: x.t, raw: conn, conn: conn}
}

// client is the other end of a session.
type client struct {
	t    testing.TB
	raw  *memconn.Conn
	conn net.Conn
	buf  []byte
}

// send writes lines, each ended by CRLF, in one write.
func (c *client) send(lines ...string) {
	c.t.Helper()
	c.sendRaw(strings.Join(lines, "\r\n") + "\r\n")
}

func (c *client) sendRaw(s string) {
	c.t.Helper()
	if _, err := c.conn.Write([]byte(s)); err != nil {
		c.t.Fatalf("send %.80q: %v", s, err)
	}
}

// line reads one line; "" means that the server has closed.
func (c *client) line() string {
	c.t.Helper()
	for {
		if i := strings.Index(string(c.buf), "\r\n"); i >= 0 {
			line := string(c.buf[:i])
			c.buf = c.buf[i+2:]
			return line
		}
		b := make([]byte, 4096)
		c.conn.SetReadDeadline(time.Now().Add(24 * time.Hour))
		n, err := c.conn.Read(b)
		c.buf = append(c.buf, b[:n]...)
		if err != nil {
			if len(c.buf) > 0 {
				c.t.Errorf("half a line: %q", c.buf)
			}
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				c.t.Fatal("no reply within a day")
			}
			return ""
		}
	}
}

// reply reads a whole reply and returns its lines.
func (c *client) reply() string {
	c.t.Helper()
	var lines []string
	for {
		l := c.line()
		lines = append(lines, l)
		if len(l) < 4 || l[3] != '-' {
			return strings.Join(lines, "\n")
		}
	}
}

// expect reads replies and compares their starts.
func (c *client) expect(starts ...string) {
	c.t.Helper()
	for _, want := range starts {
		if got := c.reply(); !strings.HasPrefix(got, want) || want == "" && got != "" {
			c.t.Fatalf("got reply %q, want %q…", got, want)
		}
	}
}

// expectClosed reads to the end, and finds nothing.
func (c *client) expectClosed() {
	c.t.Helper()
	if l := c.line(); l != "" {
		c.t.Fatalf("got %q, want the end", l)
	}
}

// greet reads the greeting and says EHLO.
func (c *client) greet() *client {
	c.t.Helper()
	c.expect("220")
	c.send("EHLO client.example")
	c.expect("250")
	return c
}

// inSync checks that a NOOP gets exactly one 250.
func (c *client) inSync() {
	c.t.Helper()
	c.send("NOOP")
	c.expect("250 2.0.0")
	c.send("NOOP")
	c.expect("250 2.0.0")
}

// quit ends the session and checks that nothing else was on its way.
func (c *client) quit() {
	c.t.Helper()
	c.send("QUIT")
	c.expect("221")
	c.expectClosed()
}

func (c *client) startTLS() {
	c.t.Helper()
	conn := tls.Client(c.raw, &tls.Config{InsecureSkipVerify: true})
	if err := conn.Handshake(); err != nil {
		c.t.Fatalf("handshake: %v", err)
	}
	c.conn = conn
}

// received is one message that the intake committed.
type received struct {
	env   mail.Envelope
	body  string
	facts DataFacts
}

// scriptedHooks decide by the names they meet.
type scriptedHooks struct {
	mu       sync.Mutex
	mails    []received
	counts   map[string]int
	sessions []mail.Session // as End saw them
	sums     []Summary
	passwds  []string
	resets   []string // senders of transactions that ended without a message
	// For single tests: what Connect says, what Open and Write fail with, and what
	// a commit waits for.
	connect   mail.Decision
	openErr   error
	writeErr  error
	failAfter int
	hold      chan struct{}
	slowDisk  chan struct{} // what a Write of "SLOWDISK" waits for
	// What the session had seen when the hooks were called.
	atConnect, atRcpt, atData, atOpen [][]mail.Finding
	// The session as each MAIL and RCPT knew it, and each login that failed.
	known, failed []mail.Session
}

func (h *scriptedHooks) all() Hooks {
	return Hooks{Connect: h, Helo: h, Auth: h, Mail: h, Rcpt: h, Data: h, Intake: h, Reset: h, End: h, Refused: h, LoginFailed: h}
}

func (h *scriptedHooks) count(what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.counts[what]++
}

// counted is for tests whose sessions still run.
func (h *scriptedHooks) counted(what string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.counts[what]
}

func decisionFor(name string) mail.Decision {
	// "saw-x" leaves a finding "x", "bad-x" does and refuses.
	if symbol, ok := strings.CutPrefix(name, "saw-"); ok {
		return mail.Decision{Findings: []mail.Finding{{Module: "test", Symbol: symbol, Result: mail.Match}}}
	}
	if symbol, ok := strings.CutPrefix(name, "bad-"); ok {
		return mail.Decision{Act: mail.Reject, Findings: []mail.Finding{{Module: "test", Symbol: symbol, Result: mail.Match}}}
	}
	switch name {
	case "reject":
		return mail.Decision{Act: mail.Reject, Reason: "test"}
	case "defer":
		return mail.Decision{Act: mail.Defer}
	case "drop":
		return mail.Decision{Act: mail.Drop}
	case "slow":
		return mail.Decision{Delay: 7 * time.Second}
	case "narrow":
		return mail.Decision{Bandwidth: 1000}
	case "unknown":
		return mail.Decision{Act: mail.Reject, Reply: mail.ReplyNoSuchUser.Reply()}
	case "confused":
		return mail.Decision{Act: mail.Reject, Reply: mail.ReplyOK.Reply()}
	case "leave":
		return mail.Decision{Act: mail.Reject, Close: true}
	case "421":
		return mail.Decision{Act: mail.Defer, Reply: mail.ReplyOverload.Reply()}
	case "roger":
		return mail.Decision{Reply: mail.Reply{Code: 250, Enhanced: "2.1.5", Lines: []string{"Roger,", "accepting mail"}}}
	case "seen":
		return mail.Decision{Findings: []mail.Finding{{Module: "test", Symbol: "seen", Result: mail.Match}}}
	case "panic":
		panic("scripted")
	}
	return mail.Decision{}
}

func (h *scriptedHooks) Connect(_ context.Context, s *mail.Session) mail.Decision {
	h.count("connect")
	h.mu.Lock()
	defer h.mu.Unlock()
	h.atConnect = append(h.atConnect, slices.Clone(s.Findings))
	return h.connect
}

func (h *scriptedHooks) Refused(*mail.Session) { h.count("refused") }

func (h *scriptedHooks) LoginFailed(s *mail.Session) {
	h.count("login failed")
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failed = append(h.failed, *s)
}

func (h *scriptedHooks) Helo(_ context.Context, s *mail.Session) mail.Decision {
	name, _, _ := strings.Cut(s.Helo, ".")
	return decisionFor(name)
}

func (h *scriptedHooks) Authenticate(_ context.Context, s *mail.Session, user, password string) mail.Decision {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.passwds = append(h.passwds, user+"/"+password)
	switch {
	case user == "down":
		return mail.Decision{Act: mail.Defer}
	case user == "alice" && password == "secret":
		return mail.Decision{}
	case user == "ALICE" && password == "secret":
		return mail.Decision{User: "alice@in.example", Senders: []string{"@in.example"}}
	}
	return mail.Decision{Act: mail.Reject, Delay: 3 * time.Second}
}

func (h *scriptedHooks) Mail(_ context.Context, env *mail.Envelope) mail.Decision {
	h.mu.Lock()
	h.known = append(h.known, env.Session)
	h.mu.Unlock()
	return decisionFor(env.Sender.Local)
}

func (h *scriptedHooks) Rcpt(ctx context.Context, env *mail.Envelope, r *mail.Recipient) mail.Decision {
	r.Route = mail.Route{Transport: "test"}
	h.mu.Lock()
	h.atRcpt = append(h.atRcpt, slices.Clone(env.Session.Findings))
	h.known = append(h.known, env.Session)
	h.mu.Unlock()
	if r.Address.Local == "team" {
		other := *r
		other.Address.Local = "member"
		env.Recipients = append(env.Recipients, other)
	}
	if r.Address.Local == "wait" {
		<-ctx.Done()
		return mail.Decision{Act: mail.Defer}
	}
	return decisionFor(r.Address.Local)
}

func (h *scriptedHooks) Data(_ context.Context, env *mail.Envelope) mail.Decision {
	h.mu.Lock()
	h.atData = append(h.atData, slices.Clone(env.Session.Findings))
	h.mu.Unlock()
	name, ok := strings.CutPrefix(env.Sender.Local, "data-")
	if !ok {
		return mail.Decision{}
	}
	return decisionFor(name)
}

func (h *scriptedHooks) Open(_ context.Context, env *mail.Envelope) (Intake, error) {
	if h.openErr != nil {
		return nil, h.openErr
	}
	h.count("open")
	h.mu.Lock()
	h.atOpen = append(h.atOpen, slices.Clone(env.Session.Findings))
	h.mu.Unlock()
	return &scriptedIntake{h: h, env: env}, nil
}

func (h *scriptedHooks) End(s *mail.Session, sum Summary) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sessions = append(h.sessions, *s)
	h.sums = append(h.sums, sum)
}

// noSpace is an error that chooses its reply, as the spool's is.
type noSpace struct{}

func (noSpace) Error() string            { return "disk full" }
func (noSpace) SMTPReply() mail.ReplyKey { return mail.ReplyNoSpace }

type scriptedIntake struct {
	h    *scriptedHooks
	env  *mail.Envelope
	body strings.Builder
	done bool
}

func (i *scriptedIntake) Write(p []byte) (int, error) {
	if i.h.writeErr != nil && i.body.Len()+len(p) > i.h.failAfter {
		return 0, fmt.Errorf("write chunk: %w", i.h.writeErr)
	}
	if bytes.Contains(p, []byte("SLOWDISK")) {
		<-i.h.slowDisk
	}
	return i.body.Write(p)
}

func (i *scriptedIntake) Commit(_ context.Context, facts DataFacts) mail.Reply {
	if i.h.hold != nil {
		<-i.h.hold
	}
	if strings.Contains(i.body.String(), "PANIC") {
		panic("scripted")
	}
	i.done = true
	i.h.mu.Lock()
	defer i.h.mu.Unlock()
	i.h.counts["committed"]++
	if strings.Contains(i.body.String(), "VIRUS") {
		return mail.ReplyContentRejected.Reply()
	}
	if strings.Contains(i.body.String(), "NOREPLY") {
		return mail.Reply{}
	}
	i.h.mails = append(i.h.mails, received{*i.env, i.body.String(), facts})
	return mail.ReplyQueued.Reply()
}

// Answers refuses for recipients whose name begins with "virus-".
func (i *scriptedIntake) Answers() []mail.Reply {
	if !strings.Contains(i.body.String(), "EACH") {
		return nil
	}
	var all []mail.Reply
	for _, r := range i.env.Recipients {
		reply := mail.ReplyRecipientOK.Reply()
		if strings.HasPrefix(r.Address.Local, "virus-") {
			reply = mail.ReplyContentRejected.Reply()
		}
		all = append(all, reply)
	}
	return all
}

func (i *scriptedIntake) Abort() {
	if !i.done {
		i.done = true
		i.h.count("aborted")
	}
}

// testTLS returns a server configuration with a certificate of its own. It is made
// outside of synctest bubbles, where time stands at another year.
func testTLS(t testing.TB) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"gw.example"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}
}

// Reset implements ResetHook.
func (h *scriptedHooks) Reset(env *mail.Envelope) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.resets = append(h.resets, env.Sender.Local)
}
