package gateway

import (
	"context"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/upstream"
)

// Renamer changes the addresses in mail that leaves; *leaving.Leaving is one.
type Renamer interface {
	// Addresses are sender and recipient as an upstream is told them.
	Addresses(ctx context.Context, sender, to mail.Address) (from, rcpt mail.Address, err error)
	// Header adds to the edits of a message what changes in its header.
	Header(ctx context.Context, body mail.Body, edits mail.Edits) (mail.Edits, error)
}

// Proxy is a transport through which mail is passed while its client waits.
type Proxy struct {
	Server *upstream.Server
	// Adopt takes mail into the queue while no upstream can be reached.
	Adopt bool
	// Leave puts signatures and seals in front of what leaves; nil: there are none.
	Leave func(ctx context.Context, env *mail.Envelope, c *message.Content) (*message.Content, error)
	// Rename changes addresses in what leaves; nil: they stay.
	Rename Renamer
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
	named, err := proxy.name(ctx, env, r)
	if err != nil {
		return lookupFailed(err)
	}
	p := g.visits.of(&env.Session).passage(ctx, env, named, proxy.Server)
	res := p.begun
	if p.tx != nil {
		res = p.tx.Rcpt(ctx, &named.to)
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

// naming is who an upstream is told that the sender and one recipient are.
type naming struct {
	transport string
	from      mail.Address
	to        mail.Recipient
}

// key says whose transaction it is: an upstream hears of one sender in each.
func (n *naming) key() string { return n.transport + " " + n.from.Raw }

// name is what the upstream of a recipient is told. The sender is that of MAIL: an
// upstream that is asked about him before the end of the data can't be told of another
// one after it.
func (p *Proxy) name(ctx context.Context, env *mail.Envelope, r *mail.Recipient) (naming, error) {
	n := naming{transport: r.Route.Transport, from: env.GivenSender(), to: *r}
	if p.Rename == nil {
		return n, nil
	}
	var err error
	n.from, n.to.Address, err = p.Rename.Addresses(ctx, n.from, r.Address)
	return n, err
}

// passage is the transaction with an upstream for the message of env. It is begun
// when there is none; one that was refused stays so, whoever is named next.
func (v *visit) passage(ctx context.Context, env *mail.Envelope, n naming, server *upstream.Server) *passage {
	if v.passing != env.ID {
		v.passing, v.passages = env.ID, make(map[string]*passage)
	}
	p := v.passages[n.key()]
	if p == nil {
		p = &passage{}
		p.tx, p.begun = server.Begin(ctx, from(env, n.from))
		v.passages[n.key()] = p
	}
	return p
}

// from is the envelope with another sender.
func from(env *mail.Envelope, sender mail.Address) *mail.Envelope {
	told := *env
	told.Sender = sender
	return &told
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
