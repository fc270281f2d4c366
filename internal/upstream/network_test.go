package upstream_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gatepost/internal/dns"
	"gatepost/internal/mail"
	"gatepost/internal/memconn"
	"gatepost/internal/smtp"
	"gatepost/internal/smtpclient/sinktest"
	"gatepost/internal/upstream"
)

// network is where the upstreams of a test are. It observes, too.
type network struct {
	t     *testing.T
	names map[string][]netip.Addr
	// tlsa are records, secure whether DNSSEC vouches for all this.
	tlsa    map[string][]dns.TLSA
	tlsaErr error
	secure  bool

	mu     sync.Mutex
	hosts  map[string]*memconn.Listener
	dials  []string
	events []string
}

func newNetwork(t *testing.T) *network {
	return &network{t: t, hosts: make(map[string]*memconn.Listener)}
}

// listen makes an address reachable.
func (n *network) listen(address string) *memconn.Listener {
	ln := memconn.Listen()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hosts[address] = ln
	return ln
}

// host starts a server at an address.
func (n *network) host(address string, cfg sinktest.Config) *sinktest.Server {
	return sinktest.Start(n.t, n.listen(address), cfg)
}

func (n *network) dial(ctx context.Context, _, address string) (net.Conn, error) {
	n.mu.Lock()
	n.dials = append(n.dials, address)
	ln := n.hosts[address]
	n.mu.Unlock()
	if ln == nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	return ln.Dial(ctx)
}

// dialed returns the addresses that were dialled since the last call.
func (n *network) dialed() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := strings.Join(n.dials, " ")
	n.dials = nil
	return s
}

// AddrsSecure implements upstream.Resolver.
func (n *network) AddrsSecure(_ context.Context, host string) ([]netip.Addr, bool, error) {
	if list := n.names[host]; list != nil {
		return list, n.secure, nil
	}
	return nil, false, fmt.Errorf("no such host %q", host)
}

// TLSA implements upstream.Resolver.
func (n *network) TLSA(_ context.Context, name string) ([]dns.TLSA, bool, error) {
	if n.tlsaErr != nil {
		return nil, false, n.tlsaErr
	}
	if list := n.tlsa[name]; list != nil {
		return list, n.secure, nil
	}
	return nil, n.secure, &dns.Error{Name: name, Type: "TLSA", NXDomain: true}
}

func (n *network) note(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.events = append(n.events, fmt.Sprintf(format, args...))
}

// Session implements upstream.Observer, and so do Failed and Waited.
func (n *network) Session(host string, reused bool, _ time.Duration) {
	n.note("session %s %v", host, reused)
}
func (n *network) Failed(host, stage string) { n.note("failed %s %s", host, stage) }
func (n *network) Waited(took time.Duration, granted bool) {
	n.note("waited %v %v", took, granted)
}

// seen returns what was observed since the last call.
func (n *network) seen() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := strings.Join(n.events, ", ")
	n.events = nil
	return s
}

// server makes a Server whose hosts, unless cfg has some, are 192.0.2.1.
func (n *network) server(cfg upstream.Config) *upstream.Server {
	n.t.Helper()
	cfg.Name, cfg.Hostname = "test", "gw.example"
	if cfg.Hosts == nil {
		cfg.Hosts = hosts("192.0.2.1")
	}
	s, err := upstream.New(cfg, upstream.Deps{Dial: n.dial, Resolver: n, Observer: n})
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { s.Close() })
	return s
}

func hosts(addresses ...string) []upstream.Host {
	var out []upstream.Host
	for _, a := range addresses {
		out = append(out, upstream.Host{Address: a})
	}
	return out
}

func address(t testing.TB, s string) mail.Address {
	t.Helper()
	a, err := smtp.ParseAddress(s)
	if err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return a
}

func envelope(t testing.TB) *mail.Envelope {
	return &mail.Envelope{Sender: address(t, "s@in.example"), Session: mail.Session{
		Client: netip.MustParseAddrPort("198.51.100.7:4711"), Local: netip.MustParseAddrPort("192.0.2.99:25"), Helo: "client.example", ESMTP: true,
	}}
}

func recipient(t testing.TB, s string) *mail.Recipient {
	return &mail.Recipient{Address: address(t, s)}
}

const short = "Subject: x\r\n\r\n.hidden\r\nbye\r\n"

// text is a message.
func text(s string) upstream.Content {
	return upstream.Content{Size: int64(len(s)), Write: func(w io.Writer) error {
		_, err := io.WriteString(w, s)
		return err
	}}
}

// brief is a result in one line: "eod 250 answered".
func brief(r upstream.Result) string {
	fault := []string{"answered", "unreached", "broken", "lost", "unable"}[r.Fault]
	return fmt.Sprintf("%s %d %s", r.Stage, r.Reply.Code, fault)
}

// deliver is one transaction with one recipient. It returns the first result that
// is not good, or the last.
func deliver(t testing.TB, s *upstream.Server, body string) upstream.Result {
	return deliverAs(t, s, envelope(t), body)
}

func deliverAs(t testing.TB, s *upstream.Server, env *mail.Envelope, body string) upstream.Result {
	tx, res := s.Begin(t.Context(), env)
	if tx == nil {
		return res
	}
	if res = tx.Rcpt(t.Context(), recipient(t, "r@out.example")); !res.OK() {
		tx.Abort()
		return res
	}
	return tx.Data(t.Context(), text(body))
}

func mustDeliver(t testing.TB, s *upstream.Server) upstream.Result {
	t.Helper()
	res := deliver(t, s, short)
	if brief(res) != "eod 250 answered" {
		t.Fatalf("%s (%v)", brief(res), res.Err)
	}
	return res
}

// at is a script that acts at one stage, always.
func at(stage string, a *sinktest.Act) func(sinktest.Event) *sinktest.Act {
	return func(e sinktest.Event) *sinktest.Act {
		if e.Stage == stage {
			return a
		}
		return nil
	}
}

// count is how often a command was given.
func count(s *sinktest.Server, prefix string) int {
	n := 0
	for _, l := range s.Lines() {
		if strings.HasPrefix(l, prefix) {
			n++
		}
	}
	return n
}
