package quarantine

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"gatepost/internal/mail"
)

// Transport puts what the queue delivers to it into the quarantine. Delivering
// the same again changes nothing.
type Transport struct {
	store Store
	log   *slog.Logger
}

// NewTransport returns the transport of the name TransportName; a nil log
// discards.
func NewTransport(store Store, log *slog.Logger) (*Transport, error) {
	if store == nil {
		return nil, errors.New("make quarantine transport: no store")
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Transport{store: store, log: log}, nil
}

// Deliver keeps the message, without its edits, for the recipients of d. While
// the store is away it defers: the spool holds the message until it is back.
func (t *Transport) Deliver(ctx context.Context, d *mail.Delivery) []mail.Outcome {
	o := mail.Outcome{Status: mail.Delivered, Reply: mail.ReplyQuarantined.Reply(), Stage: "eod", Host: TransportName}
	// No report is due: a sender must not learn what became of spam, and one who
	// asked for it gets it when the message is released. RFC 3461 §5.2 lets a
	// gateway that passes the duty on say nothing itself.
	o.DSNPassed = true
	if err := t.store.PutQuarantined(ctx, messageOf(d), d.Message.Body); err != nil {
		o.Status, o.Reply, o.Cause = mail.Deferred, mail.ReplyLocalError.Reply(), err.Error()
		if ctx.Err() != nil {
			o.Reply = mail.ReplyInterrupted.Reply()
		}
		t.log.Warn("not quarantined yet", "id", d.ID.String(), "error", err)
	} else {
		t.log.Info("quarantined", "id", d.ID.String(), "recipients", len(d.Recipients))
	}
	o.Time = time.Now()
	out := make([]mail.Outcome, len(d.Recipients))
	for i := range out {
		out[i] = o
	}
	return out
}

// Close implements the transports' interface; the store belongs to its opener.
func (t *Transport) Close() error { return nil }
