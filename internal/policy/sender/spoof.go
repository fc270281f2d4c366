package sender

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"gatepost/internal/mail"
	"gatepost/internal/policy"
	"gatepost/internal/smtp"
)

// SpoofName is how the block is named in flows, and the module in findings.
const SpoofName = "own-domain-spoof"

// SymbolSpoof is the symbol of the finding of own-domain-spoof.
const SymbolSpoof = "spoof"

// Domains knows the domains that this gateway takes mail for, in canonical form.
type Domains interface {
	Ours(domain string) bool
}

// SpoofConfig is how own-domain-spoof works.
type SpoofConfig struct {
	Domains Domains
	// Except are senders ("news@example.com"), domains ("lists.example.com"),
	// addresses and networks of clients ("192.0.2.0/24") that may do it: a service
	// that sends in our name.
	Except []string
	// Strict does not except clients that the domain's own SPF record allows.
	Strict bool
	// Score is what a match counts; default 5.
	Score float64
}

// Spoof is the check own-domain-spoof. One answer holds for a transaction
// (policy.PerTransaction).
type Spoof struct {
	config   SpoofConfig
	names    map[string]bool
	networks []netip.Prefix
}

// defaultSpoofScore is more than what lists of a few doubtful things come to.
const defaultSpoofScore = 5

// NewSpoof returns the check, or an error for a SpoofConfig that cannot be meant.
func NewSpoof(c SpoofConfig) (*Spoof, error) {
	if c.Domains == nil {
		return nil, errors.New("own-domain-spoof: it needs to know the domains that are ours")
	}
	if c.Score == 0 {
		c.Score = defaultSpoofScore
	}
	s := &Spoof{config: c, names: map[string]bool{}}
	for _, e := range c.Except {
		if err := s.except(e); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *Spoof) except(text string) error {
	if p, err := netip.ParsePrefix(text); err == nil {
		s.networks = append(s.networks, p.Masked())
		return nil
	}
	if a, err := netip.ParseAddr(text); err == nil {
		a = a.Unmap()
		s.networks = append(s.networks, netip.PrefixFrom(a, a.BitLen()))
		return nil
	}
	if a, err := smtp.ParseAddress(text); err == nil {
		s.names[a.Key()] = true
		return nil
	}
	domain, err := smtp.CanonicalDomain(text)
	if err != nil || !strings.Contains(domain, ".") {
		return fmt.Errorf("own-domain-spoof: except: %q is neither an address, a network, a domain nor user@domain", text)
	}
	s.names[domain] = true
	return nil
}

// Check implements policy.Check.
func (s *Spoof) Check(_ context.Context, in *policy.Input) ([]mail.Finding, error) {
	if in.Envelope == nil || in.Envelope.Sender.Domain == "" || in.Session.MayRelay() {
		return nil, nil
	}
	sender := in.Envelope.Sender
	if !s.config.Domains.Ours(sender.Domain) || s.excepted(in.Session, sender) {
		return nil, nil
	}
	return []mail.Finding{{Module: SpoofName, Symbol: SymbolSpoof, Result: mail.Match, Score: s.config.Score,
		Name: sender.Domain, Reason: "the sender is one of " + sender.Domain + ", which is ours, and the client has not authenticated"}}, nil
}

func (s *Spoof) excepted(session *mail.Session, sender mail.Address) bool {
	if s.names[sender.Key()] || s.names[sender.Domain] {
		return true
	}
	client := session.Client.Addr().Unmap().WithZone("")
	if slices.ContainsFunc(s.networks, func(p netip.Prefix) bool { return p.Contains(client) }) {
		return true
	}
	return !s.config.Strict && slices.ContainsFunc(session.Findings, func(f mail.Finding) bool {
		return (f.Module == "spf" || f.Module == "authres") && f.Symbol == "spf:pass" && strings.EqualFold(f.Name, sender.Domain)
	})
}
