package main

import (
	"fmt"
	"net"
	"strings"

	"github.com/miekg/dns"
)

// nameServer answers for the whole world, at once: each name has an
// address, a mail exchanger, a DMARC policy and an SPF record with the load's
// clients in it; there are no DKIM keys, and there is nothing else. Both servers ask it, so that neither waits for a network.
type nameServer struct {
	addr    string
	servers []*dns.Server
}

func startNames() (*nameServer, error) {
	udp, err := net.ListenPacket("udp", "127.0.0.1:12553")
	if err != nil {
		return nil, fmt.Errorf("listen for DNS: %w", err)
	}
	tcp, err := net.Listen("tcp", udp.LocalAddr().String())
	if err != nil {
		udp.Close()
		return nil, fmt.Errorf("listen for DNS: %w", err)
	}
	n := &nameServer{addr: udp.LocalAddr().String()}
	n.servers = []*dns.Server{{PacketConn: udp, Handler: dns.HandlerFunc(answer)}, {Listener: tcp, Handler: dns.HandlerFunc(answer)}}
	for _, s := range n.servers {
		// Its end is stop; what else it ends with shows in the results.
		go func() { _ = s.ActivateAndServe() }()
	}
	return n, nil
}

func (n *nameServer) stop() {
	for _, s := range n.servers {
		_ = s.Shutdown() // the run is over
	}
}

func answer(w dns.ResponseWriter, q *dns.Msg) {
	r := new(dns.Msg).SetReply(q)
	if len(q.Question) == 1 {
		name := strings.ToLower(q.Question[0].Name)
		h := dns.RR_Header{Name: q.Question[0].Name, Rrtype: q.Question[0].Qtype, Class: dns.ClassINET, Ttl: 3600}
		switch {
		case strings.Contains(name, "._domainkey."):
			r.Rcode = dns.RcodeNameError
		case strings.HasPrefix(name, "_dmarc.") && h.Rrtype == dns.TypeTXT:
			r.Answer = []dns.RR{&dns.TXT{Hdr: h, Txt: []string{"v=DMARC1; p=none"}}}
		case h.Rrtype == dns.TypeTXT:
			r.Answer = []dns.RR{&dns.TXT{Hdr: h, Txt: []string{"v=spf1 ip4:192.0.2.0/24 ip4:198.51.100.0/24 ~all"}}}
		case h.Rrtype == dns.TypeA:
			r.Answer = []dns.RR{&dns.A{Hdr: h, A: net.IPv4(198, 51, 100, 7)}}
		case h.Rrtype == dns.TypeMX:
			r.Answer = []dns.RR{&dns.MX{Hdr: h, Preference: 10, Mx: h.Name}}
		default:
			r.Ns = []dns.RR{&dns.SOA{Hdr: dns.RR_Header{Name: h.Name, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: 3600},
				Ns: h.Name, Mbox: h.Name, Serial: 1, Refresh: 3600, Retry: 3600, Expire: 86400, Minttl: 3600}}
		}
	}
	// A client that has gone needs no answer.
	_ = w.WriteMsg(r)
}
