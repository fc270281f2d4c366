package ldap

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"
)

// Config is one directory. Zero values take the default.
type Config struct {
	// URLs are the servers, tried in this order: "ldap://host", "ldaps://host:636" or
	// "ldapi:///run/slapd/ldapi" (the path as it is, or with %2F). All must hold the
	// same.
	URLs []string
	// StartTLS encrypts ldap:// before anything is said, or gives up.
	StartTLS bool
	// CAFile holds the certificates, PEM, that may have signed the servers', or that
	// are theirs; "" stands for the system's. TLSName is the name that the
	// certificates must be for, where it is not the host's.
	CAFile, TLSName string

	// BindDN and Password are who searches; both "" for an anonymous user.
	BindDN, Password string
	// Base is where searches begin, Scope how deep they go: "sub" (the default),
	// "one" or "base".
	Base, Scope string

	// ConnectTimeout is for a connection with its encryption and login, default 5s;
	// Timeout for each search or bind after that, default 10s.
	ConnectTimeout, Timeout time.Duration
	// Sessions is how many connections there are at most, default 10; an idle one is
	// closed after Idle, default 1m.
	Sessions int
	Idle     time.Duration
	// Rest is how long a server that cannot be spoken to is left alone while there
	// are others; default 30s.
	Rest time.Duration
	// MaxEntries is how many entries a search may find, default 1000; MaxBytes how
	// large all that a server says to one question may be, default 4 MiB.
	MaxEntries int
	MaxBytes   int64

	// Dial makes connections; nil stands for the network.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// server is one of Config.URLs.
type server struct {
	url              string
	network, address string
	// host is what the certificate must be for; implicit says ldaps.
	host     string
	implicit bool
}

func (cfg Config) withDefaults() Config {
	cfg.ConnectTimeout = cmp.Or(cfg.ConnectTimeout, 5*time.Second)
	cfg.Timeout = cmp.Or(cfg.Timeout, 10*time.Second)
	cfg.Sessions = cmp.Or(cfg.Sessions, 10)
	cfg.Idle = cmp.Or(cfg.Idle, time.Minute)
	cfg.Rest = cmp.Or(cfg.Rest, 30*time.Second)
	cfg.MaxEntries = cmp.Or(cfg.MaxEntries, 1000)
	cfg.MaxBytes = cmp.Or(cfg.MaxBytes, 4<<20)
	cfg.Scope = cmp.Or(cfg.Scope, "sub")
	if cfg.Dial == nil {
		cfg.Dial = (&net.Dialer{}).DialContext
	}
	return cfg
}

// check names everything that is wrong.
func (cfg *Config) check() error {
	var errs []error
	if len(cfg.URLs) == 0 {
		errs = append(errs, errors.New("url: none"))
	}
	if _, ok := scopes[cfg.Scope]; !ok {
		errs = append(errs, fmt.Errorf("scope: want sub, one or base, got %q", cfg.Scope))
	}
	if (cfg.BindDN == "") != (cfg.Password == "") {
		// RFC 4513 §5.1.2: a name without a password would be an anonymous user.
		errs = append(errs, errors.New("bind_dn: it needs a password, and a password needs it"))
	}
	for name, n := range map[string]int64{
		"timeout": int64(cfg.Timeout), "connect_timeout": int64(cfg.ConnectTimeout), "sessions": int64(cfg.Sessions),
		"idle": int64(cfg.Idle), "rest": int64(cfg.Rest), "max_entries": int64(cfg.MaxEntries), "max_bytes": cfg.MaxBytes,
	} {
		if n < 0 {
			errs = append(errs, fmt.Errorf("%s: below 0", name))
		}
	}
	return errors.Join(errs...)
}

// servers reads the URLs.
func (cfg *Config) servers() ([]server, error) {
	var all []server
	var errs []error
	for _, s := range cfg.URLs {
		one, err := parseURL(s)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if cfg.StartTLS && one.implicit {
			errs = append(errs, fmt.Errorf("url %q: ldaps is encrypted from the start, starttls is for ldap", s))
		}
		all = append(all, one)
	}
	return all, errors.Join(errs...)
}

// parseURL reads "scheme://host[:port]". The other parts that RFC 4516 §2 allows
// are keys of their own here.
func parseURL(s string) (server, error) {
	if path, ok := strings.CutPrefix(s, "ldapi://"); ok {
		path, err := url.PathUnescape(path)
		if err != nil || !strings.HasPrefix(path, "/") {
			return server{}, fmt.Errorf("url %q: want ldapi:// and the path of a socket", s)
		}
		return server{url: s, network: "unix", address: path, host: "localhost"}, nil
	}
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" || u.Scheme != "ldap" && u.Scheme != "ldaps" {
		return server{}, fmt.Errorf("url %q: want ldap://host, ldaps://host or ldapi:///path", s)
	}
	if u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return server{}, fmt.Errorf("url %q: base, filter and login have keys of their own", s)
	}
	one := server{url: s, network: "tcp", host: u.Hostname(), implicit: u.Scheme == "ldaps"}
	port := u.Port()
	if port == "" {
		port = "389"
		if one.implicit {
			port = "636"
		}
	}
	one.address = net.JoinHostPort(one.host, port)
	return one, nil
}

// clear reports that passwords go to the server unencrypted, and over a network.
func (s server) clear(starttls bool) bool {
	ip := net.ParseIP(s.host)
	return !s.implicit && !starttls && s.network != "unix" && s.host != "localhost" && (ip == nil || !ip.IsLoopback())
}

var errNoCertificate = errors.New("no certificate in it")

// tlsConfig is for the servers; each adds its name.
func (cfg *Config) tlsConfig() (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.CAFile == "" {
		return t, nil
	}
	data, err := os.ReadFile(cfg.CAFile)
	if err != nil {
		return nil, fmt.Errorf("read tls_ca_file: %w", err)
	}
	t.RootCAs = x509.NewCertPool()
	if !t.RootCAs.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("read tls_ca_file %s: %w", cfg.CAFile, errNoCertificate)
	}
	return t, nil
}
