package transport

import (
	"context"
	"errors"
	"fmt"

	"gatepost/internal/smtpclient"
)

// Login is a transport at whose hosts users can log in: one with Config.Hosts.
type Login interface {
	// Login tries the credentials at one host after the other, by the TLS policy of
	// the transport, until one says that they are right (nil) or wrong: then the
	// error is an *smtpclient.Error whose Reply has the code 535. Every other error
	// says nothing about them. The session ends after that; it does not count to
	// Config.Sessions, so that users can log in while mail is delivered.
	Login(ctx context.Context, cred smtpclient.Credentials) error
}

var errNoHost = errors.New("no host to log in at")

// Login implements Login.
func (t *smtpTransport) Login(ctx context.Context, cred smtpclient.Credentials) error {
	return t.relay.login(ctx, cred, t.hosts.route)
}

// login tries one hop after the other.
func (r *relay) login(ctx context.Context, cred smtpclient.Credentials, way func(context.Context) route) error {
	ctx, leave, err := r.pool.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	last, tried := errNoHost, 0
	for h, failure := range way(ctx) {
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("log in: %w", context.Cause(ctx))
		case failure != nil:
			last = fmt.Errorf("log in at %s: %s", failure.Host, failure.Cause)
			continue
		case tried == r.cfg.MaxHosts:
			return last
		}
		tried++
		err := r.loginAt(ctx, cred, h)
		if err == nil || Refused(err) {
			return err
		}
		last = fmt.Errorf("log in at %s: %w", h.target, err)
	}
	return last
}

// loginAt tries the credentials at one hop.
func (r *relay) loginAt(ctx context.Context, cred smtpclient.Credentials, h hop) error {
	// The same way in as for mail, but not as the gateway's own user.
	visitor := *r
	visitor.cfg.Auth = nil
	conn, _, err := visitor.open(ctx, h, false)
	if err != nil {
		if ctx.Err() == nil {
			r.pool.failed(h.target.Address)
		}
		return err
	}
	r.pool.succeeded(h.target.Address)
	defer conn.Leave()
	mechanisms := []string{cred.Mechanism}
	if cred.Mechanism == "" {
		// Not CRAM-MD5: servers offer it to users of whom they have no password that
		// it works with, and then say no to the right one.
		mechanisms = []string{"PLAIN", "LOGIN"}
	}
	for _, cred.Mechanism = range mechanisms {
		if err = conn.Auth(ctx, cred); !errors.Is(err, smtpclient.ErrNoMechanism) {
			break
		}
	}
	return err
}

// Refused reports whether an error of Login says that the credentials are wrong,
// RFC 4954 §6.
func Refused(err error) bool {
	var e *smtpclient.Error
	return errors.As(err, &e) && e.Stage == "auth" && e.Reply.Code == 535
}
