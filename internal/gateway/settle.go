package gateway

import (
	"context"
	"slices"

	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/upstream"
)

// live is what became of those to whom a message was passed on, by their places in
// the envelope.
type live map[int]fate

// fate is what became of one of them, and what is done about it.
type fate struct {
	upstream.Result
	group *group
	// queued says that the queue goes on with what came of it: it tries again, or
	// reports the failure.
	queued bool
}

// finish passes the message on to those who wait for it, makes durable what remains,
// and answers.
func (in *Intake) finish(ctx context.Context, m mail.Message, header *message.Header, seen *inspection) mail.Reply {
	passed := in.g.passOn(ctx, m, header, seen)
	if len(passed) == 0 {
		return in.keep(ctx, m, in.g.plan(m, header, seen, 1))
	}
	in.passed = passed
	refused := in.g.settle(in, passed)
	if refused.Act != mail.Accept {
		return in.g.refused(in, refused, passed.outcomes()...)
	}
	items := in.g.planLive(m, header, seen, passed)
	if len(items) == 0 {
		in.body.Abort()
		in.g.cfg.History.Note(in.told(mail.Decision{}, passed.words(in.env), nil))
		return in.g.accepted(in, passed.words(in.env), passed.outcomes()...)
	}
	// From here on it is too late to tell the client to come again because we are
	// stopping.
	if err := in.commit(items, passed.words(in.env)); err != nil {
		in.g.cfg.Log.Error("a message that upstreams took is not durable for others: possible duplicate", "id", in.env.ID.String(), "error", err)
		return in.g.refused(in, deferral(err), passed.outcomes()...)
	}
	in.g.cfg.Queue.Add(m, items)
	return in.g.accepted(in, passed.words(in.env), passed.outcomes()...)
}

// settle decides what each live recipient's fate means for the client: a refusal of
// the whole, or the zero Decision. In between, those who wait are queued.
func (g *Gateway) settle(in *Intake, passed live) mail.Decision {
	env := in.env
	taken := takenByOthers(env, passed)
	var refused []int
	for i, f := range passed {
		switch {
		case f.OK():
			taken = true
		case f.Adoptable() && g.cfg.Proxies[f.group.transport].Adopt:
			taken = true
			f.queued = true
			passed[i] = f
		default:
			refused = append(refused, i)
		}
	}
	slices.Sort(refused)
	if env.PRDR {
		in.answerLive(passed)
	}
	switch {
	case len(refused) == 0:
		return mail.Decision{}
	case !taken:
		return refusalOf(passed[passed.worst(refused)].Result)
	case env.PRDR:
		return mail.Decision{}
	case g.cfg.DeferMixed[env.Session.Listener]:
		return g.deferMixed(in, passed, refused)
	}
	for _, i := range refused {
		f := passed[i]
		f.queued = true
		passed[i] = f
	}
	return mail.Decision{}
}

// takenByOthers reports whether somebody gets or keeps the message who is not passed
// through. Copies do not count: of what nobody gets there is no copy.
func takenByOthers(env *mail.Envelope, passed live) bool {
	for i := range env.Recipients {
		r := &env.Recipients[i]
		if _, ok := passed[i]; ok || r.Copy {
			continue
		}
		if v := r.Verdict; v == nil || v.Action.Delivers() || v.Action == mail.ActionQuarantine {
			return true
		}
	}
	return false
}

// worst is whose answer counts where there is one for all: to try again is better than
// to give up.
func (l live) worst(refused []int) int {
	for _, i := range refused {
		if l[i].Reply.Temporary() {
			return i
		}
	}
	return refused[0]
}

// deferMixed has the client try again, with those who took the message.
func (g *Gateway) deferMixed(in *Intake, passed live, refused []int) mail.Decision {
	d := mail.Decision{Act: mail.Defer, Reply: mail.ReplyTryLater.Reply(), Reason: "some recipients' servers took it, others did not"}
	if worst := passed[passed.worst(refused)]; worst.Reply.Temporary() {
		d.Reply = said(worst.Reply)
	}
	for i, f := range passed {
		if f.OK() {
			g.cfg.Log.Warn("taken by an upstream, and the client is told to try again: possible duplicate",
				"id", in.env.ID.String(), "to", in.env.Recipients[i].Address.String())
		}
	}
	return d
}

// answerLive puts the words of upstreams among the answers for each recipient.
func (in *Intake) answerLive(passed live) {
	k := 0
	answers := in.answers
	if answers == nil {
		answers = []mail.Reply{}
	}
	for i := range in.env.Recipients {
		if r := &in.env.Recipients[i]; r.Copy || r.Member {
			continue
		}
		if k == len(answers) {
			answers = append(answers, mail.ReplyRecipientOK.Reply())
		}
		if f, ok := passed[i]; ok && !f.queued {
			answers[k] = said(f.Reply)
		}
		k++
	}
	in.answers = answers
}

// words is the reply to a message that was taken: the upstream's own where it had a
// part in nothing but this, else ours.
func (l live) words(env *mail.Envelope) mail.Reply {
	ours := mail.ReplyQueued.Reply().WithID(env.ID)
	var one *group
	for _, f := range l {
		if one != nil && f.group != one || !f.OK() {
			return ours
		}
		one = f.group
	}
	if takenByOthers(env, l) {
		return ours
	}
	return one.results[0].Reply
}

// outcomes are those of the recipients, for the log.
func (l live) outcomes() []mail.Outcome {
	var all []mail.Outcome
	for i := range l {
		all = append(all, l[i].Outcome())
	}
	return all
}

// planLive is plan for a message of which some copies are served, or wait to be.
func (g *Gateway) planLive(m mail.Message, header *message.Header, seen *inspection, passed live) []*mail.QueueItem {
	p := planner{env: m.Envelope, next: 1}
	for i := range m.Envelope.Recipients {
		r := &m.Envelope.Recipients[i]
		f, ok := passed[i]
		switch {
		case !ok:
			g.planOne(&p, r, header, seen)
		case f.queued, f.OK() && wantsReport(m.Envelope, r, f):
			// Who has the message gets nothing more from the queue, but his sender does.
			g.planDelivery(&p, r, header, seen)
			p.note(r, f.Outcome())
		case f.OK():
			g.planRest(&p, r, header, seen)
		}
	}
	p.addOthers()
	return p.items
}

// wantsReport reports whether the sender is to be told by us that the message reached a
// recipient's server: it does not know what the sender has asked for, so that the
// message leaves the world of DSN there (RFC 3461 §5.2.2).
func wantsReport(env *mail.Envelope, r *mail.Recipient, f fate) bool {
	return !f.DSN && r.Notify&mail.NotifySuccess != 0 && !env.GivenSender().IsNull()
}

// note writes down what was tried for a recipient already.
func (p *planner) note(r *mail.Recipient, tried mail.Outcome) {
	for _, item := range p.items {
		for k := range item.Recipients {
			if q := &item.Recipients[k]; !q.Copy && q.Address.Key() == r.Address.Key() && q.Route.Transport == r.Route.Transport {
				q.Last = tried
			}
		}
	}
}
