package sender

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"gatepost/internal/dns"
	"gatepost/internal/mail"
	"gatepost/internal/policy"
)

// DomainName is how the block is named in flows, and the module in findings.
const DomainName = "sender-domain"

// Symbols of findings of sender-domain.
const (
	SymbolNonexistent = "nonexistent" // the domain does not exist
	SymbolNoHost      = "no-host"     // neither a mail exchanger nor an address
	SymbolNullMX      = "null-mx"     // it says that it takes no mail
	SymbolBogusMX     = "bogus-mx"    // its mail exchangers are nowhere: loopback, private networks
	SymbolLiteral     = "literal"     // an address in brackets instead of a domain
	SymbolLookup      = "lookup"      // unknown: the name service does not answer
)

// DefaultScores returns what the symbols of sender-domain count if
// DomainConfig.Scores does not say otherwise.
func DefaultScores() map[string]float64 {
	return map[string]float64{SymbolNonexistent: 4, SymbolNoHost: 3, SymbolNullMX: 4, SymbolBogusMX: 3, SymbolLiteral: 2}
}

// Resolver is what is asked of the name service; *dns.Resolver has it.
type Resolver interface {
	MX(ctx context.Context, domain string) ([]dns.MX, error)
	Addrs(ctx context.Context, host string) ([]netip.Addr, error)
}

// DomainConfig is how sender-domain works.
type DomainConfig struct {
	Resolver Resolver
	// Private are networks that are private to others and in use here: mail
	// exchangers there are none of the bogus.
	Private []netip.Prefix
	// Scores replace the default scores of single symbols.
	Scores map[string]float64
	// Timeout bounds the lookups; default 5 s. MaxHosts is how many exchangers are
	// looked at; default 5.
	Timeout  time.Duration
	MaxHosts int
}

// Domain is the check sender-domain. One answer holds for a transaction
// (policy.PerTransaction).
type Domain struct {
	config DomainConfig
	scores map[string]float64
}

// NewDomain returns the check, or an error for a DomainConfig that cannot be meant.
func NewDomain(c DomainConfig) (*Domain, error) {
	switch {
	case c.Resolver == nil:
		return nil, errors.New("sender-domain: it needs a resolver")
	case c.Timeout < 0:
		return nil, fmt.Errorf("sender-domain: timeout is %v and must not be negative", c.Timeout)
	case c.MaxHosts < 0:
		return nil, fmt.Errorf("sender-domain: max_hosts is %d and must not be negative", c.MaxHosts)
	}
	c.Timeout = cmp.Or(c.Timeout, 5*time.Second)
	c.MaxHosts = cmp.Or(c.MaxHosts, 5)
	d := &Domain{config: c, scores: DefaultScores()}
	for symbol, score := range c.Scores {
		if _, ok := d.scores[symbol]; !ok {
			return nil, fmt.Errorf("sender-domain: there is no symbol %q to score", symbol)
		}
		d.scores[symbol] = score
	}
	return d, nil
}

// Check implements policy.Check.
func (d *Domain) Check(ctx context.Context, in *policy.Input) ([]mail.Finding, error) {
	if in.Envelope == nil || in.Envelope.Sender.Domain == "" || in.Session.MayRelay() {
		return nil, nil
	}
	domain := in.Envelope.Sender.Domain
	if strings.HasPrefix(domain, "[") {
		return d.match(SymbolLiteral, domain, "is an address instead of a domain"), nil
	}
	limited, cancel := context.WithTimeout(ctx, d.config.Timeout)
	defer cancel()
	findings := d.look(limited, domain)
	if err := ctx.Err(); errors.Is(err, context.Canceled) {
		return nil, err
	}
	return findings, nil
}

// look asks for the exchangers and, until one can be reached from here, for their
// addresses.
func (d *Domain) look(ctx context.Context, domain string) []mail.Finding {
	list, err := d.config.Resolver.MX(ctx, domain)
	var e *dns.Error
	switch {
	case errors.As(err, &e) && e.NXDomain:
		return d.match(SymbolNonexistent, domain, "does not exist")
	case errors.As(err, &e) && !e.Temporary:
		return d.match(SymbolBogusMX, domain, "has mail exchangers that are no hosts")
	case err != nil:
		return unknown(domain)
	case list[0].Null():
		// RFC 7505 §4.2: nobody could answer such a sender.
		return d.match(SymbolNullMX, domain, "says that it takes no mail")
	}
	doubt, bogus := len(list) > d.config.MaxHosts, false
	for _, mx := range list[:min(len(list), d.config.MaxHosts)] {
		addrs, err := d.config.Resolver.Addrs(ctx, mx.Host)
		switch {
		case err != nil:
			doubt = doubt || !dns.IsNotFound(err)
		case d.anyReachable(addrs):
			return nil
		default:
			bogus = true
		}
	}
	switch {
	case doubt:
		return unknown(domain)
	case bogus:
		return d.match(SymbolBogusMX, domain, "has mail exchangers on addresses that nobody can reach")
	}
	return d.match(SymbolNoHost, domain, "has no host that takes mail")
}

func (d *Domain) anyReachable(addrs []netip.Addr) bool {
	for _, a := range addrs {
		if d.reachable(a) {
			return true
		}
	}
	return false
}

// reachable reports whether mail from anywhere can get to the address.
func (d *Domain) reachable(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	for _, p := range d.config.Private {
		if p.Contains(a) {
			return true
		}
	}
	return policy.Public(a)
}

func (d *Domain) match(symbol, domain, what string) []mail.Finding {
	return []mail.Finding{{Module: DomainName, Symbol: symbol, Result: mail.Match, Score: d.scores[symbol],
		Name: domain, Reason: "the sender's domain " + domain + " " + what}}
}

func unknown(domain string) []mail.Finding {
	return []mail.Finding{{Module: DomainName, Symbol: SymbolLookup, Result: mail.Unknown,
		Name: domain, Reason: "cannot look the mail hosts of " + domain + " up now"}}
}

// DomainReply is the reply to a match of sender-domain that rejects.
func DomainReply(symbol string) mail.ReplyKey {
	if symbol == SymbolNullMX {
		return mail.ReplySenderNullMX
	}
	return mail.ReplySenderDomain
}
