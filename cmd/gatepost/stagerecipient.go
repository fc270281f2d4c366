package main

import (
	"context"
	"fmt"
	"net/netip"

	"gatepost/internal/config"
	"gatepost/internal/dns"
	"gatepost/internal/gateway"
	"gatepost/internal/mail"
	"gatepost/internal/policy"
	"gatepost/internal/policy/callout"
	"gatepost/internal/policy/greylist"
	"gatepost/internal/policy/helo"
	"gatepost/internal/policy/sender"
	"gatepost/internal/policy/spfcheck"
	"gatepost/internal/scan/authres/spf"
)

// makeRecipient is make for blocks that stand in flows of the stage recipient only.
func (s *stageBuilder) makeRecipient(b *config.Block, m *made) (err error) {
	m.scope = policy.PerTransaction
	switch p := b.Params.(type) {
	case *config.HeloBlock:
		m.check, err = helo.New(s.heloConfig(b, p))
	case *config.SPFBlock:
		s.spf(b, p, m)
	case *config.SenderDomainBlock:
		m.decide.Words = func(f *mail.Finding) mail.Reply { return sender.DomainReply(f.Symbol).Reply() }
		m.check, err = sender.NewDomain(sender.DomainConfig{
			Resolver: s.g.resolver, Private: p.Private, Scores: p.Scores, Timeout: b.Timeout, MaxHosts: p.MaxHosts,
		})
	case *config.OwnDomainSpoofBlock:
		m.decide.Words = always(mail.ReplySpoofed)
		m.check, err = sender.NewSpoof(sender.SpoofConfig{Domains: s.ours, Except: p.Except, Strict: p.Strict})
	case *config.VerifySenderBlock:
		err = s.verifySender(b, p, m)
	case *config.VerifyRecipientBlock:
		err = s.verifyRecipient(b, p, m)
	case *config.GreylistBlock:
		err = s.greylist(b, p, m)
	default:
		err = fmt.Errorf("no such block: %T", p)
	}
	return err
}

// always answers all matches with the same words.
func always(key mail.ReplyKey) func(*mail.Finding) mail.Reply {
	return func(*mail.Finding) mail.Reply { return key.Reply() }
}

func (s *stageBuilder) heloConfig(b *config.Block, p *config.HeloBlock) helo.Config {
	cfg := helo.Config{Names: []string{string(s.g.cfg.Hostname)}, Domains: s.ours, Scores: p.Scores, Timeout: b.Timeout}
	if p.Resolve {
		cfg.Resolver = s.g.resolver
	}
	for _, own := range ownAddresses(s.g.cfg) {
		if !own.Addr().IsUnspecified() {
			cfg.Addresses = append(cfg.Addresses, own.Addr())
		}
	}
	return cfg
}

// spf has an action for each answer; those from which nothing follows are no match.
func (s *stageBuilder) spf(b *config.Block, p *config.SPFBlock, m *made) {
	cfg := spfcheck.Config{Resolver: dns.Settled{R: s.g.resolver}, Timeout: b.Timeout}
	m.decide.Actions = make(map[string]mail.Action)
	for status, action := range map[spf.Status]mail.Action{spf.Fail: p.OnFail, spf.SoftFail: p.OnSoftFail, spf.PermError: p.OnPermError} {
		m.decide.Actions[spfcheck.Symbol(status)] = action
		if action != mail.ActionDeliver {
			cfg.Match = append(cfg.Match, status)
		}
	}
	m.decide.Words = func(f *mail.Finding) mail.Reply {
		if f.Symbol == spfcheck.Symbol(spf.PermError) {
			return mail.ReplySPFBroken.Reply()
		}
		return mail.ReplySPFFailed.Reply()
	}
	m.check = spfcheck.New(cfg)
}

