package upstream

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/smtpclient"
)

// originalHost is the name of all servers that clients named themselves, in what is
// counted and kept: there may be very many.
const originalHost = "original"

// submissions is the port where sessions begin with TLS (RFC 8314 §7.3).
const submissions = 465

var errNoOriginal = errors.New("the client's connection was not diverted, so that it leads nowhere")

// hostsFor returns the hosts for a transaction in the order in which they are to be
// tried.
func (s *Server) hostsFor(w *want) ([]*host, error) {
	if !s.cfg.Original {
		return s.order(), nil
	}
	if w.client == nil || !w.client.Original.IsValid() {
		return nil, errNoOriginal
	}
	to := w.client.Original
	w.only = netip.AddrPortFrom(to.Addr().Unmap(), to.Port()).String()
	return []*host{{configured: originalHost, fixed: to.Addr().Unmap(), port: int(to.Port()), weight: 1,
		implicit: to.Port() == submissions}}, nil
}

// spoofed is the address to connect from in the name of a client; the zero Addr
// stands for ours.
func (s *Server) spoofed(ep *endpoint, c *mail.Session) netip.Addr {
	if !s.cfg.Spoof || c == nil {
		return netip.Addr{}
	}
	client := c.Client.Addr().Unmap()
	if !client.IsValid() || client.Is4() != ep.host.fixed.Is4() {
		return netip.Addr{}
	}
	return client
}

// opening is how the conversations for w begin.
func (s *Server) opening(ep *endpoint, w *want) smtpclient.Opening {
	o := smtpclient.Opening{Preface: s.preface(ep, w.client)}
	if from := s.spoofed(ep, w.client); from.IsValid() {
		o.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			return s.deps.DialFrom(ctx, from, network, address)
		}
	}
	return o
}

// How old what is known of an original destination may be, and how long a client
// waits at EHLO while it is asked.
const (
	meetAfter = time.Hour
	meetTime  = 5 * time.Second
)

// Meet sees to it that CapabilitiesFor knows the server that the client's connection
// was meant for: where nothing is known, or for long not, it opens a session, which
// the first transaction then uses. It waits five seconds at most. A Server with
// hosts of its own knows them already.
func (s *Server) Meet(ctx context.Context, client *mail.Session) {
	if !s.cfg.Original || !client.Original.IsValid() {
		return
	}
	s.mu.Lock()
	at := s.known[client.Original.String()].At
	s.mu.Unlock()
	if time.Since(at) < meetAfter {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, meetTime)
	defer cancel()
	w := &want{client: client, identity: s.identityOf(client)}
	sess, err := s.session(ctx, w)
	if err != nil {
		return // it was logged, and RCPT will say so
	}
	s.put(sess)
}

// CapabilitiesFor is what a client may be promised: for one whose connection was
// diverted what that server can do, and else Capabilities.
func (s *Server) CapabilitiesFor(client *mail.Session) (_ Capabilities, known bool) {
	if !s.cfg.Original {
		return s.Capabilities()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.known[client.Original.String()]
	return l.Capabilities, !l.At.IsZero()
}

// originalHealthLocked sums up the servers that clients named themselves.
func (s *Server) originalHealthLocked() []HostHealth {
	sum := HostHealth{Host: originalHost, Limit: s.cfg.Sessions}
	for _, ep := range s.endpoints {
		sum.Open += ep.open
		sum.Idle += len(ep.idle)
	}
	return []HostHealth{sum}
}
