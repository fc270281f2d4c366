package upstream

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"gatepost/internal/dns/dane"
	"gatepost/internal/smtpclient"
)

// TLSMode is what is asked of the encryption to an upstream.
type TLSMode string

// The TLS modes. The empty TLSMode is TLSOpportunistic.
const (
	TLSOff           TLSMode = "off"           // never
	TLSOpportunistic TLSMode = "opportunistic" // STARTTLS if it works, with any certificate
	TLSRequire       TLSMode = "require"       // STARTTLS with any certificate, or no session
	TLSVerify        TLSMode = "verify"        // STARTTLS with a trusted certificate for the host's name, or no session
	TLSDANE          TLSMode = "dane"          // as the TLSA records of the host say; without them as opportunistic
)

// Balance is how a session's host is chosen.
type Balance string

// The ways to choose. The empty Balance is Failover. Whatever the way, a host that
// has as many sessions as it may have is passed over while another one has not.
const (
	Failover      Balance = "failover"       // in their order
	RoundRobin    Balance = "round-robin"    // each in turn, by weight
	LeastSessions Balance = "least-sessions" // the one with the fewest busy sessions for its weight
)

// Identity is how an upstream is told who the client is.
type Identity string

// The identities. The empty Identity is IdentityNone: a Received field is all that
// an upstream sees of the client.
const (
	IdentityNone     Identity = "none"
	IdentityXClient  Identity = "xclient"  // Postfix XCLIENT, where it is offered
	IdentityXForward Identity = "xforward" // Postfix XFORWARD, where it is offered
	IdentityProxyV1  Identity = "proxy-v1" // PROXY protocol header, version 1
	IdentityProxyV2  Identity = "proxy-v2" // PROXY protocol header, version 2
)

// Host is one server.
type Host struct {
	// Address is "name", "name:port", "192.0.2.1:25" or "[2001:db8::1]:25".
	Address string
	// Weight is the host's share, 1 to 1000; default 1. Failover ignores it.
	Weight int
}

// Config is one group of upstreams that serve the same mailboxes. Zero values take
// the default.
type Config struct {
	Name string
	// Hostname is this gateway's name, for EHLO.
	Hostname string
	Hosts    []Host
	Balance  Balance
	// Original stands in the place of Hosts: each client's upstream is the server that
	// its connection was meant for, mail.Session.Original. On port 465 TLS begins
	// before the banner. Spoof connects from the client's own address.
	Original, Spoof bool
	// Port is that of hosts without one; default 25, 465 with ImplicitTLS.
	Port int

	TLS TLSMode
	// ImplicitTLS encrypts before the banner (RFC 8314 §3.3). TLSVerify then checks
	// the certificate; TLSOff makes no sense with it. Hosts at port 465 are always spoken
	// to in this way, but for TLSOff.
	ImplicitTLS bool
	// Roots are the certificates that may have signed an upstream's, or that are an
	// upstream's; nil stands for the system's.
	Roots *x509.CertPool
	// TLSName is the name that certificates must be for, where it is not the host's.
	TLSName string
	// Auth is how to log in; nil for not at all.
	Auth     *smtpclient.Credentials
	Identity Identity
	// Source is the local address to connect from; the zero Addr leaves it to the
	// system.
	Source netip.Addr

	// Sessions is how many there may be to one address; default 100.
	Sessions int
	// MaxWaiting is how many transactions may wait for a session, and WaitTimeout
	// for how long; defaults 1000, 30s. MaxWaiting below 0: none.
	MaxWaiting  int
	WaitTimeout time.Duration
	// OpenTimeout is how long one transaction may look for a session in all: waiting,
	// connecting, and trying the next host; default 1m.
	OpenTimeout time.Duration
	// MessagesPerSession is after how many transactions a session is ended; default
	// 100.
	MessagesPerSession int
	// IdleTimeout is how long a session waits for the next transaction; default 30s.
	IdleTimeout time.Duration
	// KeepAlive is after how much silence in a transaction an upstream gets a NOOP;
	// default 1m, below 0 never. MaxHold is when that ends; default 1h.
	KeepAlive, MaxHold time.Duration
	// Rest is how long an address that cannot be spoken to is left alone while there
	// are others; it doubles with each failure up to RestMax. Defaults 1s, 30s.
	// After the third failure in a row it is left alone even if there are no others.
	Rest, RestMax time.Duration
	// SlowStart is in what time the sessions to an address that had failed three
	// times or more may grow from 1 to Sessions; default 30s, below 0 at once.
	SlowStart time.Duration
	// Timeouts are those of the commands. A client waits while they run, so that the
	// defaults are shorter than for a delivery: Connect 10s, Banner and Hello 30s,
	// Auth 30s, TLS 20s, Mail 1m, Rcpt 2m, DataDone 8m, Reset 10s.
	Timeouts smtpclient.Timeouts
	// ChunkFrom is the size in bytes from which on a message goes by BDAT where the
	// upstream takes it; default 64 KiB.
	ChunkFrom int64
}

