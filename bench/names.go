package main

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/miekg/dns"

	"gatepost/bench/strangers"
)

// nameServer answers for the whole world, at once: each name has an
// address, a mail exchanger, a DMARC policy and an SPF record with the load's
// clients in it; there are no DKIM keys, nothing below gone.example, and there is nothing
// else. Its DNS lists know the clients of the part connect. Both servers ask it, so
// that neither waits for a network.
type nameServer struct {
	addr    string
	servers []*dns.Server
}

func startNames(addr string) (*nameServer, error) {
	udp, err := net.ListenPacket("udp", addr)
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
		case strings.HasSuffix(name, listZone):
			if h.Rrtype == dns.TypeA && listed(strings.TrimSuffix(name, listZone)) {
				r.Answer = []dns.RR{&dns.A{Hdr: h, A: net.IPv4(127, 0, 0, 2)}}
			} else {
				r.Rcode, r.Ns = dns.RcodeNameError, []dns.RR{authority(h)}
			}
		case strings.Contains(name, "._domainkey."), strings.HasSuffix(name, ".gone.example."):
			r.Rcode, r.Ns = dns.RcodeNameError, []dns.RR{authority(h)}
		case strings.HasPrefix(name, "_dmarc.") && h.Rrtype == dns.TypeTXT:
			r.Answer = []dns.RR{&dns.TXT{Hdr: h, Txt: []string{"v=DMARC1; p=none"}}}
		case h.Rrtype == dns.TypeTXT:
			r.Answer = []dns.RR{&dns.TXT{Hdr: h, Txt: []string{"v=spf1 ip4:192.0.2.0/24 ip4:198.51.100.0/24 ~all"}}}
		case h.Rrtype == dns.TypeA:
			r.Answer = []dns.RR{&dns.A{Hdr: h, A: net.IPv4(198, 51, 100, 7)}}
		case h.Rrtype == dns.TypeMX:
			r.Answer = []dns.RR{&dns.MX{Hdr: h, Preference: 10, Mx: h.Name}}
		default:
			r.Ns = []dns.RR{authority(h)}
		}
	}
	// A client that has gone needs no answer.
	_ = w.WriteMsg(r)
}

// authority makes an answer that there is nothing one that may be remembered
// (RFC 2308 §3).
func authority(h dns.RR_Header) dns.RR {
	h.Rrtype = dns.TypeSOA
	return &dns.SOA{Hdr: h, Ns: h.Name, Mbox: h.Name, Serial: 1, Refresh: 3600, Retry: 3600, Expire: 86400, Minttl: 3600}
}

// listZone has three lists: bad, worse and good.
const listZone = ".lists.example."

// listed tells whether a list knows an address, asked for as "4.3.2.1.list". All know
// the test point (RFC 5782 §5); bad knows all clients that are of the kind, worse every
// second, good none.
func listed(name string) bool {
	part := strings.Split(name, ".")
	if len(part) != 5 {
		return false
	}
	a, err := netip.ParseAddr(strings.Join([]string{part[3], part[2], part[1], part[0]}, "."))
	if err != nil {
		return false
	}
	if a == netip.AddrFrom4([4]byte{127, 0, 0, 2}) {
		return true
	}
	k, ok := strangers.KindOf(a)
	return ok && k == strangers.Listed && (part[4] == "bad" || part[4] == "worse" && a.As4()[3]%2 == 0)
}
