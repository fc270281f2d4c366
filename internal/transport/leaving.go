package transport

import (
	"context"
	"fmt"
	"log/slog"

	"gatepost/internal/mail"
	"gatepost/internal/message"
)

// Signer makes header fields that go before a message: DKIM-Signature. None where
// it has no key for the message's author.
type Signer interface {
	Sign(ctx context.Context, c *message.Content) ([]byte, error)
}

// Sealer makes the fields of an ARC set. cv is what they say of the chain before
// them; no fields mean that there is nothing to seal, and cv says why.
type Sealer interface {
	Seal(ctx context.Context, env *mail.Envelope, c *message.Content) (fields []byte, cv string, err error)
}

// Observer counts what a transport does to messages and sessions. It must not wait.
type Observer interface {
	// Signed is told, of each message of our own people that leaves where there are
	// keys, whether one of them signed it.
	Signed(transport string, signed bool)
	// Sealed is told the cv= of each ARC set.
	Sealed(transport, cv string)
	// Secured is told how each new session began: by which policy, and "verified",
	// "encrypted", "clear" or "failed".
	Secured(transport, policy, result string)
}

// nobody observes nothing.
type nobody struct{}

// Signed implements Observer.
func (nobody) Signed(string, bool) {}

// Sealed implements Observer.
func (nobody) Sealed(string, string) {}

// Secured implements Observer.
func (nobody) Secured(string, string, string) {}

// Marks is what a transport puts in front of messages that leave.
type Marks struct {
	transport string
	signers   []Signer
	sealer    Sealer
	watch     Observer
	log       *slog.Logger
}

// NewMarks makes them for those who take messages to the next hop themselves.
func NewMarks(transport string, deps Deps) *Marks {
	m := &Marks{transport: transport, signers: deps.Signers, sealer: deps.Sealer, watch: deps.Observer, log: deps.Log}
	if m.watch == nil {
		m.watch = nobody{}
	}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	return m
}

// ours reports whether somebody of ours sent the message: a client that may relay,
// or this gateway itself. Mail of strangers that is passed on is not signed, whatever
// its From says: the key would vouch for whoever wrote it.
func ours(env *mail.Envelope) bool {
	return env.Session.MayRelay() || !env.Session.Client.IsValid()
}

// Put returns c with signatures and seal in front. The error means that a message
// which should be signed can't be.
func (m *Marks) Put(ctx context.Context, env *mail.Envelope, c *message.Content) (*message.Content, error) {
	whole := c
	if len(m.signers) > 0 && ours(env) {
		signed := false
		for _, s := range m.signers {
			fields, err := s.Sign(ctx, c)
			if err != nil {
				// Mail that should be signed never leaves without.
				return nil, fmt.Errorf("sign: %w", err)
			}
			if len(fields) > 0 {
				whole, signed = whole.Prepend(fields), true
			}
		}
		if !signed {
			m.log.InfoContext(ctx, "leaves without a DKIM signature: no key for the domain of its author", "id", env.ID.String())
		}
		m.watch.Signed(m.transport, signed)
	}
	if m.sealer == nil {
		return whole, nil
	}
	// RFC 8617 §5.1: the seal comes last, over what leaves, signatures and all.
	fields, cv, err := m.sealer.Seal(ctx, env, whole)
	switch {
	case err != nil:
		// A seal helps the next host to judge; without one it judges as it always did.
		m.log.WarnContext(ctx, "leaves without an ARC seal", "id", env.ID.String(), "error", err)
	case len(fields) == 0:
		m.log.DebugContext(ctx, "not sealed", "id", env.ID.String(), "why", cv)
	default:
		m.watch.Sealed(m.transport, cv)
		whole = whole.Prepend(fields)
	}
	return whole, nil
}
