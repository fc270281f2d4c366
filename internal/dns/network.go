package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// udpSize is what we say we can take: it passes every path unfragmented.
const udpSize = 1232

// server is a name server.
type server struct {
	addr netip.AddrPort
	// trusted says that its AD bit counts.
	trusted bool
}

// network asks servers over UDP, and TCP where an answer is truncated.
type network struct {
	servers []server
	rounds  int
	slots   chan struct{} // one for each query on the wire
	// first is the server that answered last: an outage of one server costs one
	// lookup its time, not all of them.
	first atomic.Uint32
}

func newNetwork(cfg Config, servers []server) *network {
	return &network{servers: servers, rounds: cfg.Rounds, slots: make(chan struct{}, cfg.MaxQueries)}
}

// exchange asks each server in turn, rounds times, until one gives a definite
// answer. What is left of ctx's time is shared equally among the tries left.
func (n *network) exchange(ctx context.Context, q question) (*reply, *Error) {
	select {
	case n.slots <- struct{}{}:
		defer func() { <-n.slots }()
	case <-ctx.Done():
		return nil, &Error{Temporary: true, Err: context.Cause(ctx)}
	}
	failure := &Error{Temporary: true}
	first, tries := int(n.first.Load()), n.rounds*len(n.servers)
	for i := range tries {
		at := (first + i) % len(n.servers)
		msg, err := n.try(ctx, n.servers[at].addr.String(), q, tries-i)
		if err != nil {
			failure = err
			if ctx.Err() != nil {
				break
			}
			continue
		}
		n.first.Store(uint32(at))
		return &reply{msg: msg, trusted: n.servers[at].trusted}, nil
	}
	return nil, failure
}

// try asks one server once within its share of the time.
func (n *network) try(ctx context.Context, addr string, q question, triesLeft int) (*dns.Msg, *Error) {
	if deadline, ok := ctx.Deadline(); ok {
		share := time.Until(deadline) / time.Duration(triesLeft)
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, share)
		defer cancel()
	}
	msg, err := ask(ctx, addr, q)
	if err != nil {
		return nil, &Error{Temporary: true, Err: err}
	}
	switch msg.Rcode {
	case dns.RcodeSuccess, dns.RcodeNameError:
	default:
		return nil, &Error{Temporary: true, Rcode: rcodeName(msg.Rcode)}
	}
	if len(msg.Answer) == 0 && !msg.RecursionAvailable && !msg.Authoritative {
		return nil, &Error{Temporary: true, Err: errLame}
	}
	return msg, nil
}

func rcodeName(rcode int) string {
	if s, ok := dns.RcodeToString[rcode]; ok {
		return s
	}
	return fmt.Sprintf("RCODE%d", rcode)
}

// ask sends a question to one server. A server that does not know EDNS is asked
// again without (RFC 6891 §6.2.2).
func ask(ctx context.Context, addr string, q question) (*dns.Msg, error) {
	msg, err := transact(ctx, addr, newQuery(q, true))
	if err == nil && (msg.Rcode == dns.RcodeFormatError || msg.Rcode == dns.RcodeNotImplemented) {
		return transact(ctx, addr, newQuery(q, false))
	}
	return msg, err
}

func newQuery(q question, edns bool) *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion(q.name, q.qtype)
	// RFC 6840 §5.7: asks for the AD bit without the signatures themselves.
	m.AuthenticatedData = true
	if edns {
		m.SetEdns0(udpSize, false)
	}
	return m
}

// transact asks over UDP and, where the answer did not fit, over TCP. A truncated
// answer is never used.
func transact(ctx context.Context, addr string, m *dns.Msg) (*dns.Msg, error) {
	msg, err := roundTrip(ctx, "udp", addr, m)
	if err != nil || !msg.Truncated {
		return msg, err
	}
	msg, err = roundTrip(ctx, "tcp", addr, m)
	if err != nil {
		return nil, fmt.Errorf("ask over tcp: %w", err)
	}
	if msg.Truncated {
		return nil, errTruncated
	}
	return msg, nil
}

// roundTrip sends m from a fresh port and waits for its answer.
func roundTrip(ctx context.Context, netw, addr string, m *dns.Msg) (*dns.Msg, error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, netw, addr)
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := nc.SetDeadline(deadline); err != nil {
			return nil, err
		}
	}
	stop := context.AfterFunc(ctx, func() { nc.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	conn := &dns.Conn{Conn: nc, UDPSize: udpSize}
	if err := conn.WriteMsg(m); err != nil {
		return nil, err
	}
	for {
		msg, err := conn.ReadMsg()
		if err == nil && answers(msg, m) {
			return msg, nil
		}
		// On UDP anybody can throw things at our port: only silence ends the wait.
		if netw == "tcp" || isNetError(err) {
			if err == nil {
				err = errMismatch
			}
			return nil, err
		}
	}
}

func isNetError(err error) bool {
	var ne net.Error
	return errors.As(err, &ne)
}

// answers reports whether msg is a reply to m. Only an error reply may lack the
// question, as some servers send it.
func answers(msg, m *dns.Msg) bool {
	if !msg.Response || msg.Id != m.Id || msg.Opcode != dns.OpcodeQuery {
		return false
	}
	if len(msg.Question) == 0 {
		return msg.Rcode != dns.RcodeSuccess && msg.Rcode != dns.RcodeNameError
	}
	got, want := msg.Question[0], m.Question[0]
	return len(msg.Question) == 1 && got.Qtype == want.Qtype && got.Qclass == want.Qclass &&
		strings.EqualFold(got.Name, want.Name)
}