// Resolver finds the addresses of hosts that are names, and their TLSA records;
// *dns.Resolver has it.
type Resolver interface {
	AddrsSecure(ctx context.Context, host string) ([]netip.Addr, bool, error)
	dane.Resolver
}

// Observer is told of sessions, for counting. Its methods are called without any
// lock and must return at once. Hosts are named as they are configured.
type Observer interface {
	// Session was given to a transaction: a new one, which took so long to open, or
	// an old one.
	Session(host string, reused bool, took time.Duration)
	// Failed says that a session could not be opened or broke off; stage is as in
	// mail.Outcome.
	Failed(host, stage string)
	// Waited says how long a transaction was in the queue, and whether it got a
	// session.
	Waited(took time.Duration, granted bool)
}

// Deps are the parts that a Server works with.
type Deps struct {
	// Resolver is needed for hosts that are names.
	Resolver Resolver
	// Observer may be nil.
	Observer Observer
	Log      *slog.Logger
	// Dial makes connections; nil stands for the network.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// DialFrom makes them from an address that is not ours; Config.Spoof needs it.
	DialFrom func(ctx context.Context, from netip.Addr, network, address string) (net.Conn, error)
}

func (cfg Config) withDefaults() Config {
	cfg.Balance = cmp.Or(cfg.Balance, Failover)
	cfg.TLS = cmp.Or(cfg.TLS, TLSOpportunistic)
	cfg.Identity = cmp.Or(cfg.Identity, IdentityNone)
	if cfg.Port == 0 {
		cfg.Port = 25
		if cfg.ImplicitTLS {
			cfg.Port = 465
		}
	}
	cfg.Sessions = cmp.Or(cfg.Sessions, 100)
	cfg.MaxWaiting = cmp.Or(cfg.MaxWaiting, 1000)
	cfg.WaitTimeout = cmp.Or(cfg.WaitTimeout, 30*time.Second)
	cfg.OpenTimeout = cmp.Or(cfg.OpenTimeout, time.Minute)
	cfg.MessagesPerSession = cmp.Or(cfg.MessagesPerSession, 100)
	cfg.IdleTimeout = cmp.Or(cfg.IdleTimeout, 30*time.Second)
	cfg.KeepAlive = cmp.Or(cfg.KeepAlive, time.Minute)
	cfg.MaxHold = cmp.Or(cfg.MaxHold, time.Hour)
	cfg.Rest = cmp.Or(cfg.Rest, time.Second)
	cfg.RestMax = cmp.Or(cfg.RestMax, 30*time.Second)
	cfg.SlowStart = cmp.Or(cfg.SlowStart, 30*time.Second)
	t := &cfg.Timeouts
	t.Connect = cmp.Or(t.Connect, 10*time.Second)
	t.Banner = cmp.Or(t.Banner, 30*time.Second)
	t.Hello = cmp.Or(t.Hello, 30*time.Second)
	t.TLS = cmp.Or(t.TLS, 20*time.Second)
	t.Auth = cmp.Or(t.Auth, 30*time.Second)
	t.Mail = cmp.Or(t.Mail, time.Minute)
	t.Rcpt = cmp.Or(t.Rcpt, 2*time.Minute)
	t.DataDone = cmp.Or(t.DataDone, 8*time.Minute)
	t.Reset = cmp.Or(t.Reset, 10*time.Second)
	return cfg
}

func (cfg *Config) check() error {
	var errs []error
	refuse := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if cfg.Hostname == "" {
		errs = append(errs, errors.New("no hostname"))
	}
	switch cfg.TLS {
	case TLSOff, TLSOpportunistic, TLSRequire, TLSVerify, TLSDANE:
	default:
		refuse("unknown tls %q", cfg.TLS)
	}
	if cfg.ImplicitTLS && cfg.TLS == TLSOff {
		refuse("implicit TLS with tls %q", cfg.TLS)
	}
	switch cfg.Balance {
	case Failover, RoundRobin, LeastSessions:
	default:
		refuse("unknown balance %q", cfg.Balance)
	}
	switch cfg.Identity {
	case IdentityNone, IdentityXClient, IdentityXForward, IdentityProxyV1, IdentityProxyV2:
	default:
		refuse("unknown identity %q", cfg.Identity)
	}
	if cfg.Port < 1 || cfg.Port > 65535 {
		refuse("port %d", cfg.Port)
	}
	return errors.Join(errs...)
}
