package queue

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"gatepost/internal/mail"
)

// batchSize is how many items an operation changes at a time.
const batchSize = 256

// opKind is what an operation does to each item.
type opKind uint8

const (
	opHold opKind = iota
	opRelease
	opDelete
	opReroute
	opActivate
)

// operation changes items.
type operation struct {
	kind      opKind
	by        string
	reason    string
	transport string
	byDomain  bool
	told      *int // events so far; nil: not counted
}

// late reports whether the operation makes sense for an item that is being
// tried; it is then done when the attempt ends.
func (o operation) late() bool { return o.kind == opHold || o.kind == opDelete || o.kind == opReroute }

// Hold stops the selected items until they are released, and returns how many.
func (q *Queue) Hold(ctx context.Context, sel Selector, by, reason string) (int, error) {
	return q.operate(ctx, sel, operation{kind: opHold, by: by, reason: reason}, "held")
}

// Release makes the selected items that are on hold due now, and returns how
// many. Incoming items are not touched: they wait for the scanner.
func (q *Queue) Release(ctx context.Context, sel Selector, by string) (int, error) {
	return q.operate(ctx, sel, operation{kind: opRelease, by: by}, "released")
}

// Delete removes the selected items without a report and returns how many. An
// item that is being tried goes when the attempt ends.
func (q *Queue) Delete(ctx context.Context, sel Selector, by string) (int, error) {
	return q.operate(ctx, sel, operation{kind: opDelete, by: by}, "deleted")
}

// Reroute gives the selected items another transport, makes those that are not
// on hold due now, and returns how many. Their attempts are counted anew.
func (q *Queue) Reroute(ctx context.Context, sel Selector, transport, by string) (int, error) {
	q.mu.Lock()
	tc, ok := q.sched.lookup(transport)
	q.mu.Unlock()
	if !ok {
		return 0, fmt.Errorf("reroute to %q: %w", transport, ErrNoTransport)
	}
	return q.operate(ctx, sel, operation{kind: opReroute, by: by, transport: transport, byDomain: tc.ByDomain}, "rerouted")
}

// Activate lets incoming items be delivered, at once. Items that are not
// incoming, or not there, are passed over.
func (q *Queue) Activate(ids ...mail.QueueID) error {
	m := &matcher{now: time.Now()}
	for batch := range slices.Chunk(ids, batchSize) {
		if _, err := q.operateBatch(m, batch, operation{kind: opActivate}); err != nil {
			return fmt.Errorf("activate: %w", err)
		}
	}
	return nil
}

// Retry makes the selected items that wait for their next attempt due now, and
// returns how many. A dead destination is probed at once. Nothing is stored: a
// restart brings back the old times.
func (q *Queue) Retry(ctx context.Context, sel Selector, by string) (int, error) {
	m, err := sel.compileFor()
	if err != nil {
		return 0, err
	}
	count := 0
	err = q.batches(ctx, m, func(ids []mail.QueueID) error {
		count += q.retryBatch(ids)
		return nil
	})
	q.log.Info("queue items retried", "count", count, "by", by, "selector", fmt.Sprintf("%+v", sel))
	return count, err
}

func (q *Queue) retryBatch(ids []mail.QueueID) (count int) {
	now := time.Now()
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, id := range ids {
		h := q.sched.t.find(id)
		if h == 0 {
			continue
		}
		r := q.sched.t.at(h)
		switch r.place {
		case placeWaiting, placeParked:
			r.due = now.UnixMilli()
			q.sched.move(h, placeReady)
			count++
		case placeReady:
			count++
		default:
			continue
		}
		if d := q.sched.dests[r.dest]; d.restPos >= 0 {
			q.sched.wakeUp(d, now)
		}
	}
	q.dispatch()
	return count
}

// operate does op to every item that sel selects, and says so in the log.
func (q *Queue) operate(ctx context.Context, sel Selector, op operation, done string) (int, error) {
	m, err := sel.compileFor()
	if err != nil {
		return 0, err
	}
	count := 0
	op.told = new(int)
	err = q.batches(ctx, m, func(ids []mail.QueueID) error {
		n, err := q.operateBatch(m, ids, op)
		count += n
		return err
	})
	q.log.Info("queue items "+done, "count", count, "by", op.by, "reason", op.reason, "transport", op.transport,
		"selector", fmt.Sprintf("%+v", sel))
	return count, err
}

// taken is an item that an operation has to itself.
type taken struct {
	h   handle
	id  mail.QueueID
	old *mail.QueueItem // nil where it could not be read
	was place
	r   result
	// changed says that r came of the operation; else the item stays as it was.
	changed bool
}

