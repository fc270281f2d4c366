// Package rate bounds how much of something comes in how much time, from an
// address, a network, a sender, a user, or to a domain, and how many sessions a
// network has at once.
//
//	limiter, err := rate.New(rate.Config{Per: rate.Network, Limits: map[rate.Kind]rate.Limit{rate.Connections: l}})
//	findings, err := limiter.Check(ctx, in)                   // a block of a flow
//	answer := limiter.Charge(rate.Errors, rate.WhoOf(session), 1) // what flows do not see
//
// Invariants:
//   - What is refused is not charged: a client that does not stop trying still gets
//     its rate.
//   - Memory is bounded by Config.MaxKeys. A key that has not used its rate up costs
//     nothing.
//   - Nothing here blocks, and nothing is asked of anybody else.
package rate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/policy"
)

// Use is how the block is named in flows, and the module in findings.
const Use = "rate"

// Kind is what is counted; it is the symbol of findings.
type Kind string

// The kinds, and when they are charged.
const (
	Connections Kind = "connections" // a connection
	Messages    Kind = "messages"    // MAIL
	Recipients  Kind = "recipients"  // RCPT
	Bytes       Kind = "bytes"       // end of data: the size of the message
	Errors      Kind = "errors"      // a command that is answered 5xx
	Logins      Kind = "logins"      // a login that failed
)

// Kinds returns all kinds.
func Kinds() []Kind { return []Kind{Connections, Messages, Recipients, Bytes, Errors, Logins} }

// Per is by what it is counted.
type Per string

// What may be counted by.
const (
	Address         Per = "address"
	Network         Per = "network"
	Sender          Per = "sender"
	User            Per = "user"
	RecipientDomain Per = "recipient_domain"
)

// Config is what is bounded. Zero values stand for the defaults.
type Config struct {
	// Stage is the stage of the flow that the block is in; default policy.Connect.
	// Check charges what belongs to it: connections at connect, messages and
	// recipients at recipient. Charge charges the rest.
	Stage  policy.Stage
	Per    Per // default Network
	Limits map[Kind]Limit
	// IPv4Bits and IPv6Bits are what makes a network; default 24 and 64.
	IPv4Bits, IPv6Bits int
	// MaxKeys bounds how many keys are remembered; default 1,000,000, about 50 MB.
	MaxKeys int
}

// Who is whom something is charged to. What is not known is left out: a limit that
// counts by it does not apply.
type Who struct {
	Client netip.Addr
	User   string
	Sender mail.Address
	Domain string // of the recipient
}

// WhoOf is what is known of a session.
func WhoOf(s *mail.Session) Who { return Who{Client: s.Client.Addr(), User: s.User} }

// Answer is what Charge says.
type Answer struct {
	// Exceeded says that the limit is reached, and that nothing was charged.
	Exceeded bool
	// RetryAfter is when as much as was asked for may come again.
	RetryAfter time.Duration
	// Finding is for the session where it is exceeded.
	Finding mail.Finding
}

// Limiter is a block "rate".
type Limiter struct {
	cfg     Config
	buckets map[Kind]*bucket
	table   *table
}

// New returns a limiter, or an error for a Config that cannot be meant.
func New(cfg Config) (*Limiter, error) {
	cfg.Stage = cmp.Or(cfg.Stage, policy.Connect)
	cfg.Per = cmp.Or(cfg.Per, Network)
	cfg.IPv4Bits, cfg.IPv6Bits = cmp.Or(cfg.IPv4Bits, 24), cmp.Or(cfg.IPv6Bits, 64)
	cfg.MaxKeys = cmp.Or(max(cfg.MaxKeys, 0), 1_000_000)
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("rate: %w", err)
	}
	l := &Limiter{cfg: cfg, buckets: map[Kind]*bucket{}, table: newTable(cfg.MaxKeys)}
	for kind, limit := range cfg.Limits {
		b := newBucket(limit)
		l.buckets[kind] = &b
	}
	return l, nil
}

func (c *Config) check() error {
	if c.IPv4Bits < 1 || c.IPv4Bits > 32 || c.IPv6Bits < 1 || c.IPv6Bits > 128 {
		return errors.New("a network has 1 to 32 bits of IPv4 and 1 to 128 of IPv6")
	}
	switch c.Per {
	case Address, Network, Sender, User, RecipientDomain:
	default:
		return fmt.Errorf("per: there is no %q; there are address, network, sender, user, recipient_domain", short(string(c.Per)))
	}
	if len(c.Limits) == 0 {
		return errors.New("it needs a limit: connections, messages, recipients, bytes, errors or logins")
	}
	for _, kind := range Kinds() {
		limit, ok := c.Limits[kind]
		if !ok {
			continue
		}
		if err := limit.check(); err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
		if err := c.possible(kind); err != nil {
			return err
		}
	}
	for kind := range c.Limits {
		if !known(kind) {
			return fmt.Errorf("there is no %q to be limited", short(string(kind)))
		}
	}
	return nil
}

func known(kind Kind) bool {
	for _, k := range Kinds() {
		if k == kind {
			return true
		}
	}
	return false
}

