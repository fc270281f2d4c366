package quarantine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"gatepost/internal/store"
)

// digestSetting is the store's setting that holds the state of the digests. All
// nodes work on it with compare and set, so that one of them does each step.
const digestSetting = "quarantine.digest"

// digestState is how far the digests of a day are.
type digestState struct {
	// Day is the date that they are of, local time of the node that began.
	Day string `json:"day"`
	// Since and Until bound when what they tell of was stored.
	Since time.Time `json:"since"`
	Until time.Time `json:"until"`
	// After is the last recipient that was served, Sending the one that is being
	// served, for the Tries-th time.
	After   string `json:"after,omitempty"`
	Sending string `json:"sending,omitempty"`
	Tries   int    `json:"tries,omitempty"`
	Done    bool   `json:"done,omitempty"`
	// Owner works on it until Lease.
	Owner string    `json:"owner,omitempty"`
	Lease time.Time `json:"lease,omitzero"`
}

// digestRun is this node's work on a day.
type digestRun struct {
	state  digestState
	stored []byte // the setting as it stands
	mails  int
}

// errOthers says that another node works on the digests.
var errOthers = errors.New("another node sends the digests")

// claim takes the run that is to be done: one that was begun and left, or that of
// the moment due. It returns nil where nothing is left to do.
func (d *Digests) claim(ctx context.Context, due time.Time) (*digestRun, error) {
	r := &digestRun{}
	var err error
	r.stored, err = d.q.cfg.Store.Setting(ctx, digestSetting)
	switch {
	case errors.Is(err, store.ErrNotFound):
		r.stored = nil
		r.state = digestState{Done: true, Until: due.Add(-firstDigest)}
	case err != nil:
		return nil, known(err)
	default:
		if err := json.Unmarshal(r.stored, &r.state); err != nil {
			return nil, fmt.Errorf("read setting %s: %w", digestSetting, err)
		}
	}
	day := due.Format(time.DateOnly)
	switch {
	case !r.state.Done && r.state.Owner != d.me && time.Now().Before(r.state.Lease):
		return nil, errOthers
	case !r.state.Done:
		d.cfg.Log.Info("digests go on where they stopped", "day", r.state.Day, "after", r.state.After)
	case r.state.Day >= day:
		return nil, nil
	default:
		// From where the last ones ended, so that nothing is told twice or never.
		r.state = digestState{Day: day, Since: r.state.Until, Until: due}
	}
	return r, d.store(ctx, r)
}

// store notes how far a run is and holds it for a while longer. It fails with
// errOthers where another node has taken it over.
func (d *Digests) store(ctx context.Context, r *digestRun) error {
	r.state.Owner, r.state.Lease = d.me, time.Now().Add(digestLease)
	return d.swap(ctx, r)
}

// finish notes that a run is done.
func (d *Digests) finish(ctx context.Context, r *digestRun) error {
	r.state = digestState{Day: r.state.Day, Since: r.state.Since, Until: r.state.Until, Done: true}
	return d.swap(ctx, r)
}

// giveUp lets others go on with a run at once.
func (d *Digests) giveUp(ctx context.Context, r *digestRun) error {
	r.state.Owner, r.state.Lease = "", time.Time{}
	if err := d.swap(ctx, r); err != nil && !errors.Is(err, errOthers) {
		return err
	}
	return nil
}

func (d *Digests) swap(ctx context.Context, r *digestRun) error {
	value, err := json.Marshal(r.state)
	if err != nil {
		return err
	}
	ok, err := d.q.cfg.Store.SwapSetting(ctx, digestSetting, r.stored, value)
	switch {
	case err != nil:
		return known(err)
	case !ok:
		return errOthers
	}
	r.stored = value
	return nil
}
