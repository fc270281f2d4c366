package callout

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"gatepost/internal/dns"
	"gatepost/internal/mail"
	"gatepost/internal/smtp"
	"gatepost/internal/smtpclient"
)

// Names of the blocks in flows, and the modules in findings.
const (
	SenderName    = "verify-sender"
	RecipientName = "verify-recipient"
)

// Symbols of findings.
const (
	SymbolExists      = "exists"      // the address is taken
	SymbolRejected    = "rejected"    // match: it is refused for good
	SymbolCatchAll    = "catch-all"   // any address is taken: nothing is known of this one
	SymbolUnavailable = "unavailable" // unknown: nobody could say
)

// Resolver is what is asked of the name service; *dns.Resolver has it.
type Resolver interface {
	MX(ctx context.Context, domain string) ([]dns.MX, error)
	Addrs(ctx context.Context, host string) ([]netip.Addr, error)
}

// Domains knows the domains that this gateway takes mail for, in canonical form.
type Domains interface {
	Ours(domain string) bool
}

// Hop is a server that can be asked, and how it wants to be spoken to.
type Hop struct {
	smtpclient.Target
	LMTP bool
	// TLS nil: in clear text. Where the server does not offer STARTTLS, RequireTLS
	// makes that a failure. Verified says that TLS checks the certificate.
	TLS        *tls.Config
	RequireTLS bool
	Verified   bool
	// Auth is how to log in; nil for not at all.
	Auth *smtpclient.Credentials
}

// Targets knows the servers behind a route.
type Targets interface {
	// Target returns the servers that take the mail of a route, best first. None
	// means the mail exchangers of Route.NextHop or, where that is empty, of the
	// recipient's domain. ErrNoCallout says that nobody can be asked: a maildir.
	Target(ctx context.Context, route mail.Route) ([]Hop, error)
}

// ErrNoCallout says that a route leads to nobody who could be asked.
var ErrNoCallout = errors.New("there is no server to ask")

// Config is how callouts work. Zero values take the default.
type Config struct {
	// Hostname is this gateway's name: for EHLO, and to know ourselves among
	// exchangers. Own are the addresses that it listens on; an unspecified address
	// stands for all of the machine's.
	Hostname string
	Own      []netip.AddrPort
	Resolver Resolver
	// Domains are needed for verify-sender, Targets for verify-recipient.
	Domains Domains
	Targets Targets
	Log     *slog.Logger // nil: nothing is logged

	// Timeout bounds a callout with everything in it; default 10 s.
	Timeout time.Duration
	// MaxHosts is how many addresses are tried; default 2.
	MaxHosts int
	// Sessions is how many callouts there may be at once, default 100; PerTarget
	// how many of them to one address, default 4, and PerMinute how many in a minute,
	// default 60 for senders and 600 for recipients.
	Sessions, PerTarget, PerMinute int
	// PositiveFor is how long an address is remembered that exists, default 24 h;
	// NegativeFor one that does not, default 2 h; UnknownFor that nobody could say,
	// default 2 minutes; CatchAllFor whether a domain takes any address, default 24 h.
	PositiveFor, NegativeFor, UnknownFor, CatchAllFor time.Duration
	// CacheSize is how many answers are remembered, at 300 bytes each; default 50,000.
	CacheSize int
	// Score is what a match counts; default 3 for senders, 0 for recipients.
	Score float64

	// Port is where mail exchangers are spoken to; default 25.
	Port int
	// Private allows callouts for senders to exchangers on loopback and in private
	// networks. Whoever may send us mail may then make us connect to them.
	Private bool
	// Dial makes connections; default net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

func (c Config) withDefaults() Config {
	c.Timeout = cmp.Or(c.Timeout, 10*time.Second)
	c.MaxHosts = cmp.Or(c.MaxHosts, 2)
	c.Sessions = cmp.Or(c.Sessions, 100)
	c.PerTarget = cmp.Or(c.PerTarget, 4)
	c.PositiveFor = cmp.Or(c.PositiveFor, 24*time.Hour)
	c.NegativeFor = cmp.Or(c.NegativeFor, 2*time.Hour)
	c.UnknownFor = cmp.Or(c.UnknownFor, 2*time.Minute)
	c.CatchAllFor = cmp.Or(c.CatchAllFor, 24*time.Hour)
	c.CacheSize = cmp.Or(c.CacheSize, 50_000)
	c.Port = cmp.Or(c.Port, 25)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

func (c *Config) check(name string) error {
	if _, err := smtp.CanonicalDomain(c.Hostname); err != nil {
		return fmt.Errorf("%s: %q is no host name", name, c.Hostname)
	}
	for _, d := range []struct {
		name string
		is   time.Duration
	}{{"timeout", c.Timeout}, {"positive_for", c.PositiveFor}, {"negative_for", c.NegativeFor}, {"unknown_for", c.UnknownFor}, {"catch_all_for", c.CatchAllFor}} {
		if d.is < 0 {
			return fmt.Errorf("%s: %s is %v and must not be negative", name, d.name, d.is)
		}
	}
	for _, n := range []struct {
		name string
		is   int
	}{{"max_hosts", c.MaxHosts}, {"sessions", c.Sessions}, {"per_target", c.PerTarget}, {"per_minute", c.PerMinute}, {"cache_size", c.CacheSize}} {
		if n.is < 0 {
			return fmt.Errorf("%s: %s is %d and must not be negative", name, n.name, n.is)
		}
	}
	if c.Resolver == nil {
		return fmt.Errorf("%s: it needs a resolver", name)
	}
	if c.Port < 1 || c.Port > 65535 {
		return fmt.Errorf("%s: port %d is out of range", name, c.Port)
	}
	return nil
}
