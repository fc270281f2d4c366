package weblookup

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"
)

// Resolver finds the addresses of a host; *dns.Resolver is one.
type Resolver interface {
	Addrs(ctx context.Context, host string) ([]netip.Addr, error)
}

// Config is what a client may do. Zero values take the default.
type Config struct {
	// AllowPrivate lets requests go to this host and to private networks.
	AllowPrivate bool
	// Timeout is for a whole request with its answer; default 10s.
	Timeout time.Duration
	// MaxBody is how many bytes an answer may have; default 64 KiB.
	MaxBody int64
	// MaxRedirects is how many redirects within the same host are followed;
	// default 3, below 0 none.
	MaxRedirects int
	// Connections is how many there are at most to one host; default 20. Further
	// requests wait.
	Connections int
	// CAFile holds the certificates, PEM, that may have signed the services'; "" stands
	// for the system's.
	CAFile string
	// Resolver is for hosts that are names; nil stands for the system's.
	Resolver Resolver
	// Dial connects to an address that was checked; nil stands for the network.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Client asks. It may be used by any number of goroutines.
type Client struct {
	cfg  Config
	http *http.Client
}

// Answer is what a service said.
type Answer struct {
	Status      int
	ContentType string
	Body        []byte
}

// Errors of Do about the answer and the way to it.
var (
	// ErrForbidden says that the host has no address to which requests may go.
	ErrForbidden = errors.New("the host is at an address that lookups may not go to (allow_private)")
	// ErrTooLarge says that the answer exceeds Config.MaxBody.
	ErrTooLarge = errors.New("the answer is too large")
	// ErrRedirect says that the service wanted to send us to another one.
	ErrRedirect = errors.New("redirected to another host or too often")

	errNoCertificate = errors.New("no certificate in it")
	errTransfer      = errors.New("the service broke the protocol or the connection")
)

// maxAddresses is how many addresses of a host are tried.
const maxAddresses = 4

// New makes a client.
func New(cfg Config) (*Client, error) {
	cfg.Timeout = cmp.Or(cfg.Timeout, 10*time.Second)
	cfg.MaxBody = cmp.Or(cfg.MaxBody, 64<<10)
	cfg.MaxRedirects = cmp.Or(cfg.MaxRedirects, 3)
	cfg.Connections = cmp.Or(cfg.Connections, 20)
	if cfg.Timeout < 0 || cfg.MaxBody < 0 || cfg.Connections < 0 {
		return nil, errors.New("timeout, max_body and connections must not be below 0")
	}
	if cfg.Resolver == nil {
		cfg.Resolver = system{}
	}
	if cfg.Dial == nil {
		cfg.Dial = (&net.Dialer{}).DialContext
	}
	secure := &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.CAFile != "" {
		data, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read tls_ca_file: %w", err)
		}
		secure.RootCAs = x509.NewCertPool()
		if !secure.RootCAs.AppendCertsFromPEM(data) {
			return nil, fmt.Errorf("read tls_ca_file %s: %w", cfg.CAFile, errNoCertificate)
		}
	}
	c := &Client{cfg: cfg}
	c.http = &http.Client{
		CheckRedirect: c.redirect,
		Transport: &http.Transport{
			// Proxy stays nil: the environment must not choose where passwords go.
			DialContext:            c.dial,
			TLSClientConfig:        secure,
			TLSHandshakeTimeout:    cfg.Timeout,
			DisableCompression:     true,
			MaxConnsPerHost:        cfg.Connections,
			MaxIdleConnsPerHost:    cfg.Connections,
			IdleConnTimeout:        30 * time.Second,
			MaxResponseHeaderBytes: 32 << 10,
		},
	}
	return c, nil
}

// Close ends idle connections.
func (c *Client) Close() error {
	c.http.CloseIdleConnections()
	return nil
}

