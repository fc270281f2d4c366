package transport

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"gatepost/internal/dns"
	"gatepost/internal/mail"
	"gatepost/internal/memconn"
	"gatepost/internal/smtp"
	"gatepost/internal/smtpclient/sinktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const short = "Subject: hi\r\n\r\nhello\r\n"

func address(t testing.TB, s string) mail.Address {
	t.Helper()
	if s == "" {
		return mail.Address{}
	}
	a, err := smtp.ParseAddress(s)
	if err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return a
}

// delivery is a message from a@in.example to the given recipients.
func delivery(t testing.TB, body string, to ...string) *mail.Delivery {
	t.Helper()
	env := &mail.Envelope{ID: mail.NewID(), Sender: address(t, "a@in.example"), Size: int64(len(body)), HeaderSize: int64(strings.Index(body, "\r\n\r\n") + 4)}
	d := &mail.Delivery{ID: mail.QueueID{Message: env.ID, N: 1}, Message: mail.Message{Envelope: env, Body: bytes.NewReader([]byte(body))}}
	for _, s := range to {
		d.Recipients = append(d.Recipients, mail.Recipient{Address: address(t, s)})
	}
	env.Recipients = d.Recipients
	return d
}

// brief is an outcome in one line: "delivered eod 250", "deferred data own 451".
func brief(o mail.Outcome) string {
	whose := ""
	if !o.Remote {
		whose = "own "
	}
	stage := o.Stage
	if stage != "" {
		stage += " "
	}
	return fmt.Sprintf("%s %s%s%d", o.Status, stage, whose, o.Reply.Code)
}

func briefs(list []mail.Outcome) string {
	s := make([]string, len(list))
	for i, o := range list {
		s[i] = brief(o)
	}
	return strings.Join(s, ", ")
}

// network is made of servers in memory. Who is not there refuses connections.
type network struct {
	t     *testing.T
	mu    sync.Mutex
	hosts map[string]*memconn.Listener
	dials []string
}

func newNetwork(t *testing.T) *network {
	return &network{t: t, hosts: make(map[string]*memconn.Listener)}
}

// host starts a server at an address.
func (n *network) host(address string, cfg sinktest.Config) *sinktest.Server {
	ln := memconn.Listen()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hosts[address] = ln
	return sinktest.Start(n.t, ln, cfg)
}

func (n *network) remove(address string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.hosts, address)
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

// names is a resolver with fixed answers.
type names struct {
	mx     map[string][]dns.MX
	addrs  map[string][]netip.Addr
	tlsa   map[string][]dns.TLSA
	secure bool
	// plainMX takes DNSSEC from the exchangers, but not from the rest.
	plainMX bool
	errs    map[string]error
	tlsaErr error
}

func (r names) MXSecure(_ context.Context, domain string) ([]dns.MX, bool, error) {
	if err := r.errs["mx "+domain]; err != nil {
		return nil, false, err
	}
	if list := r.mx[domain]; list != nil {
		return list, r.secure && !r.plainMX, nil
	}
	return []dns.MX{{Host: domain, Implicit: true}}, r.secure, nil
}

func (r names) AddrsSecure(_ context.Context, host string) ([]netip.Addr, bool, error) {
	if err := r.errs[host]; err != nil {
		return nil, false, err
	}
	if list := r.addrs[host]; list != nil {
		return list, r.secure, nil
	}
	return nil, false, &dns.Error{Name: host, Type: "A", NXDomain: true}
}

func (r names) TLSA(_ context.Context, name string) ([]dns.TLSA, bool, error) {
	if r.tlsaErr != nil {
		return nil, false, r.tlsaErr
	}
	if list := r.tlsa[name]; list != nil {
		return list, r.secure, nil
	}
	return nil, r.secure, &dns.Error{Name: name, Type: "TLSA", NXDomain: true}
}

// make returns a transport that ends with the test.
func (n *network) transport(cfg Config, r Resolver) Transport {
	n.t.Helper()
	cfg.Name, cfg.Hostname = "test", "gw.example"
	if cfg.Kind == "" {
		cfg.Kind = SMTP
	}
	tr, err := New(cfg, Deps{Resolver: r, Dial: n.dial})
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { tr.Close() })
	return tr
}

// at scripts one stage.
func at(stage string, act *sinktest.Act) func(sinktest.Event) *sinktest.Act {
	return func(e sinktest.Event) *sinktest.Act {
		if e.Stage == stage {
			return act
		}
		return nil
	}
}

