package recipients

import (
	"context"

	"gatepost/internal/lookup"
	"gatepost/internal/mail"
)

// Source knows recipients from elsewhere than a file: a directory, a web service,
// the mail server that the mail is for.
type Source interface {
	// Knows reports whether the recipient exists: r.Address is the address, r.Route
	// where its mail would go. Nothing in r may be changed. An error says that the
	// source can't tell now, which is neither a yes nor a no.
	Knows(ctx context.Context, r *mail.Recipient) (bool, error)
}

// Func is a Source that looks at the address alone, in the form of mail.Address.Key.
type Func func(ctx context.Context, address string) (bool, error)

// Knows implements Source.
func (f Func) Knows(ctx context.Context, r *mail.Recipient) (bool, error) {
	return f(ctx, r.Address.Key())
}

// Named is a source with what is to be known about it.
type Named struct {
	Name string // for log and history: "ldap:ad"
	Source
	// Exact says that only the very address makes sense to ask for, since it is what
	// the mail will be sent to: a callout. Others are asked for the address without
	// its extension, and in the domain of which it is an alias, too.
	Exact bool
}

// Cached returns a source that keeps the answers of another one and asks it once
// for equal questions of one moment.
func Cached(s Source, cfg lookup.Config) Source {
	return &cached{s, lookup.NewCache(cfg, func(known bool) bool { return !known })}
}

type cached struct {
	Source
	answers *lookup.Cache[bool]
}

// Knows implements Source.
func (c *cached) Knows(ctx context.Context, r *mail.Recipient) (bool, error) {
	key := r.Address.Key() + "\x00" + r.Route.Transport + "\x00" + r.Route.NextHop
	// The question may outlive this recipient, who is his session's.
	copied := *r
	return c.answers.Get(ctx, key, func(ctx context.Context) (bool, error) { return c.Source.Knows(ctx, &copied) })
}
