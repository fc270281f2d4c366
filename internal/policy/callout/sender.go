package callout

import (
	"cmp"
	"context"
	"errors"
	"strings"

	"gatepost/internal/mail"
	"gatepost/internal/policy"
)

// Sender is the check verify-sender. One answer holds for a transaction
// (policy.PerTransaction).
type Sender struct{ *caller }

// NewSender returns the check, or an error for a Config that cannot be meant.
func NewSender(c Config) (*Sender, error) {
	c = c.withDefaults()
	c.PerMinute = cmp.Or(c.PerMinute, 60)
	c.Score = cmp.Or(c.Score, 3)
	if err := c.check(SenderName); err != nil {
		return nil, err
	}
	if c.Domains == nil {
		return nil, errors.New(SenderName + ": it needs to know the domains that are ours")
	}
	v, err := newCaller(SenderName, c)
	if err != nil {
		return nil, err
	}
	return &Sender{v}, nil
}

// Check implements policy.Check.
func (s *Sender) Check(ctx context.Context, in *policy.Input) ([]mail.Finding, error) {
	if in.Envelope == nil || in.Session.MayRelay() {
		return nil, nil
	}
	sender := in.Envelope.Sender
	// The null sender exists by definition, who is ours is for other checks to know,
	// and behind a literal anybody could make us connect to any address.
	if sender.Domain == "" || strings.HasPrefix(sender.Domain, "[") || s.config.Domains.Ours(sender.Domain) {
		return nil, nil
	}
	return s.find(ctx, question{
		key: sender.Key(), domainKey: "@" + sender.Domain, address: sender,
		hops: func(ctx context.Context) ([]Hop, error) { return s.exchangers(ctx, sender.Domain, true) },
	})
}
