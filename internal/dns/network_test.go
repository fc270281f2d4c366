package dns

import (
	"context"
	"errors"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"

	"gatepost/internal/dns/dnstest"
)

func TestTheNextServerIsAskedWhenOneFails(t *testing.T) {
	const zone = "good.example. IN MX 10 mx.good.example."
	failures := map[string]dnstest.Behaviour{
		"SERVFAIL":   {Rcode: "SERVFAIL"},
		"REFUSED":    {Rcode: "REFUSED"},
		"no answer":  {Drop: true},
		"broken TCP": {Truncate: true, CloseTCP: true},
	}
	for name, b := range failures {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad, good := dnstest.Start(t, zone), dnstest.Start(t, zone)
			bad.Script("*", "*", b)
			r := newTest(t, Config{Servers: []string{bad.Addr(), good.Addr()}, Timeout: 2 * time.Second, CacheEntries: -1})
			for range 3 {
				if got, err := r.MX(t.Context(), "good.example"); err != nil || len(got) != 1 {
					t.Fatalf("got %v, %v", got, err)
				}
			}
			// What answered last is asked first: the failure is paid for once.
			if n := bad.Count("good.example", "MX"); n > 2 {
				t.Errorf("the failing server was asked %d times", n)
			}
		})
	}
}

func TestNXDomainIsNotAskedTwice(t *testing.T) {
	s1, s2 := dnstest.Start(t, ""), dnstest.Start(t, "x.example. IN MX 10 mx.example.")
	r := newTest(t, Config{Servers: []string{s1.Addr(), s2.Addr()}})
	if _, err := r.MX(t.Context(), "x.example"); !asError(t, err).NXDomain {
		t.Errorf("got %v", err)
	}
	if len(s2.Queries()) > 0 {
		t.Error("the second server was asked after a definite answer")
	}
}

func TestATimeoutIsTemporaryAndNamesItsCause(t *testing.T) {
	r, s := start(t, "")
	s.Script("*", "*", dnstest.Behaviour{Drop: true})
	r.cfg.Timeout = 50 * time.Millisecond
	_, err := r.TXT(t.Context(), "slow.example")
	var ne net.Error
	if e := asError(t, err); !e.Temporary || !errors.As(err, &ne) || !ne.Timeout() {
		t.Errorf("got %v", err)
	}
	if n := s.Count("slow.example", "TXT"); n != 2 {
		t.Errorf("asked %d times, want 2", n)
	}
}

func TestACancelledContextEndsTheWait(t *testing.T) {
	r, s := start(t, "x.example. IN TXT x")
	s.Script("*", "*", dnstest.Behaviour{Drop: true, Times: 1})
	r.cfg.Timeout = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := r.TXT(ctx, "x.example")
		done <- err
	}()
	s.Wait(t, "x.example", "TXT")
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) || !IsTemporary(err) {
		t.Errorf("got %v", err)
	}
	// The failure is not remembered: it was the caller's.
	r.cfg.Timeout = 5 * time.Second
	if got, err := r.TXT(t.Context(), "x.example"); err != nil || len(got) != 1 {
		t.Errorf("afterwards: got %v, %v", got, err)
	}
}

func TestNobodyListens(t *testing.T) {
	ln, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	r := newTest(t, Config{Servers: []string{ln.LocalAddr().String()}})
	if _, err := r.MX(t.Context(), "x.example"); !asError(t, err).Temporary {
		t.Errorf("got %v", err)
	}
}

// TestForgedAnswersAreIgnored: whoever can send to our port must also know the
// ID and the question, and what is wrong does not end the wait for what is right.
func TestForgedAnswersAreIgnored(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	forge := []func(m *dns.Msg){
		func(m *dns.Msg) { m.Id++ },
		func(m *dns.Msg) { m.Question[0].Name = "other.example." },
		func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeA },
		func(m *dns.Msg) { m.Question = nil },
		func(m *dns.Msg) { m.Response = false },
		func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify },
	}
	go func() {
		buf := make([]byte, 2048)
		n, from, err := pc.ReadFrom(buf)
		if err != nil {
			return
		}
		answer := func(text string, change func(m *dns.Msg)) {
			req := new(dns.Msg)
			if req.Unpack(buf[:n]) != nil {
				return
			}
			m := new(dns.Msg).SetReply(req)
			m.RecursionAvailable = true
			m.Answer = []dns.RR{&dns.TXT{Hdr: dns.RR_Header{Name: req.Question[0].Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: 60}, Txt: []string{text}}}
			change(m)
			if b, err := m.Pack(); err == nil {
				pc.WriteTo(b, from)
			}
		}
		pc.WriteTo([]byte("nonsense"), from)
		pc.WriteTo(append(slices.Clone(buf[:2]), "\x80\x00 but the right ID"...), from)
		for _, change := range forge {
			answer("forged", change)
		}
		answer("right", func(*dns.Msg) {})
	}()
	r := newTest(t, Config{Servers: []string{pc.LocalAddr().String()}, Rounds: 1})
	got, err := r.TXT(t.Context(), "x.example")
	if err != nil || len(got) != 1 || got[0] != "right" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestALameServerIsAFailure(t *testing.T) {
	m := new(dns.Msg)
	m.SetQuestion("x.example.", dns.TypeMX)
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, req *dns.Msg) {
		w.WriteMsg(new(dns.Msg).SetReply(req)) // no answer, no recursion, no authority
	})}
	started := make(chan struct{})
	server.NotifyStartedFunc = func() { close(started) }
	go server.ActivateAndServe()
	<-started
	defer server.Shutdown()
	r := newTest(t, Config{Servers: []string{pc.LocalAddr().String()}})
	if _, err := r.MX(t.Context(), "x.example"); !asError(t, err).Temporary {
		t.Errorf("got %v", err)
	}
}

func TestQueriesAtOnceAreBounded(t *testing.T) {
	s := dnstest.Start(t, "")
	r := newTest(t, Config{Servers: []string{s.Addr()}, MaxQueries: 1})
	network := r.wire.(*network)
	network.slots <- struct{}{} // somebody else's query
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.TXT(ctx, "x.example"); !errors.Is(err, context.Canceled) || len(s.Queries()) > 0 {
		t.Errorf("got %v, queries %v", err, s.Queries())
	}
	<-network.slots
	if _, err := r.TXT(t.Context(), "x.example"); !IsNotFound(err) {
		t.Errorf("got %v", err)
	}
}
