package quarantine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/smtp"
	"gatepost/internal/store"
)

func (q *Quarantine) releaseOne(ctx context.Context, id mail.ID, r Request) Result {
	res := Result{ID: id}
	free, err := q.lease(ctx, id)
	if err != nil {
		return res.failed(err)
	}
	defer free()
	rec, err := q.record(ctx, id)
	if err != nil {
		return res.failed(err)
	}
	toOthers := len(r.To) > 0
	r.Force = r.Force || toOthers
	chosen, err := rec.choose(r, Held)
	if err == nil {
		err = rec.mayRelease(r.Role)
	}
	if err != nil {
		return res.failed(err)
	}
	env, to := rec.envelopeFor(chosen), namesOf(chosen)
	if toOthers {
		env.Recipients, err = r.others()
		to = r.To
	}
	if err != nil {
		return res.failed(err)
	}
	body, err := q.Body(ctx, id)
	if err != nil {
		return res.failed(err)
	}
	if res.ReleasedAs, err = q.cfg.Releaser.Release(ctx, env, body); err != nil {
		res.ReleasedAs = mail.ID{}
		return res.failed(fmt.Errorf("release %s: %w", id, err))
	}
	res.Recipients = to
	q.noteRelease(rec, res, r)
	q.cfg.Log.Info("released", "id", id.String(), "as", res.ReleasedAs.String(), "recipients", strings.Join(res.Recipients, " "),
		"others", toOthers, "role", string(r.Role), "by", r.By, "again", r.Force)
	if toOthers {
		return res // for its recipients it is what it was
	}
	// Only now: a crash before this releases twice rather than never.
	if err := q.setState(ctx, id, keysOf(chosen), store.QuarantineChange{State: store.QuarantineReleased, From: fromStates(r), By: r.By}); err != nil {
		return res.failed(fmt.Errorf("released, but could not be marked so: %w", err))
	}
	if r.Train {
		if res.Trained, err = q.train(ctx, rec, false); err != nil {
			return res.failed(fmt.Errorf("released, but not trained: %w", err))
		}
	}
	return res
}

// deleteOne marks entries as deleted; the bytes go with the last one, if it was
// an administrator who deleted it. What recipients delete can be had back until
// it is too old.
func (q *Quarantine) deleteOne(ctx context.Context, id mail.ID, r Request) Result {
	res := Result{ID: id}
	rec, err := q.record(ctx, id)
	if err != nil {
		return res.failed(err)
	}
	// An administrator may also clear away what was released or deleted.
	r.Force = r.Role == RoleAdmin
	chosen, err := rec.choose(r, Held)
	if err != nil {
		return res.failed(err)
	}
	res.Recipients = namesOf(chosen)
	rest := slices.ContainsFunc(rec.Entries, func(e Entry) bool {
		return e.State != Deleted && !slices.Contains(keysOf(chosen), e.Key)
	})
	if r.Role == RoleAdmin && !rest {
		err = known(q.cfg.Store.DeleteQuarantined(ctx, id))
	} else {
		err = q.setState(ctx, id, keysOf(chosen), store.QuarantineChange{State: store.QuarantineDeleted, From: fromStates(r), By: r.By})
	}
	if err != nil {
		return res.failed(err)
	}
	q.cfg.History.Note(q.event(mail.EventDelete, rec, res.Recipients, r))
	q.cfg.Log.Info("deleted", "id", id.String(), "recipients", strings.Join(res.Recipients, " "), "role", string(r.Role), "by", r.By)
	return res
}

// fromStates are the states that a request may change.
func fromStates(r Request) []store.QuarantineState {
	if r.Force {
		return []store.QuarantineState{store.QuarantineHeld, store.QuarantineReleased, store.QuarantineDeleted}
	}
	return []store.QuarantineState{store.QuarantineHeld}
}

// setState changes the state of entries, and tries again where the store went
// away for a moment: what was done must not look as if it was not.
func (q *Quarantine) setState(ctx context.Context, id mail.ID, keys []string, change store.QuarantineChange) error {
	change.At = time.Now()
	for delay := 100 * time.Millisecond; ; delay *= 2 {
		changed, err := q.cfg.Store.SetQuarantineState(ctx, id, keys, change)
		switch {
		case err == nil && len(changed) < len(keys):
			return fmt.Errorf("%s: %w", id, ErrBusy)
		case err == nil || !errors.Is(err, store.ErrUnavailable) || delay > 2*time.Second || !wait(ctx, delay):
			return known(err)
		}
	}
}

// leaseSetting is the prefix of the settings that keep two nodes from releasing
// one message at the same time.
const leaseSetting = "quarantine.release."

