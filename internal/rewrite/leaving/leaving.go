// Package leaving changes messages as they leave: the addresses that the outside
// knows by other names (generic), and the senders of forwarded mail (SRS).
//
//	queue.TransportConfig{Transport: leaving.New(leaving.Config{Transport: t, Name: "internet", …})}
//
// Invariants:
//   - A message in the queue keeps its addresses; what leaves is a copy. A table that
//     is changed counts for what waits already.
//   - Where a table can't be asked nothing leaves: the recipients are deferred.
//   - Outcomes are those of the recipients as the queue knows them, in their order.
package leaving

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/rewrite"
	"gatepost/internal/rewrite/srs"
)

// Transport takes messages to their next hop.
type Transport interface {
	Deliver(ctx context.Context, d *mail.Delivery) []mail.Outcome
}

// Config is how mail through one transport is changed.
type Config struct {
	Transport Transport
	Name      string // of the transport, for Engine.Leaves
	// Engine nil: no table changes anything. SRS nil: senders stay.
	Engine *rewrite.Engine
	SRS    *srs.Rewriter
	// Ours tells the domains whose mail is for us: senders of them stay, and mail to
	// them is not forwarded.
	Ours func(domain string) bool
	// MaxHeader bounds the header section, in bytes; default 1 MiB.
	MaxHeader int64
}

// Leaving is a transport whose mail is changed as it leaves.
type Leaving struct{ cfg Config }

const defaultMaxHeader = 1 << 20

// New returns the transport. It keeps nothing of a delivery.
func New(cfg Config) *Leaving {
	if cfg.MaxHeader <= 0 {
		cfg.MaxHeader = defaultMaxHeader
	}
	return &Leaving{cfg}
}

// lookupPatience is how long the tables may take for one attempt.
const lookupPatience = time.Minute

// Deliver changes the message and gives it to the transport: twice where some of the
// recipients are strangers, who see another sender than our own do.
func (l *Leaving) Deliver(ctx context.Context, d *mail.Delivery) []mail.Outcome {
	ours, strangers := l.sides(d)
	if len(ours) == 0 || len(strangers) == 0 {
		return l.deliver(ctx, d, len(strangers) > 0)
	}
	outcomes := make([]mail.Outcome, len(d.Recipients))
	for _, side := range []struct {
		at   []int
		wrap bool
	}{{ours, false}, {strangers, true}} {
		some := *d
		some.Recipients = make([]mail.Recipient, len(side.at))
		for k, i := range side.at {
			some.Recipients[k] = d.Recipients[i]
		}
		for k, o := range l.deliver(ctx, &some, side.wrap) {
			if k < len(side.at) {
				outcomes[side.at[k]] = o
			}
		}
	}
	return outcomes
}

// sides are the recipients for whom the sender stays, and those for whom he is
// wrapped: he is a stranger, and so are they. They check SPF against us, who are not
// in the record of his domain.
func (l *Leaving) sides(d *mail.Delivery) (ours, strangers []int) {
	sender := d.Message.Envelope.Sender
	foreign := l.cfg.SRS != nil && !sender.IsNull() && sender.Domain != "" && !l.ours(sender.Domain)
	for i := range d.Recipients {
		if to := d.Recipients[i].Address.Domain; foreign && to != "" && !l.ours(to) {
			strangers = append(strangers, i)
		} else {
			ours = append(ours, i)
		}
	}
	return ours, strangers
}

// Addresses are sender and recipient as the next hop of this transport is told them.
func (l *Leaving) Addresses(ctx context.Context, sender, to mail.Address) (from, rcpt mail.Address, err error) {
	ctx, cancel := context.WithTimeout(ctx, lookupPatience)
	defer cancel()
	d := &mail.Delivery{
		Message:    mail.Message{Envelope: &mail.Envelope{Sender: sender}},
		Recipients: []mail.Recipient{{Address: to}},
	}
	_, strangers := l.sides(d)
	if err := l.envelope(ctx, d, len(strangers) > 0); err != nil {
		return sender, to, err
	}
	return d.Message.Envelope.Sender, d.Recipients[0].Address, nil
}

