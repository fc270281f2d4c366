package gateway

import (
	"strings"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/spool"
)

// History is told what becomes of messages.
type History interface {
	mail.Historian
	// Prepare is Note for what comes true with the commit of a message: the note goes
	// into it, and done is told whether it worked.
	Prepare(e *mail.Event) (note spool.Note, done func(kept bool))
}

// noHistory is nobody.
type noHistory struct{}

func (noHistory) Note(*mail.Event) {}
func (noHistory) Prepare(*mail.Event) (spool.Note, func(bool)) {
	return spool.Note{}, func(bool) {}
}

// told is the event of a message that was answered: refused by d, or taken. items are
// those that carry it on.
func (in *Intake) told(d mail.Decision, reply mail.Reply, items []*mail.QueueItem) *mail.Event {
	env := in.env
	e := &mail.Event{Kind: mail.EventMessage, Result: mail.EventAccepted, Stage: string(mail.StageContent),
		Reply: reply.String(), Reason: d.Reason, Took: time.Since(env.Received)}
	switch d.Act {
	case mail.Accept:
	case mail.Reject:
		e.Result = mail.EventRefused
	default:
		e.Result = mail.EventDeferred
	}
	e.AboutMessage(env)
	if n := len(env.Session.Findings) + len(d.Findings); n > 0 {
		all := make([]mail.Finding, 0, n+len(env.Findings))
		all = append(append(all, env.Session.Findings...), d.Findings...)
		e.Findings = append(all, env.Findings...)
	}
	for i, f := range in.passed {
		o := f.Outcome()
		setOutcome(&e.Recipients[i], &o)
	}
	carriedBy(e, items)
	return e
}

// setOutcome tells what became of a recipient at an upstream.
func setOutcome(r *mail.Addressee, o *mail.Outcome) {
	r.Status, r.Reply, r.Remote, r.Stage, r.Host, r.Cause = o.Status, o.Reply.String(), o.Remote, o.Stage, o.Host, o.Cause
}

// carriedBy tells which queue item carries the message to which recipient. Those who
// get it without having been named are added.
func carriedBy(e *mail.Event, items []*mail.QueueItem) {
	var known map[string]int
	if len(e.Recipients) > 8 {
		known = make(map[string]int, len(e.Recipients))
		for i := range e.Recipients {
			known[e.Recipients[i].Address] = i
		}
	}
	find := func(address string) int {
		if known != nil {
			if i, ok := known[address]; ok {
				return i
			}
			return -1
		}
		for i := range e.Recipients {
			if strings.EqualFold(e.Recipients[i].Address, address) {
				return i
			}
		}
		return -1
	}
	for _, item := range items {
		for k := range item.Recipients {
			r := &item.Recipients[k]
			i := find(r.Address.String())
			if i < 0 || e.Recipients[i].Item != 0 {
				e.Recipients = append(e.Recipients, mail.AddresseeOf(&r.Recipient))
				i = len(e.Recipients) - 1
			}
			to := &e.Recipients[i]
			to.Item, to.Transport, to.NextHop = item.ID.N, item.Transport, item.NextHop
		}
	}
}

// commit makes the message durable together with what the history is told of it.
func (in *Intake) commit(items []*mail.QueueItem, reply mail.Reply) error {
	note, done := in.g.cfg.History.Prepare(in.told(mail.Decision{}, reply, items))
	in.body.Note(note)
	err := in.body.Commit(in.env, items)
	done(err == nil)
	return err
}

// commitOwn is commit for messages of our own, and for those that are released.
func (g *Gateway) commitOwn(w *spool.Writer, env *mail.Envelope, items []*mail.QueueItem) error {
	e := &mail.Event{Kind: mail.EventMessage, Result: mail.EventAccepted}
	e.AboutMessage(env)
	e.Findings = nil
	carriedBy(e, items)
	note, done := g.cfg.History.Prepare(e)
	w.Note(note)
	err := w.Commit(env, items)
	done(err == nil)
	return err
}

// noteScanned tells what was decided about a message that was answered before.
func (g *Gateway) noteScanned(env *mail.Envelope, items []*mail.QueueItem) {
	e := &mail.Event{Kind: mail.EventScanned, Result: mail.EventOK, Stage: string(mail.StageContent), Took: time.Since(env.Received)}
	e.AboutMessage(env)
	carriedBy(e, items)
	g.cfg.History.Note(e)
}
