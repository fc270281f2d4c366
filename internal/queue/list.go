package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"gatepost/internal/mail"
)

// Bounds of a list.
const (
	defaultLimit = 100
	maxLimit     = 10000
)

// List returns up to limit items (0: 100, at most 10,000) in the order of their
// IDs, beginning behind the queue ID after ("" for the first). An empty selector
// lists every item.
func (q *Queue) List(ctx context.Context, sel Selector, limit int, after string) ([]Row, error) {
	m, err := sel.compile()
	if err != nil {
		return nil, err
	}
	from, more := mail.QueueID{}, true
	if after != "" {
		if from, err = mail.ParseQueueID(after); err != nil {
			return nil, fmt.Errorf("%w: after: %w", ErrSelector, err)
		}
		from, more = nextID(from)
	}
	if limit <= 0 {
		limit = defaultLimit
	}
	limit = min(limit, maxLimit)
	rows := []Row{}
	if !more {
		return rows, nil
	}
	err = q.walk(ctx, m, from, func(item *mail.QueueItem, env *mail.Envelope, s standing) (bool, error) {
		rows = append(rows, q.row(item, env, s))
		return len(rows) < limit, nil
	})
	return rows, err
}

// Count returns how many items are selected; an empty selector selects all.
func (q *Queue) Count(ctx context.Context, sel Selector) (int, error) {
	m, err := sel.compile()
	if err != nil {
		return 0, err
	}
	n := 0
	q.mu.Lock()
	quick := q.quick(m)
	q.mu.Unlock()
	if quick {
		err = q.eachChunk(ctx, m, func(ids []mail.QueueID) error {
			n += len(ids)
			return nil
		})
		return n, err
	}
	err = q.walk(ctx, m, mail.QueueID{}, func(*mail.QueueItem, *mail.Envelope, standing) (bool, error) {
		n++
		return true, nil
	})
	return n, err
}

// Show returns everything about an item ("ID:n") or about all items of a message
// ("ID"). The error is ErrNotFound where there is none.
func (q *Queue) Show(ctx context.Context, id string) ([]Detail, error) {
	m, err := Selector{IDs: []string{id}}.compile()
	if err != nil {
		return nil, err
	}
	var details []Detail
	err = q.walk(ctx, m, mail.QueueID{}, func(item *mail.QueueItem, env *mail.Envelope, s standing) (bool, error) {
		details = append(details, q.detail(item, env, s))
		return true, nil
	})
	if err == nil && len(details) == 0 {
		err = fmt.Errorf("%s: %w", id, ErrNotFound)
	}
	return details, err
}

// standing is what the scheduler knows of an item.
type standing struct {
	place   place
	due     time.Time
	missing bool
	dead    bool
	restEnd time.Time
	// pause holds every recipient that is left, where paused is set.
	pause  Pause
	paused bool
	// incoming says that the item waits for the scanner.
	incoming bool
	// giveUp is the age that ends the item, with the time that it was paused.
	giveUp time.Duration
}

// state is the word for it in lists.
func (s standing) state(item *mail.QueueItem) mail.QueueState {
	if s.place == placeActive {
		return mail.QueueActive
	}
	if s.incoming && item.State == mail.QueueDeferred {
		return mail.QueueIncoming
	}
	return item.State
}

func (q *Queue) standing(item *mail.QueueItem) standing {
	q.mu.Lock()
	defer q.mu.Unlock()
	d, ok := q.sched.find(item.Destination())
	s := standing{giveUp: d.tc.Policy.GiveUpAfter, incoming: d.tc.Incoming, missing: d.missing, dead: ok && d.dead, restEnd: d.restEnd}
	if h := q.sched.t.find(item.ID); h != 0 {
		r := q.sched.t.at(h)
		s.place, s.due = r.place, time.UnixMilli(r.due)
	}
	s.paused = true
	first := true
	for i := range item.Recipients {
		r := &item.Recipients[i]
		if r.Done() {
			continue
		}
		if first {
			s.giveUp += q.pauses.time(item, r, time.Now())
			first = false
		}
		if s.pause, ok = q.pauses.find(item, r); !ok {
			s.paused = false
			break
		}
	}
	s.paused = s.paused && s.pause.PauseTarget != PauseTarget{}
	return s
}

// find returns the destination of this key, or what a new one would be.
func (s *scheduler) find(key mail.Destination) (*destination, bool) {
	if num, ok := s.numbers[key]; ok {
		return s.dests[num], true
	}
	d := &destination{key: key, restPos: -1}
	d.configure(s.lookup(key.Transport))
	return d, false
}

// walk calls fn for every selected item from the given ID on, in the order of
// IDs, until fn returns false.
func (q *Queue) walk(ctx context.Context, m *matcher, from mail.QueueID,
	fn func(*mail.QueueItem, *mail.Envelope, standing) (bool, error)) error {
	visit := func(item *mail.QueueItem, env *mail.Envelope) (bool, error) {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		if compareIDs(item.ID, from) < 0 {
			return true, nil
		}
		s := q.standing(item)
		if s.place == placeNone || !m.match(item, env, s.state(item)) {
			return true, nil // delivered a moment ago, or not selected
		}
		return fn(item, env, s)
	}
	ids := m.ids
	if len(ids) == 0 {
		var few bool
		if ids, few = q.candidates(ctx, m, from); !few {
			if err := q.cfg.Store.Walk(from, visit); err != nil {
				return fmt.Errorf("walk queue: %w", err)
			}
			return nil
		}
	}
	var last mail.ID
	for _, id := range ids {
		if id.Message == last {
			continue // IDs are in order: one look at a message is enough
		}
		last = id.Message
		if more, err := q.visitMessage(id.Message, visit); err != nil || !more {
			return err
		}
	}
	return nil
}

