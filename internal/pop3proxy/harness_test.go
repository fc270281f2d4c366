package pop3proxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/memconn"
	"gatepost/test/popserver"
)

// virus is what the scanner of these tests finds.
const virus = "X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR"

const notice = "From: gatepost\r\nSubject: replaced\r\n\r\nA virus was found.\r\n.\r\nLine behind a dot\r\n"

// scanner judges messages in memory.
type scanner struct {
	mu sync.Mutex
	// delay is how long a judgement takes, fault what it ends in; known are notices by UIDL.
	delay  time.Duration
	fault  error
	panics bool
	known  map[string]bool
	edits  mail.Edits
	full   error // of Write

	judged []string
	keys   []Key
	envs   []mail.Envelope
	open   int
}

type retrieval struct {
	s    *scanner
	key  Key
	env  *mail.Envelope
	body bytes.Buffer
}

func (s *scanner) Retrieve(_ context.Context, env *mail.Envelope, key Key) (Retrieval, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open++
	return &retrieval{s: s, key: key, env: env}, nil
}

func (s *scanner) Known(_ context.Context, _ *mail.Envelope, key Key) (*Retrieved, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.known[key.UIDL] {
		return nil, false
	}
	return &Retrieved{Notice: []byte(notice), Reason: "virus", Cached: true}, true
}

func (r *retrieval) Write(p []byte) (int, error) {
	if r.s.full != nil {
		return 0, r.s.full
	}
	return r.body.Write(p)
}

func (r *retrieval) Judge(ctx context.Context) (*Retrieved, error) {
	s := r.s
	if s.panics {
		panic("scanner")
	}
	select {
	case <-time.After(s.delay):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fault != nil {
		return nil, s.fault
	}
	text := r.body.String()
	s.judged = append(s.judged, text)
	s.keys = append(s.keys, r.key)
	s.envs = append(s.envs, *r.env)
	if strings.Contains(text, virus) {
		if s.known == nil {
			s.known = map[string]bool{}
		}
		s.known[r.key.UIDL] = true
		return &Retrieved{Notice: []byte(notice), Reason: "virus"}, nil
	}
	return &Retrieved{Pass: true, Body: memory{bytes.NewReader(r.body.Bytes())}, Edits: s.edits}, nil
}

func (r *retrieval) Close() {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	r.s.open--
}

// traffic remembers what it was told.
type traffic struct {
	mu       sync.Mutex
	messages []MessageSummary
	envs     []mail.Envelope
	sessions []Summary
	ended    []mail.Session
	logins   []LoginResult
	users    []string
}

func (t *traffic) Retrieved(env *mail.Envelope, m MessageSummary) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.messages, t.envs = append(t.messages, m), append(t.envs, *env)
}

func (t *traffic) Ended(s *mail.Session, sum Summary) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sessions, t.ended = append(t.sessions, sum), append(t.ended, *s)
}

func (t *traffic) LoggedIn(_ *mail.Session, user string, result LoginResult, _ string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.logins, t.users = append(t.logins, result), append(t.users, user)
}

