package gateway

import (
	"context"
	"slices"

	"gatepost/internal/flow"
	"gatepost/internal/mail"
	"gatepost/internal/policy"
	"gatepost/internal/route"
)

// noSuchUser is the status of an unknown recipient (RFC 3463 §3.2).
const noSuchUser = "5.1.1"

// Rcpt is the hook for RCPT: what connect left for it, relay control and routing,
// and then the flow that decides about the recipient. Where an alias has several
// members or somebody gets a copy, the others join env.Recipients.
func (g *Gateway) Rcpt(ctx context.Context, env *mail.Envelope, r *mail.Recipient) mail.Decision {
	s := &env.Session
	v := g.visits.of(s)
	if d, due := flow.AtRcpt(v.later, s); due {
		return d
	}
	g.chargeRecipient(env, r)
	st := g.stageFor(s.Listener, r.Address.Domain)
	before := st.before(s)
	if before.Act != mail.Accept {
		return before
	}
	all, d := g.cfg.Router.Resolve(ctx, s.Listener, s, r)
	if d.Act == mail.Reject && d.Reply.Enhanced == noSuchUser {
		g.unknownRecipient(st, s)
	}
	if d.Act == mail.Accept && st != nil {
		d = g.decideRecipient(ctx, st, &policy.Input{Stage: policy.Recipient, Session: s, Envelope: env, Recipient: r}, v, all)
	}
	d.Delay = max(d.Delay, before.Delay)
	d.Findings = append(before.Findings, d.Findings...)
	if d.Act == mail.Accept {
		g.toOriginal(s, r)
		for i := 1; i < len(all); i++ {
			g.toOriginal(s, &all[i])
		}
		if d = g.pass(ctx, env, r, d); d.Act == mail.Reject && d.Reply.Enhanced == noSuchUser {
			g.unknownRecipient(st, s)
		}
	}
	if d.Act == mail.Accept && len(all) > 1 {
		env.Recipients = route.Join(env.Recipients, all[1:]...)
	}
	return d
}

// stageFor is the recipient flow for a domain; nil: none.
func (g *Gateway) stageFor(listener, domain string) *Stage {
	if g.cfg.Stages.Recipient == nil {
		return nil
	}
	return g.cfg.Stages.Recipient(listener, domain)
}

// before is what is decided whoever the recipient is.
func (st *Stage) before(s *mail.Session) mail.Decision {
	var d mail.Decision
	if st == nil {
		return d
	}
	for _, look := range st.Before {
		next := look(s)
		d.Delay = max(d.Delay, next.Delay)
		next.Delay, next.Findings = d.Delay, append(d.Findings, next.Findings...)
		if d = next; d.Act != mail.Accept {
			break
		}
	}
	return d
}

// unknownRecipient tells those who count them.
func (g *Gateway) unknownRecipient(st *Stage, s *mail.Session) {
	if g.cfg.UnknownRecipient != nil {
		g.cfg.UnknownRecipient(s)
	}
	if st == nil {
		return
	}
	for _, tell := range st.Unknown {
		tell(s)
	}
}

// decideRecipient runs the flow. What concerns this recipient alone says so. all are
// those who get the mail: another way is one for those who had the same way before.
func (g *Gateway) decideRecipient(ctx context.Context, st *Stage, in *policy.Input, v *visit, all []mail.Recipient) mail.Decision {
	out := g.walk(ctx, st, in, v)
	if r := in.Recipient; out.Transport != "" && out.Decision.Act == mail.Accept {
		before := r.Route
		g.reroute(r, out.Transport)
		for i := range all {
			if to := &all[i]; !to.Copy && to.Route.Domain == before.Domain && to.Route.Transport == before.Transport {
				g.reroute(to, out.Transport)
			}
		}
	}
	for i := range out.Decision.Findings {
		f := &out.Decision.Findings[i]
		if !lastsLonger(st, f.Module) {
			f.Recipients = []string{in.Recipient.Original.Key()}
		}
	}
	return out.Decision
}

// reroute sends a recipient another way.
func (g *Gateway) reroute(r *mail.Recipient, transport string) {
	r.Route.Proxy = r.Route.Proxy && r.Route.Transport == transport
	r.Route.Transport, r.Route.NextHop = transport, ""
	if g.cfg.ByDomain[transport] {
		r.Route.NextHop = r.Address.Domain
	}
}

