package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"gatepost/internal/mail"
	"gatepost/internal/smtpclient"
	"gatepost/internal/tlsrpt"
)

// policy makes the TLS plans of a transport.
type policy struct {
	mode     TLSMode
	name     string // Config.TLSName
	roots    *x509.CertPool
	resolver Resolver
	sessions tls.ClientSessionCache
}

// plan is what is asked of the encryption to one hop.
type plan struct {
	// cfg is nil where TLS is not even tried.
	cfg *tls.Config
	// mandatory means: or no mail. verified means that cfg checks the certificate.
	mandatory, verified bool
	// by is what asks for it, as metrics count it; why says the same to people, "" where
	// that is the configuration of the transport.
	by, why string
	// policy is what a report to the domain says was applied.
	policy tlsrpt.Policy
	// checked is what a certificate is worth that does not have to be worth anything;
	// nil: nobody looks.
	checked func() error
}

// sessionTickets is how many next hops' TLS sessions are remembered.
const sessionTickets = 256

func newPolicy(cfg Config, deps Deps) (*policy, error) {
	p := &policy{mode: cfg.TLS, name: cfg.TLSName, resolver: deps.Resolver,
		sessions: tls.NewLRUClientSessionCache(sessionTickets)}
	if cfg.TLSCAFile == "" {
		return p, nil
	}
	roots, err := readCertificates(cfg.TLSCAFile)
	p.roots = roots
	return p, err
}

var errNoCertificate = errors.New("no certificate in it")

// readCertificates reads the certificates that a next hop's must be signed by, or
// be one of: a chain may end at any of them, even at its first certificate.
func readCertificates(file string) (*x509.CertPool, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read CA file: %w", err)
	}
	pool := x509.NewCertPool()
	found := false
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("read CA file %s: %w", file, err)
		}
		pool.AddCert(cert)
		found = true
	}
	if !found {
		return nil, fmt.Errorf("read CA file %s: %w", file, errNoCertificate)
	}
	return pool, nil
}

// class names what a session to h must be good for, see session.
func (p *policy) class(h hop, strict bool) string {
	class := h.name
	if h.from.IsValid() {
		class = "from " + h.from.String() + " " + class
	}
	switch {
	case strict:
		class = "verified " + class
	case h.lax:
		class = "lax " + class
	case p.heeds(h) && h.sts.Enforced():
		class = "mta-sts " + class
	}
	return class
}

// plan decides about TLS to h. strict is for mail under REQUIRETLS, which asks
// for a verified certificate whatever the mode (RFC 8689 §4.2.1).
func (p *policy) plan(ctx context.Context, h hop, strict bool) (plan, error) {
	if h.local() && !strict && (p.mode == TLSOpportunistic || p.mode == TLSDANE) {
		return plan{by: string(TLSOff)}, nil
	}
	if h.lax && !strict && p.mode != TLSOff {
		return plan{cfg: p.unverified(h), by: string(TLSOpportunistic), policy: tlsrpt.NoPolicy()}, nil
	}
	var found plan
	if p.mode == TLSDANE {
		var err error
		if found, err = p.dane(ctx, h); err != nil || found.mandatory && found.verified {
			// RFC 8461 §2: MTA-STS must not overrule what DANE says.
			return found, err
		}
	}
	if p.heeds(h) && !strict {
		asked, err := p.sts(h)
		if err != nil || asked.mandatory || asked.cfg != nil && !found.mandatory {
			return asked, err
		}
	}
	switch {
	case strict:
		return plan{cfg: p.verifying(h), mandatory: true, verified: true, by: "requiretls", why: "REQUIRETLS", policy: tlsrpt.NoPolicy()}, nil
	case found.mandatory:
		return found, nil
	case p.mode == TLSVerify:
		return plan{cfg: p.verifying(h), mandatory: true, verified: true, by: string(p.mode), policy: tlsrpt.NoPolicy()}, nil
	case p.mode == TLSOff:
		return plan{by: string(TLSOff)}, nil
	}
	by := p.mode
	if by == TLSDANE {
		by = TLSOpportunistic // there are no records
	}
	return plan{cfg: p.unverified(h), mandatory: p.mode == TLSRequire, by: string(by), policy: tlsrpt.NoPolicy()}, nil
}

// base is the configuration that all modes share.
func (p *policy) base(h hop) *tls.Config {
	name := h.name
	if p.name != "" {
		name = p.name
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, ServerName: name, RootCAs: p.roots, ClientSessionCache: p.sessions}
}

// verifying checks the chain and that the certificate is for the host's name.
func (p *policy) verifying(h hop) *tls.Config { return p.base(h) }

// unverified takes any certificate: encryption against who only listens.
func (p *policy) unverified(h hop) *tls.Config {
	cfg := p.base(h)
	cfg.InsecureSkipVerify = true
	return cfg
}

// tlsError is why a hop is skipped because of the policy.
func tlsError(err error) *smtpclient.Error {
	return &smtpclient.Error{Stage: "starttls", Key: mail.ReplyNextHopBadTLS, Err: err}
}
