package transport

import (
	"context"
	"errors"
	"net/netip"

	"gatepost/internal/mail"
)

// originalTransport delivers to the server that a diverted connection was meant for.
// Delivery.NextHop names it, "192.0.2.1:25". Where that is a domain, the message came
// by no such connection, or not for this recipient, and goes to the domain's mail
// exchangers.
type originalTransport struct {
	*mxTransport
	spoof bool
	check func(to netip.AddrPort) error
}

// submissions is the port where sessions begin with TLS (RFC 8314 §7.3).
const submissions = 465

var errNoDialFrom = errors.New("nothing connects from clients' addresses")

func newOriginal(cfg Config, deps Deps) (Transport, error) {
	if cfg.Spoof && deps.DialFrom == nil {
		return nil, errNoDialFrom
	}
	mx, err := newMX(cfg, deps)
	if err != nil {
		return nil, err
	}
	return &originalTransport{mxTransport: mx.(*mxTransport), spoof: cfg.Spoof, check: deps.Check}, nil
}

// Deliver implements Transport.
func (t *originalTransport) Deliver(ctx context.Context, d *mail.Delivery) []mail.Outcome {
	to, err := netip.ParseAddrPort(d.NextHop)
	if err != nil {
		return t.mxTransport.Deliver(ctx, d)
	}
	return t.relay.deliver(ctx, d, func(ctx context.Context) route {
		return func(yield func(hop, *mail.Outcome) bool) {
			if t.check != nil {
				if err := t.check(to); err != nil {
					// The addresses of this host have changed since the message came; they
					// may change back.
					o := ownOutcome(mail.Deferred, mail.ReplyNotThrough, "connect", err)
					o.Reply.Code = mail.ReplyNextHopDown.Reply().Code
					o.Host = to.String()
					yield(hop{}, &o)
					return
				}
			}
			yield(t.hop(to, &d.Message.Envelope.Session), nil)
		}
	})
}

// hop is the server. It sees the client that the message came from, where that is
// asked for and has an address in the server's family.
func (t *originalTransport) hop(to netip.AddrPort, from *mail.Session) hop {
	h := tcpHop("", to.Addr(), int(to.Port()))
	h.implicit = to.Port() == submissions
	client := from.Client.Addr().Unmap()
	if t.spoof && client.IsValid() && client.Is4() == to.Addr().Unmap().Is4() {
		h.from = client
	}
	return h
}
