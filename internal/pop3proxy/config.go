package pop3proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"
)

// TLSMode is how a listener uses TLS.
type TLSMode uint8

// The TLS modes.
const (
	TLSOff      TLSMode = iota
	TLSStart            // STLS is offered
	TLSRequired         // STLS must come before a login
	TLSImplicit         // TLS from the first byte
)

// UpstreamTLS is how the server behind is spoken to.
type UpstreamTLS uint8

// The modes towards a server. The last two verify its certificate.
const (
	UpstreamOff UpstreamTLS = iota
	UpstreamOpportunistic
	UpstreamStart
	UpstreamImplicit
)

// Mode is how the server behind is found.
type Mode uint8

// The modes.
const (
	Fixed    Mode = iota
	Login         // the client names it: user%host[:port]
	Original      // where the diverted connection wanted to go
)

// Upstream is the server behind.
type Upstream struct {
	Mode Mode
	// Address is the server for Fixed, "host:port"; Hosts are those that a client may
	// name for Login: "host", "host:port", "*.domain", "*.domain:port".
	Address string
	Hosts   []string
	TLS     UpstreamTLS
	Roots   *x509.CertPool // nil: the system's
	// Dial makes connections; it refuses what would come back to us.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Config is what a listener's sessions need to know. The zero value of every limit
// stands for its default; there is no way to say "unlimited".
type Config struct {
	Listener, Hostname string

	TLS TLSMode
	// TLSConfig is required unless TLS is TLSOff.
	TLSConfig *tls.Config

	// TrustedNetworks set mail.Session.Trusted. ProxyFrom must send a PROXY header and
	// are believed.
	TrustedNetworks, ProxyFrom []netip.Prefix

	Upstream Upstream
	// Flow is the content flow that decides about messages.
	Flow string

	MaxCommandLine int // bytes with line end; default 2048
	// MaxMessageSize is in bytes; default 50 MiB. A larger message is refused, or, with
	// PassLarge, passed without being judged.
	MaxMessageSize int64
	PassLarge      bool
	// MaxErrors is how many commands may fail until the session is ended; default 20. From
	// half of it on, each is answered only after ErrorDelay, default 1 s.
	MaxErrors  int
	ErrorDelay time.Duration

	// IdleTimeout is how long a client may take for a command; default 10 min, which is
	// the least that RFC 1939 §3 allows. UpstreamTimeout is how long a server may be silent
	// that has been asked something; default 5 min. WriteTimeout is for an answer to leave;
	// default 1 min.
	IdleTimeout, UpstreamTimeout, WriteTimeout time.Duration
	// ConnectTimeout is for the server to greet us; default 20 s. HandshakeTimeout is for
	// TLS and PROXY headers; default 30 s, at most 60 s. DrainTimeout is for the rest of a
	// message that is too large; default 30 s.
	ConnectTimeout, HandshakeTimeout, DrainTimeout time.Duration

	// WaitAfter is how long a client waits for a message until it gets a header line, and
	// then another one every WaitInterval; defaults 15 s. The server gets a NOOP as often.
	WaitAfter, WaitInterval time.Duration
	// KeepReplaced refuses DELE of a message that was replaced.
	KeepReplaced bool
}

// Bounds that no configuration changes, in bytes.
const (
	lineBuffer  = 2 << 10  // what each side of a session holds while it is idle
	dataBuffer  = 64 << 10 // borrowed while a message comes
	outBuffer   = 4 << 10  // replies that wait to be sent
	maxAuthLine = 12288    // RFC 5034 §4: that of RFC 4954
	maxReply    = 4 << 10  // the first line of a reply; RFC 2449 §4 has 512
	maxListLine = 1 << 10  // a line of LIST and the like
	maxRounds   = 32       // challenges of one AUTH
	maxUIDLs    = 10_000   // remembered of one session
)

// withDefaults returns the configuration with defaults in place of zeros.
func (c Config) withDefaults() Config {
	setDefault(&c.MaxCommandLine, 2048)
	setDefault(&c.MaxMessageSize, 50<<20)
	setDefault(&c.MaxErrors, 20)
	setDefault(&c.ErrorDelay, time.Second)
	setDefault(&c.IdleTimeout, 10*time.Minute)
	setDefault(&c.UpstreamTimeout, 5*time.Minute)
	setDefault(&c.WriteTimeout, time.Minute)
	setDefault(&c.ConnectTimeout, 20*time.Second)
	setDefault(&c.HandshakeTimeout, 30*time.Second)
	setDefault(&c.DrainTimeout, 30*time.Second)
	setDefault(&c.WaitAfter, 15*time.Second)
	setDefault(&c.WaitInterval, 15*time.Second)
	c.HandshakeTimeout = min(c.HandshakeTimeout, time.Minute)
	return c
}

func setDefault[T int | int64 | time.Duration](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}

// check reports what can't work.
func (c *Config) check() error {
	u := &c.Upstream
	switch {
	case c.Hostname == "":
		return errors.New("check proxy: no host name")
	case c.TLS != TLSOff && c.TLSConfig == nil:
		return errors.New("check proxy: TLS without a certificate")
	case u.Mode == Fixed && u.Address == "":
		return errors.New("check proxy: no server behind")
	case u.Mode == Login && len(u.Hosts) == 0:
		return errors.New("check proxy: clients may name no server")
	case u.Dial == nil:
		return errors.New("check proxy: no way to connect")
	}
	if u.Mode == Fixed {
		if _, _, err := net.SplitHostPort(u.Address); err != nil {
			return fmt.Errorf("check proxy: %w", err)
		}
	}
	return nil
}

// port is where servers of the mode listen.
func (u *Upstream) port() string {
	if u.TLS == UpstreamImplicit {
		return "995"
	}
	return "110"
}

// allows reports whether a client may name the host and port.
func (u *Upstream) allows(host, port string) bool {
	for _, allowed := range u.Hosts {
		name, only := allowed, u.port()
		if h, p, err := net.SplitHostPort(allowed); err == nil {
			name, only = h, p
		}
		if only != port {
			continue
		}
		if strings.EqualFold(name, host) {
			return true
		}
		// "*.domain" is every name below the domain.
		if below, ok := strings.CutPrefix(name, "*"); ok && len(below) > 1 && len(host) > len(below) &&
			strings.EqualFold(host[len(host)-len(below):], below) {
			return true
		}
	}
	return false
}
