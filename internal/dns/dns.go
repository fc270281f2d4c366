// Package dns asks the name servers that the administrator chose: mail exchangers,
// addresses, texts, host names and TLSA records, with a cache that lives as long
// as the records say.
//
//	r, err := dns.New(dns.Config{})
//	hosts, err := r.MX(ctx, "example.org")
//	addrs, err := r.Addrs(ctx, hosts[0].Host)
//
// Invariants:
//   - Every error is an *Error and says whether the name does not exist, has no
//     such record, or could not be looked up now; an outage never looks like a
//     name that does not exist.
//   - Answers are hostile input: names that no host can have are dropped, the
//     number of records is bounded, other types and other owners are ignored.
//   - An answer counts as authentic only when the server that gave it may be
//     trusted with its AD bit (RFC 6840 §5.8): on a loopback address or named in
//     the configuration.
//   - Equal lookups at the same moment are one query. Its goroutine ends when
//     the last caller has left, at the latest after Config.Timeout.
package dns

import (
	"context"
	"time"

	"github.com/miekg/dns"
)

// Config is how to look things up. The zero Config asks the system's servers.
type Config struct {
	// Servers are name servers, "192.0.2.1", "192.0.2.1:5353" or "[2001:db8::1]:53",
	// in the order in which they are asked. Empty: those of ResolvConf, or else
	// 127.0.0.1.
	Servers []string
	// Timeout bounds one lookup over all servers and retries; default 5 s.
	Timeout time.Duration
	// Rounds is how often each server is asked before giving up; default 2.
	Rounds int
	// CacheEntries bounds the number of cached answers, at 1 KiB each on average;
	// default 10,000; below 0 nothing is cached.
	CacheEntries int
	// MaxTTL bounds how long an answer is cached, default 24 h; MaxNegativeTTL
	// the same for "there is none", default 1 h. FailureTTL is how long a failure
	// is remembered (RFC 9520 §3.2), default 1 s.
	MaxTTL, MaxNegativeTTL, FailureTTL time.Duration
	// MaxRecords bounds the records of one answer; default 100.
	MaxRecords int
	// MaxQueries bounds the queries on the wire at once; default 500.
	MaxQueries int
	// ResolvConf and HostsFile default to /etc/resolv.conf and /etc/hosts, which
	// are read once.
	ResolvConf, HostsFile string
}

func (c Config) withDefaults() Config {
	set(&c.Timeout, 5*time.Second)
	set(&c.Rounds, 2)
	if c.CacheEntries == 0 {
		c.CacheEntries = 10_000
	}
	set(&c.MaxTTL, 24*time.Hour)
	set(&c.MaxNegativeTTL, time.Hour)
	set(&c.FailureTTL, time.Second)
	set(&c.MaxRecords, 100)
	set(&c.MaxQueries, 500)
	if c.ResolvConf == "" {
		c.ResolvConf = "/etc/resolv.conf"
	}
	if c.HostsFile == "" {
		c.HostsFile = "/etc/hosts"
	}
	return c
}

func set[T int | time.Duration](v *T, fallback T) {
	if *v <= 0 {
		*v = fallback
	}
}

// Resolver looks things up. It is safe for many goroutines and needs no closing.
type Resolver struct {
	cfg    Config
	zone   string // appended to the names asked for; "" for none
	wire   exchanger
	cache  *cache
	flight *flight
	hosts  hosts
	// broken is why nothing can be looked up: WithLookup got a bad server.
	broken error
}

// exchanger sends one question to the servers and returns the first useful
// answer, or the best description of why there is none.
type exchanger interface {
	exchange(ctx context.Context, q question) (*reply, *Error)
}

// question is what is asked; the name is fully qualified and in lower case.
type question struct {
	name  string
	qtype uint16
}

func (q question) typeName() string { return dns.TypeToString[q.qtype] }

// reply is a DNS message and whether its AD bit may be trusted.
type reply struct {
	msg     *dns.Msg
	trusted bool
}

// New returns a resolver. The errors are malformed servers and unreadable files;
// a missing ResolvConf or HostsFile is none.
func New(cfg Config) (*Resolver, error) {
	cfg = cfg.withDefaults()
	servers, err := systemServers(cfg)
	if err != nil {
		return nil, err
	}
	hosts, err := readHosts(cfg.HostsFile)
	if err != nil {
		return nil, err
	}
	return newResolver(cfg, newNetwork(cfg, servers), hosts), nil
}

func newResolver(cfg Config, wire exchanger, h hosts) *Resolver {
	return &Resolver{
		cfg:    cfg,
		wire:   wire,
		cache:  newCache(cfg.CacheEntries),
		flight: newFlight(),
		hosts:  h,
	}
}

// WithLookup returns a resolver for a transport with a lookup of its own: zone
// is a suffix for the names that MX and Addrs ask for, "" for none, and servers
// are asked instead of r's; none keeps r's servers and cache. Where a server's
// address is malformed (ParseServer tells), every lookup fails.
func (r *Resolver) WithLookup(zone string, servers []string) *Resolver {
	other := *r
	other.zone = trimDot(zone)
	if len(servers) == 0 {
		return &other
	}
	list, err := parseServers(servers)
	if err != nil {
		other.broken = err
		return &other
	}
	made := newResolver(r.cfg, newNetwork(r.cfg, list), nil)
	made.zone = other.zone
	return made
}
