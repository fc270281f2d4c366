package mtasts

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// Resolver is what is asked of the name service; *dns.Resolver has it.
type Resolver interface {
	TXT(ctx context.Context, name string) ([]string, error)
	AddrsSecure(ctx context.Context, host string) ([]netip.Addr, bool, error)
}

// Kind is why there is no policy, in the words of RFC 8460 §4.3.2.2.
type Kind string

// The kinds of failure.
const (
	FetchFailed  Kind = "sts-policy-fetch-error"
	InvalidText  Kind = "sts-policy-invalid"
	InvalidWebCA Kind = "sts-webpki-invalid"
)

// Error says why a policy that a domain announces is not there.
type Error struct {
	Kind Kind
	Err  error
}

// Error implements error.
func (e *Error) Error() string { return string(e.Kind) + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// newClient makes a client for policy hosts. A proxy of the environment (HTTPS_PROXY)
// is used: nothing secret goes over it, and what comes back is authenticated.
func newClient(cfg *Config) *http.Client {
	d := &net.Dialer{Timeout: cfg.Timeout}
	return &http.Client{
		Timeout: cfg.Timeout,
		// RFC 8461 §3.3: 3xx must not be followed.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: cfg.Roots},
			TLSHandshakeTimeout:    cfg.Timeout,
			MaxResponseHeaderBytes: maxPolicy,
			DisableKeepAlives:      true,
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				if cfg.Dial != nil {
					return cfg.Dial(ctx, network, address)
				}
				return dial(ctx, d, cfg.Resolver, network, address)
			},
		},
	}
}

// dial asks our own resolver, so that there is one place that says which name servers
// are asked.
func dial(ctx context.Context, d *net.Dialer, r Resolver, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return d.DialContext(ctx, network, address)
	}
	addrs, _, err := r.AddrsSecure(ctx, host)
	if err != nil {
		return nil, err
	}
	var last error
	for _, a := range addrs[:min(len(addrs), 4)] {
		conn, err := d.DialContext(ctx, network, net.JoinHostPort(a.String(), port))
		if err == nil {
			return conn, nil
		}
		last = err
	}
	return nil, last
}

// fetch gets the policy of a domain from its policy host, RFC 8461 §3.3.
func (c *Cache) fetch(ctx context.Context, domain string) (*Policy, *Error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://mta-sts."+domain+"/.well-known/mta-sts.txt", http.NoBody)
	if err != nil {
		return nil, &Error{FetchFailed, err}
	}
	resp, err := c.client.Do(req)
	if err != nil {
		var cert *tls.CertificateVerificationError
		var host x509.HostnameError
		if errors.As(err, &cert) || errors.As(err, &host) {
			return nil, &Error{InvalidWebCA, err}
		}
		return nil, &Error{FetchFailed, err}
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, &Error{FetchFailed, fmt.Errorf("the policy host answers %d", resp.StatusCode)}
	}
	if media, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || media != "text/plain" {
		return nil, &Error{InvalidText, fmt.Errorf("the media type is %.60q, not text/plain", resp.Header.Get("Content-Type"))}
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxPolicy+1))
	switch {
	case err != nil:
		return nil, &Error{FetchFailed, err}
	case len(text) > maxPolicy:
		return nil, &Error{InvalidText, fmt.Errorf("longer than %d bytes", maxPolicy)}
	}
	p, err := Parse(text)
	if err != nil {
		return nil, &Error{InvalidText, err}
	}
	return p, nil
}

// Timeouts where Config leaves them zero.
const (
	defaultTimeout = 15 * time.Second
	// defaultPause is how long a policy host is left alone after a failure. RFC 8461
	// §3.3 asks for a limit, and names five minutes.
	defaultPause = 5 * time.Minute
	// defaultFresh is after how long a policy is fetched again that still holds: RFC
	// 8461 §3.3 recommends once a day.
	defaultFresh = 24 * time.Hour
	defaultMax   = 10000
)
