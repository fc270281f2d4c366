package gateway

import (
	"context"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/rewrite"
	"gatepost/internal/route"
)

// Rewriter changes the addresses of mail that comes in; *rewrite.Engine is one.
// Those of recipients are the Router's.
type Rewriter interface {
	Sender(ctx context.Context, a mail.Address, t *rewrite.Trace) (mail.Address, error)
	SenderCopies(ctx context.Context, sender mail.Address, t *rewrite.Trace) ([]mail.Address, error)
	WantsHeaders(s *mail.Session) bool
	Headers(ctx context.Context, s *mail.Session, h *message.Header, t *rewrite.Trace) ([]mail.Replacement, error)
}

// lookupPatience is how long the tables may take together: the client waits for the
// answer to its final dot.
const lookupPatience = time.Minute

// rewrite gives the sender his canonical address, in envelope and header, and copies
// to those who get one of his mail. What scans sees the message as it came, and SPF
// the sender as MAIL gave him. A table that can't be asked defers the message.
func (g *Gateway) rewrite(ctx context.Context, m mail.Message, header *message.Header) mail.Decision {
	if g.cfg.Rewriter == nil {
		return mail.Decision{}
	}
	ctx, cancel := context.WithTimeout(ctx, lookupPatience)
	defer cancel()
	env := m.Envelope
	sender, err := g.cfg.Rewriter.Sender(ctx, env.Sender, nil)
	if err != nil {
		return lookupFailed(err)
	}
	if sender.Raw != env.Sender.Raw {
		env.OriginalSender, env.Sender = env.Sender, sender
	}
	copies, err := g.cfg.Rewriter.SenderCopies(ctx, env.Sender, nil)
	if err != nil {
		return lookupFailed(err)
	}
	for _, a := range copies {
		if _, err := g.cfg.Router.RouteInternal(a); err != nil {
			g.cfg.Log.Warn("no way to the address of an automatic copy", "id", env.ID.String(), "address", a.String(), "error", err)
			continue
		}
		way, err := g.cfg.Router.ResolveInternal(ctx, a)
		if err != nil {
			return lookupFailed(err)
		}
		// It is judged as what a recipient gets: nothing goes out unscanned.
		way.Flow = env.Recipients[0].Route.Flow
		// The administrator asked for it, not the sender: no report.
		env.Recipients = route.Join(env.Recipients, mail.Recipient{Address: a, Original: a, Notify: mail.NotifyNever, Copy: true, Route: way})
	}
	return g.rewriteHeader(ctx, env, header)
}

// rewriteHeader notes what changes in the header section.
func (g *Gateway) rewriteHeader(ctx context.Context, env *mail.Envelope, header *message.Header) mail.Decision {
	if g.cfg.Rewriter == nil || !g.cfg.Rewriter.WantsHeaders(&env.Session) {
		return mail.Decision{}
	}
	changed, err := g.cfg.Rewriter.Headers(ctx, &env.Session, header, nil)
	if err != nil {
		return lookupFailed(err)
	}
	env.Edits.Replace = without(changed, env.Edits.Cut)
	return mail.Decision{}
}

// without are the replacements that touch no stretch that is cut out.
func without(all []mail.Replacement, cut []mail.Span) []mail.Replacement {
	var left []mail.Replacement
next:
	for _, r := range all {
		for _, c := range cut {
			if r.Start < c.End && c.Start < r.End {
				continue next
			}
		}
		left = append(left, r)
	}
	return left
}

// lookupFailed is the decision for a table that can't be asked.
func lookupFailed(err error) mail.Decision {
	return mail.Decision{Act: mail.Defer, Reply: mail.ReplyLookupFailed.Reply(), Reason: err.Error()}
}