// Header adds to the edits of a message what changes in its header.
func (l *Leaving) Header(ctx context.Context, body mail.Body, edits mail.Edits) (mail.Edits, error) {
	if !l.generic() {
		return edits, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookupPatience)
	defer cancel()
	header, err := message.ReadHeader(body, l.cfg.MaxHeader)
	if err != nil {
		return edits, fmt.Errorf("read header: %w", err)
	}
	changed, err := l.cfg.Engine.OutgoingHeaders(ctx, header, edits, nil)
	if err != nil {
		return edits, fmt.Errorf("rewrite header: %w", err)
	}
	return changed, nil
}

func (l *Leaving) deliver(ctx context.Context, d *mail.Delivery, wrap bool) []mail.Outcome {
	changed, err := l.change(ctx, d, wrap)
	if err != nil {
		return deferAll(d, err)
	}
	return l.cfg.Transport.Deliver(ctx, changed)
}

// change returns the delivery as it leaves.
func (l *Leaving) change(ctx context.Context, d *mail.Delivery, wrap bool) (*mail.Delivery, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupPatience)
	defer cancel()
	env := *d.Message.Envelope
	out := *d
	out.Message.Envelope = &env
	out.Recipients = append([]mail.Recipient(nil), d.Recipients...)
	if err := l.envelope(ctx, &out, wrap); err != nil {
		return nil, err
	}
	var err error
	env.Edits, err = l.Header(ctx, d.Message.Body, env.Edits)
	return &out, err
}

func (l *Leaving) generic() bool { return l.cfg.Engine != nil && l.cfg.Engine.Leaves(l.cfg.Name) }

// envelope rewrites the envelope of a delivery: generic first, SRS for what is still a
// stranger's then.
func (l *Leaving) envelope(ctx context.Context, d *mail.Delivery, wrap bool) (err error) {
	env := d.Message.Envelope
	if env.Sender.IsNull() {
		wrap = false
	}
	if l.generic() {
		if env.Sender, err = l.cfg.Engine.Outgoing(ctx, env.Sender, nil); err != nil {
			return fmt.Errorf("rewrite sender: %w", err)
		}
		for i := range d.Recipients {
			r := &d.Recipients[i]
			if r.Address, err = l.cfg.Engine.Outgoing(ctx, r.Address, nil); err != nil {
				return fmt.Errorf("rewrite recipient: %w", err)
			}
		}
	}
	if !wrap || l.ours(env.Sender.Domain) {
		return nil
	}
	env.Sender, err = l.wrap(env.Sender, time.Now())
	return err
}

func (l *Leaving) ours(domain string) bool {
	return strings.EqualFold(domain, l.cfg.SRS.Domain()) || l.cfg.Ours != nil && l.cfg.Ours(domain)
}

// wrap is the sender as SRS writes it. One that does not fit stays: the mail may fail
// SPF, which is better than not to leave at all.
func (l *Leaving) wrap(sender mail.Address, now time.Time) (mail.Address, error) {
	local, err := l.cfg.SRS.Forward(sender.Local, sender.Domain, now)
	if errors.Is(err, srs.ErrSender) || errors.Is(err, srs.ErrTooLong) {
		return sender, nil
	}
	if err != nil {
		return sender, fmt.Errorf("wrap sender: %w", err)
	}
	return rewrite.Address(local, l.cfg.SRS.Domain())
}

// deferAll says that nobody could be served now.
func deferAll(d *mail.Delivery, err error) []mail.Outcome {
	all := make([]mail.Outcome, len(d.Recipients))
	for i := range all {
		all[i] = mail.Outcome{
			Status: mail.Deferred, Reply: mail.ReplyLookupFailed.Reply(), Stage: "queue", Time: time.Now(), Cause: err.Error(),
		}
	}
	return all
}
