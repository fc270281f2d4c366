// Package dnsbl is the check that asks block and allow lists in the DNS about a
// client's address.
//
//	check, err := dnsbl.New(dnsbl.Config{Zones: zones, Resolver: resolver, Threshold: &three})
//	go check.Watch(ctx)
//	findings, err := check.Check(ctx, in)
//
// Invariants:
//   - One call takes Config.Timeout at most, whatever the name servers do. A list
//     that did not answer is a finding with the result Unknown.
//   - An answer that is an error is never a listing; where a list gives one beside
//     others, none of them is believed.
//   - A list is counted once for each zone that it is written as, whatever number
//     of answers it gives.
//   - Clients of private networks and trusted ones are not asked about.
//   - A list that fails its test points is not asked until it is well again.
package dnsbl

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"gatepost/internal/dns/dnslist"
	"gatepost/internal/mail"
	"gatepost/internal/policy"
)

// Use is how the block is named in flows, and the module in findings.
const Use = "dnsbl"

// Symbols of findings that are not named after a zone.
const (
	SymbolError = "list-error" // a list that cannot be asked now
	SymbolOff   = "list-off"   // a list that is switched off
)

// maxZones bounds the questions of one check.
const maxZones = 50

// Resolver looks names up; *dns.Resolver is one. Both methods return soon after
// the end of ctx, and an error that dns.IsNotFound knows where there is no record.
type Resolver interface {
	IPv4(ctx context.Context, name string) ([]netip.Addr, error)
	TXT(ctx context.Context, name string) ([]string, error)
}

// Config is how the check works. Zero values stand for the defaults.
type Config struct {
	// Zones are the lists; those with a Score below 0 are lists of the good.
	Zones    []dnslist.Zone
	Resolver Resolver
	// Timeout bounds one check over all lists and texts; default 5 s.
	Timeout time.Duration
	// Threshold is the sum from which on the block acts. As soon as it is certain
	// that it is reached, the rest is not waited for. nil: all lists are.
	Threshold *float64
	// Texts asks lists for the reason of a listing, for log and history.
	Texts bool
	// MonitorEvery is how often Watch asks for the test points of the lists;
	// default 30 minutes, below 0 never. A list that failed is asked again after
	// RetryEvery, default 1 minute.
	MonitorEvery, RetryEvery time.Duration
	Log                      *slog.Logger
}

// Check asks lists about clients.
type Check struct {
	cfg   Config
	zones []*zone
}

// zone is a list with its health.
type zone struct {
	dnslist.Zone
	health health
}

// New returns the check, or an error for a Config that cannot be meant.
func New(cfg Config) (*Check, error) {
	cfg.Timeout = cmp.Or(max(cfg.Timeout, 0), 5*time.Second)
	cfg.MonitorEvery = cmp.Or(cfg.MonitorEvery, 30*time.Minute)
	cfg.RetryEvery = cmp.Or(max(cfg.RetryEvery, 0), time.Minute)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	switch {
	case len(cfg.Zones) == 0:
		return nil, errors.New("dnsbl: zones: it needs at least one list")
	case len(cfg.Zones) > maxZones:
		return nil, fmt.Errorf("dnsbl: zones: %d lists, at most %d", len(cfg.Zones), maxZones)
	case cfg.Resolver == nil:
		return nil, errors.New("dnsbl: it needs a resolver")
	}
	c := &Check{cfg: cfg}
	seen := map[string]bool{}
	for _, z := range cfg.Zones {
		// RFC 1035 §2.3.4: 253 bytes, of which an IPv6 address takes 64.
		if len(z.Name) > 253-64 {
			return nil, fmt.Errorf("dnsbl: zones: %s is too long a name to ask for addresses in", z.Name)
		}
		if seen[z.String()] {
			return nil, fmt.Errorf("dnsbl: zones: %s is there twice", z)
		}
		seen[z.String()] = true
		c.zones = append(c.zones, &zone{Zone: z, health: newHealth()})
	}
	return c, nil
}

// Check implements policy.Check: a finding for each list that has the client, or
// could not be asked. The result of a listing on a list of the good is Clean.
func (c *Check) Check(ctx context.Context, in *policy.Input) ([]mail.Finding, error) {
	client := in.Session.Client.Addr().Unmap().WithZone("")
	if in.Session.Trusted || !asked(client) {
		return nil, nil
	}
	budget, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	r := newRound(c, client)
	r.run(budget)
	if err := ctx.Err(); errors.Is(err, context.Canceled) {
		return nil, err // not the lists were slow: nobody waits for them any more
	}
	if c.cfg.Texts {
		r.texts(budget)
	}
	return r.findings(), nil
}

// shared is 100.64.0.0/10, behind which providers hide their customers (RFC 6598 §7).
var shared = netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64, 0, 0}), 10)

// asked reports an address that lists can know something about.
func asked(client netip.Addr) bool {
	return client.IsGlobalUnicast() && !client.IsPrivate() && !shared.Contains(client)
}
