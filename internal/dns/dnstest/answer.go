package dnstest

import (
	"strings"
	"time"

	"github.com/miekg/dns"
)

// handler answers what comes in over one protocol.
func (s *Server) handler(netw string) dns.Handler {
	return dns.HandlerFunc(func(w dns.ResponseWriter, req *dns.Msg) {
		if len(req.Question) != 1 {
			return
		}
		q := req.Question[0]
		b := s.note(Query{Name: plain(q.Name), Type: dns.TypeToString[q.Qtype], Net: netw})
		if !s.wait(b.Delay) || b.Drop {
			return
		}
		if b.CloseTCP && netw == "tcp" {
			w.Close()
			return
		}
		// A client that has left is no concern of the server's.
		_ = w.WriteMsg(s.respond(req, b, netw))
	})
}

// note logs a question and returns the behaviour for it.
func (s *Server) note(q Query) Behaviour {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queries = append(s.queries, q)
	close(s.asked)
	s.asked = make(chan struct{})
	for _, key := range []scriptKey{{q.Name, q.Type}, {q.Name, "*"}, {"*", q.Type}, {"*", "*"}} {
		b, ok := s.scripts[key]
		if !ok {
			continue
		}
		found := *b
		if b.Times > 0 {
			if b.Times--; b.Times == 0 {
				delete(s.scripts, key)
			}
		}
		return found
	}
	return Behaviour{}
}

// wait returns false where the server stopped first.
func (s *Server) wait(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.done:
		return false
	}
}

func (s *Server) respond(req *dns.Msg, b Behaviour, netw string) *dns.Msg {
	m := new(dns.Msg)
	m.SetReply(req)
	m.RecursionAvailable = true
	m.AuthenticatedData = b.Authentic
	if b.Rcode != "" {
		m.Rcode = dns.StringToRcode[b.Rcode]
		return m
	}
	if b.Truncate && netw == "udp" {
		m.Truncated = true
		return m
	}
	s.fill(m, req.Question[0])
	if netw == "udp" {
		size := dns.MinMsgSize
		if opt := req.IsEdns0(); opt != nil {
			size = int(opt.UDPSize())
		}
		m.Truncate(size)
	}
	return m
}

// fill adds the records that answer q, through aliases, as a recursive server does.
func (s *Server) fill(m *dns.Msg, q dns.Question) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := q.Name
	for range 20 {
		alias := ""
		exists := false
		for _, rr := range s.records {
			h := rr.Header()
			if strings.EqualFold(h.Name, name) && h.Rrtype == q.Qtype {
				m.Answer = append(m.Answer, rr)
			} else if c, ok := rr.(*dns.CNAME); ok && strings.EqualFold(h.Name, name) {
				m.Answer = append(m.Answer, rr)
				alias = c.Target
			}
			// A name exists if it has records or names below it.
			exists = exists || dns.IsSubDomain(strings.ToLower(name), strings.ToLower(h.Name))
		}
		if alias == "" {
			s.negate(m, q.Qtype, exists)
			return
		}
		name = alias
	}
}

// negate makes m a negative answer unless it has records of the type.
func (s *Server) negate(m *dns.Msg, qtype uint16, exists bool) {
	for _, rr := range m.Answer {
		if rr.Header().Rrtype == qtype {
			return
		}
	}
	if !exists {
		m.Rcode = dns.RcodeNameError
	}
	m.Ns = append(m.Ns, &dns.SOA{
		Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: s.negTTL},
		Ns:  "ns.test.", Mbox: "hostmaster.test.", Serial: 1, Refresh: 60, Retry: 60, Expire: 60, Minttl: s.negTTL,
	})
}
