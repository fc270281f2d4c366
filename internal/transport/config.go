package transport

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"gatepost/internal/dns"
	"gatepost/internal/mail"
	"gatepost/internal/smtpclient"
)

// Kind is what a transport does.
type Kind string

// The kinds of transport.
const (
	SMTP     Kind = "smtp"
	MX       Kind = "mx"
	Original Kind = "original"
	LMTP     Kind = "lmtp"
	Maildir  Kind = "maildir"
	Discard  Kind = "discard"
)

// TLSMode is what a transport asks of the encryption to its next hop.
type TLSMode string

// The TLS modes. The empty TLSMode is TLSOpportunistic.
const (
	TLSOff           TLSMode = "off"           // never
	TLSOpportunistic TLSMode = "opportunistic" // if it works, with any certificate
	TLSRequire       TLSMode = "require"       // or no mail; any certificate
	TLSVerify        TLSMode = "verify"        // or no mail; a trusted certificate for the host's name
	TLSDANE          TLSMode = "dane"          // as the TLSA records say; without them as opportunistic
)

// Balance is how a transport chooses among its hosts.
type Balance string

// The ways to choose. The empty Balance is Failover.
const (
	Failover      Balance = "failover"       // in their order
	RoundRobin    Balance = "round-robin"    // each in turn, by weight
	LeastSessions Balance = "least-sessions" // the one with the fewest busy sessions for its weight
)

// Config is one transport. Zero values take the default.
type Config struct {
	Name string
	Kind Kind
	// Hostname is this gateway's name, for EHLO and the names of maildir files.
	Hostname string

	// Hosts are "host:port", "host", "192.0.2.1:25" or "[2001:db8::1]:25" for smtp
	// and lmtp, and "unix:/path" for lmtp. The default ports are 25 and 24.
	Hosts   []string
	Balance Balance
	// Weights are the shares of Hosts in their order, 1 or more; nil: all the same.
	Weights []int
	// Port is where mail exchangers are spoken to; default 25.
	Port int
	// Own are the addresses that this gateway listens on; an unspecified address
	// stands for all of the machine's. A mail exchanger that is one of them, or
	// has the name Hostname, is ourselves.
	Own []netip.AddrPort

	TLS TLSMode
	// ImplicitTLS has sessions with Hosts begin with TLS (RFC 8314 §3.3), at port 465
	// where they name none; for smtp. Port 465 always does, but for TLSOff.
	ImplicitTLS bool
	// TLSCAFile holds the certificates, PEM, that may have signed the next hop's, or
	// that is the next hop's; "" stands for the system's.
	TLSCAFile string
	// TLSName is the name that the next hop's certificate must be for, where it is
	// not the host's.
	TLSName string
	// Auth is how to log in; nil for not at all.
	Auth *smtpclient.Credentials
	// Source is the local address to send from; the zero Addr leaves it to the system.
	Source netip.Addr
	// Spoof connects from the address of the client that a message came from; for
	// original.
	Spoof bool

	// Sessions is how many sessions there may be to one address; default 20.
	Sessions int
	// MessagesPerSession is after how many messages a session is ended; default 100.
	MessagesPerSession int
	// IdleTimeout is how long a session waits for the next message; default 5s.
	IdleTimeout time.Duration
	// MaxHosts is how many addresses one delivery tries; default 5.
	MaxHosts int
	// Rest is how long an address that cannot be spoken to is left alone while
	// there are others; it doubles with each failure up to RestMax. Defaults 5s, 5m.
	Rest, RestMax time.Duration
	Timeouts      smtpclient.Timeouts

	// Path is the maildir. "{user}", "{domain}" and "{address}" in it stand for
	// the parts of the recipient's address.
	Path string
}

// Resolver is what a transport asks of the name service; *dns.Resolver has it.
type Resolver interface {
	MXSecure(ctx context.Context, domain string) ([]dns.MX, bool, error)
	AddrsSecure(ctx context.Context, host string) ([]netip.Addr, bool, error)
	TLSA(ctx context.Context, name string) ([]dns.TLSA, bool, error)
}

