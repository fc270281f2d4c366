package callout

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/dns"
	"gatepost/internal/mail"
	"gatepost/internal/memconn"
	"gatepost/internal/policy"
	"gatepost/internal/smtp"
	"gatepost/internal/smtpclient"
	"gatepost/internal/smtpclient/sinktest"
)

// world is name service and network in memory, so that a bubble can hold them.
type world struct {
	mu    sync.Mutex
	mx    map[string][]dns.MX
	addrs map[string][]netip.Addr
	hosts map[string]*memconn.Listener // by "address:port"
	dials []string
	open  int // connections
	peak  int
}

// counted is a connection that is counted until it is closed.
type counted struct {
	net.Conn
	w    *world
	once sync.Once
}

// Close implements net.Conn.
func (c *counted) Close() error {
	c.once.Do(func() { c.w.count(-1) })
	return c.Conn.Close()
}

func (w *world) count(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open += n
	w.peak = max(w.peak, w.open)
}

func newWorld() *world {
	return &world{mx: map[string][]dns.MX{}, addrs: map[string][]netip.Addr{}, hosts: map[string]*memconn.Listener{}}
}

// host adds a mail exchanger for a domain at an address, with a server there.
func (w *world) host(t *testing.T, domain, address string, script func(sinktest.Event) *sinktest.Act) *sinktest.Server {
	t.Helper()
	return w.server(t, domain, address, sinktest.Config{Script: script})
}

func (w *world) server(t *testing.T, domain, address string, c sinktest.Config) *sinktest.Server {
	t.Helper()
	w.exchanger(domain, address)
	ln := memconn.Listen()
	w.hosts[address+":25"] = ln
	return sinktest.Start(t, ln, c)
}

// exchanger adds a mail exchanger where nobody listens.
func (w *world) exchanger(domain, address string) {
	name := "mx" + strings.NewReplacer(".", "-", ":", "-").Replace(address) + ".example"
	w.mx[domain] = append(w.mx[domain], dns.MX{Host: name, Pref: uint16(len(w.mx[domain]))})
	w.addrs[name] = append(w.addrs[name], netip.MustParseAddr(address))
}

func (w *world) MX(_ context.Context, domain string) ([]dns.MX, error) {
	if list, ok := w.mx[domain]; ok {
		return list, nil
	}
	return nil, &dns.Error{Name: domain, Type: "MX", NXDomain: domain != "down.example", Temporary: domain == "down.example"}
}

func (w *world) Addrs(_ context.Context, host string) ([]netip.Addr, error) {
	if list, ok := w.addrs[host]; ok {
		return list, nil
	}
	return nil, &dns.Error{Name: host, Type: "A", NXDomain: true}
}

func (w *world) dial(ctx context.Context, _, address string) (net.Conn, error) {
	w.mu.Lock()
	w.dials = append(w.dials, address)
	w.mu.Unlock()
	ln, ok := w.hosts[address]
	if !ok {
		return nil, errors.New("connection refused")
	}
	c, err := ln.Dial(ctx)
	if err != nil {
		return nil, err
	}
	w.count(1)
	return &counted{Conn: c, w: w}, nil
}

func (w *world) called() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.dials)
}

type ours string

func (o ours) Ours(domain string) bool { return domain == string(o) }

func (w *world) config() Config {
	return Config{Hostname: "gw.in.example", Resolver: w, Domains: ours("in.example"), Dial: w.dial}
}

// inWorld runs a test with verify-sender in a bubble.
func inWorld(t *testing.T, change func(*Config), run func(t *testing.T, w *world, s *Sender)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		c := w.config()
		if change != nil {
			change(&c)
		}
		s, err := NewSender(c)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		run(t, w, s)
	})
}

func input(t *testing.T, sender, recipient string) *policy.Input {
	t.Helper()
	in := &policy.Input{Stage: policy.Recipient, Envelope: &mail.Envelope{}, Session: &mail.Session{Client: netip.MustParseAddrPort("192.0.2.7:4711")}}
	if sender != "<>" {
		in.Envelope.Sender = address(t, sender)
	}
	in.Recipient = &mail.Recipient{Address: address(t, recipient), Route: mail.Route{Domain: "in.example", Transport: "inside"}}
	return in
}

func address(t *testing.T, s string) mail.Address {
	t.Helper()
	a, err := smtp.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// expect checks what a check says: symbol and result, "" for nothing.
func expect(t *testing.T, c policy.Check, in *policy.Input, want string) mail.Finding {
	t.Helper()
	findings, err := c.Check(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	if len(findings) == 0 {
		if want != "" {
			t.Errorf("nothing, want %q", want)
		}
		return mail.Finding{}
	}
	f := findings[0]
	result := map[string]mail.Result{SymbolExists: mail.Clean, SymbolCatchAll: mail.Clean, SymbolRejected: mail.Match, SymbolUnavailable: mail.Unknown}[f.Symbol]
	if len(findings) != 1 || f.Symbol != want || f.Result != result || f.Reason == "" || (f.Score != 0) != (f.Result == mail.Match && f.Module == SenderName) {
		t.Errorf("got %+v, want %q", findings, want)
	}
	return f
}

// knows is a server that takes the named users, and answers others with the reply.
func knows(reply string, users ...string) func(sinktest.Event) *sinktest.Act {
	return func(e sinktest.Event) *sinktest.Act {
		if e.Stage != sinktest.Rcpt {
			return nil
		}
		for _, u := range users {
			if strings.Contains(strings.ToLower(e.Line), "<"+u+"@") {
				return nil
			}
		}
		return sinktest.Reply(reply)
	}
}

// at answers one stage with a reply.
func at(stage, reply string) func(sinktest.Event) *sinktest.Act {
	return func(e sinktest.Event) *sinktest.Act {
		if e.Stage == stage {
			return sinktest.Reply(reply)
		}
		return nil
	}
}

const noUser = "550 5.1.1 no such user"

// hop is a server at an address, for Targets.
func hop(address string) Hop {
	return Hop{Target: smtpclient.Target{Network: "tcp", Address: address}}
}

// wait lets what is under way come to rest.
func wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}
