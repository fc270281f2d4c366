// Package spfcheck is the block "spf" of recipient flows: whether the sender's
// domain permits the client to send in its name (RFC 7208).
//
//	check := spfcheck.New(spfcheck.Config{Resolver: dns.Settled{R: resolver}})
//	findings, err := check.Check(ctx, in)
//
// Invariants:
//   - There is one finding, whatever the answer is. Blocks that come later know by
//     "spf:pass" and its Name that a domain is proved.
//   - An outage of the name service is Unknown, never a failure.
//   - Clients that may relay are not asked about: they send for others.
package spfcheck

import (
	"context"
	"net/netip"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/policy"
	"gatepost/internal/scan/authres/spf"
)

// Name is how the block is named in flows, and the module in findings.
const Name = "spf"

// Symbol is that of the finding for a result: "spf:fail".
func Symbol(s spf.Status) string { return Name + ":" + string(s) }

// Config is how the check works. Only Resolver is needed.
type Config struct {
	Resolver spf.Resolver
	// Match are the results that are a match beside Fail.
	Match []spf.Status
	// Timeout bounds a check; default 10 s.
	Timeout time.Duration
}

// Check is the check. One answer holds for a transaction (policy.PerTransaction).
type Check struct {
	checker *spf.Checker
	match   map[spf.Status]bool
}

// defaultTimeout is that of the block.
const defaultTimeout = 10 * time.Second

// maxReason bounds a reason in bytes.
const maxReason = 256

// New returns the check.
func New(c Config) *Check {
	if c.Timeout <= 0 {
		c.Timeout = defaultTimeout
	}
	// A little is kept for telling that there was no answer.
	check := &Check{checker: spf.New(spf.Config{Resolver: c.Resolver, Timeout: c.Timeout - c.Timeout/10}), match: map[spf.Status]bool{spf.Fail: true}}
	for _, s := range c.Match {
		check.match[s] = true
	}
	return check
}

// Check implements policy.Check.
func (c *Check) Check(ctx context.Context, in *policy.Input) ([]mail.Finding, error) {
	client := in.Session.Client.Addr().Unmap().WithZone("")
	if in.Envelope == nil || in.Session.MayRelay() || !client.IsValid() {
		return nil, nil
	}
	q := spf.Query{Client: client, Sender: in.Envelope.Sender, Helo: in.Session.Helo}
	r := c.checker.Check(ctx, q)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return []mail.Finding{c.finding(&r, client)}, nil
}

func (c *Check) finding(r *spf.Result, client netip.Addr) mail.Finding {
	f := mail.Finding{
		Module: Name, Symbol: Symbol(r.Status), Result: mail.Clean,
		Name: message.SafeText(r.Domain, maxReason), Reason: message.SafeText(r.Reason, maxReason),
		Properties: []mail.Property{{Name: "client", Value: client.String()}},
	}
	switch {
	case r.Status == spf.TempError:
		f.Result = mail.Unknown
	case c.match[r.Status]:
		f.Result = mail.Match
	}
	return f
}