// kinds is a working transport of every kind, for the promises that all make.
func kinds(t *testing.T) map[string]Transport {
	n := newNetwork(t)
	n.host("192.0.2.1:25", sinktest.Config{Extensions: []string{"PIPELINING", "8BITMIME", "DSN"}})
	n.host("192.0.2.1:24", sinktest.Config{LMTP: true, Extensions: []string{"PIPELINING"}})
	r := names{mx: map[string][]dns.MX{"out.example": {{Host: "mx.out.example"}}}, addrs: map[string][]netip.Addr{"mx.out.example": {netip.MustParseAddr("192.0.2.1")}}}
	return map[string]Transport{
		"smtp":    n.transport(Config{Kind: SMTP, Hosts: []string{"192.0.2.1:25"}}, nil),
		"mx":      n.transport(Config{Kind: MX}, r),
		"lmtp":    n.transport(Config{Kind: LMTP, Hosts: []string{"192.0.2.1"}}, nil),
		"maildir": n.transport(Config{Kind: Maildir, Path: t.TempDir() + "/{user}"}, nil),
		"discard": n.transport(Config{Kind: Discard}, nil),
	}
}

func TestEveryKindKeepsThePromisesOfATransport(t *testing.T) {
	for kind, tr := range kinds(t) {
		t.Run(kind, func(t *testing.T) {
			d := delivery(t, short, "r1@out.example", "r2@out.example", "r3@out.example")
			d.Message.Envelope.Edits.Prepend = []byte("X-Added: yes\r\n")
			before, err := json.Marshal(d)
			if err != nil {
				t.Fatal(err)
			}
			t.Run("delivers to each recipient, many at a time", func(t *testing.T) {
				var wg sync.WaitGroup
				for range 30 {
					wg.Go(func() {
						for i, o := range tr.Deliver(t.Context(), d) {
							if o.Status != mail.Delivered || o.Reply.Code != 250 || o.Time.IsZero() {
								t.Errorf("recipient %d: %+v", i, o)
							}
						}
					})
				}
				wg.Wait()
			})
			t.Run("has an answer for nobody", func(t *testing.T) {
				empty := *d
				empty.Recipients = nil
				if out := tr.Deliver(t.Context(), &empty); len(out) != 0 {
					t.Errorf("outcomes %s", briefs(out))
				}
			})
			t.Run("honours cancel", func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				out := tr.Deliver(ctx, d)
				if len(out) != 3 {
					t.Fatalf("outcomes %s", briefs(out))
				}
				for _, o := range out {
					if o.Status != mail.Deferred && kind != "discard" {
						t.Errorf("outcome %s", brief(o))
					}
				}
			})
			t.Run("defers when it is closed", func(t *testing.T) {
				tr.Close()
				out := tr.Deliver(t.Context(), d)
				for _, o := range out {
					if o.Status == mail.Failed {
						t.Errorf("outcome %s", brief(o))
					}
				}
				if len(out) != 3 {
					t.Errorf("outcomes %s", briefs(out))
				}
			})
			after, err := json.Marshal(d)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(before, after) {
				t.Errorf("the delivery was changed:\n%s\n%s", before, after)
			}
		})
	}
}

func TestEditsAreDelivered(t *testing.T) {
	n := newNetwork(t)
	s := n.host("192.0.2.1:25", sinktest.Config{})
	d := delivery(t, "X-Bad: 1\r\nSubject: hi\r\n\r\n.hello\r\n", "r@out.example")
	d.Message.Envelope.Edits = mail.Edits{Prepend: []byte("Received: by us\r\n"), Cut: []mail.Span{{Start: 0, End: 10}}}
	tr := n.transport(Config{Hosts: []string{"192.0.2.1"}}, nil)
	if out := tr.Deliver(t.Context(), d); briefs(out) != "delivered eod 250" {
		t.Fatal(briefs(out))
	}
	if got, want := s.Messages()[0].Wire, "Received: by us\r\nSubject: hi\r\n\r\n..hello\r\n"; got != want {
		t.Errorf("wire %q, want %q", got, want)
	}
}