// calloutConfig is what both callouts have in common.
func (s *stageBuilder) calloutConfig(b *config.Block, p *config.CalloutParams) callout.Config {
	return callout.Config{
		Hostname: string(s.g.cfg.Hostname), Own: ownAddresses(s.g.cfg), Resolver: s.g.resolver, Log: s.logger("Callout"), Dial: s.dialer(netip.Addr{}),
		Timeout: b.Timeout, MaxHosts: p.MaxHosts, Sessions: p.Sessions, PerTarget: p.PerTarget, PerMinute: p.PerMinute,
		PositiveFor: p.PositiveFor, NegativeFor: p.NegativeFor, UnknownFor: p.UnknownFor, CatchAllFor: p.CatchAllFor, CacheSize: p.CacheSize,
	}
}

// surroundings is what callouts are made from beside their parameters.
func (s *stageBuilder) surroundings() string {
	return fmt.Sprintf(" %s %v%s", s.g.cfg.Hostname, ownAddresses(s.g.cfg), s.dnsKey())
}

func (s *stageBuilder) verifySender(b *config.Block, p *config.VerifySenderBlock, m *made) (err error) {
	cfg := s.calloutConfig(b, &p.Callout)
	cfg.Domains, cfg.Private = s.ours, p.AllowPrivate
	m.decide.Words = always(mail.ReplySenderUnknown)
	m.check, err = keep(s.g, s.old, m.key+s.surroundings()+fmt.Sprint(s.ours), func() (*callout.Sender, *keptPart, error) {
		c, err := callout.NewSender(cfg)
		if err != nil {
			return nil, nil, err
		}
		return c, closing(c.Close), nil
	})
	return err
}

func (s *stageBuilder) verifyRecipient(b *config.Block, p *config.VerifyRecipientBlock, m *made) (err error) {
	cfg := s.calloutConfig(b, &p.Callout)
	known := make(map[string]bool)
	for i := range s.g.cfg.Domains {
		if d := &s.g.cfg.Domains[i]; len(d.Recipients) > 0 {
			known[string(d.Name)+" "+string(d.Transport)] = true
		}
	}
	cfg.Targets = unlisted{calloutTargets(s.g.transports), known}
	key := m.key + s.surroundings() + fmt.Sprint(known)
	for _, t := range s.g.cfg.Transports {
		key += fmt.Sprintf(" %s %x", t.Name, s.g.transports[string(t.Name)].fingerprint)
	}
	m.scope = policy.PerRecipient
	m.check, err = keep(s.g, s.old, key, func() (*callout.Recipient, *keptPart, error) {
		c, err := callout.NewRecipient(cfg)
		if err != nil {
			return nil, nil, err
		}
		return c, closing(c.Close), nil
	})
	return err
}

// closing is a part that ends without an error.
func closing(end func()) *keptPart {
	return &keptPart{close: func() error { end(); return nil }}
}

// unlisted are the targets for recipients about whom nobody was asked yet: routing
// asks the sources of a domain that has any.
type unlisted struct {
	calloutTargets
	// known are those domains, each with its transport.
	known map[string]bool
}

// Target implements callout.Targets.
func (u unlisted) Target(ctx context.Context, route mail.Route) ([]callout.Hop, error) {
	if u.known[route.Domain+" "+route.Transport] {
		return nil, callout.ErrNoCallout
	}
	return u.calloutTargets.Target(ctx, route)
}

// greylist is one object for equal parameters: its records are the same in any case.
func (s *stageBuilder) greylist(b *config.Block, p *config.GreylistBlock, m *made) error {
	cfg := greylist.Config{
		Store: s.services.store, Log: s.logger("Greylist"), Delay: p.Delay, Window: p.Window, Keep: p.Keep,
		AutoAllow: atMost(p.AutoAllow), IPv4Bits: p.IPv4Prefix, IPv6Bits: p.IPv6Prefix, Allow: p.Allow, Timeout: b.Timeout,
	}
	list, err := keep(s.g, s.old, m.key, func() (*greylist.Greylist, *keptPart, error) {
		list, err := greylist.New(cfg)
		if err != nil {
			return nil, nil, err
		}
		return list, closing(list.Close), nil
	})
	if err != nil {
		return err
	}
	m.check, m.scope = list, policy.PerRecipient
	m.decide.Words = greylist.Reply
	s.g.addGreylist(list)
	s.st.Data = append(s.st.Data, gateway.DataCheck{Key: m.decide.Key, Check: list.CheckData})
	return nil
}
