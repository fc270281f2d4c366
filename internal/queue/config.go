package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/smtp"
)

// Transport delivers messages to one kind of next hop.
type Transport interface {
	// Deliver makes one attempt and returns one outcome per recipient of d, in
	// their order. It keeps its own timeouts and returns soon after ctx ends.
	Deliver(ctx context.Context, d *mail.Delivery) []mail.Outcome
}

// Bouncer takes the reports that the queue writes.
type Bouncer interface {
	// SubmitReport queues a message from the null sender. Once it returns nil
	// the report is durable.
	SubmitReport(ctx context.Context, to mail.Address, report io.Reader) error
}

// Observer counts what the queue does. Its methods are called from many
// goroutines and must not block.
type Observer interface {
	// Attempted is called for each recipient of each attempt; d is how long the
	// attempt took.
	Attempted(transport string, status mail.OutcomeStatus, d time.Duration)
	// Bounced is called for each failed recipient whose sender is told so.
	Bounced(transport string)
	// ReportDropped is called for each report that was due and not sent: over
	// the rate limit, a double bounce without a postmaster, a sender that must
	// not be told.
	ReportDropped(transport string)
}

// TransportConfig is one configured transport as the queue sees it.
type TransportConfig struct {
	Transport Transport
	// ByDomain says that the transport finds its hosts by the recipient's domain
	// (kind mx), so that each of its items has that domain as its next hop.
	ByDomain bool
	// Incoming says that its items wait for the scanner and not for delivery:
	// lists show them as incoming.
	Incoming bool
	Policy   Policy
}

// Config is what a Queue needs.
type Config struct {
	Store Store // required
	// Gone reports whether an error of Store says that the item is not there,
	// or was set aside as damaged. Default: errors.Is(err, fs.ErrNotExist).
	Gone func(error) bool
	// Transports by name.
	Transports map[string]TransportConfig
	Bouncer    Bouncer // required
	// MayReport reports whether the sender of this message may get a report:
	// false for senders that are likely forged. Default: every sender may.
	MayReport func(*mail.Envelope) bool
	Log       *slog.Logger // default: discard
	Observer  Observer     // default: none
	// History is told of each attempt, report and operation; default: nobody.
	History mail.Historian
	// Hostname is the Reporting-MTA and the domain of MAILER-DAEMON. Required.
	Hostname string
	// Postmaster gets a copy of what could neither be delivered nor returned;
	// "" for nobody.
	Postmaster string
	// MaxActive bounds the attempts under way; default 1000.
	MaxActive int
	// MemoryBudget bounds the messages, in bytes, that wait in memory for an
	// attempt that follows at once; default 64 MiB. Those beyond it are read
	// from the store.
	MemoryBudget int64
	// ReportsPerHour bounds the reports to one sender about one destination;
	// default 20.
	ReportsPerHour int
	// MaxReturn is the size in bytes up to which RET=FULL returns the whole
	// message; default 1 MiB. Larger ones come back as their headers.
	MaxReturn int64
	// MaxRest bounds how long a dead destination rests between two probes;
	// default 10 minutes.
	MaxRest time.Duration
}

// Policy is how hard a transport tries. The zero value of a field stands for
// its default, except for WarnAfter.
type Policy struct {
	// Sessions bounds the attempts at one destination at a time; default 20.
	Sessions int
	// Delays is the time from the n-th failed attempt to the next; the last one
	// repeats. Default: 1, 5, 15, 30, 60 minutes. Each is varied by ±10 %.
	Delays []time.Duration
	// GiveUpAfter is the age, less the time spent paused, at which a failed
	// attempt is the last; default 2 days.
	GiveUpAfter time.Duration
	// WarnAfter is the age at which the sender is told once that the message is
	// delayed; 0 for never.
	WarnAfter time.Duration
	// Discard ends items without a report.
	Discard bool
	// Final says that delivery by this transport is the end of the way (maildir,
	// lmtp), so that a success report says "delivered" and not "relayed".
	Final bool
}

// DefaultPolicy returns the policy of a transport that configures none.
func DefaultPolicy() Policy { return Policy{WarnAfter: 4 * time.Hour}.withDefaults() }

func (p Policy) withDefaults() Policy {
	if p.Sessions <= 0 {
		p.Sessions = 20
	}
	if len(p.Delays) == 0 {
		p.Delays = []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour}
	}
	if p.GiveUpAfter <= 0 {
		p.GiveUpAfter = 48 * time.Hour
	}
	return p
}

func (c Config) withDefaults() (Config, error) {
	switch {
	case c.Store == nil:
		return c, errors.New("queue: no store")
	case c.Bouncer == nil:
		return c, errors.New("queue: no bouncer")
	case c.Hostname == "":
		return c, errors.New("queue: no hostname")
	}
	if c.Gone == nil {
		c.Gone = func(err error) bool { return errors.Is(err, fs.ErrNotExist) }
	}
	if c.MayReport == nil {
		c.MayReport = func(*mail.Envelope) bool { return true }
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Observer == nil {
		c.Observer = noObserver{}
	}
	if c.History == nil {
		c.History = noHistory{}
	}
	c.MaxActive = orDefault(c.MaxActive, 1000)
	c.MemoryBudget = orDefault(c.MemoryBudget, 64<<20)
	c.ReportsPerHour = orDefault(c.ReportsPerHour, 20)
	c.MaxReturn = orDefault(c.MaxReturn, 1<<20)
	c.MaxRest = orDefault(c.MaxRest, 10*time.Minute)
	if c.Postmaster != "" {
		if _, err := smtp.ParseAddress(c.Postmaster); err != nil {
			return c, fmt.Errorf("queue: postmaster %q: %w", c.Postmaster, err)
		}
	}
	return c, nil
}

// orDefault returns v, or the default where v is not above 0.
func orDefault[T int | int64 | time.Duration](v, def T) T {
	if v <= 0 {
		return def
	}
	return v
}

type noObserver struct{}

func (noObserver) Attempted(string, mail.OutcomeStatus, time.Duration) {}
func (noObserver) Bounced(string)                                      {}
func (noObserver) ReportDropped(string)                                {}
