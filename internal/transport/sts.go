package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"

	"gatepost/internal/mail"
	"gatepost/internal/mtasts"
	"gatepost/internal/smtpclient"
	"gatepost/internal/tlsrpt"
)

// STS knows the MTA-STS policies of domains; *mtasts.Cache is one.
type STS interface {
	Policy(ctx context.Context, domain string) mtasts.Found
}

// heeds reports whether what a domain asks for by MTA-STS counts for h.
func (p *policy) heeds(h hop) bool {
	return h.sts.Active() && (p.mode == TLSOpportunistic || p.mode == TLSRequire || p.mode == TLSDANE)
}

// sts makes the plan for a hop by the policy of its domain, RFC 8461 §4, §5. An error
// means that the hop must not get the mail.
func (p *policy) sts(h hop) (plan, error) {
	found := plan{
		by: "mta-sts-testing", why: fmt.Sprintf("the MTA-STS policy of %s (%s)", h.domain, h.sts.Mode), mandatory: p.mode == TLSRequire,
		policy: tlsrpt.Policy{Type: tlsrpt.STS, Strings: h.sts.Lines, MXHosts: h.sts.MX},
	}
	if h.sts.Enforced() {
		found.by, found.cfg, found.mandatory, found.verified = "mta-sts", p.verifying(h), true, true
		if !h.sts.Matches(h.target.Name) {
			return found, tlsError(&notListed{h.target.Name})
		}
		return found, nil
	}
	// Testing: the mail goes as without a policy, and the domain learns what would have
	// been.
	found.cfg = p.unverified(h)
	if !h.sts.Matches(h.target.Name) {
		found.checked = func() error { return &notListed{h.target.Name} }
		return found, nil
	}
	var seen error
	found.cfg.VerifyConnection = func(s tls.ConnectionState) error {
		seen = p.verify(s.PeerCertificates, h.name)
		return nil
	}
	found.checked = func() error { return seen }
	return found, nil
}

// notListed says that a mail exchanger is not one of the policy's.
type notListed struct{ host string }

// Error implements error.
func (e *notListed) Error() string { return e.host + " is not one of the mx of the policy" }

// verify checks a chain as crypto/tls would.
func (p *policy) verify(chain []*x509.Certificate, name string) error {
	if len(chain) == 0 {
		return smtpclient.ErrNoTLS
	}
	between := x509.NewCertPool()
	for _, cert := range chain[1:] {
		between.AddCert(cert)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{DNSName: name, Roots: p.roots, Intermediates: between})
	return err
}

// withPolicy gives each hop the policy of its domain.
func withPolicy(way route, sts *mtasts.Policy) route {
	return func(yield func(hop, *mail.Outcome) bool) {
		for h, failure := range way {
			h.sts = sts
			if !yield(h, failure) {
				return
			}
		}
	}
}