// operateBatch does op to those of the items that m still selects. It returns
// how many, with those for which it will be done when their attempt ends.
func (q *Queue) operateBatch(m *matcher, ids []mail.QueueID, op operation) (int, error) {
	held, count := q.takeItems(ids, op)
	var failed error
	var writes []*mail.QueueItem
	for i := range held {
		t := &held[i]
		failed = cmp.Or(failed, q.changeTaken(m, t, op))
		if t.changed && t.r.fate != fateGone {
			writes = append(writes, t.r.item)
		}
	}
	stored := true
	if len(writes) > 0 {
		if err := q.cfg.Store.UpdateSync(writes...); err != nil {
			failed = cmp.Or(failed, fmt.Errorf("store items: %w", err))
			stored = false
		}
	}
	for i := range held {
		t := &held[i]
		t.changed = t.changed && (stored || t.r.fate == fateGone)
		if t.changed {
			count++
			if t.r.fate != fateGone {
				q.noteOperation(op, t.r.item)
			}
		}
		q.giveBack(t)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.dispatch()
	q.rouse(time.Now())
	return count, failed
}

// takeItems takes items out of the schedule so that no worker gets them. For
// those that a worker has, the operation is noted and counted.
func (q *Queue) takeItems(ids []mail.QueueID, op operation) (held []taken, noted int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, id := range ids {
		h := q.sched.t.find(id)
		if h == 0 {
			continue
		}
		r := q.sched.t.at(h)
		if r.place == placeActive || r.place == placeTaken {
			if op.late() {
				if before, ok := q.pending[h]; !ok || before.kind != opDelete {
					op := op
					op.told = nil // another goroutine will do it
					q.pending[h] = op
				}
				noted++
			}
			continue
		}
		held = append(held, taken{h: h, id: id, was: r.place})
		q.cache.free(q.cache.take(h))
		q.sched.move(h, placeTaken)
	}
	return held, noted
}

// changeTaken reads one item, works op on it, and removes it from the store if
// that is the change.
func (q *Queue) changeTaken(m *matcher, t *taken, op operation) error {
	item, err := q.cfg.Store.Item(t.id)
	env := &mail.Envelope{}
	if err == nil && (m.sender != "" || op.kind == opDelete) {
		env, err = q.cfg.Store.Envelope(t.id.Message)
	}
	if err != nil {
		if q.cfg.Gone(err) {
			t.r, t.changed = result{fate: fateGone}, true
			return nil
		}
		return fmt.Errorf("read %s: %w", t.id, err)
	}
	t.old = item
	if !m.match(item, env, item.State) {
		return nil // it changed since it was found
	}
	r, ok := op.change(item)
	if !ok {
		return nil
	}
	if r.fate == fateGone {
		if err := q.remove(op, item, env.Sender.String()); err != nil {
			return err
		}
	}
	t.r, t.changed = r, true
	return nil
}

// remove takes a deleted item out of the store, and writes down who did it.
func (q *Queue) remove(op operation, item *mail.QueueItem, sender string) error {
	q.noteOperation(op, item)
	if err := q.cfg.Store.Done(item.ID); err != nil && !q.cfg.Gone(err) {
		return fmt.Errorf("delete %s: %w", item.ID, err)
	}
	q.log.Info("queue item deleted", "id", item.ID.String(), "sender", sender, "recipients", recipientNames(item), "by", op.by)
	return nil
}

// giveBack puts an item where the operation wants it, or back where it was.
func (q *Queue) giveBack(t *taken) {
	if !t.changed {
		t.r = result{fate: fateAsWas, item: t.old, was: t.was}
	}
	r := q.lockSettled(t.h, t.r)
	defer q.mu.Unlock()
	q.place(t.h, r, time.Now())
}

// resultOf is the fate of an item as it is stored.
func resultOf(item *mail.QueueItem) result {
	r := result{item: item, at: item.NextAttempt}
	switch item.State {
	case mail.QueueIncoming:
		r.fate = fateNew
	case mail.QueueHold:
		r.fate = fateHeld
	}
	return r
}

// applyLate does op to an item whose attempt has just ended with r.
func (q *Queue) applyLate(op operation, r result) result {
	if r.item == nil {
		q.log.Error("operation is lost: the item cannot be read", "by", op.by)
		return r
	}
	changed, ok := op.change(r.item)
	if !ok {
		return r
	}
	var err error
	if changed.fate == fateGone {
		err = q.remove(op, r.item, "")
	} else {
		if err = q.cfg.Store.UpdateSync(changed.item); err == nil {
			q.noteOperation(op, changed.item)
		}
	}
	if err != nil {
		q.log.Error("operation on an item that was being tried could not be done", "id", r.item.ID.String(), "by", op.by, "error", err)
		return r
	}
	changed.contact, changed.overdue = r.contact, r.overdue
	return changed
}

// change works op on a copy of the item; false where op does not apply to it.
func (op operation) change(old *mail.QueueItem) (result, bool) {
	item := *old
	now := time.Now()
	switch {
	case op.kind == opDelete:
		return result{fate: fateGone, item: &item}, true
	case op.kind == opHold && item.State != mail.QueueHold && item.State != mail.QueueIncoming:
		item.State, item.HoldBy, item.HoldReason = mail.QueueHold, op.by, op.reason
	case op.kind == opRelease && item.State == mail.QueueHold,
		op.kind == opActivate && item.State == mail.QueueIncoming:
		item.State, item.HoldBy, item.HoldReason, item.NextAttempt = mail.QueueDeferred, "", "", now
	case op.kind == opReroute && !allDone(&item):
		reroute(&item, op, now)
	default:
		return result{}, false
	}
	return resultOf(&item), true
}

// reroute gives the item its new transport, and the next hop that goes with it.
func reroute(item *mail.QueueItem, op operation, now time.Time) {
	item.Transport, item.NextHop = op.transport, ""
	item.Attempts, item.NextAttempt = 0, now
	if op.byDomain {
		item.NextHop = commonDomain(item)
	}
	item.Recipients = slices.Clone(item.Recipients)
	for i := range item.Recipients {
		if r := &item.Recipients[i]; !r.Done() {
			r.Route.Transport, r.Route.NextHop = op.transport, item.NextHop
		}
	}
}

// commonDomain is the domain of all recipients that are left, "" where they have
// several: a transport that routes by domain then goes by each recipient.
func commonDomain(item *mail.QueueItem) string {
	domain := ""
	for i := range item.Recipients {
		r := &item.Recipients[i]
		switch {
		case r.Done():
		case domain == "":
			domain = r.Address.Domain
		case domain != r.Address.Domain:
			return ""
		}
	}
	return domain
}

func recipientNames(item *mail.QueueItem) []string {
	names := make([]string, 0, len(item.Recipients))
	for i := range item.Recipients {
		names = append(names, item.Recipients[i].Address.String())
	}
	return names
}
