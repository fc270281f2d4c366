package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"gatepost/internal/config"
	"gatepost/internal/flow"
	"gatepost/internal/gateway"
	"gatepost/internal/mail"
	"gatepost/internal/policy"
	"gatepost/internal/policy/access"
	"gatepost/internal/policy/dnsbl"
	"gatepost/internal/policy/harvest"
	"gatepost/internal/policy/rate"
	"gatepost/internal/policy/trust"
	"gatepost/internal/scan/reputation"
)

// make fills in what a block is made of, by its use.
func (s *stageBuilder) make(b *config.Block, m *made) error {
	switch p := b.Params.(type) {
	case *config.AccessBlock:
		return s.access(b, p, m)
	case *config.RateBlock:
		return s.rate(p, m)
	case *config.ConcurrencyBlock:
		return s.concurrency(p, m)
	case *config.DNSBLBlock:
		return s.dnsbl(b, p, m)
	case *config.PregreetBlock:
		return nil // the engine saw it
	case *config.ClientReputationBlock:
		return s.reputation(b, p, m)
	case *config.TarpitBlock:
		m.decide.Tarpit = &flow.Tarpit{Delay: p.Delay, PerPoint: p.PerPoint, Max: p.Max, WhenScore: p.WhenScore}
		return nil
	case *config.BandwidthBlock:
		m.decide.Bandwidth = &flow.Bandwidth{Limit: int64(p.Limit), WhenScore: p.WhenScore}
		return nil
	case *config.TrustBlock:
		return s.trust(p, m)
	case *config.HarvestBlock:
		return s.harvest(p, m)
	case *config.ScriptBlock:
		block, err := s.scriptBlock(s.g, s.old, p, policy.Stage(s.flow.Stage), m.decide.Key)
		block.Timeout = cmp.Or(block.Timeout, b.Timeout)
		m.block = block
		return err
	}
	return s.makeRecipient(b, m)
}

func (s *stageBuilder) access(b *config.Block, p *config.AccessBlock, m *made) (err error) {
	cfg := access.Config{
		Allow: p.Allow, Deny: p.Deny, AllowFile: string(p.AllowFile), DenyFile: string(p.DenyFile),
		AllowASNs: numbers(p.ASNAllow), DenyASNs: numbers(p.ASNDeny),
		AllowCountries: p.CountriesAllow, DenyCountries: p.CountriesDeny,
		Resolver: s.g.resolver, Timeout: b.Timeout, Log: s.logger("Access"),
	}
	for _, file := range p.MMDBFile {
		cfg.Databases = append(cfg.Databases, string(file))
	}
	m.check, err = keep(s.g, s.old, m.key+s.dnsKey(), func() (*access.Check, *keptPart, error) {
		c, err := access.New(cfg)
		return c, nil, err
	})
	return err
}

func numbers(list []int) []uint32 {
	var out []uint32
	for _, n := range list {
		out = append(out, uint32(n))
	}
	return out
}

// own is the key of a part that counts for one flow alone.
func (s *stageBuilder) own(m *made) string { return m.key + " " + string(s.flow.Name) }

func (s *stageBuilder) rate(p *config.RateBlock, m *made) error {
	l, err := keep(s.g, s.old, s.own(m), func() (*rate.Limiter, *keptPart, error) {
		l, err := rate.New(rate.Config{
			Stage: policy.Stage(s.flow.Stage), Per: rate.Per(p.Per), Limits: p.Limits(),
			IPv4Bits: p.IPv4Prefix, IPv6Bits: p.IPv6Prefix, MaxKeys: p.MaxKeys,
		})
		return l, nil, err
	})
	if err != nil {
		return err
	}
	m.check = l
	s.st.Charge = append(s.st.Charge, func(session *mail.Session, env *mail.Envelope, kind gateway.Charge, n int64) {
		l.ChargeTransaction(rate.Kind(kind), session, env, n)
	})
	return nil
}

func (s *stageBuilder) concurrency(p *config.ConcurrencyBlock, m *made) error {
	cfg := rate.ConcurrencyConfig{Limit: p.Limit, IPv4Bits: p.IPv4Prefix, IPv6Bits: p.IPv6Prefix}
	if p.Per == "address" {
		cfg.IPv4Bits, cfg.IPv6Bits = 32, 128
	}
	c, err := keep(s.g, s.old, s.own(m), func() (*rate.Concurrency, *keptPart, error) {
		c, err := rate.NewConcurrency(cfg)
		return c, nil, err
	})
	if err != nil {
		return err
	}
	m.check = c
	s.st.End = append(s.st.End, func(session *mail.Session) { c.Leave(session.ID) })
	return nil
}

