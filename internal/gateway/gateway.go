// Package gateway is the spine: it takes a message from the session that brought
// it to the queue that delivers it. receive.go is the way of one message, in
// order; read it first.
//
// Invariants:
//   - A positive reply to the final dot is given only after the message and its
//     queue items are durable in the spool (250 means safe).
//   - The spool holds the bytes that the client sent. What Gatepost adds or
//     removes stands in Envelope.Edits, concerns the header section only, and is
//     applied on delivery.
//   - Nothing here keeps a goroutine: the session owns the time of a reception,
//     the queue owns the delivery.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/message/notice"
	"gatepost/internal/spool"
)

// Router decides whether a recipient is ours to serve and where it goes.
type Router interface {
	// Resolve decides about one RCPT. On Accept it returns those who get the mail, each
	// with his route; the first stands in *r, too. Else it says why the recipient is
	// refused or has to wait.
	Resolve(ctx context.Context, listener string, s *mail.Session, r *mail.Recipient) ([]mail.Recipient, mail.Decision)
	// RouteInternal is the route of mail that Gatepost itself sends.
	RouteInternal(to mail.Address) (mail.Route, error)
	// ResolveInternal is the same where there is time to ask over a network.
	ResolveInternal(ctx context.Context, to mail.Address) (mail.Route, error)
}

// Queue takes over messages that are durable.
type Queue interface {
	Add(m mail.Message, items []*mail.QueueItem)
}

// TrafficLog keeps one line for each message that arrived whole.
type TrafficLog interface {
	// SMTPTransaction is told what the client heard after took, and what became of
	// those to whom the message was passed through.
	SMTPTransaction(env *mail.Envelope, d mail.Decision, r mail.Reply, took time.Duration, live ...mail.Outcome)
}

// Config is what a Gateway is made of.
type Config struct {
	Hostname string
	// Postmaster gets the reports to which there is no way; the zero Address
	// stands for nobody.
	Postmaster mail.Address
	Spool      *spool.Spool
	Queue      Queue
	Router     Router
	Log        *slog.Logger
	// WaitLog gets a line for each message that waits for the scanner; default Log.
	WaitLog *slog.Logger
	// Traffic gets one line for each message (smtp_proxy.log).
	Traffic TrafficLog
	// History is told what becomes of each message; nil: nobody.
	History History
	// MaxHops is how many Received fields a message may carry; default 50.
	MaxHops int
	// MaxHeaderSize bounds the header section in bytes; default 1 MiB.
	MaxHeaderSize int64
	// Rewriter changes senders and headers; nil: nobody does.
	Rewriter Rewriter
	// Stages are what decides before content, Content what does about it.
	Stages  Stages
	Content Content
	// UnknownRecipient is told of each recipient that does not exist; nil: nobody.
	UnknownRecipient func(*mail.Session)
	// Sent is told each message that was taken; nil: nobody. It must not wait.
	Sent func(*mail.Envelope)
	// Users is what users who have logged in may do.
	Users Users
	// ByDomain are the transports that ask for the exchangers of a recipient's domain.
	ByDomain map[string]bool
	// Originals are the transports that lead to the server that a diverted connection was
	// meant for; they are in ByDomain, too, for mail that came by no such connection.
	Originals map[string]bool
	// Mailboxes is what mail that is fetched from mailboxes needs.
	Mailboxes Mailboxes
	// Proxies are the transports through which mail is passed while its client waits.
	Proxies map[string]Proxy
	// DeferMixed are the listeners whose clients try again where some upstreams took a
	// message and others did not.
	DeferMixed map[string]bool
	// Queued are the listeners whose messages are answered first and scanned then.
	Queued map[string]bool
}

// Gateway serves any number of sessions at once.
type Gateway struct {
	cfg    Config
	visits visits
}

// Limits that apply where Config leaves them zero.
const (
	defaultMaxHops       = 50
	defaultMaxHeaderSize = 1 << 20
	defaultBudget        = time.Minute
)

// New returns a gateway over the given parts.
func New(cfg Config) (*Gateway, error) {
	switch {
	case cfg.Hostname == "":
		return nil, errors.New("make gateway: no hostname")
	case cfg.Spool == nil || cfg.Queue == nil || cfg.Router == nil || cfg.Log == nil || cfg.Traffic == nil:
		return nil, errors.New("make gateway: a part is missing")
	}
	if cfg.History == nil {
		cfg.History = noHistory{}
	}
	if cfg.WaitLog == nil {
		cfg.WaitLog = cfg.Log
	}
	if cfg.MaxHops <= 0 {
		cfg.MaxHops = defaultMaxHops
	}
	if cfg.MaxHeaderSize <= 0 {
		cfg.MaxHeaderSize = defaultMaxHeaderSize
	}
	if cfg.Mailboxes.Text == nil {
		text, err := notice.Parse("")
		if err != nil {
			return nil, fmt.Errorf("make gateway: %w", err)
		}
		cfg.Mailboxes.Text = text
	}
	if cfg.Content.Budget <= 0 {
		cfg.Content.Budget = defaultBudget
	}
	return &Gateway{cfg: cfg}, nil
}

// Mail is the hook for MAIL: a message that cannot be stored is refused before
// its bytes travel (RFC 1870 §6.1).
func (g *Gateway) Mail(_ context.Context, env *mail.Envelope) mail.Decision {
	g.charge(&env.Session, env, ChargeMessages, 1)
	if d := g.checkSender(env); d.Act != mail.Accept {
		return d
	}
	if err := g.cfg.Spool.CheckSpace(env.Size); err != nil {
		return deferral(err)
	}
	return mail.Decision{}
}