// Deps are the parts that a transport works with.
type Deps struct {
	// Resolver is needed for mx, for hosts that are names, and for dane.
	Resolver Resolver
	// Signers sign what our own people send, each over the same content.
	Signers []Signer
	// Sealer seals what is passed on for others; nil: nothing is.
	Sealer Sealer
	// STS knows how domains want to be mailed, for mx; nil: nobody asks.
	STS STS
	// Reports collects how sessions with the exchangers of domains began; nil: nobody.
	Reports Reports
	// Observer is told of signatures, seals and encryption; nil: nobody.
	Observer Observer
	Log      *slog.Logger
	// Dial makes connections; nil stands for the network.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// DialFrom makes them from an address that is not ours; Config.Spoof needs it.
	DialFrom func(ctx context.Context, from netip.Addr, network, address string) (net.Conn, error)
	// Check says whether a connection to an original destination would come back to
	// this host; nil: none does.
	Check func(to netip.AddrPort) error
}

// Transport delivers messages. It may be used by any number of goroutines.
type Transport interface {
	// Deliver makes one attempt and returns an outcome per recipient in their order.
	Deliver(ctx context.Context, d *mail.Delivery) []mail.Outcome
	// Close ends running attempts, which return Deferred, and all sessions.
	Close() error
}

// New makes a transport. The error names everything that is wrong with cfg.
func New(cfg Config, deps Deps) (Transport, error) {
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	deps.Log = deps.Log.With("transport", cfg.Name)
	if deps.Observer == nil {
		deps.Observer = nobody{}
	}
	cfg = cfg.withDefaults()
	t, err := construct(cfg, deps)
	if err != nil {
		return nil, fmt.Errorf("make transport %q: %w", cfg.Name, err)
	}
	return t, nil
}

func construct(cfg Config, deps Deps) (Transport, error) {
	if err := cfg.check(deps); err != nil {
		return nil, err
	}
	switch cfg.Kind {
	case SMTP:
		return newSMTP(cfg, deps)
	case MX:
		return newMX(cfg, deps)
	case Original:
		return newOriginal(cfg, deps)
	case LMTP:
		return newLMTP(cfg, deps)
	case Maildir:
		return newMaildir(cfg)
	case Discard:
		return discard{}, nil
	}
	return nil, fmt.Errorf("unknown kind %q", cfg.Kind)
}

func (cfg Config) withDefaults() Config {
	cfg.Balance = cmp.Or(cfg.Balance, Failover)
	cfg.TLS = cmp.Or(cfg.TLS, TLSOpportunistic)
	cfg.Port = cmp.Or(cfg.Port, 25)
	cfg.Sessions = cmp.Or(cfg.Sessions, 20)
	cfg.MessagesPerSession = cmp.Or(cfg.MessagesPerSession, 100)
	cfg.IdleTimeout = cmp.Or(cfg.IdleTimeout, 5*time.Second)
	cfg.MaxHosts = cmp.Or(cfg.MaxHosts, 5)
	cfg.Rest = cmp.Or(cfg.Rest, 5*time.Second)
	cfg.RestMax = cmp.Or(cfg.RestMax, 5*time.Minute)
	return cfg
}

// check looks at what does not depend on the kind.
func (cfg *Config) check(deps Deps) error {
	var errs []error
	if cfg.Hostname == "" {
		errs = append(errs, errors.New("no hostname"))
	}
	switch cfg.TLS {
	case TLSOff, TLSOpportunistic, TLSRequire, TLSVerify, TLSDANE:
	default:
		errs = append(errs, fmt.Errorf("unknown tls %q", cfg.TLS))
	}
	if cfg.ImplicitTLS && (cfg.TLS == TLSOff || cfg.Kind != SMTP) {
		errs = append(errs, fmt.Errorf("implicit TLS with tls %q and kind %q", cfg.TLS, cfg.Kind))
	}
	switch cfg.Balance {
	case Failover, RoundRobin, LeastSessions:
	default:
		errs = append(errs, fmt.Errorf("unknown balance %q", cfg.Balance))
	}
	if (cfg.Kind == MX || cfg.Kind == Original || cfg.TLS == TLSDANE) && deps.Resolver == nil {
		errs = append(errs, errors.New("no resolver"))
	}
	return errors.Join(errs...)
}
