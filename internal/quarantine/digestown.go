package quarantine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/smtp"
	"gatepost/internal/store"
)

// Often is how often somebody gets digests.
type Often string

// How often digests come. Weekly is on Mondays.
const (
	Daily  Often = "daily"
	Weekly Often = "weekly"
	Never  Often = "never"
)

// Oftens are all there are.
func Oftens() []Often { return []Often{Daily, Weekly, Never} }

// Links are those that stand in the digests.
func (d *Digests) Links() *Links { return d.cfg.Links }

// DigestSetting is when an address gets digests.
type DigestSetting struct {
	Address string `json:"address"`
	Often   Often  `json:"often"`
	// Hour is that of the day, 0 to 23; the minute is the configuration's.
	Hour   int `json:"hour"`
	Minute int `json:"minute"`
	// Own says that somebody chose it; otherwise it is as configured.
	Own bool `json:"own"`
}

// ownPrefix begins the names of the store's settings with what was chosen; the
// address (mail.Address.Key) follows.
const ownPrefix = "quarantine.digest.of:"

// maxLookBack bounds what one digest of those who chose tells of: a week, and a day
// in which nothing could be sent.
const maxLookBack = 8 * 24 * time.Hour

// ownDigest is what somebody chose, as the store keeps it.
type ownDigest struct {
	Often Often `json:"often"`
	Hour  int   `json:"hour"`
	// Told is until when they were told.
	Told time.Time `json:"told"`
	// Owner writes to them until Lease.
	Owner string    `json:"owner,omitempty"`
	Lease time.Time `json:"lease,omitzero"`
	// Tries is how often the present one could not be sent.
	Tries int `json:"tries,omitempty"`
}

// Setting returns when an address gets digests. Errors: ErrRequest for what is no
// address, ErrUnavailable.
func (d *Digests) Setting(ctx context.Context, address string) (DigestSetting, error) {
	a, err := smtp.ParseAddress(address)
	if err != nil {
		return DigestSetting{}, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	s := DigestSetting{Address: a.Key(), Often: Daily, Hour: d.cfg.Hour, Minute: d.cfg.Minute}
	own, _, err := d.own(ctx, a.Key())
	if err != nil {
		return s, err
	}
	if own != nil {
		s.Often, s.Hour, s.Own = own.Often, own.Hour, true
	}
	return s, nil
}

// Choose stores when an address gets digests. Nothing that is held is told twice or
// left out by it, but for what was held while they wanted no digests.
func (d *Digests) Choose(ctx context.Context, s DigestSetting) error {
	a, err := smtp.ParseAddress(s.Address)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrRequest, err)
	case !slices.Contains(Oftens(), s.Often):
		return fmt.Errorf("%w: digests come daily, weekly or never, not %.20q", ErrRequest, s.Often)
	case s.Hour < 0 || s.Hour > 23:
		return fmt.Errorf("%w: %d is no hour of the day, 0 to 23", ErrRequest, s.Hour)
	}
	for {
		own, stored, err := d.own(ctx, a.Key())
		if err != nil {
			return err
		}
		next := ownDigest{Often: s.Often, Hour: s.Hour}
		switch {
		case own == nil:
			next.Told, err = d.toldAll(ctx)
		case own.Often == Never && s.Often != Never:
			next.Told = time.Now()
		default:
			next.Told, next.Owner, next.Lease = own.Told, own.Owner, own.Lease
		}
		if err != nil {
			return err
		}
		if ok, err := d.swapOwn(ctx, a.Key(), stored, &next); ok || err != nil {
			return err
		}
	}
}

// toldAll is until when those were told who chose nothing.
func (d *Digests) toldAll(ctx context.Context) (time.Time, error) {
	b, err := d.q.cfg.Store.Setting(ctx, digestSetting)
	if errors.Is(err, store.ErrNotFound) {
		return time.Now().Add(-firstDigest), nil
	}
	if err != nil {
		return time.Time{}, known(err)
	}
	var state digestState
	if err := json.Unmarshal(b, &state); err != nil {
		return time.Time{}, fmt.Errorf("read setting %s: %w", digestSetting, err)
	}
	return state.Until, nil
}

// own is what an address chose, nil for nothing, and how it is stored.
func (d *Digests) own(ctx context.Context, key string) (*ownDigest, []byte, error) {
	b, err := d.q.cfg.Store.Setting(ctx, ownPrefix+key)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, known(err)
	}
	own := new(ownDigest)
	if err := json.Unmarshal(b, own); err != nil {
		return nil, nil, fmt.Errorf("read setting %s: %w", ownPrefix+key, err)
	}
	return own, b, nil
}

func (d *Digests) swapOwn(ctx context.Context, key string, old []byte, own *ownDigest) (bool, error) {
	b, err := json.Marshal(own)
	if err != nil {
		return false, err
	}
	if bytes.Equal(old, b) {
		return true, nil
	}
	ok, err := d.q.cfg.Store.SwapSetting(ctx, ownPrefix+key, old, b)
	return ok, known(err)
}