// visitMessage calls visit for the items of one message.
func (q *Queue) visitMessage(id mail.ID, visit func(*mail.QueueItem, *mail.Envelope) (bool, error)) (bool, error) {
	items, err := q.cfg.Store.Items(id)
	if err == nil && len(items) > 0 {
		var env *mail.Envelope
		if env, err = q.cfg.Store.Envelope(id); err == nil {
			for _, item := range items {
				if more, err := visit(item, env); err != nil || !more {
					return more, err
				}
			}
		}
	}
	if err != nil && !q.cfg.Gone(err) {
		return false, fmt.Errorf("read %s: %w", id, err)
	}
	return true, nil
}

// errPause ends a walk that goes on later.
var errPause = errors.New("batch is full")

// batches calls fn with the IDs of the selected items, so many at a time. The
// store is not being walked while fn runs.
func (q *Queue) batches(ctx context.Context, m *matcher, fn func([]mail.QueueID) error) error {
	q.mu.Lock()
	quick := q.quick(m)
	q.mu.Unlock()
	if quick {
		return q.eachChunk(ctx, m, func(ids []mail.QueueID) error {
			for batch := range slices.Chunk(ids, batchSize) {
				if err := fn(batch); err != nil {
					return err
				}
			}
			return nil
		})
	}
	from := mail.QueueID{}
	for {
		var batch []mail.QueueID
		err := q.walk(ctx, m, from, func(item *mail.QueueItem, _ *mail.Envelope, _ standing) (bool, error) {
			batch = append(batch, item.ID)
			if len(batch) == batchSize {
				return false, errPause
			}
			return true, nil
		})
		full := errors.Is(err, errPause)
		if err != nil && !full {
			return err
		}
		if len(batch) > 0 {
			if err := fn(batch); err != nil {
				return err
			}
		}
		if !full {
			return nil
		}
		var more bool
		if from, more = nextID(batch[len(batch)-1]); !more {
			return nil
		}
	}
}

func (q *Queue) row(item *mail.QueueItem, env *mail.Envelope, s standing) Row {
	row := Row{
		ID:          item.ID.Message,
		QueueID:     item.ID,
		Sender:      "<>",
		Recipients:  []string{},
		Transport:   item.Transport,
		NextHop:     item.NextHop,
		State:       s.state(item),
		Reason:      s.reason(item),
		Size:        env.Size,
		Attempts:    item.Attempts,
		Created:     item.Created,
		NextAttempt: item.NextAttempt,
		LastError:   lastError(item),
		Paused:      s.paused,
	}
	if !env.Sender.IsNull() {
		row.Sender = env.Sender.String()
	}
	for i := range item.Recipients {
		if r := &item.Recipients[i]; !r.Done() {
			row.Recipients = append(row.Recipients, r.Address.String())
		}
	}
	switch s.place {
	case placeHeld, placeNew:
		row.NextAttempt = time.Time{}
	case placeReady, placeWaiting:
		row.NextAttempt = s.due
	}
	return row
}

// reason says why the item does not move.
func (s standing) reason(item *mail.QueueItem) string {
	switch {
	case item.State == mail.QueueHold:
		return item.HoldReason
	case item.State == mail.QueueIncoming || s.place == placeActive:
		return ""
	case allDone(item):
		return "the report to the sender is still to be sent"
	case s.missing:
		return fmt.Sprintf("transport %q is not configured", item.Transport)
	case s.paused:
		return "paused: " + s.pause.Reason
	case s.dead && s.place == placeReady:
		return "the destination does not answer; next probe at " + s.restEnd.Format(time.RFC3339)
	}
	return ""
}

func (q *Queue) detail(item *mail.QueueItem, env *mail.Envelope, s standing) Detail {
	d := Detail{
		Row:         q.row(item, env, s),
		Subject:     env.Subject,
		MessageID:   env.MessageID,
		Received:    env.Received,
		Listener:    env.Session.Listener,
		Helo:        env.Session.Helo,
		User:        env.Session.User,
		EnvID:       env.EnvID,
		LastAttempt: item.LastAttempt,
		GiveUp:      item.Created.Add(s.giveUp),
		Warned:      item.Warned,
		HoldBy:      item.HoldBy,
		HoldReason:  item.HoldReason,
		States:      make([]RecipientDetail, 0, len(item.Recipients)),
	}
	if env.Session.Client.IsValid() {
		d.Client = env.Session.Client.String()
	}
	for i := range item.Recipients {
		r := &item.Recipients[i]
		rd := RecipientDetail{
			Address: r.Address.String(), Status: r.Last.Status, Reply: r.Last.Reply.String(), Stage: r.Last.Stage,
			Host: r.Last.Host, TLS: r.Last.TLS.Version, Time: r.Last.Time, Cause: r.Last.Cause, Reported: r.Reported,
		}
		if !r.Original.IsNull() && r.Original.Key() != r.Address.Key() {
			rd.Original = r.Original.String()
		}
		d.States = append(d.States, rd)
	}
	return d
}