// lastsLonger reports whether what the blocks of a kind say is the same for each
// recipient of a transaction.
func lastsLonger(st *Stage, use string) bool {
	for _, b := range st.Blocks {
		if b.Use == use {
			return b.Scope != policy.PerRecipient
		}
	}
	return false
}

// Data is the hook for DATA: what could not be decided before all recipients were
// known.
func (g *Gateway) Data(ctx context.Context, env *mail.Envelope) mail.Decision {
	var d mail.Decision
	asked := make(map[*Stage]bool)
	for i := range env.Recipients {
		if env.Recipients[i].Copy {
			continue // nobody asked about him
		}
		st := g.stageFor(env.Session.Listener, env.Recipients[i].Original.Domain)
		if st == nil || asked[st] || len(st.Data) == 0 {
			continue
		}
		asked[st] = true
		next := g.decideData(ctx, st, env)
		next.Delay, next.Findings = max(d.Delay, next.Delay), append(d.Findings, next.Findings...)
		if d = next; d.Act != mail.Accept {
			break
		}
	}
	return d
}

// decideData runs the blocks of a flow that have more to say at DATA, and only
// those.
func (g *Gateway) decideData(ctx context.Context, st *Stage, env *mail.Envelope) mail.Decision {
	only := *st.Decide
	only.Blocks = slices.DeleteFunc(slices.Clone(only.Blocks), func(b flow.StageBlock) bool {
		return !slices.ContainsFunc(st.Data, func(d DataCheck) bool { return d.Key == b.Key })
	})
	late := &Stage{Decide: &only, Blocks: make(map[string]policy.Block, len(st.Data))}
	for _, c := range st.Data {
		b := st.Blocks[c.Key]
		b.Scope = policy.PerRecipient
		b.Check = dataCheck{c, env}
		late.Blocks[c.Key] = b
	}
	in := &policy.Input{Stage: policy.Recipient, Session: &env.Session, Envelope: env, Recipient: &env.Recipients[0]}
	return g.walk(ctx, late, in, &visit{}).Decision
}

// dataCheck is a DataCheck as a check.
type dataCheck struct {
	DataCheck
	env *mail.Envelope
}

// Check implements policy.Check.
func (c dataCheck) Check(ctx context.Context, in *policy.Input) ([]mail.Finding, error) {
	return c.DataCheck.Check(ctx, in.Session, c.env)
}

// charge tells the flows of a session what it used up. env is nil outside of a
// transaction.
func (g *Gateway) charge(s *mail.Session, env *mail.Envelope, kind Charge, n int64) {
	if st := g.cfg.Stages.Connect[s.Listener]; st != nil {
		for _, tell := range st.Charge {
			tell(s, env, kind, n)
		}
	}
	for _, st := range g.recipientStages(s.Listener, env) {
		for _, tell := range st.Charge {
			tell(s, env, kind, n)
		}
	}
}

// chargeRecipient charges one that was named, whether or not he will be taken.
func (g *Gateway) chargeRecipient(env *mail.Envelope, r *mail.Recipient) {
	if len(g.cfg.Stages.Connect) == 0 && g.cfg.Stages.Recipient == nil {
		return
	}
	one := *env
	one.Recipients = []mail.Recipient{*r}
	g.charge(&env.Session, &one, ChargeRecipients, 1)
}

// recipientStages are the recipient flows of a transaction; without one, that of the
// listener.
func (g *Gateway) recipientStages(listener string, env *mail.Envelope) []*Stage {
	var all []*Stage
	add := func(st *Stage) {
		if st != nil && !slices.Contains(all, st) {
			all = append(all, st)
		}
	}
	if env == nil || len(env.Recipients) == 0 {
		add(g.stageFor(listener, ""))
		return all
	}
	for i := range env.Recipients {
		if !env.Recipients[i].Copy {
			add(g.stageFor(listener, env.Recipients[i].Original.Domain))
		}
	}
	return all
}

// Refused is told each command that was answered 5xx.
func (g *Gateway) Refused(s *mail.Session) { g.charge(s, nil, ChargeErrors, 1) }

// LoginFailed is told each login that failed.
func (g *Gateway) LoginFailed(s *mail.Session) { g.charge(s, nil, ChargeLogins, 1) }

// Ended forgets a session that is over.
func (g *Gateway) Ended(s *mail.Session) {
	g.visits.forget(s)
	for _, st := range g.cfg.Stages.all() {
		for _, tell := range st.End {
			tell(s)
		}
	}
}
