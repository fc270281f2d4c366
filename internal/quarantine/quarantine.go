package quarantine

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/message/mimetree"
	"gatepost/internal/message/textview"
	"gatepost/internal/store"
)

// Config is what a Quarantine needs. Store and Releaser are required.
type Config struct {
	Store    Store
	Releaser Releaser
	// Trainer is nil where there is no Bayesian filter.
	Trainer Trainer
	Log     *slog.Logger // default: discard
	// History is told what is done with messages; default: nobody.
	History mail.Historian
	// Keep is the age at which messages are deleted; default 30 days.
	Keep time.Duration
	// ExpireEvery is how often that is looked after; default an hour.
	ExpireEvery time.Duration
	// Timeout bounds a change that has begun, whatever becomes of its caller;
	// default 2 minutes.
	Timeout time.Duration
	// Tree and Text bound the reading of a message for Show.
	Tree mimetree.Limits
	Text textview.Limits
	// MaxHeader bounds the header section that Show reads, in bytes; default 1 MiB.
	MaxHeader int64
}

func (c Config) withDefaults() Config {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.History == nil {
		c.History = noHistory{}
	}
	c.Keep = orDefault(c.Keep, 30*24*time.Hour)
	c.ExpireEvery = orDefault(c.ExpireEvery, time.Hour)
	c.Timeout = orDefault(c.Timeout, 2*time.Minute)
	c.MaxHeader = orDefault(c.MaxHeader, 1<<20)
	return c
}

// orDefault returns v, or the default where v is not above 0.
func orDefault[T int | int64 | time.Duration](v, def T) T {
	if v <= 0 {
		return def
	}
	return v
}

// Quarantine is what people do with messages that are held. It may be used by
// any number of goroutines.
type Quarantine struct {
	cfg Config

	mu   sync.Mutex
	busy map[mail.ID]bool // messages that are being changed here

	expire loop
}

// New returns a Quarantine. Nothing runs before Start.
func New(cfg Config) (*Quarantine, error) {
	if cfg.Store == nil || cfg.Releaser == nil {
		return nil, errors.New("make quarantine: a part is missing")
	}
	return &Quarantine{cfg: cfg.withDefaults(), busy: make(map[mail.ID]bool)}, nil
}

// Release puts messages back on their way: the same bytes, the same envelope,
// not scanned again. It returns a result for each ID, in their order.
func (q *Quarantine) Release(ctx context.Context, r Request) []Result {
	return q.each(ctx, r, q.releaseOne)
}

// Delete deletes what is held. It returns a result for each ID, in their order.
func (q *Quarantine) Delete(ctx context.Context, r Request) []Result {
	return q.each(ctx, r, q.deleteOne)
}

// Train tells the Bayesian filter what the messages are. They stay where they are.
func (q *Quarantine) Train(ctx context.Context, r Request, spam bool) []Result {
	return q.each(ctx, r, func(ctx context.Context, id mail.ID, r Request) Result {
		res := Result{ID: id}
		rec, err := q.record(ctx, id)
		if err == nil {
			res.Trained, err = q.train(ctx, rec, spam)
		}
		if err != nil {
			return res.failed(err)
		}
		q.noteTrained(rec, r, spam)
		q.cfg.Log.Info("trained", "id", id.String(), "spam", spam, "changed", res.Trained, "by", r.By)
		return res
	})
}

// each runs one operation on message after message, two never at once on the same.
func (q *Quarantine) each(ctx context.Context, r Request, op func(context.Context, mail.ID, Request) Result) []Result {
	results := make([]Result, 0, len(r.IDs))
	for _, id := range r.IDs {
		if err := ctx.Err(); err != nil {
			results = append(results, Result{ID: id}.failed(err))
			continue
		}
		results = append(results, q.one(ctx, id, r, op))
	}
	return results
}

func (q *Quarantine) one(ctx context.Context, id mail.ID, r Request, op func(context.Context, mail.ID, Request) Result) Result {
	q.mu.Lock()
	taken := q.busy[id]
	q.busy[id] = true
	q.mu.Unlock()
	if taken {
		return Result{ID: id}.failed(ErrBusy)
	}
	defer func() {
		q.mu.Lock()
		delete(q.busy, id)
		q.mu.Unlock()
	}()
	// What has begun is finished, although the one who asked may be gone: half
	// done would be a message that is queued and still held.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), q.cfg.Timeout)
	defer cancel()
	return op(ctx, id, r)
}

func (r Result) failed(err error) Result {
	r.Err, r.Error = err, err.Error()
	return r
}

func (q *Quarantine) train(ctx context.Context, rec *record, spam bool) (bool, error) {
	if q.cfg.Trainer == nil {
		return false, ErrNoTrainer
	}
	body, err := q.Body(ctx, rec.ID)
	if err != nil {
		return false, err
	}
	return q.cfg.Trainer.Train(ctx, mail.Message{Envelope: rec.envelope, Body: body}, spam)
}

// Stats is how much is in the quarantine.
type Stats struct {
	Messages int64 `json:"messages"`
	Bytes    int64 `json:"bytes"`
	// Held are the entries that are held, by threat.
	Held map[mail.Threat]int64 `json:"held"`
}

// Stats counts what is in the quarantine.
func (q *Quarantine) Stats(ctx context.Context) (Stats, error) {
	s, err := q.cfg.Store.QuarantineStats(ctx)
	if err != nil {
		return Stats{}, known(err)
	}
	stats := Stats{Messages: s.Messages, Bytes: s.Bytes, Held: make(map[mail.Threat]int64)}
	for _, c := range s.Counts {
		if c.State == store.QuarantineHeld {
			stats.Held[c.Threat] += c.Entries
		}
	}
	return stats, nil
}
