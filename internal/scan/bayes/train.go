package bayes

import (
	"context"
	"fmt"

	"gatepost/internal/scan"
	"gatepost/internal/store"
)

// batchSize is how many messages are learned in one transaction.
const batchSize = 32

// expireEvery is after how many learned messages the limits are looked at.
const expireEvery = 5000

// Train learns a message as spam or ham in a scope ("" is all mail, otherwise a
// domain) and reports whether that changed anything: learning again what is known
// does not, learning the other class first undoes the first. It is durable when
// Train returns. While the database is away the error is store.ErrUnavailable.
func (c *Classifier) Train(ctx context.Context, scope string, in *scan.Input, spam bool) (changed bool, err error) {
	m, err := c.message(ctx, scope, in, spam)
	if err != nil {
		return false, err
	}
	did, err := c.learn(ctx, []store.BayesMessage{m})
	return err == nil && did[0], err
}

// Forget undoes what was learned of a message in a scope and reports whether there
// was anything.
func (c *Classifier) Forget(ctx context.Context, scope string, in *scan.Input) (changed bool, err error) {
	m, err := c.message(ctx, scope, in, false)
	if err != nil {
		return false, err
	}
	done, err := c.take(ctx)
	if err != nil {
		return false, err
	}
	defer done()
	if changed, err = c.config.Store.BayesForget(ctx, m); err != nil {
		return false, err
	}
	c.follow(ctx)
	return changed, nil
}

// message makes the record of a message.
func (c *Classifier) message(ctx context.Context, scope string, in *scan.Input, spam bool) (store.BayesMessage, error) {
	m := store.BayesMessage{Scope: scope, Spam: spam}
	var err error
	if m.Digest, err = digest(ctx, in); err != nil {
		return m, fmt.Errorf("read message: %w", err)
	}
	ts, err := c.tokenize(ctx, in)
	if err != nil {
		return m, fmt.Errorf("read message: %w", err)
	}
	defer ts.release()
	m.Tokens = make([]uint64, len(ts.list))
	for i := range ts.list {
		m.Tokens[i] = ts.list[i].hash
	}
	return m, nil
}

// learn writes to the database and then follows it.
func (c *Classifier) learn(ctx context.Context, messages []store.BayesMessage) ([]bool, error) {
	done, err := c.take(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	changed, err := c.config.Store.BayesLearn(ctx, messages)
	if err != nil {
		return nil, err
	}
	c.follow(ctx)
	if c.learned += len(messages); c.learned >= expireEvery {
		c.learned = 0
		if err := c.Expire(ctx); err != nil {
			c.config.Log.Warn("bayes: cannot remove old tokens", "error", err)
		}
	}
	return changed, nil
}

// follow reads back what was written. That this fails is no reason to say that it
// was not learned: Run tries again.
func (c *Classifier) follow(ctx context.Context) {
	if err := c.refresh(ctx); err != nil && ctx.Err() == nil {
		c.config.Log.Warn("bayes: cannot read what was learned", "error", err)
	}
}

// Batch learns many messages with few transactions. It is used by one goroutine.
type Batch struct {
	c       *Classifier
	waiting []store.BayesMessage
	// Changed is how many messages were learned, Known how many had been before.
	Changed, Known int
}

// NewBatch returns an empty batch.
func (c *Classifier) NewBatch() *Batch { return &Batch{c: c} }

// Train is Classifier.Train, but for being durable only after Flush.
func (b *Batch) Train(ctx context.Context, scope string, in *scan.Input, spam bool) error {
	m, err := b.c.message(ctx, scope, in, spam)
	if err != nil {
		return err
	}
	b.waiting = append(b.waiting, m)
	if len(b.waiting) < batchSize {
		return nil
	}
	return b.Flush(ctx)
}

// Flush learns what waits. After an error it still waits.
func (b *Batch) Flush(ctx context.Context) error {
	if len(b.waiting) == 0 {
		return nil
	}
	changed, err := b.c.learn(ctx, b.waiting)
	if err != nil {
		return err
	}
	for _, did := range changed {
		if did {
			b.Changed++
		} else {
			b.Known++
		}
	}
	clear(b.waiting)
	b.waiting = b.waiting[:0]
	return nil
}