// choseOtherwise reports whether an address is not the business of the run for all:
// it gets no digests, or the next one at its own time tells of the same.
func (d *Digests) choseOtherwise(ctx context.Context, r *digestRun, key string) (bool, error) {
	own, _, err := d.own(ctx, key)
	return own != nil && (own.Often == Never || own.Told.Before(r.state.Until)), err
}

// slot is the last moment at which digests of this kind were due.
func (d *Digests) slot(own *ownDigest, now time.Time) time.Time {
	y, m, day := now.In(d.cfg.Location).Date()
	for back := 0; ; back++ {
		at := time.Date(y, m, day-back, own.Hour, d.cfg.Minute, 0, 0, d.cfg.Location)
		if !at.After(now) && (own.Often != Weekly || at.Weekday() == time.Monday) {
			return at
		}
	}
}

// workOwn writes to those who chose and for whom it is time, and returns when to look
// again. An error is worth another try.
func (d *Digests) workOwn(ctx context.Context, now time.Time) (time.Time, error) {
	all, err := d.q.cfg.Store.Settings(ctx, ownPrefix)
	if err != nil {
		return time.Time{}, known(err)
	}
	until := now.Add(-digestLag)
	var errs []error
	again := d.nextHour(until).Add(digestLag)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		own := new(ownDigest)
		if err := json.Unmarshal(all[name], own); err != nil {
			d.cfg.Log.Error("setting cannot be read", "name", name, "error", err)
			continue
		}
		slot := d.slot(own, until)
		if own.Often == Never || !own.Told.Before(slot) {
			continue
		}
		if time.Now().Before(own.Lease) && own.Owner != d.me {
			again = time.Now().Add(digestRetry) // whoever writes to them may die on the way
			continue
		}
		if err := d.sendOwn(ctx, name[len(ownPrefix):], all[name], own, slot); err != nil {
			errs = append(errs, err)
		}
	}
	return again, errors.Join(errs...)
}

// sendOwn writes to one of those who chose. It is noted before, so that no two nodes
// write to the same, and done after it was queued.
func (d *Digests) sendOwn(ctx context.Context, key string, stored []byte, own *ownDigest, slot time.Time) error {
	r := &digestRun{state: digestState{Day: slot.Format("2006-01-02T15"), Since: own.Told, Until: slot}}
	if first := slot.Add(-maxLookBack); first.After(own.Told) {
		r.state.Since = first
	}
	claimed := *own
	claimed.Owner, claimed.Lease = d.me, time.Now().Add(digestLease)
	if ok, err := d.swapOwn(ctx, key, stored, &claimed); !ok || err != nil {
		return err // another node does it, or they just chose something else
	}
	m, err := d.mailFor(ctx, r, key)
	if err == nil && m != nil {
		err = d.submit(ctx, m)
	}
	done := claimed
	done.Owner, done.Lease = "", time.Time{}
	switch done.Tries++; {
	case err == nil:
		done.Told, done.Tries = slot, 0
	case ctx.Err() == nil && done.Tries >= maxTries:
		d.cfg.Log.Error("digest cannot be sent", "recipient", key, "day", r.state.Day, "error", err)
		done.Told, done.Tries, err = slot, 0, nil
	}
	return errors.Join(err, d.noteOwn(context.WithoutCancel(ctx), key, &claimed, &done))
}

// noteOwn notes how a digest ended, also where they chose something else meanwhile.
func (d *Digests) noteOwn(ctx context.Context, key string, claimed, done *ownDigest) error {
	for {
		now, stored, err := d.own(ctx, key)
		if err != nil || now == nil || now.Owner != claimed.Owner {
			return err
		}
		next := *now
		next.Owner, next.Lease, next.Told, next.Tries = done.Owner, done.Lease, done.Told, done.Tries
		if ok, err := d.swapOwn(ctx, key, stored, &next); ok || err != nil {
			return err
		}
	}
}

// nextHour is the first moment after t at which somebody may have chosen to get one.
func (d *Digests) nextHour(t time.Time) time.Time {
	t = t.In(d.cfg.Location)
	// Zones with a half hour have their minutes in local time, too.
	y, m, day := t.Date()
	at := time.Date(y, m, day, t.Hour(), d.cfg.Minute, 0, 0, d.cfg.Location)
	for !at.After(t) {
		at = at.Add(time.Hour)
	}
	return at
}

// settingsLink is the link in a digest by which its recipient says when they want it.
func (d *Digests) settingsLink(s *signer, to mail.Address) string {
	return d.cfg.Links.address(s, Token{Action: LinkSettings, Recipient: to.Key(), Expires: time.Now().Add(d.cfg.Links.life)})
}
