package queue

import (
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/queue/dsn"
)

// noHistory is nobody.
type noHistory struct{}

func (noHistory) Note(*mail.Event) {}

// noteAttempt tells the history of one attempt, in the words of the remote, before its
// outcome is stored: after a crash there are both, or the attempt is made again.
func (q *Queue) noteAttempt(j job, msg message, open []int, took time.Duration) {
	item, env := msg.item, msg.m.Envelope
	e := &mail.Event{
		Kind: mail.EventAttempt, Session: env.Session.ID, Message: j.id.Message, Item: j.id.N,
		Protocol: env.Session.Protocol, Sender: mail.SenderText(env.Sender), Subject: env.Subject, Size: env.Size,
		User: env.Session.User, Transport: item.Transport, NextHop: item.NextHop, Attempt: item.Attempts, Took: took,
		Recipients: make([]mail.Addressee, 0, len(open)),
	}
	var delivered, failed int
	for _, i := range open {
		r := &item.Recipients[i]
		o := &r.Last
		switch o.Status {
		case mail.Delivered:
			delivered++
		case mail.Failed:
			failed++
		}
		to := mail.Addressee{Address: r.Address.String(), Domain: r.Route.Domain, Status: o.Status}
		if original := r.Original.String(); original != to.Address {
			to.Original = original
		}
		reply := o.Reply.String()
		if len(e.Recipients) == 0 {
			e.Reply, e.Remote, e.Stage, e.Host, e.TLS, e.Reason = reply, o.Remote, o.Stage, o.Host, o.TLS, o.Cause
		}
		// What is the same for all stands once.
		if reply != e.Reply || o.Remote != e.Remote || o.Stage != e.Stage || o.Host != e.Host || o.Cause != e.Reason {
			to.Reply, to.Remote, to.Stage, to.Host, to.Cause = reply, o.Remote, o.Stage, o.Host, o.Cause
		}
		if expired(o) {
			e.Details = []mail.Property{{Name: "gave_up", Value: "too old"}}
		}
		e.Recipients = append(e.Recipients, to)
	}
	e.Result = attemptResult(delivered, failed, len(open))
	if !allDone(item) {
		e.Next = item.NextAttempt
	}
	q.cfg.History.Note(e)
}

// attemptResult sums outcomes up.
func attemptResult(delivered, failed, all int) mail.EventResult {
	switch {
	case delivered == all:
		return mail.EventDelivered
	case failed == all:
		return mail.EventFailed
	case delivered+failed == 0:
		return mail.EventDeferred
	}
	return mail.EventPartial
}

// noteReport tells the history what the sender was told.
func (q *Queue) noteReport(j job, msg message, to mail.Address, due []dsn.Recipient) {
	env := msg.m.Envelope
	e := &mail.Event{
		Kind: mail.EventReport, Result: mail.EventOK, Session: env.Session.ID, Message: j.id.Message, Item: j.id.N,
		Sender: mail.SenderText(env.Sender), Subject: env.Subject, User: env.Session.User,
		Details: []mail.Property{{Name: "to", Value: to.String()}, {Name: "action", Value: string(due[0].Action)}},
	}
	for i := range due {
		d := &due[i]
		e.Recipients = append(e.Recipients, mail.Addressee{Address: d.Recipient.Address.String(), Domain: d.Recipient.Route.Domain,
			Status: d.Outcome.Status, Reply: d.Outcome.Reply.String(), Remote: d.Outcome.Remote})
	}
	q.cfg.History.Note(e)
}

// maxTold bounds the events of one operation: a million items that are held are one
// thing that happened, and the log has it.
const maxTold = 1000

// noteOperation tells the history what somebody did with an item.
func (q *Queue) noteOperation(op operation, item *mail.QueueItem) {
	if op.by == "" || item == nil {
		return
	}
	if op.told != nil {
		if *op.told++; *op.told > maxTold {
			return
		}
	}
	what := map[opKind]string{opHold: "hold", opRelease: "release", opDelete: "delete", opReroute: "reroute"}[op.kind]
	e := &mail.Event{Kind: mail.EventAdmin, Result: mail.EventOK, Message: item.ID.Message, Item: item.ID.N, Actor: op.by, Reason: op.reason,
		Transport: item.Transport, NextHop: item.NextHop, Details: []mail.Property{{Name: "action", Value: "queue " + what}}}
	for i := range item.Recipients {
		r := &item.Recipients[i]
		e.Recipients = append(e.Recipients, mail.Addressee{Address: r.Address.String(), Domain: r.Route.Domain})
	}
	q.cfg.History.Note(e)
}