// tester is a proxy with a server behind it.
type tester struct {
	t       *testing.T
	proxy   *Server
	ln      *memconn.Listener
	server  *popserver.Server
	scanner *scanner
	traffic *traffic
	guard   *guard
	log     *logBuffer
	wg      sync.WaitGroup
	// dialed are the addresses that were connected to, refuse what is not reached.
	mu     sync.Mutex
	dialed []string
	refuse map[string]error
	served []net.Conn
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// start makes a proxy in front of the server. Fields of c that stay zero have what most
// tests want.
func start(t *testing.T, server *popserver.Server, c Config) *tester {
	t.Helper()
	x := &tester{t: t, server: server, ln: memconn.Listen(), scanner: &scanner{}, traffic: &traffic{}, log: &logBuffer{}, refuse: map[string]error{}}
	return x.start(c, true)
}

func (x *tester) start(c Config, scans bool) *tester {
	x.t.Helper()
	c.Listener, c.Hostname, c.Flow = "pop", "gw.example.com", "pop"
	if c.Upstream.Mode == Fixed && c.Upstream.Address == "" {
		c.Upstream.Address = "pop.example.com:110"
	}
	c.Upstream.Dial = x.dialServer
	hooks := Hooks{Traffic: x.traffic}
	if scans {
		hooks.Scanner = x.scanner
	}
	if x.guard != nil {
		hooks.Guard = x.guard
	}
	var err error
	x.proxy, err = New(c, hooks, Options{Log: slog.New(slog.NewTextHandler(x.log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err != nil {
		x.t.Fatal(err)
	}
	x.wg.Go(func() {
		if err := x.proxy.Serve(context.Background(), x.ln); err != nil {
			x.t.Error(err)
		}
	})
	return x
}

func (x *tester) dialServer(_ context.Context, _, address string) (net.Conn, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.dialed = append(x.dialed, address)
	if err := x.refuse[address]; err != nil {
		return nil, err
	}
	client, server := memconn.Pipe()
	x.served = append(x.served, server)
	x.wg.Go(func() { x.server.Serve(server) })
	return client, nil
}

// stop ends the proxy, and fails where something is left behind.
func (x *tester) stop() {
	x.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := x.proxy.Shutdown(ctx); err != nil {
		x.t.Error(err)
	}
	x.wg.Wait()
	x.scanner.mu.Lock()
	defer x.scanner.mu.Unlock()
	if x.scanner.open != 0 {
		x.t.Errorf("%d messages were not freed", x.scanner.open)
	}
}

// settle waits until all sessions are over.
func (x *tester) settle() { x.proxy.wg.Wait() }

// client is one that keeps every byte as it came.
type client struct {
	t    *testing.T
	raw  *memconn.Conn
	conn net.Conn
	in   *bufio.Reader
}

func (x *tester) connect() *client {
	x.t.Helper()
	raw, err := x.ln.DialFrom(context.Background(), netip.MustParseAddr("192.0.2.1"))
	if err != nil {
		x.t.Fatal(err)
	}
	return &client{t: x.t, raw: raw, conn: raw, in: bufio.NewReader(raw)}
}

// login is connect with a login.
func (x *tester) login() *client {
	x.t.Helper()
	c := x.connect()
	c.expect("+OK")
	c.send("USER joe", "PASS secret")
	c.expect("+OK", "+OK")
	return c
}

// send writes lines in one piece.
func (c *client) send(lines ...string) {
	c.t.Helper()
	c.sendRaw(strings.Join(lines, "\r\n") + "\r\n")
}

func (c *client) sendRaw(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, text); err != nil {
		c.t.Errorf("send: %v", err)
	}
}

// patience is longer than anything that is waited for in virtual time.
const patience = time.Hour

func (c *client) line() string {
	c.t.Helper()
	c.conn.SetReadDeadline(time.Now().Add(patience))
	line, err := c.in.ReadString('\n')
	if err != nil {
		c.t.Errorf("read %q: %v", line, err)
	}
	return line
}

// expect reads a line for each prefix.
func (c *client) expect(prefixes ...string) {
	c.t.Helper()
	for _, p := range prefixes {
		if line := c.line(); !strings.HasPrefix(line, p) || !strings.HasSuffix(line, "\r\n") {
			c.t.Errorf("got %q, want %q", line, p)
		}
	}
}

// data reads up to the dot and returns it as it came, the dot left out.
func (c *client) data() string {
	c.t.Helper()
	var b strings.Builder
	for {
		c.conn.SetReadDeadline(time.Now().Add(patience))
		line, err := c.in.ReadString('\n')
		if err != nil {
			c.t.Errorf("no end of data after %q: %v", b.String(), err)
			return b.String()
		}
		if line == ".\r\n" {
			return b.String()
		}
		b.WriteString(line)
	}
}

// text is data with the dots unstuffed, as clients do it.
func (c *client) text() string {
	c.t.Helper()
	lines := strings.SplitAfter(c.data(), "\n")
	for i, l := range lines {
		lines[i] = strings.TrimPrefix(l, ".")
	}
	return strings.Join(lines, "")
}

// rest is all that comes until the connection ends.
func (c *client) rest() string {
	c.t.Helper()
	c.conn.SetReadDeadline(time.Now().Add(patience))
	b, err := io.ReadAll(c.in)
	if err != nil && !errors.Is(err, io.EOF) {
		return string(b) + " [" + err.Error() + "]"
	}
	return string(b)
}

// closed wants the end of the connection and nothing before.
func (c *client) closed() {
	c.t.Helper()
	if rest := c.rest(); rest != "" {
		c.t.Errorf("got %q, want the end", rest)
	}
	c.conn.Close()
}

// inSync wants that the next command gets the next answer.
func (c *client) inSync() {
	c.t.Helper()
	c.send("STAT")
	c.expect("+OK ")
}

func (c *client) quit() {
	c.t.Helper()
	c.send("QUIT")
	c.expect("+OK")
	c.closed()
}

func (c *client) startTLS() {
	c.t.Helper()
	conn := tls.Client(c.raw, &tls.Config{InsecureSkipVerify: true, ServerName: "pop.example.com"})
	if err := conn.Handshake(); err != nil {
		c.t.Errorf("handshake: %v", err)
	}
	c.conn, c.in = conn, bufio.NewReader(conn)
}

// certificate makes a certificate for the names, and a pool that trusts it.
func certificate(t *testing.T, names ...string) (*tls.Config, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, pool
}

// guard refuses, delays and counts.
type guard struct {
	mu     sync.Mutex
	refuse string
	final  bool
	delay  time.Duration
	users  []string
	done   []LoginResult
}

func (g *guard) Begin(_ context.Context, _ *mail.Session, user string) Attempt {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.users = append(g.users, user)
	return g
}

func (g *guard) Refused() (string, bool) { return g.refuse, g.final }
func (g *guard) Delay() time.Duration    { return g.delay }
func (g *guard) Done(r LoginResult, _ string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.done = append(g.done, r)
}
