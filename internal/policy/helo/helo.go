// Package helo is the block "helo" of recipient flows: what the name says that a
// client introduces itself with. Each oddity is a finding with a symbol and a small
// score of its own.
//
// What may follow is a matter of taste. RFC 5321 §4.1.4 forbids to refuse mail only
// because the name does not belong to the client's address, so that is not even
// looked at; names that are no names, and ours in a stranger's mouth, are another
// matter.
//
// Invariants:
//   - Authenticated and trusted clients are spared: mail programs of users say what
//     they like.
//   - A name is unresolvable only where the name service says so for certain; an
//     outage is Unknown.
//   - The name service is asked about at most one name, within Config.Timeout.
package helo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"gatepost/internal/dns"
	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/policy"
	"gatepost/internal/smtp"
)

// Name is how the block is named in flows, and the module in findings.
const Name = "helo"

// Symbols of findings.
const (
	SymbolSyntax       = "syntax"           // neither a name nor an address literal
	SymbolBareAddress  = "bare-address"     // an address without brackets
	SymbolLiteral      = "literal-mismatch" // the literal of another address
	SymbolUnqualified  = "unqualified"      // a name without a domain
	SymbolLocalhost    = "localhost"        // localhost, or a name in .localhost
	SymbolOwnName      = "own-name"         // this gateway's name, or a domain of ours
	SymbolOwnAddress   = "own-address"      // this gateway's address
	SymbolUnresolvable = "unresolvable"     // neither address nor mail exchanger
	SymbolLookup       = "lookup"           // unknown: the name service does not answer
)

// DefaultScores returns what the symbols count if Config.Scores does not say otherwise.
func DefaultScores() map[string]float64 {
	return map[string]float64{
		SymbolSyntax: 1.5, SymbolBareAddress: 1.5, SymbolLiteral: 2, SymbolUnqualified: 0.5,
		SymbolLocalhost: 1.5, SymbolOwnName: 4, SymbolOwnAddress: 4, SymbolUnresolvable: 1,
	}
}

// Resolver is what is asked of the name service; *dns.Resolver has it.
type Resolver interface {
	Addrs(ctx context.Context, host string) ([]netip.Addr, error)
	MX(ctx context.Context, domain string) ([]dns.MX, error)
}

// Domains knows the domains that this gateway takes mail for, in canonical form.
type Domains interface {
	Ours(domain string) bool
}

// Config is how the check works.
type Config struct {
	// Resolver nil: names are not looked up.
	Resolver Resolver
	// Names are this gateway's host names, Addresses its addresses; the address that
	// a client connected to is always one of them.
	Names     []string
	Addresses []netip.Addr
	// Domains nil: none are ours.
	Domains Domains
	// Scores replace the default scores of single symbols.
	Scores map[string]float64
	// Timeout bounds the lookups; default 5 s.
	Timeout time.Duration
}

// Check is the check. One answer holds for a transaction: the name may change
// between two (policy.PerTransaction).
type Check struct {
	config Config
	names  []string
	scores map[string]float64
}

// New returns the check, or an error for a Config that cannot be meant.
func New(c Config) (*Check, error) {
	if c.Timeout < 0 {
		return nil, fmt.Errorf("helo: timeout is %v and must not be negative", c.Timeout)
	}
	c.Timeout = cmp.Or(c.Timeout, 5*time.Second)
	h := &Check{config: c, scores: DefaultScores()}
	for symbol, score := range c.Scores {
		if _, ok := h.scores[symbol]; !ok {
			return nil, fmt.Errorf("helo: there is no symbol %q to score", symbol)
		}
		h.scores[symbol] = score
	}
	for _, n := range c.Names {
		name, err := smtp.CanonicalDomain(n)
		if err != nil {
			return nil, fmt.Errorf("helo: %q is no host name", n)
		}
		h.names = append(h.names, name)
	}
	return h, nil
}

