package gateway

import (
	"context"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/upstream"
)

// Proxy is a transport through which mail is passed while its client waits.
type Proxy struct {
	Server *upstream.Server
	// Adopt takes mail into the queue while no upstream can be reached.
	Adopt bool
	// Leave puts signatures and seals in front of what leaves; nil: there are none.
	Leave func(ctx context.Context, env *mail.Envelope, c *message.Content) (*message.Content, error)
	// Passed is told what became of a message, once for each recipient; nil: nobody.
	Passed func(status mail.OutcomeStatus, took time.Duration)
}

// passage is the transaction with one upstream that belongs to one of a client.
type passage struct {
	tx    *upstream.Tx    // nil unless MAIL was accepted
	begun upstream.Result // what was said to MAIL
	named int             // recipients that were accepted
}

// pass asks the upstream of a recipient about him, with the first of a transaction
// about the sender, and makes its answer ours. One who is not passed through, or
// whose upstream can't be reached and who may be queued, stays as d decided.
func (g *Gateway) pass(ctx context.Context, env *mail.Envelope, r *mail.Recipient, d mail.Decision) mail.Decision {
	proxy, ok := g.cfg.Proxies[r.Route.Transport]
	if !r.Route.Proxy || !ok {
		r.Route.Proxy = false
		return d
	}
	p := g.visits.of(&env.Session).passage(ctx, env, r.Route.Transport, proxy.Server)
	res := p.begun
	if p.tx != nil {
		res = p.tx.Rcpt(ctx, r)
	}
	switch {
	case res.OK():
		p.named++
	case res.Adoptable() && proxy.Adopt:
		g.cfg.Log.Info("no upstream; the message will be queued", "id", env.ID.String(), "to", r.Address.String(),
			"transport", r.Route.Transport, "reply", res.Reply.String(), "cause", causeOf(res))
		r.Route.Proxy = false
		return d
	}
	d.Reply = said(res.Reply)
	if !res.OK() {
		refused := refusalOf(res)
		d.Act, d.Reason = refused.Act, refused.Reason
	}
	return d
}

// passage is the transaction with an upstream for the message of env. It is begun
// when there is none; one that was refused stays so, whoever is named next.
func (v *visit) passage(ctx context.Context, env *mail.Envelope, transport string, server *upstream.Server) *passage {
	if v.passing != env.ID {
		v.passing, v.passages = env.ID, make(map[string]*passage)
	}
	p := v.passages[transport]
	if p == nil {
		p = &passage{}
		p.tx, p.begun = server.Begin(ctx, asGiven(env))
		v.passages[transport] = p
	}
	return p
}

// asGiven is the envelope with the sender of MAIL: an upstream that is asked about
// him before the end of the data can't be told of another one after it.
func asGiven(env *mail.Envelope) *mail.Envelope {
	given := *env
	given.Sender = env.GivenSender()
	return &given
}

// Reset is the hook for the end of a transaction without a message: what was begun
// upstream ends, too.
func (g *Gateway) Reset(env *mail.Envelope) {
	v := g.visits.known(&env.Session)
	if v == nil || v.passing != env.ID {
		return
	}
	for _, p := range v.passages {
		if p.tx != nil {
			p.tx.Abort()
		}
	}
	v.passages, v.passing = nil, mail.ID{}
}

// said is a reply of an upstream as the client gets it: word for word. But 421 says
// that the channel closes, and ours does not.
func said(r mail.Reply) mail.Reply {
	if r.Code == 421 {
		r.Code = mail.ReplyTryLater.Reply().Code
	}
	return r
}

// refusalOf is the decision to tell the client what an upstream said, or why there
// is none to say anything.
func refusalOf(res upstream.Result) mail.Decision {
	d := mail.Decision{Act: mail.Defer, Reply: said(res.Reply), Reason: "upstream " + res.Stage}
	if d.Reply.Permanent() {
		d.Act = mail.Reject
	}
	if res.Host != "" {
		d.Reason = res.Host + " " + res.Stage
	}
	if cause := causeOf(res); cause != "" {
		d.Reason += ": " + cause
	}
	return d
}

func causeOf(res upstream.Result) string {
	if res.Err == nil {
		return ""
	}
	return message.SafeText(res.Err.Error(), 500)
}
