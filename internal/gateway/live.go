package gateway

import (
	"context"
	"io"
	"sync"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/smtpclient"
	"gatepost/internal/upstream"
)

// group is recipients of one upstream who get a message in the same form.
type group struct {
	transport string
	from      mail.Address     // the sender as the upstream is told him
	edits     *mail.Edits      // nil: the envelope's
	who       []int            // their places in the envelope
	to        []mail.Recipient // they as the upstream is told them
	err       error            // why they can't be told to it
	results   []upstream.Result
}

// passOn gives a message to those upstreams that wait for it, and returns what
// became of it by the places of the recipients; nil where nobody waits. Nobody who is
// not to have it is named in a transaction that it is sent to.
func (g *Gateway) passOn(ctx context.Context, m mail.Message, header *message.Header, seen *inspection) live {
	v := g.visits.known(&m.Envelope.Session)
	if v == nil || v.passing != m.Envelope.ID {
		return nil
	}
	groups := g.groups(ctx, m.Envelope, header, seen)
	begun := time.Now()
	var wg sync.WaitGroup
	for _, gr := range groups {
		var tx *upstream.Tx
		if p := v.passages[(&naming{transport: gr.transport, from: gr.from}).key()]; p != nil && p.tx != nil {
			if tx = p.tx; p.named != len(gr.who) {
				// Others were named to this upstream who do not get the message, or not so.
				p.tx.Abort()
				tx = nil
			}
		}
		if len(groups) == 1 {
			g.give(ctx, m, gr, tx)
			break
		}
		wg.Go(func() { g.give(ctx, m, gr, tx) })
	}
	wg.Wait()
	all := make(live)
	for _, gr := range groups {
		for k, i := range gr.who {
			g.notePassed(m.Envelope, i, gr.results[k], time.Since(begun))
			all[i] = fate{Result: gr.results[k], group: gr}
		}
	}
	return all
}

// groups are those who get the message live.
func (g *Gateway) groups(ctx context.Context, env *mail.Envelope, header *message.Header, seen *inspection) []*group {
	var all []*group
next:
	for i := range env.Recipients {
		r := &env.Recipients[i]
		if !passes(r) {
			continue
		}
		var edits *mail.Edits
		if r.Verdict != nil {
			edits = g.editsFor(env, r.Verdict, header, seen)
		}
		proxy := g.cfg.Proxies[r.Route.Transport]
		named, err := proxy.name(ctx, env, r)
		for _, gr := range all {
			if err == nil && gr.err == nil && gr.transport == named.transport && gr.from.Raw == named.from.Raw && sameEdits(gr.edits, edits) {
				gr.who, gr.to = append(gr.who, i), append(gr.to, named.to)
				continue next
			}
		}
		all = append(all, &group{transport: named.transport, from: named.from, edits: edits, who: []int{i}, to: []mail.Recipient{named.to}, err: err})
	}
	return all
}

// passes reports whether a recipient gets the message from his upstream now. A copy
// never does: nobody named him to one, and a transaction is used as it stands only if
// those who were named are those who get the message.
func passes(r *mail.Recipient) bool {
	v := r.Verdict
	return r.Route.Proxy && !r.Copy && (v == nil || v.Action.Delivers() && v.Transport == "" && len(v.Redirect) == 0)
}

// patienceAgain is how late in the giving of a message another session may be begun.
const patienceAgain = 30 * time.Second

// give gives a message to a group, by the transaction that knows them, or by a new
// one where tx is nil. An upstream that does not have the message because its session
// ended during the scan is asked again, once.
func (g *Gateway) give(ctx context.Context, m mail.Message, gr *group, tx *upstream.Tx) {
	begun := time.Now()
	if gr.err != nil {
		// One recipient each. Nothing was sent, and the table may be there again soon.
		gr.results = []upstream.Result{unnamed(gr.err)}
		return
	}
	if tx != nil {
		res := g.send(ctx, m, gr, tx)
		gr.results = make([]upstream.Result, len(gr.who))
		for k := range gr.results {
			gr.results[k] = res
		}
		if res.Fault != upstream.Broken || time.Since(begun) > patienceAgain || ctx.Err() != nil {
			return
		}
	}
	g.giveAnew(ctx, m, gr)
}