// Check implements policy.Check.
func (h *Check) Check(ctx context.Context, in *policy.Input) ([]mail.Finding, error) {
	s := in.Session
	if s.MayRelay() || s.Helo == "" {
		return nil, nil
	}
	name, err := smtp.CanonicalDomain(s.Helo)
	switch {
	case isAddress(s.Helo):
		return h.address(s, strings.Trim(s.Helo, "[]"), SymbolBareAddress), nil
	case err != nil:
		return h.match(SymbolSyntax, s.Helo, "is neither a host name nor an address in brackets"), nil
	case strings.HasPrefix(name, "["):
		return h.address(s, strings.TrimPrefix(strings.Trim(name, "[]"), "IPv6:"), ""), nil
	}
	if f, known := h.known(s, name); known {
		return f, nil
	}
	return h.resolve(ctx, name)
}

// isAddress reports an address without the brackets of RFC 5321 §4.1.3, or an IPv6
// address without the tag.
func isAddress(s string) bool {
	a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"))
	return err == nil && (a.Is6() || !strings.HasPrefix(s, "["))
}

// address judges an address; form is the symbol of the way in which it is written
// if that is wrong.
func (h *Check) address(s *mail.Session, text, form string) []mail.Finding {
	addr, err := netip.ParseAddr(text)
	addr = addr.Unmap().WithZone("")
	client := s.Client.Addr().Unmap().WithZone("")
	switch {
	case err != nil:
		return h.match(SymbolSyntax, s.Helo, "is neither a host name nor an address in brackets")
	case addr != client && (slices.Contains(h.config.Addresses, addr) || addr == s.Local.Addr().Unmap().WithZone("")):
		return h.match(SymbolOwnAddress, s.Helo, "is an address of this gateway")
	case addr != client:
		return h.match(SymbolLiteral, s.Helo, "is not the client's address")
	case form != "":
		return h.match(form, s.Helo, "is an address without brackets")
	}
	return nil
}

// known judges a name that needs no lookup, and reports whether it is one.
func (h *Check) known(s *mail.Session, name string) (_ []mail.Finding, known bool) {
	switch {
	case name == "localhost" || name == "localhost.localdomain" || strings.HasSuffix(name, ".localhost"):
		if s.Client.Addr().Unmap().IsLoopback() {
			return nil, true
		}
		return h.match(SymbolLocalhost, s.Helo, "is the name of every host for itself"), true
	case slices.Contains(h.names, name):
		return h.match(SymbolOwnName, s.Helo, "is the name of this gateway"), true
	case h.config.Domains != nil && h.config.Domains.Ours(name):
		return h.match(SymbolOwnName, s.Helo, "is a domain of ours"), true
	case !strings.Contains(name, "."):
		return h.match(SymbolUnqualified, s.Helo, "has no domain"), true
	}
	return nil, false
}

// resolve looks whether the name exists: as a host, or as a domain with mail.
func (h *Check) resolve(ctx context.Context, name string) ([]mail.Finding, error) {
	if h.config.Resolver == nil {
		return nil, nil
	}
	limited, cancel := context.WithTimeout(ctx, h.config.Timeout)
	defer cancel()
	_, err := h.config.Resolver.Addrs(limited, name)
	if err == nil {
		return nil, nil
	}
	var e *dns.Error
	if errors.As(err, &e) && e.NoData {
		var list []dns.MX
		list, err = h.config.Resolver.MX(limited, name)
		if err == nil && !list[0].Implicit && !list[0].Null() {
			return nil, nil
		}
	}
	if gone := ctx.Err(); errors.Is(gone, context.Canceled) {
		return nil, gone
	}
	if err != nil && (!errors.As(err, &e) || e.Temporary) {
		return []mail.Finding{{Module: Name, Symbol: SymbolLookup, Result: mail.Unknown, Name: name,
			Reason: "cannot look " + name + " up now"}}, nil
	}
	return h.match(SymbolUnresolvable, name, "has neither an address nor a mail exchanger"), nil
}

// maxShown bounds what is shown of a name, in bytes.
const maxShown = 100

func (h *Check) match(symbol, name, what string) []mail.Finding {
	name = message.SafeText(name, maxShown)
	return []mail.Finding{{Module: Name, Symbol: symbol, Result: mail.Match, Score: h.scores[symbol], Name: name,
		Reason: fmt.Sprintf("the client says it is %s, which %s", name, what)}}
}
