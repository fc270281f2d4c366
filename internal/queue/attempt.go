package queue

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"gatepost/internal/mail"
)

// rereadAfter is how long an item waits that could not be read from the store.
const rereadAfter = 5 * time.Minute

// job is one item that a worker has taken.
type job struct {
	slot
	id     mail.QueueID
	tc     TransportConfig
	cached cached
}

// message is an item with what it delivers.
type message struct {
	item *mail.QueueItem
	m    mail.Message
}

// fate is what becomes of an item after an attempt or an operation.
type fate uint8

const (
	fateDue     fate = iota // tried at the time given
	fateGone                // nothing left to do; it leaves the store
	fateParked              // waits for a pause to end
	fateHeld                // on hold
	fateNew                 // still incoming
	fateReport              // delivered or failed, but its report is not sent yet
	fateUnsaved             // known, but the store did not take it
	fateAsWas               // back to where it was taken from
)

// result is the end of an attempt or operation.
type result struct {
	fate    fate
	item    *mail.QueueItem // nil where it could not be read
	at      time.Time       // of fateDue and fateReport
	contact contact
	overdue bool   // the attempt came after the delay warning fell due
	pauses  uint64 // the version of the pauses for which fateParked was found
	saved   fate   // of fateUnsaved: what it is once it is stored
	was     place  // of fateAsWas
}

// attempt tries the recipients of an item that are left, and stores how it went.
func (q *Queue) attempt(ctx context.Context, j job) result {
	msg, err := q.open(j)
	if err != nil {
		return q.unreadable(j, err)
	}
	if j.dest.num == reportsNumber {
		q.mu.Lock()
		j.tc, _ = q.sched.lookup(msg.item.Transport)
		q.mu.Unlock()
		j.tc.Policy = j.tc.Policy.withDefaults()
	}
	open, version := q.choose(msg.item)
	if len(open) == 0 && !allDone(msg.item) {
		return result{fate: fateParked, item: msg.item, pauses: version}
	}
	r := result{item: msg.item}
	changed := false
	if len(open) > 0 {
		if changed, r.contact = q.deliver(ctx, j, msg, open); !changed {
			// Stop cancelled it: it stays as it was, and due.
			r.at = msg.item.NextAttempt
			return r
		}
	}
	now := time.Now()
	age := now.Sub(msg.item.Created)
	r.overdue = changed && j.tc.Policy.WarnAfter > 0 && age >= j.tc.Policy.WarnAfter
	err = q.report(ctx, j, msg, now)
	if err != nil {
		q.log.Error("report could not be queued; it is kept and tried again", "id", j.id.String(), "error", err)
	}
	return q.conclude(j, r, err, now)
}

// open gets the item and its message, from memory or from the store.
func (q *Queue) open(j job) (message, error) {
	if c := j.cached; c.item != nil {
		// Others may hold the item that Add was given.
		item := *c.item
		item.Recipients = slices.Clone(item.Recipients)
		return message{item: &item, m: c.m}, nil
	}
	var msg message
	var err error
	if msg.item, err = q.cfg.Store.Item(j.id); err != nil {
		return msg, fmt.Errorf("read item: %w", err)
	}
	if msg.m.Envelope, err = q.cfg.Store.Envelope(j.id.Message); err != nil {
		return msg, fmt.Errorf("read envelope: %w", err)
	}
	if msg.m.Body, err = q.cfg.Store.Body(j.id.Message); err != nil {
		return msg, fmt.Errorf("read body: %w", err)
	}
	return msg, nil
}

// unreadable decides about an item that the store does not give back.
func (q *Queue) unreadable(j job, err error) result {
	if q.cfg.Gone(err) {
		q.log.Error("queue item is gone or set aside as damaged; it is no longer tried", "id", j.id.String(), "error", err)
		return result{fate: fateGone}
	}
	q.log.Error("queue item cannot be read", "id", j.id.String(), "error", err, "next", rereadAfter)
	return result{fate: fateDue, at: time.Now().Add(rereadAfter)}
}

