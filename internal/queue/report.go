package queue

import (
	"context"
	"fmt"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/queue/dsn"
)

// report tells the sender what there is to tell after an attempt: recipients
// that failed, a delay, successes that were asked for. All of one moment goes
// into one report. An error means that nothing was sent and nothing noted, so
// that it is tried again.
func (q *Queue) report(ctx context.Context, j job, msg message, now time.Time) error {
	due, delayed := q.dueReports(j.tc.Policy, msg, now)
	if len(due) > 0 {
		if err := q.send(ctx, j, msg, due, now); err != nil {
			return err
		}
	}
	for i := range msg.item.Recipients {
		if r := &msg.item.Recipients[i]; r.Done() {
			r.Reported = true
		}
	}
	msg.item.Warned = msg.item.Warned || delayed
	return nil
}

// dueReports returns what the sender wants to know, and whether the time of the
// delay warning has come.
func (q *Queue) dueReports(p Policy, msg message, now time.Time) (due []dsn.Recipient, delayed bool) {
	null := msg.m.Envelope.Sender.IsNull()
	for i := range msg.item.Recipients {
		r := &msg.item.Recipients[i]
		var action dsn.Action
		switch {
		case r.Reported:
		case r.Last.Status == mail.Delivered:
			action = successAction(r, p, null)
		case r.Last.Status == mail.Failed:
			action = failureAction(r, p, null)
		case r.Last.Status == mail.Deferred && p.WarnAfter > 0 && !msg.item.Warned && q.age(msg.item, r, now) >= p.WarnAfter:
			delayed = true
			// RFC 3461 §4.1: without NOTIFY a delay may be reported; with it, only
			// where DELAY is among its values.
			if !null && (r.Notify == 0 || r.Notify&mail.NotifyDelay != 0) {
				action = dsn.Delayed
			}
		}
		if action != "" {
			due = append(due, dsn.Recipient{Action: action, Recipient: r.Recipient, Outcome: r.Last, Expired: expired(&r.Last)})
		}
	}
	return due, delayed
}

// successAction is what to report of a recipient that was delivered; mostly
// nothing. RFC 3461 §5.2: a next hop that was given NOTIFY reports itself; with
// one that does not know it, the message leaves the world of DSN here.
func successAction(r *mail.QueuedRecipient, p Policy, null bool) dsn.Action {
	switch {
	case null || r.Notify&mail.NotifySuccess == 0 || r.Last.DSNPassed:
		return ""
	case p.Final:
		return dsn.Delivered
	}
	return dsn.Relayed
}

// failureAction is what to report of a recipient that failed. The failure of
// mail from the null sender goes to the postmaster whatever NOTIFY says: that is
// no DSN, and our own reports carry NEVER.
func failureAction(r *mail.QueuedRecipient, p Policy, null bool) dsn.Action {
	switch {
	case p.Discard:
		return ""
	case null || r.Notify == 0 || r.Notify&mail.NotifyFailure != 0:
		return dsn.Failed
	}
	return ""
}

// send writes the report and gives it to the bouncer.
func (q *Queue) send(ctx context.Context, j job, msg message, due []dsn.Recipient, now time.Time) error {
	env := msg.m.Envelope
	who := q.identity.Load()
	to := env.Sender
	if to.IsNull() {
		to = who.postmaster
	}
	key := limiterKey{sender: env.Sender.Key(), transport: msg.item.Transport, nextHop: msg.item.NextHop}
	if why := q.refuseReport(env, to, due, key, now); why != "" {
		q.cfg.Observer.ReportDropped(msg.item.Transport)
		q.log.Warn("report is not sent", "id", j.id.String(), "sender", env.Sender.String(), "recipients", len(due),
			"action", string(due[0].Action), "why", why)
		return nil
	}
	report, _, err := dsn.Build(dsn.Report{
		Hostname:     who.hostname,
		Date:         now,
		To:           to,
		Envelope:     env,
		Body:         msg.m.Body,
		Recipients:   due,
		RetryUntil:   q.retryUntil(j.tc.Policy, msg, now),
		MaxReturn:    q.cfg.MaxReturn,
		DoubleBounce: env.Sender.IsNull(),
	})
	if err == nil {
		err = q.cfg.Bouncer.SubmitReport(ctx, to, report)
	}
	if err != nil {
		q.limiter.giveBack(key, now)
		return fmt.Errorf("report to %s: %w", to, err)
	}
	q.noteReport(j, msg, to, due)
	q.log.Info("report sent", "id", j.id.String(), "to", to.String(), "recipients", len(due), "action", string(due[0].Action))
	for i := range due {
		if due[i].Action == dsn.Failed {
			q.cfg.Observer.Bounced(msg.item.Transport)
		}
	}
	return nil
}

// refuseReport returns why a report must not be sent, "" if it may.
func (q *Queue) refuseReport(env *mail.Envelope, to mail.Address, due []dsn.Recipient, key limiterKey, now time.Time) string {
	if env.Sender.IsNull() {
		// RFC 5321 §6.1: no report about a report. The postmaster gets a copy, but
		// not of what could not be delivered to the postmaster.
		if to.IsNull() {
			return "the sender is null and there is no postmaster"
		}
		for i := range due {
			if r := &due[i].Recipient; r.Address.Key() == to.Key() || r.Original.Key() == to.Key() {
				return "the report was for the postmaster"
			}
		}
	} else if !q.cfg.MayReport(env) {
		return "the sender is not trusted with reports"
	}
	if !q.limiter.take(key, now) {
		return "too many reports to this sender about this destination"
	}
	return ""
}

// retryUntil is when a delayed message is given up, as things stand.
func (q *Queue) retryUntil(p Policy, msg message, now time.Time) time.Time {
	until := msg.item.Created.Add(p.GiveUpAfter)
	for i := range msg.item.Recipients {
		if r := &msg.item.Recipients[i]; !r.Done() {
			q.mu.Lock()
			defer q.mu.Unlock()
			return until.Add(q.pauses.time(msg.item, r, now))
		}
	}
	return until
}