func (s *stageBuilder) dnsbl(b *config.Block, p *config.DNSBLBlock, m *made) (err error) {
	m.decide.Threshold = p.Threshold
	m.check, err = keep(s.g, s.old, m.key+s.dnsKey(), func() (*dnsbl.Check, *keptPart, error) {
		c, err := dnsbl.New(dnsbl.Config{
			Zones: p.Zones, Resolver: s.g.resolver, Timeout: b.Timeout, Threshold: p.Threshold,
			Texts: p.Texts, MonitorEvery: p.MonitorEvery, Log: s.logger("DNSBL"),
		})
		if err != nil {
			return nil, nil, err
		}
		return c, &keptPart{name: "dnsbl", health: func() error { return listsHealth(c.Health()) }, close: s.watch(c.Watch)}, nil
	})
	return err
}

// watch runs what looks after a part until the part is closed, or the process ends.
func (s *stageBuilder) watch(run func(context.Context)) (stop func() error) {
	ctx, cancel := context.WithCancel(s.running)
	var done sync.WaitGroup
	done.Go(func() { run(ctx) })
	return func() error {
		cancel()
		done.Wait()
		return nil
	}
}

// listsHealth names the lists that are not asked.
func listsHealth(lists []dnsbl.Status) error {
	var off []string
	for i := range lists {
		if l := &lists[i]; !l.On {
			off = append(off, l.Zone+": "+l.Reason)
		}
	}
	if len(off) == 0 {
		return nil
	}
	return errors.New(strings.Join(off, "; "))
}

// clientReputation asks what came from a client's network before.
type clientReputation struct{ *reputation.Module }

// Check implements policy.Check.
func (c clientReputation) Check(ctx context.Context, in *policy.Input) ([]mail.Finding, error) {
	return c.Client(ctx, in.Session)
}

func (s *stageBuilder) reputation(b *config.Block, p *config.ClientReputationBlock, m *made) error {
	m.decide.Threshold = p.Threshold
	made, err := keep(s.g, s.old, m.key, func() (*reputation.Module, *keptPart, error) {
		r, err := reputation.New(reputation.Config{
			Store: s.services.store, MaxScore: orNoScore(p.MaxScore), MinScore: orNoScore(p.MinScore), Timeout: b.Timeout,
		})
		return r, nil, err
	})
	m.check = clientReputation{made}
	return err
}

func (s *stageBuilder) trust(p *config.TrustBlock, m *made) error {
	t, err := keep(s.g, s.old, s.own(m), func() (*trust.Trust, *keptPart, error) {
		t, err := trust.New(trust.Config{For: p.For, MaxClients: p.MaxClients})
		return t, nil, err
	})
	if err != nil {
		return err
	}
	m.check = t
	s.st.Passed = append(s.st.Passed, t.Passed)
	return nil
}

// harvest answers before anybody looks at the recipient. Where it only watches or
// counts it stands in the flow.
func (s *stageBuilder) harvest(p *config.HarvestBlock, m *made) error {
	h, err := keep(s.g, s.old, s.own(m), func() (*harvest.Harvest, *keptPart, error) {
		h, err := harvest.New(harvest.Config{
			SlowAfter: p.SlowAfter, SessionLimit: p.SessionLimit, NetworkSlowAfter: p.NetworkSlowAfter, NetworkLimit: p.NetworkLimit,
			HalfLife: p.HalfLife, Delay: p.Delay, MaxDelay: p.MaxDelay, IPv4Bits: p.IPv4Prefix, IPv6Bits: p.IPv6Prefix, Except: p.Except,
		})
		return h, nil, err
	})
	if err != nil {
		return err
	}
	m.check = h
	s.st.Unknown = append(s.st.Unknown, h.UnknownRecipient)
	s.st.End = append(s.st.End, h.End)
	if m.decide.Observe || s.st.Decide.Observe {
		return nil
	}
	act := mail.Defer
	switch d := m.decide; {
	case d.OnMatch == mail.ActionDeliver || d.OnMatch == "" && d.Score != 0:
		act = mail.Accept
	case d.OnMatch == mail.ActionReject:
		act = mail.Reject
	case d.OnMatch == flow.ActionDrop:
		act = mail.Drop
	}
	m.apart = act != mail.Accept
	s.st.Before = append(s.st.Before, h.Hook(act, m.decide.Reply))
	return nil
}

// dnsKey is the part of a key for those who ask the DNS.
func (s *stageBuilder) dnsKey() string { return fmt.Sprintf(" %+v", s.g.cfg.DNS) }
