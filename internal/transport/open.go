package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"

	"gatepost/internal/dns/dane"
	"gatepost/internal/smtpclient"
	"gatepost/internal/tlsrpt"
)

// Reports collects how sessions began, for reports to the domains (RFC 8460). It must
// not wait.
type Reports interface {
	Note(s tlsrpt.Session)
}

// open starts a session: connect, greet, TLS by the policy, login.
func (r *relay) open(ctx context.Context, h hop, strict bool) (conn *smtpclient.Conn, note string, err error) {
	p, err := r.policy.plan(ctx, h, strict)
	if err != nil {
		r.began(h, p, nil, err)
		return nil, "", because(p, err)
	}
	o := r.opening(h)
	if h.implicit {
		if p.cfg == nil {
			p.cfg = r.policy.unverified(h) // nothing else is spoken there
		}
		o.TLS, o.Verified = p.cfg, p.verified
	}
	conn, err = r.dialer.Open(ctx, h.target, o)
	if err != nil {
		return nil, "", err
	}
	if conn, note, err = r.secure(ctx, h, conn, p); err != nil {
		return nil, "", because(p, err)
	}
	if r.cfg.Auth != nil {
		if err := conn.Auth(ctx, *r.cfg.Auth); err != nil {
			conn.Leave()
			return nil, "", err
		}
	}
	return conn, note, nil
}

// secure encrypts the session as it was planned, and tells those who want to know.
func (r *relay) secure(ctx context.Context, h hop, conn *smtpclient.Conn, p plan) (*smtpclient.Conn, string, error) {
	switch {
	case p.cfg == nil || h.implicit:
		r.began(h, p, conn, nil)
		return conn, "", nil
	case !p.mandatory && !conn.Extensions().StartTLS:
		r.began(h, p, conn, smtpclient.ErrNoTLS)
		return conn, "", nil
	}
	conn, note, failed, err := r.encrypt(ctx, h, conn, p)
	if ctx.Err() != nil && err != nil {
		return nil, "", err
	}
	r.began(h, p, conn, failed)
	if err == nil && note == "" && p.mandatory && p.why != "" {
		note = "TLS as required by " + p.why
	}
	return conn, note, err
}

// encrypt does STARTTLS. Where TLS is only an opportunity and fails, it goes on
// in clear text: on the same connection if that still works, else on a new one. failed
// is how TLS failed, whether that matters or not.
func (r *relay) encrypt(ctx context.Context, h hop, conn *smtpclient.Conn, p plan) (_ *smtpclient.Conn, note string, failed, err error) {
	failed = conn.StartTLS(ctx, p.cfg, p.verified)
	if failed == nil {
		return conn, "", nil, nil
	}
	if p.mandatory || ctx.Err() != nil {
		conn.Leave()
		return nil, "", failed, failed
	}
	r.log.WarnContext(ctx, "TLS failed, going on in clear text", "host", h.target.String(), "error", failed)
	note = fmt.Sprintf("sent in clear text because TLS failed: %v", failed)
	if conn.Usable() {
		return conn, note, failed, nil
	}
	conn.Close()
	conn, err = r.dialer.Open(ctx, h.target, r.opening(h))
	return conn, note, failed, err
}

// because adds to an error about TLS what asked for it.
func because(p plan, err error) error {
	var e *smtpclient.Error
	if p.why == "" || !errors.As(err, &e) {
		return err
	}
	why := *e
	if why.Err = fmt.Errorf("TLS is required by %s", p.why); e.Err != nil {
		why.Err = fmt.Errorf("%w: %w", why.Err, e.Err)
	}
	return &why
}

// began counts how a session began, and notes it for the report to the domain. conn is
// nil where there is none; failed says how TLS failed, if it did.
func (r *relay) began(h hop, p plan, conn *smtpclient.Conn, failed error) {
	result := "failed"
	if conn != nil {
		switch state := conn.TLS(); {
		case state.Verified:
			result = "verified"
		case state.Active():
			result = "encrypted"
		default:
			result = "clear"
		}
	}
	r.watch.Secured(r.cfg.Name, p.by, result)
	if failed == nil && p.checked != nil {
		failed = p.checked()
	}
	if r.reports == nil || h.domain == "" || h.lax || p.policy.Type == "" {
		return
	}
	s := tlsrpt.Session{Domain: h.domain, Policy: p.policy}
	if failed != nil {
		s.Failure = tlsrpt.Failure{Type: failureType(failed), Reason: failed.Error(), MXHost: h.target.Name}
		if host, _, err := net.SplitHostPort(h.target.Address); err == nil {
			s.Failure.IP = host
		}
		if r.cfg.Source.IsValid() {
			s.Failure.SendingIP = r.cfg.Source.String()
		}
	}
	r.reports.Note(s)
}

// failureType is the word of RFC 8460 §4.3 for an error.
func failureType(err error) string {
	var (
		name    x509.HostnameError
		unknown x509.UnknownAuthorityError
		invalid x509.CertificateInvalidError
		listed  *notListed
		verify  *tls.CertificateVerificationError
	)
	switch {
	case errors.Is(err, smtpclient.ErrNoTLS):
		return "starttls-not-supported"
	case errors.As(err, &name):
		return "certificate-host-mismatch"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "certificate-expired"
	case errors.As(err, &unknown), errors.As(err, &invalid), errors.As(err, &verify):
		return "certificate-not-trusted"
	case errors.Is(err, dane.ErrMismatch):
		return "validation-failure"
	case errors.As(err, &listed):
		return "certificate-host-mismatch"
	}
	return "validation-failure"
}
