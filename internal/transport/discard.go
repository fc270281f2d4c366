package transport

import (
	"context"
	"time"

	"gatepost/internal/mail"
)

// discard delivers to nowhere.
type discard struct{}

// Deliver implements Transport.
func (discard) Deliver(_ context.Context, d *mail.Delivery) []mail.Outcome {
	return sameForAll(d, mail.Outcome{Status: mail.Delivered, Reply: mail.ReplyDiscarded.Reply()})
}

// Close implements Transport.
func (discard) Close() error { return nil }

// sameForAll gives every recipient of d the outcome o.
func sameForAll(d *mail.Delivery, o mail.Outcome) []mail.Outcome {
	o.Time = time.Now()
	out := make([]mail.Outcome, len(d.Recipients))
	for i := range out {
		out[i] = o
	}
	return out
}