// lease makes this node the only one to release the message, and returns the
// function that ends that. A lease whose node died is taken over when it is older
// than any release may take.
func (q *Quarantine) lease(ctx context.Context, id mail.ID) (free func(), err error) {
	name := leaseSetting + id.String()
	// An ID, since it is unique and knows its time.
	mine := mail.NewID()
	value, _ := mine.MarshalText() // it has no way to fail
	ok, err := q.cfg.Store.SwapSetting(ctx, name, nil, value)
	if err == nil && !ok {
		ok, err = q.takeOver(ctx, name, value)
	}
	switch {
	case err != nil:
		return nil, known(err)
	case !ok:
		return nil, fmt.Errorf("%s %w", id, ErrBusy)
	}
	return func() {
		if err := q.cfg.Store.DeleteSetting(ctx, name); err != nil {
			q.cfg.Log.Warn("lease on a release stays until it ends by itself", "id", id.String(), "error", err)
		}
	}, nil
}

func (q *Quarantine) takeOver(ctx context.Context, name string, value []byte) (bool, error) {
	old, err := q.cfg.Store.Setting(ctx, name)
	if err != nil {
		if errors.Is(err, store.ErrNotFound) {
			return false, nil
		}
		return false, err
	}
	if holder, err := mail.ParseID(string(old)); err == nil && time.Since(holder.Time()) < 2*q.cfg.Timeout {
		return false, nil
	}
	return q.cfg.Store.SwapSetting(ctx, name, old, value)
}

// choose returns the entries that a request means: those of its recipients, or
// all that are in the state. One that is not in the state is an error unless
// forced.
func (rec *record) choose(r Request, state State) ([]Entry, error) {
	if len(r.Recipients) > 0 {
		return rec.chooseNamed(r, state)
	}
	var chosen []Entry
	other := Deleted
	for _, e := range rec.Entries {
		if e.State == state || r.Force {
			chosen = append(chosen, e)
		} else if e.State == Released {
			other = Released
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("%s: %w", rec.ID, wrongState(other))
	}
	return chosen, nil
}

func (rec *record) chooseNamed(r Request, state State) ([]Entry, error) {
	var chosen []Entry
	for _, name := range r.Recipients {
		i := slices.IndexFunc(rec.Entries, func(e Entry) bool { return e.Key == addressKey(name) })
		if i < 0 {
			return nil, fmt.Errorf("%w: %s for %.320q", ErrNotFound, rec.ID, name)
		}
		e := rec.Entries[i]
		if e.State != state && !r.Force {
			return nil, fmt.Errorf("%s for %s: %w", rec.ID, e.Recipient, wrongState(e.State))
		}
		if !slices.ContainsFunc(chosen, func(c Entry) bool { return c.Key == e.Key }) {
			chosen = append(chosen, e)
		}
	}
	return chosen, nil
}

func wrongState(s State) error {
	if s == Released {
		return ErrReleased
	}
	return ErrDeleted
}

// virus reports whether anything about the message says so: one recipient's flow
// may know what another's does not look for.
func (rec *record) virus() bool {
	isVirus := func(t mail.Threat) bool { return t == mail.ThreatVirus }
	return isVirus(rec.Threat) ||
		slices.ContainsFunc(rec.Entries, func(e Entry) bool { return isVirus(e.Threat) }) ||
		slices.ContainsFunc(rec.envelope.Recipients, func(r mail.Recipient) bool { return r.Verdict != nil && isVirus(r.Verdict.Threat) })
}

func (rec *record) mayRelease(role Role) error {
	switch {
	case role == RoleAdmin, role == RoleRecipient && !rec.virus():
		return nil
	}
	return ErrForbidden
}

// envelopeFor is the envelope as it came, for the recipients of some entries. One
// that joined later and is not in it has its address alone.
func (rec *record) envelopeFor(entries []Entry) *mail.Envelope {
	env := *rec.envelope
	env.Recipients = nil
	for i := range entries {
		n := len(env.Recipients)
		for _, r := range rec.envelope.Recipients {
			if r.Address.Key() == entries[i].Key {
				env.Recipients = append(env.Recipients, r)
			}
		}
		if len(env.Recipients) == n {
			env.Recipients = append(env.Recipients, mail.Recipient{Address: entries[i].address, Original: entries[i].address})
		}
	}
	return &env
}

// others are the recipients that a release names. The sender asked for none of them, and
// gets no report about them.
func (r *Request) others() ([]mail.Recipient, error) {
	if r.Role != RoleAdmin {
		return nil, fmt.Errorf("%w: only administrators release to others", ErrRequest)
	}
	var all []mail.Recipient
	for _, s := range r.To {
		a, err := smtp.ParseAddress(s)
		if err != nil {
			return nil, fmt.Errorf("%w: address %q", ErrRequest, s)
		}
		all = append(all, mail.Recipient{Address: a, Original: a, Notify: mail.NotifyNever})
	}
	return all, nil
}

func keysOf(entries []Entry) []string {
	keys := make([]string, len(entries))
	for i := range entries {
		keys[i] = entries[i].Key
	}
	return keys
}

func namesOf(entries []Entry) []string {
	names := make([]string, len(entries))
	for i := range entries {
		names[i] = entries[i].Recipient
	}
	return names
}
