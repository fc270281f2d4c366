package transport

import (
	"context"

	"gatepost/internal/mail"
)

// smtpTransport delivers to the hosts that are configured.
type smtpTransport struct {
	relay *relay
	hosts *hostList
}

func newSMTP(cfg Config, deps Deps) (Transport, error) {
	p := newPool(cfg)
	hosts, err := newHostList(cfg, deps, p)
	if err != nil {
		return nil, err
	}
	r, err := newRelay(cfg, deps, p)
	if err != nil {
		return nil, err
	}
	return &smtpTransport{relay: r, hosts: hosts}, nil
}

// Deliver implements Transport.
func (t *smtpTransport) Deliver(ctx context.Context, d *mail.Delivery) []mail.Outcome {
	return t.relay.deliver(ctx, d, t.hosts.route)
}

// Close implements Transport.
func (t *smtpTransport) Close() error {
	t.relay.close()
	return nil
}
