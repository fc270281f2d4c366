package transport

import (
	"context"
	"crypto/tls"
	"errors"

	"gatepost/internal/smtpclient"
)

// Callout is a transport whose hosts can be asked whether they would take mail for
// a recipient: one with Config.Hosts.
type Callout interface {
	// Hops returns the hosts to ask, best first, MaxHosts at most. An error says that
	// none of them can be found now.
	Hops(ctx context.Context) ([]Hop, error)
}

// Hop is a host, and how it wants to be spoken to by the policy of the transport.
type Hop struct {
	smtpclient.Target
	LMTP bool
	// TLS nil: in clear text. Where the host does not offer STARTTLS, RequireTLS makes
	// that a failure. Verified says that TLS checks the certificate.
	TLS        *tls.Config
	RequireTLS bool
	Verified   bool
	// Auth is how to log in; nil for not at all.
	Auth *smtpclient.Credentials
}

var errNobody = errors.New("no host to ask")

// Hops implements Callout.
func (t *smtpTransport) Hops(ctx context.Context) ([]Hop, error) {
	var hops []Hop
	last := errNobody
	for h, failure := range t.hosts.route(ctx) {
		if failure != nil {
			last = errors.New(failure.Host + ": " + failure.Cause)
			continue
		}
		p, err := t.relay.policy.plan(ctx, h, false)
		if err != nil {
			last = err
			continue
		}
		hops = append(hops, Hop{
			Target: h.target, LMTP: t.relay.cfg.Kind == LMTP,
			TLS: p.cfg, RequireTLS: p.mandatory, Verified: p.verified, Auth: t.relay.cfg.Auth,
		})
		if len(hops) == t.relay.cfg.MaxHosts {
			break
		}
	}
	if len(hops) == 0 {
		return nil, last
	}
	return hops, nil
}