// possible refuses limits that could never be reached, because what they count by
// is not known when they are charged.
func (c *Config) possible(kind Kind) error {
	byClient := c.Per == Address || c.Per == Network
	switch {
	case kind == Connections && c.Stage != policy.Connect:
		return errors.New("connections: they are limited in a flow of the stage connect")
	case kind == Connections && !byClient, kind == Logins && c.Per != User && !byClient:
		return fmt.Errorf("%s: they cannot be counted per %s, which is not known yet", kind, c.Per)
	case kind == Messages && c.Per == RecipientDomain:
		return errors.New("messages: they cannot be counted per recipient_domain; count recipients")
	}
	return nil
}

// own reports what Check charges at its stage.
func (l *Limiter) own(kind Kind) bool {
	if l.cfg.Stage == policy.Connect {
		return kind == Connections
	}
	return kind == Messages || kind == Recipients
}

// Check implements policy.Check. At connect it charges the connection, and says
// what else this client has used up; at recipient it charges the recipient, and
// with the first of a transaction the message.
func (l *Limiter) Check(_ context.Context, in *policy.Input) ([]mail.Finding, error) {
	who := WhoOf(in.Session)
	if in.Envelope != nil {
		who.Sender = in.Envelope.Sender
	}
	if in.Recipient != nil {
		who.Domain = in.Recipient.Address.Domain
	}
	var findings []mail.Finding
	for _, kind := range Kinds() {
		var a Answer
		switch {
		case kind == Messages && l.own(kind) && in.Envelope != nil && len(in.Envelope.Recipients) > 0:
			continue
		case l.own(kind):
			a = l.charge(kind, who, 1, l.table.take)
		default:
			a = l.charge(kind, who, 1, l.table.peek)
		}
		if a.Exceeded {
			findings = append(findings, a.Finding)
		}
	}
	return findings, nil
}

// Charge charges n of a kind, and says whether it is within the limit. What there
// is no limit for, what Check charges by itself, and what cannot be counted because
// the key is not known, is within it.
func (l *Limiter) Charge(kind Kind, who Who, n int64) Answer {
	if l.own(kind) || n <= 0 {
		return Answer{}
	}
	return l.charge(kind, who, n, l.table.take)
}

// ChargeTransaction charges n of a kind to all that a session and its transaction
// are known by; env is nil outside of one. Per recipient_domain each domain is charged.
func (l *Limiter) ChargeTransaction(kind Kind, s *mail.Session, env *mail.Envelope, n int64) {
	who := WhoOf(s)
	if env == nil {
		l.Charge(kind, who, n)
		return
	}
	who.Sender = env.Sender
	if l.cfg.Per != RecipientDomain {
		l.Charge(kind, who, n)
		return
	}
	charged := make(map[string]bool, 1)
	for i := range env.Recipients {
		who.Domain = env.Recipients[i].Address.Domain
		if !charged[who.Domain] {
			charged[who.Domain] = true
			l.Charge(kind, who, n)
		}
	}
}

// Exceeded says what Charge would, and charges nothing.
func (l *Limiter) Exceeded(kind Kind, who Who) Answer {
	return l.charge(kind, who, 1, l.table.peek)
}

// Keys is how many keys are remembered.
func (l *Limiter) Keys() int { return l.table.size() }

func (l *Limiter) charge(kind Kind, who Who, n int64, take func(key, *bucket, int64) (time.Duration, bool)) Answer {
	b := l.buckets[kind]
	if b == nil {
		return Answer{}
	}
	name := l.name(who)
	if name == "" {
		return Answer{}
	}
	wait, ok := take(key{kind, name}, b, n)
	if ok {
		return Answer{}
	}
	return Answer{Exceeded: true, RetryAfter: wait, Finding: mail.Finding{
		Module: Use, Symbol: string(kind), Name: string(l.cfg.Per), Result: mail.Match,
		Reason:     message.SafeText(fmt.Sprintf("%s: more than %s %s", name, b.limit, kind), 300),
		Properties: []mail.Property{policy.Wait(wait)},
	}}
}

// name is what is counted by, "" where it is not known.
func (l *Limiter) name(who Who) string {
	switch l.cfg.Per {
	case Address:
		if addr := plain(who.Client); addr.IsValid() {
			return addr.String()
		}
	case Network:
		if p, ok := networkOf(who.Client, l.cfg.IPv4Bits, l.cfg.IPv6Bits); ok {
			return p.String()
		}
	case Sender:
		// Bounces of everybody come from <>: they are nobody's rate.
		if !who.Sender.IsNull() {
			return who.Sender.Key()
		}
	case User:
		return strings.ToLower(who.User)
	case RecipientDomain:
		return who.Domain
	}
	return ""
}

func plain(addr netip.Addr) netip.Addr { return addr.Unmap().WithZone("") }

func networkOf(addr netip.Addr, bits4, bits6 int) (netip.Prefix, bool) {
	addr = plain(addr)
	bits := bits6
	if addr.Is4() {
		bits = bits4
	}
	p, err := addr.Prefix(bits)
	return p, err == nil && p.IsValid()
}
