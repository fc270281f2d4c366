package dns

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"gatepost/internal/dns/dnstest"
)

// start returns a resolver that asks a new scripted server.
func start(t testing.TB, zone string) (*Resolver, *dnstest.Server) {
	t.Helper()
	s := dnstest.Start(t, zone)
	return newTest(t, Config{Servers: []string{s.Addr()}}), s
}

// newTest returns a resolver that knows no hosts file and does not wait long.
func newTest(t testing.TB, cfg Config) *Resolver {
	t.Helper()
	if cfg.Timeout == 0 {
		cfg.Timeout = 5 * time.Second
	}
	if cfg.HostsFile == "" {
		cfg.HostsFile = t.TempDir() + "/none"
	}
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func asError(t testing.TB, err error) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want an *Error", err)
	}
	kinds := 0
	for _, k := range []bool{e.Temporary, e.NXDomain, e.NoData} {
		if k {
			kinds++
		}
	}
	if kinds > 1 || IsTemporary(err) != e.Temporary || IsNotFound(err) != (e.NXDomain || e.NoData) {
		t.Errorf("the error is of two kinds: %+v", e)
	}
	return e
}

// wire is an exchanger without a network.
type wire struct {
	mu     sync.Mutex
	asked  []question
	answer func(q question) (*reply, *Error)
}

func (w *wire) exchange(_ context.Context, q question) (*reply, *Error) {
	w.mu.Lock()
	w.asked = append(w.asked, q)
	w.mu.Unlock()
	return w.answer(q)
}

func (w *wire) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.asked)
}

// onWire returns a resolver over answers that a function makes.
func onWire(answer func(q question) (*reply, *Error)) (*Resolver, *wire) {
	w := &wire{answer: answer}
	return newResolver(Config{}.withDefaults(), w, nil), w
}

// records makes a trusted answer of zone text.
func records(t testing.TB, lines ...string) *reply {
	t.Helper()
	m := new(dns.Msg)
	m.Response, m.RecursionAvailable = true, true
	for _, line := range lines {
		rr, err := dns.NewRR(line)
		if err != nil {
			t.Fatal(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	return &reply{msg: m, trusted: true}
}

func addrs(list ...string) []netip.Addr {
	out := make([]netip.Addr, len(list))
	for i, s := range list {
		out[i] = netip.MustParseAddr(s)
	}
	return out
}