// choose returns the indexes of the recipients that are left and not paused,
// and the version of the pauses that it looked at.
func (q *Queue) choose(item *mail.QueueItem) (open []int, version uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range item.Recipients {
		if r := &item.Recipients[i]; !r.Done() && !q.pauses.holds(item, r) {
			open = append(open, i)
		}
	}
	return open, q.pauses.version
}

// edited is the message as the item's recipients get it.
func edited(msg message) mail.Message {
	if msg.item.Edits == nil {
		return msg.m
	}
	env := *msg.m.Envelope // others deliver it with edits of their own
	env.Edits = *msg.item.Edits
	return mail.Message{Envelope: &env, Body: msg.m.Body}
}

// deliver makes the attempt and notes the outcomes on the item. It reports
// whether there was any, and what was learned of the destination.
func (q *Queue) deliver(ctx context.Context, j job, msg message, open []int) (changed bool, c contact) {
	d := &mail.Delivery{ID: j.id, Message: edited(msg), NextHop: msg.item.NextHop, Recipients: make([]mail.Recipient, len(open))}
	for k, i := range open {
		d.Recipients[k] = msg.item.Recipients[i].Recipient
	}
	began := time.Now()
	outcomes := q.checked(j, d, j.tc.Transport.Deliver(ctx, d))
	now := time.Now()
	cut := false
	for k, i := range open {
		o := &outcomes[k]
		if ctx.Err() != nil && o.Status == mail.Deferred && !o.Remote {
			cut = true // Stop's doing, not the destination's
			continue
		}
		changed = true
		if o.Time.IsZero() {
			o.Time = now
		}
		r := &msg.item.Recipients[i]
		r.Last = *o
		// Age ends an item only here, together with an attempt that failed.
		if o.Status == mail.Deferred && q.age(msg.item, r, now) >= j.tc.Policy.GiveUpAfter {
			r.Last.Status = mail.Failed
		}
		q.noteOutcome(ctx, j, r, now.Sub(began))
	}
	if changed {
		msg.item.Attempts++
		msg.item.LastAttempt = now
		msg.item.NextAttempt = now.Add(j.tc.Policy.delay(msg.item.Attempts))
		q.noteAttempt(j, msg, open, now.Sub(began))
	}
	if cut {
		msg.item.NextAttempt = now
		return changed, contactNone
	}
	return changed, contactOf(outcomes)
}

// checked makes sure that there is one sensible outcome per recipient, whatever
// the transport returned.
func (q *Queue) checked(j job, d *mail.Delivery, outcomes []mail.Outcome) []mail.Outcome {
	if len(outcomes) != len(d.Recipients) {
		q.log.Error("transport returned the wrong number of outcomes", "id", j.id.String(), "transport", j.dest.key.Transport,
			"outcomes", len(outcomes), "recipients", len(d.Recipients))
		outcomes = make([]mail.Outcome, len(d.Recipients))
	}
	for i := range outcomes {
		o := &outcomes[i]
		switch {
		case o.Status == mail.Delivered, o.Status == mail.Deferred:
		case o.Status == mail.Failed && o.Reply.Permanent():
		case o.Status == mail.Failed:
			o.Status = mail.Deferred // nothing but a 5xx is final
		default:
			*o = mail.Outcome{Status: mail.Deferred, Reply: mail.ReplyLocalError.Reply(), Stage: "queue",
				Cause: "the transport gave no outcome"}
		}
	}
	return outcomes
}