// unnamed is the result where a table can't be asked by what names an upstream is told
// of sender and recipients.
func unnamed(err error) upstream.Result {
	return upstream.Result{Reply: mail.ReplyLookupFailed.Reply(), Fault: upstream.Unable, Stage: "queue", Err: err}
}

// giveAnew is give by a transaction of its own: each recipient may be answered in
// another way than before.
func (g *Gateway) giveAnew(ctx context.Context, m mail.Message, gr *group) {
	gr.results = make([]upstream.Result, len(gr.who))
	tx, begun := g.cfg.Proxies[gr.transport].Server.Begin(ctx, from(m.Envelope, gr.from))
	if tx == nil {
		for k := range gr.results {
			gr.results[k] = begun
		}
		return
	}
	defer tx.Abort()
	var named []int
	for k := range gr.who {
		gr.results[k] = tx.Rcpt(ctx, &gr.to[k])
		if gr.results[k].OK() {
			named = append(named, k)
		}
	}
	if len(named) == 0 {
		return
	}
	res := g.send(ctx, m, gr, tx)
	for _, k := range named {
		gr.results[k] = res
	}
}

// send sends the message, in the form of a group, to those whom tx names.
func (g *Gateway) send(ctx context.Context, m mail.Message, gr *group, tx *upstream.Tx) upstream.Result {
	env := *m.Envelope
	if gr.edits != nil {
		env.Edits = *gr.edits
	}
	if rename := g.cfg.Proxies[gr.transport].Rename; rename != nil {
		var err error
		if env.Edits, err = rename.Header(ctx, m.Body, env.Edits); err != nil {
			tx.Abort()
			return unnamed(err)
		}
	}
	content, err := g.contentFor(ctx, mail.Message{Envelope: &env, Body: m.Body}, gr.transport, tx.Extensions())
	if err != nil {
		// Mail that should be signed never leaves without.
		tx.Abort()
		return upstream.Result{Reply: mail.ReplyLocalError.Reply(), Fault: upstream.Unable, Stage: "data", Err: err}
	}
	return tx.Data(ctx, content)
}

// contentFor is a message as an upstream can take it, signed. What can't be made so
// stays as it is, and the upstream package says what is wrong with it.
func (g *Gateway) contentFor(ctx context.Context, m mail.Message, transport string, ext smtpclient.Extensions) (upstream.Content, error) {
	env := m.Envelope
	content := upstream.Content{Has8Bit: env.Has8Bit, HeaderUTF8: env.HeaderUTF8 || !mail.IsASCII(string(env.Edits.Prepend))}
	for _, r := range env.Edits.Replace {
		content.Has8Bit = content.Has8Bit || !mail.IsASCII(string(r.Text))
	}
	plain := message.NewContent(m)
	if (content.Has8Bit || content.HeaderUTF8) && env.Body != mail.BodyBinary && !ext.EightBit {
		if seven, err := message.To7Bit(plain); err == nil {
			plain, content.Has8Bit, content.HeaderUTF8 = seven, false, false
		}
	}
	whole := plain
	if leave := g.cfg.Proxies[transport].Leave; leave != nil {
		var err error
		if whole, err = leave(ctx, env, plain); err != nil {
			return content, err
		}
	}
	content.Size = whole.Size()
	content.Write = func(w io.Writer) error {
		_, err := whole.Reader().WriteTo(w)
		return err
	}
	return content, nil
}

// notePassed logs and counts what became of a recipient.
func (g *Gateway) notePassed(env *mail.Envelope, i int, res upstream.Result, took time.Duration) {
	r := &env.Recipients[i]
	o := res.Outcome()
	if tell := g.cfg.Proxies[r.Route.Transport].Passed; tell != nil {
		tell(o.Status, took)
	}
	log, text := g.cfg.Log.Info, "passed through"
	if o.MaybeDuplicate {
		log, text = g.cfg.Log.Warn, "the upstream may have the message although it did not say so: possible duplicate"
	}
	log(text, "id", env.ID.String(), "to", r.Address.String(), "transport", r.Route.Transport, "status", string(o.Status),
		"reply", o.Reply.String(), "host", o.Host, "stage", o.Stage, "tls", o.TLS.Version, "cause", o.Cause, "took", took)
}
