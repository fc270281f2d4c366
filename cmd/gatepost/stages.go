package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"

	"gatepost/internal/config"
	"gatepost/internal/flow"
	"gatepost/internal/gateway"
	"gatepost/internal/mail"
	"gatepost/internal/policy"
	"gatepost/internal/policy/greylist"
)

// buildStages makes the flows of the stages connect and recipient.
func (a *app) buildStages(g, old *generation) error {
	built := make(map[config.Name]*gateway.Stage)
	for i := range g.cfg.Flows {
		f := &g.cfg.Flows[i]
		if f.Stage != string(policy.Connect) && f.Stage != string(policy.Recipient) {
			continue
		}
		b := stageBuilder{app: a, g: g, old: old, flow: f, ours: domainsOf(g.cfg)}
		st, err := b.build()
		if err != nil {
			return fmt.Errorf("make flow %s: %w", f.Name, err)
		}
		built[f.Name] = st
	}
	g.stages = stagesOf(g.cfg, built)
	g.stages.Observer = a.metrics
	return nil
}

// stagesOf tells which flow is whose.
func stagesOf(cfg *config.Config, built map[config.Name]*gateway.Stage) gateway.Stages {
	s := gateway.Stages{Connect: make(map[string]*gateway.Stage)}
	chosen := stageTable{listeners: make(map[string]*gateway.Stage), domains: make(map[domainKey]*gateway.Stage)}
	use := func(st *gateway.Stage) *gateway.Stage {
		if st != nil && !slices.Contains(s.Recipients, st) {
			s.Recipients = append(s.Recipients, st)
		}
		return st
	}
	for i := range cfg.Listeners {
		l := &cfg.Listeners[i]
		if st := built[l.Flows.Connect]; st != nil {
			s.Connect[string(l.Name)] = st
		}
		chosen.listeners[string(l.Name)] = use(built[l.Flows.Recipient])
	}
	for i := range cfg.Domains {
		d := &cfg.Domains[i]
		st := use(built[d.Flows.Recipient])
		for _, name := range append([]config.DomainName{d.Name}, d.Aliases...) {
			chosen.domains[domainKey{string(d.Listener), string(name)}] = st
		}
	}
	if len(s.Recipients) > 0 {
		s.Recipient = chosen.find
	}
	return s
}

// stageTable finds the flow that decides about recipients.
type stageTable struct {
	listeners map[string]*gateway.Stage
	domains   map[domainKey]*gateway.Stage
}

// domainKey is a domain on a listener; "*" is any of them.
type domainKey struct{ listener, domain string }

// find is gateway.Stages.Recipient: what is most specific has a flow or leaves it to
// the listener.
func (t stageTable) find(listener, domain string) *gateway.Stage {
	for _, key := range []domainKey{{listener, domain}, {"*", domain}, {listener, "*"}, {"*", "*"}} {
		st, ok := t.domains[key]
		if ok && st != nil {
			return st
		}
		if ok {
			break
		}
	}
	return t.listeners[listener]
}

// ownDomains are the domains that are configured by name, with their aliases.
type ownDomains map[string]bool

func domainsOf(cfg *config.Config) ownDomains {
	own := make(ownDomains)
	for i := range cfg.Domains {
		for _, name := range append([]config.DomainName{cfg.Domains[i].Name}, cfg.Domains[i].Aliases...) {
			own[string(name)] = name != "*"
		}
	}
	return own
}

// Ours implements the domains of checks.
func (d ownDomains) Ours(domain string) bool { return d[domain] }

// stageBuilder makes one flow of a stage before content.
type stageBuilder struct {
	*app
	g, old *generation
	flow   *config.Flow
	ours   ownDomains
	st     *gateway.Stage
}

func (s *stageBuilder) build() (*gateway.Stage, error) {
	s.st = &gateway.Stage{Blocks: make(map[string]policy.Block), Decide: &flow.StageFlow{
		Name: string(s.flow.Name), Stage: policy.Stage(s.flow.Stage), DelayReject: s.flow.DelayReject, Observe: s.flow.Mode == "observe",
	}}
	for i := range s.flow.Blocks {
		if err := s.add(&s.flow.Blocks[i]); err != nil {
			return nil, fmt.Errorf("block %s: %w", s.flow.Blocks[i].Use, err)
		}
	}
	return s.st, nil
}

// add makes one block: what it decides, and the check that observes for it.
func (s *stageBuilder) add(b *config.Block) error {
	params, err := json.Marshal(b.Params)
	if err != nil {
		return err
	}
	d := flow.StageBlock{Use: b.Use, Observe: b.Mode == "observe"}
	if b.Acts != nil {
		d.OnMatch, d.OnUnknown, d.Score, d.Reply = b.Acts.OnMatch, b.Acts.OnUnknown, b.Acts.Score, b.Acts.Reply
	}
	m := made{decide: &d, key: fmt.Sprintf("%s %s %s %s", b.Use, s.flow.Stage, b.Timeout, params)}
	d.Key = shortKey(b.Use, m.key)
	if err := s.make(b, &m); err != nil {
		return err
	}
	if m.check != nil {
		m.block = policy.Block{Check: m.check, Scope: m.scope, Timeout: b.Timeout}
	}
	if m.block.Check != nil {
		m.block.Key, m.block.Use = d.Key, d.Use
		s.st.Blocks[d.Key] = m.block
	}
	if !m.apart {
		s.st.Decide.Blocks = append(s.st.Decide.Blocks, d)
	}
	return nil
}

// made is what becomes of a block.
type made struct {
	// key names everything that the check is made from.
	key    string
	decide *flow.StageBlock
	// check and scope are those of the block, unless block itself is there. Neither:
	// the flow needs nobody to ask.
	check policy.Check
	scope policy.Scope
	block policy.Block
	// apart says that it does all it does outside of the flow.
	apart bool
}

// sent tells those who let answers pass about mail that leaves.
func (g *generation) sent(env *mail.Envelope) {
	if len(g.greylists) == 0 || !env.Session.MayRelay() {
		return
	}
	ours := domainsOf(g.cfg)
	for i := range env.Recipients {
		to := env.Recipients[i].Address
		if ours.Ours(to.Domain) {
			continue
		}
		for _, list := range g.greylists {
			list.Outgoing(env.Sender, to)
		}
	}
}

// addGreylist remembers a greylist for those who manage all of them.
func (g *generation) addGreylist(list *greylist.Greylist) {
	if !slices.Contains(g.greylists, list) {
		g.greylists = append(g.greylists, list)
	}
}

// logger is a log for a part; those that are built to explain something have none.
func (a *app) logger(name string) *slog.Logger {
	if a.logs == nil {
		return slog.New(slog.DiscardHandler)
	}
	return a.logs.Logger(name)
}