// noteOutcome logs and counts the outcome of one recipient.
func (q *Queue) noteOutcome(ctx context.Context, j job, r *mail.QueuedRecipient, took time.Duration) {
	o := &r.Last
	q.cfg.Observer.Attempted(j.dest.key.Transport, o.Status, took)
	if !q.log.Enabled(ctx, slog.LevelInfo) {
		return
	}
	attrs := make([]slog.Attr, 0, 12)
	attrs = append(attrs, slog.String("id", j.id.String()), slog.String("to", r.Address.String()),
		slog.String("transport", j.dest.key.Transport))
	if hop := j.dest.key.NextHop; hop != "" {
		attrs = append(attrs, slog.String("next_hop", hop))
	}
	attrs = append(attrs, slog.String("status", string(o.Status)), slog.String("reply", o.Reply.String()))
	if expired(o) {
		attrs = append(attrs, slog.Bool("expired", true))
	}
	if o.Host != "" {
		attrs = append(attrs, slog.String("host", o.Host))
	}
	if o.Stage != "" {
		attrs = append(attrs, slog.String("stage", o.Stage))
	}
	if o.TLS.Active() {
		attrs = append(attrs, slog.String("tls", o.TLS.Version))
	}
	if o.Cause != "" {
		attrs = append(attrs, slog.String("cause", o.Cause))
	}
	attrs = append(attrs, slog.Duration("took", took))
	q.log.LogAttrs(ctx, slog.LevelInfo, "delivery attempt", attrs...)
}

// expired reports whether a failure is one of time: no final refusal was met.
func expired(o *mail.Outcome) bool { return o.Status == mail.Failed && !o.Reply.Permanent() }

// conclude stores the item as it is now, and says what becomes of it. reportErr
// is why its report is still to be sent, if it is.
func (q *Queue) conclude(j job, r result, reportErr error, now time.Time) result {
	r.fate, r.at = fateDue, r.item.NextAttempt
	switch done := allDone(r.item); {
	case done && reportErr == nil:
		r.fate = fateGone
	case done && now.Sub(lastOutcome(r.item)) >= j.tc.Policy.GiveUpAfter:
		// Neither delivered nor reported: only a person can help, and until then
		// nothing is lost.
		r.fate = fateHeld
		r.item.State = mail.QueueHold
		r.item.HoldBy, r.item.HoldReason = "gatepost", "the report to the sender cannot be sent: "+reportErr.Error()
	case done:
		r.fate = fateReport
		r.at = now.Add(j.tc.Policy.delay(r.item.Attempts))
		r.item.NextAttempt = r.at
	}
	return q.store(j.id, r)
}

// store writes what r says to the store. Where that is not possible, r waits in
// memory for another try.
func (q *Queue) store(id mail.QueueID, r result) result {
	err := q.write(id, r)
	if err == nil {
		return r
	}
	if q.cfg.Gone(err) {
		r.fate = fateGone
		return r
	}
	q.log.Error("outcome cannot be stored; no attempts until it can", "id", id.String(), "error", err)
	r.saved, r.fate = r.fate, fateUnsaved
	return r
}

func (q *Queue) write(id mail.QueueID, r result) error {
	if r.fate == fateGone {
		return q.cfg.Store.Done(id)
	}
	return q.cfg.Store.Update(r.item)
}

// age is how long the recipient waits, without the time that it was paused.
func (q *Queue) age(item *mail.QueueItem, r *mail.QueuedRecipient, now time.Time) time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	return now.Sub(item.Created) - q.pauses.time(item, r, now)
}

func allDone(item *mail.QueueItem) bool {
	for i := range item.Recipients {
		if !item.Recipients[i].Done() {
			return false
		}
	}
	return true
}

// lastOutcome is when the last recipient was done.
func lastOutcome(item *mail.QueueItem) (last time.Time) {
	for i := range item.Recipients {
		if t := item.Recipients[i].Last.Time; t.After(last) {
			last = t
		}
	}
	return last
}

// contactOf tells from the outcomes of one attempt how the destination is.
func contactOf(outcomes []mail.Outcome) contact {
	best := contactNone
	for i := range outcomes {
		switch c := contactOfOne(&outcomes[i]); {
		case c == contactGood:
			return c
		case c == contactMade, best == contactNone:
			best = c
		}
	}
	return best
}

func contactOfOne(o *mail.Outcome) contact {
	if o.Status == mail.Delivered {
		return contactGood
	}
	if o.Status == mail.Deferred {
		switch o.Stage {
		case "connect", "dns", "ehlo", "starttls", "auth":
			return contactLost
		case "mail", "rcpt", "data", "eod":
			if !o.Remote {
				return contactLost // lost or timed out on the way
			}
		}
	}
	if o.Remote {
		return contactMade
	}
	return contactNone
}
