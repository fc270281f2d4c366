package callout

import (
	"cmp"
	"context"
	"errors"

	"gatepost/internal/mail"
	"gatepost/internal/policy"
)

// Recipient is the check verify-recipient. An answer holds for one recipient
// (policy.PerRecipient).
type Recipient struct{ *caller }

// NewRecipient returns the check, or an error for a Config that cannot be meant.
func NewRecipient(c Config) (*Recipient, error) {
	c = c.withDefaults()
	c.PerMinute = cmp.Or(c.PerMinute, 600)
	if err := c.check(RecipientName); err != nil {
		return nil, err
	}
	if c.Targets == nil {
		return nil, errors.New(RecipientName + ": it needs to know the transports")
	}
	v, err := newCaller(RecipientName, c)
	if err != nil {
		return nil, err
	}
	// The next hop says to us what it would say to the mail itself.
	v.strict = true
	return &Recipient{v}, nil
}

// Check implements policy.Check. It has nothing to say about mail to domains that
// are not configured by name: to ask the whole world about outgoing mail is rude.
func (r *Recipient) Check(ctx context.Context, in *policy.Input) ([]mail.Finding, error) {
	if in.Recipient == nil || in.Recipient.Address.Domain == "" || in.Recipient.Route.Domain == "*" {
		return nil, nil
	}
	rcpt := *in.Recipient
	route := rcpt.Route
	hops, err := r.config.Targets.Target(ctx, route)
	switch {
	case errors.Is(err, ErrNoCallout):
		return nil, nil
	case err != nil:
		return nil, err
	}
	way := route.Transport + " " + route.NextHop + " "
	return r.find(ctx, question{
		key: way + rcpt.Address.Key(), domainKey: way + "@" + rcpt.Address.Domain, address: rcpt.Address,
		hops: func(ctx context.Context) ([]Hop, error) {
			if len(hops) == 0 {
				return r.exchangers(ctx, cmp.Or(route.NextHop, rcpt.Address.Domain), false)
			}
			return r.others(hops)
		},
	})
}