// Do asks, with values for the places; one that is missing is empty. Any status is
// an answer; redirects that may not be followed are errors.
func (c *Client) Do(ctx context.Context, q *Query, values map[string]string) (Answer, error) {
	target, body, err := q.fill(values)
	if err != nil {
		return Answer{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	var reader io.Reader
	if q.method == http.MethodPost {
		reader = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, q.method, target, reader)
	if err != nil {
		return Answer{}, ErrValue // its error has the URL in it
	}
	req.Header = q.header.Clone()
	if req.Header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", "gatepost")
	}
	if q.contentType != "" {
		req.Header.Set("Content-Type", q.contentType)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return Answer{}, cause(ctx, err)
	}
	defer resp.Body.Close()
	a := Answer{Status: resp.StatusCode, ContentType: resp.Header.Get("Content-Type")}
	a.Body, err = io.ReadAll(io.LimitReader(resp.Body, c.cfg.MaxBody+1))
	switch {
	case err != nil:
		return Answer{}, cause(ctx, err)
	case int64(len(a.Body)) > c.cfg.MaxBody:
		return Answer{}, ErrTooLarge
	}
	return a, nil
}

// redirect decides whether to go on: what was asked may be a secret, and is for
// the service that the administrator chose.
func (c *Client) redirect(req *http.Request, via []*http.Request) error {
	first := via[0].URL
	if len(via) > c.cfg.MaxRedirects || req.URL.Scheme != first.Scheme || !strings.EqualFold(req.URL.Host, first.Host) || req.URL.User != nil {
		return ErrRedirect
	}
	// The referrer would be the URL with the values in it.
	req.Header.Del("Referer")
	return nil
}

// dial resolves the host, and connects to an address that it has checked.
func (c *Client) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil || disguised(host) {
		return nil, ErrForbidden
	}
	var addrs []netip.Addr
	if a, err := netip.ParseAddr(host); err == nil {
		addrs = []netip.Addr{a}
	} else if addrs, err = c.cfg.Resolver.Addrs(ctx, host); err != nil {
		return nil, &unresolved{host: host, err: err}
	}
	var last error = ErrForbidden
	tried := 0
	for _, a := range addrs {
		if !allowed(a, c.cfg.AllowPrivate) || tried == maxAddresses {
			continue
		}
		tried++
		nc, err := c.cfg.Dial(ctx, network, net.JoinHostPort(a.Unmap().String(), port))
		if err == nil {
			return nc, nil
		}
		last = err
	}
	return nil, last
}

// unresolved is a host that has no address.
type unresolved struct {
	host string
	err  error
}

func (u *unresolved) Error() string { return fmt.Sprintf("resolve %s: %v", u.host, u.err) }
func (u *unresolved) Unwrap() error { return u.err }

// cause is why a request failed, in words that hold neither its URL nor what the
// service said: both may be or have secrets.
func cause(ctx context.Context, err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	var network *net.OpError
	var name *unresolved
	var cert *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("ask service: %w", context.Cause(ctx))
	case errors.Is(err, ErrForbidden), errors.Is(err, ErrRedirect):
		return err
	case errors.As(err, &name):
		return name
	case errors.As(err, &cert):
		return fmt.Errorf("ask service: %w", cert)
	case errors.As(err, &record):
		return fmt.Errorf("ask service: no TLS there")
	case errors.As(err, &network):
		return fmt.Errorf("ask service: %w", network)
	}
	return errTransfer
}

// system is the system's resolver.
type system struct{}

// Addrs implements Resolver.
func (system) Addrs(ctx context.Context, host string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

// Guarded is the client for protocols that a library speaks: where it may connect, for
// how long, and how much of an answer is read are as with Do. Its errors may hold what
// a service said.
func (c *Client) Guarded() *http.Client {
	return &http.Client{Transport: limited{c.http.Transport, c.cfg.MaxBody}, CheckRedirect: c.redirect, Timeout: c.cfg.Timeout}
}

// limited cuts answers off.
type limited struct {
	http.RoundTripper
	most int64
}

// RoundTrip implements http.RoundTripper.
func (l limited) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := l.RoundTripper.RoundTrip(req)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, l.most), resp.Body}
	}
	return resp, err
}