// The upstream matrix: each reply at each stage.
func TestUpstreamMatrix(t *testing.T) {
	replies := []string{
		"421 4.3.2 closing", "450 4.2.1 busy", "451 4.3.0 error", "452 4.3.1 full",
		"550 5.7.1 no", "552 5.2.2 quota", "554 5.7.1 no",
	}
	for _, stage := range []string{sinktest.Banner, sinktest.Ehlo, sinktest.Mail, sinktest.Rcpt, sinktest.Data, sinktest.EOD} {
		for _, reply := range replies {
			for _, extension := range []string{"PIPELINING", "HELP"} {
				t.Run(stage+" "+reply+" "+extension, func(t *testing.T) {
					n := newNetwork(t)
					s := n.host("192.0.2.1:25", sinktest.Config{Extensions: []string{extension}, Script: at(stage, sinktest.Reply(reply))})
					tr := n.transport(Config{Hosts: []string{"192.0.2.1"}}, nil)
					out := tr.Deliver(t.Context(), delivery(t, short, "r1@out.example", "r2@out.example"))

					shown := stage
					if stage == sinktest.Banner {
						shown = "connect"
					}
					want := mail.Deferred
					switch {
					case stage == sinktest.Ehlo && reply[0] == '5':
						want = mail.Delivered // by HELO
						if lines := strings.Join(s.Lines(), "|"); !strings.Contains(lines, "HELO gw.example|MAIL") {
							t.Errorf("commands %s", lines)
						}
					case stage != sinktest.Banner && reply[0] == '5':
						want = mail.Failed
					}
					if len(out) != 2 {
						t.Fatalf("outcomes %s", briefs(out))
					}
					for _, o := range out {
						if o.Status != want {
							t.Errorf("outcome %s", brief(o))
						}
						if want != mail.Delivered && (o.Reply.String() != reply || !o.Remote || o.Stage != shown) {
							t.Errorf("reply %q at %s, want %q at %s", o.Reply, o.Stage, reply, shown)
						}
					}
				})
			}
		}
	}
}

func TestNewTellsWhatIsWrong(t *testing.T) {
	for _, tc := range []struct {
		cfg  Config
		want []string
	}{
		{Config{Kind: "nowhere", Hostname: "h"}, []string{`unknown kind "nowhere"`}},
		{Config{Kind: SMTP}, []string{"no hostname"}},
		{Config{Kind: SMTP, Hostname: "h"}, []string{"no hosts"}},
		{Config{Kind: SMTP, Hostname: "h", TLS: "maybe", Balance: "random"}, []string{`unknown tls "maybe"`, `unknown balance "random"`}},
		{Config{Kind: SMTP, Hostname: "h", Hosts: []string{"192.0.2.1:99999", "a b", "x:y", "unix:/run/x"}}, []string{"192.0.2.1:99999", `"a b"`, `"x:y"`, "only lmtp"}},
		{Config{Kind: SMTP, Hostname: "h", Hosts: []string{"mx.example"}}, []string{"no resolver for names"}},
		{Config{Kind: SMTP, Hostname: "h", Hosts: []string{"192.0.2.1"}, TLSCAFile: "/does/not/exist"}, []string{"read CA file", "/does/not/exist"}},
		{Config{Kind: MX, Hostname: "h"}, []string{"no resolver"}},
		{Config{Kind: Maildir, Hostname: "h"}, []string{"no path"}},
		{Config{Kind: Maildir, Hostname: "h", Path: "relative"}, []string{"not absolute"}},
		{Config{Kind: Maildir, Hostname: "h", Path: "/x/{usr}"}, []string{"want {user}, {domain} or {address}"}},
	} {
		tc.cfg.Name = "t1"
		_, err := New(tc.cfg, Deps{Log: slog.New(slog.DiscardHandler)})
		if err == nil {
			t.Errorf("%+v: no error", tc.cfg)
			continue
		}
		for _, want := range append(tc.want, `transport "t1"`) {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("error %q lacks %q", err, want)
			}
		}
	}
}

func TestHostsInEverySpelling(t *testing.T) {
	for spelling, want := range map[string]string{
		"192.0.2.1": "[192.0.2.1]:25", "192.0.2.1:2525": "[192.0.2.1]:2525", "2001:db8::1": "[2001:db8::1]:25", "[2001:db8::1]": "[2001:db8::1]:25",
		"[2001:db8::1]:26": "[2001:db8::1]:26", "mx.example": "mx.example [192.0.2.9]:25", "mx.example:26": "mx.example [192.0.2.9]:26",
	} {
		n := newNetwork(t)
		tr := n.transport(Config{Hosts: []string{spelling}}, names{addrs: map[string][]netip.Addr{"mx.example": {netip.MustParseAddr("192.0.2.9")}}})
		out := tr.Deliver(t.Context(), delivery(t, short, "r@out.example"))
		if out[0].Host != want || brief(out[0]) != "deferred connect own 451" {
			t.Errorf("%s: %s at %s, want %s", spelling, briefs(out), out[0].Host, want)
		}
	}
}
