// Package dnstest is a scripted name server for tests, on UDP and TCP of one port
// of 127.0.0.1. It answers from records given as zone text as a recursive server
// would, and can be told to misbehave for single names.
//
//	s := dnstest.Start(t, `
//		example.org.    300 IN MX 10 mx.example.org.
//		mx.example.org. 300 IN A  127.0.0.1
//	`)
//	s.Script("broken.example", "MX", dnstest.Behaviour{Rcode: "SERVFAIL"})
//	r, _ := dns.New(dns.Config{Servers: []string{s.Addr()}})
package dnstest

import (
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// Behaviour is how the server treats a question.
type Behaviour struct {
	// Rcode, where set, is answered instead of records: "SERVFAIL", "REFUSED".
	Rcode string
	// Delay is how long the answer takes; a stopped server does not finish it.
	Delay time.Duration
	// Drop gives no answer at all.
	Drop bool
	// Truncate answers over UDP with the TC bit and no records; over TCP in full.
	Truncate bool
	// CloseTCP closes TCP connections without an answer.
	CloseTCP bool
	// Authentic sets the AD bit.
	Authentic bool
	// Times limits the behaviour to so many questions; 0 means all.
	Times int
}

// Query is a question that the server got.
type Query struct {
	Name string // lower case, no final dot
	Type string
	Net  string // "udp" or "tcp"
}

// Server is a running name server.
type Server struct {
	addr string
	done chan struct{}

	mu      sync.Mutex
	records []dns.RR
	scripts map[scriptKey]*Behaviour
	queries []Query
	asked   chan struct{} // closed and replaced with every question
	negTTL  uint32
}

type scriptKey struct{ name, qtype string }

// Start runs a server with the records of a zone text until the test ends.
func Start(t testing.TB, zone string) *Server {
	t.Helper()
	s := &Server{done: make(chan struct{}), scripts: make(map[scriptKey]*Behaviour), asked: make(chan struct{}), negTTL: 60}
	s.Add(t, zone)
	pc, ln := listen(t)
	s.addr = pc.LocalAddr().String()
	var running sync.WaitGroup
	for _, server := range []*dns.Server{
		{PacketConn: pc, Handler: s.handler("udp")},
		{Listener: ln, Handler: s.handler("tcp")},
	} {
		started := make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		running.Go(func() {
			if err := server.ActivateAndServe(); err != nil {
				t.Errorf("dnstest: serve: %v", err)
			}
		})
		<-started
		t.Cleanup(func() { server.Shutdown() })
	}
	t.Cleanup(func() { close(s.done) })
	return s
}

// listen takes a port that is free for both protocols.
func listen(t testing.TB) (net.PacketConn, net.Listener) {
	t.Helper()
	for range 100 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatalf("dnstest: listen: %v", err)
		}
		pc, err := net.ListenPacket("udp", ln.Addr().String())
		if err == nil {
			return pc, ln
		}
		ln.Close()
	}
	t.Fatal("dnstest: no port is free for both UDP and TCP")
	return nil, nil
}

// Addr is the server's address, "127.0.0.1:port".
func (s *Server) Addr() string { return s.addr }

// Add adds the records of a zone text. Names in it are fully qualified with or
// without the final dot; the TTL defaults to 60.
func (s *Server) Add(t testing.TB, zone string) {
	t.Helper()
	parser := dns.NewZoneParser(strings.NewReader(trimLines(zone)), ".", "")
	parser.SetDefaultTTL(60)
	var records []dns.RR
	for rr, ok := parser.Next(); ok; rr, ok = parser.Next() {
		records = append(records, rr)
	}
	if err := parser.Err(); err != nil {
		t.Fatalf("dnstest: %v", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records = append(s.records, records...)
}

// trimLines removes the indentation of a Go test: in a zone text it would mean
// "the same owner as before".
func trimLines(zone string) string {
	lines := strings.Split(zone, "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return strings.Join(lines, "\n")
}

// Clear forgets all records and scripts.
func (s *Server) Clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records = nil
	clear(s.scripts)
}

// Script sets the behaviour for a name and type; "*" stands for every name or
// every type. The more exact script wins.
func (s *Server) Script(name, qtype string, b Behaviour) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.scripts[scriptKey{plain(name), strings.ToUpper(qtype)}] = &b
}

// SetNegativeTTL sets the TTL of "there is none", in seconds; default 60.
func (s *Server) SetNegativeTTL(seconds uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.negTTL = seconds
}

// Queries returns the questions so far, in order.
func (s *Server) Queries() []Query {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Query(nil), s.queries...)
}

// Wait returns when a question for a name and type has come.
func (s *Server) Wait(t testing.TB, name, qtype string) {
	t.Helper()
	for {
		s.mu.Lock()
		asked := s.asked
		s.mu.Unlock()
		if s.Count(name, qtype) > 0 {
			return
		}
		select {
		case <-asked:
		case <-t.Context().Done():
			t.Fatalf("dnstest: nobody asked for %s of %s", qtype, name)
		}
	}
}

// Count returns how many questions for a name and type came so far.
func (s *Server) Count(name, qtype string) int {
	n := 0
	for _, q := range s.Queries() {
		if q.Name == plain(name) && q.Type == qtype {
			n++
		}
	}
	return n
}

func plain(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }
