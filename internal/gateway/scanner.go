package gateway

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/scan"
	"gatepost/internal/spool"
)

// Scanner scans messages that were accepted before (processing = "queued"). To the
// queue it is a transport: each such message has one item for it, which is done
// when the items for the real next hops, or for the quarantine, are durable. So a
// message that waits to be scanned is as safe as one that waits to be delivered,
// and is tried again in the same way.
type Scanner struct{ cfg ScannerConfig }

// ScannerConfig is what a Scanner needs.
type ScannerConfig struct {
	// Gateway returns the present gateway; a reload exchanges it.
	Gateway func() *Gateway
	Spool   *spool.Spool
	// Suspects remembers what was being scanned when the process died.
	Suspects *Suspects
	// Patience is the age at which a message that cannot be scanned, because a
	// scanner is down, goes to the quarantine; default 1 hour.
	Patience time.Duration
	// Healthy reports whether a module works for other messages: one that is down is
	// not this message's fault. Nil: all do.
	Healthy func(use string) bool
	Log     *slog.Logger
}

// NewScanner returns a scanner.
func NewScanner(cfg ScannerConfig) *Scanner {
	if cfg.Patience <= 0 {
		cfg.Patience = time.Hour
	}
	if cfg.Healthy == nil {
		cfg.Healthy = func(string) bool { return true }
	}
	return &Scanner{cfg: cfg}
}

// Close ends nothing: a scan ends with the context of its delivery.
func (s *Scanner) Close() error { return nil }

// Deliver scans one message and puts it on its way.
func (s *Scanner) Deliver(ctx context.Context, d *mail.Delivery) []mail.Outcome {
	outcome := s.scan(ctx, d)
	outcome.Stage = "scan"
	return slices.Repeat([]mail.Outcome{outcome}, len(d.Recipients))
}

var (
	scanned  = mail.Outcome{Status: mail.Delivered, Reply: mail.ReplyOK.Reply()}
	notYetIt = mail.ReplyTryLater
)

// toBlame is why a message is quarantined that was tried maxStalls times.
const toBlame = "it killed or stalled its scanner three times"

func (s *Scanner) scan(ctx context.Context, d *mail.Delivery) mail.Outcome {
	id := d.ID.Message
	items, err := s.cfg.Spool.Items(id)
	if err != nil {
		return later(err)
	}
	if len(items) > 1 {
		// The real items are there: the process died before this one was done.
		return scanned
	}
	env := *d.Message.Envelope // the queue's copy must not change
	env.Recipients = slices.Clone(env.Recipients)
	m := mail.Message{Envelope: &env, Body: d.Message.Body}
	g := s.cfg.Gateway()
	header, refused := g.readHeader(m)
	if refused.Act != mail.Accept {
		condemn(&env, refused.Reason)
		return s.resolve(g, m, g.plan(m, header, nil, d.ID.N+1))
	}
	well := s.wellFor(g, &env)
	var seen *inspection
	if n := s.cfg.Suspects.Count(id); n >= maxStalls {
		condemn(&env, toBlame)
	} else if seen, err = s.inspect(ctx, g, m); err != nil {
		return later(err)
	}
	if reason, wait := s.mustWait(&env); wait {
		switch {
		case ctx.Err() != nil:
			return mail.Outcome{Status: mail.Deferred, Reply: notYetIt.Reply(), Cause: reason}
		case s.stalled(&env, well):
			condemn(&env, toBlame+": "+reason)
		case time.Since(env.Received) < s.cfg.Patience:
			return mail.Outcome{Status: mail.Deferred, Reply: notYetIt.Reply(), Cause: reason}
		default:
			condemn(&env, "it could not be scanned: "+reason)
		}
	}
	quarantineRejects(&env)
	g.learn(seen, &env)
	g.holdForUser(&env)
	return s.resolve(g, m, g.plan(m, header, seen, d.ID.N+1))
}

// inspect scans with the message marked as the one to blame should the process die.
func (s *Scanner) inspect(ctx context.Context, g *Gateway, m mail.Message) (*inspection, error) {
	defer s.cfg.Suspects.Begin(m.Envelope.ID)()
	return g.inspect(ctx, m)
}

// mustWait reports that a verdict is to try again later, and why.
func (s *Scanner) mustWait(env *mail.Envelope) (string, bool) {
	for i := range env.Recipients {
		if v := env.Recipients[i].Verdict; v != nil && v.Action == mail.ActionDefer {
			return because(v), true
		}
	}
	return "", false
}

// wellFor are the modules of the message's flows that work, before they see it.
func (s *Scanner) wellFor(g *Gateway, env *mail.Envelope) map[string]bool {
	well := make(map[string]bool)
	for _, f := range g.flowsOf(env) {
		for _, b := range f.Blocks {
			well[b.Use] = s.cfg.Healthy(b.Use)
		}
	}
	return well
}

// stalled counts a scan in which a module ran out of time, or broke, that was well
// before it saw the message; after three the message is to blame.
func (s *Scanner) stalled(env *mail.Envelope, well map[string]bool) bool {
	if !slices.ContainsFunc(env.Findings, func(f mail.Finding) bool {
		return f.Result == mail.Unknown && (f.Symbol == scan.SymbolTimeout || f.Symbol == scan.SymbolError) && well[f.Module]
	}) {
		return false
	}
	return s.cfg.Suspects.Blame(env.ID) >= maxStalls
}

// condemn sends all copies of a message to the quarantine that could not be scanned.
func condemn(env *mail.Envelope, reason string) {
	for i := range env.Recipients {
		env.Recipients[i].Verdict = &mail.Verdict{
			Action: mail.ActionQuarantine, Threat: mail.ThreatUnscanned, Block: "scanner", Reason: reason, Flow: env.Recipients[i].Route.Flow,
		}
	}
}

// resolve makes what was decided durable.
func (s *Scanner) resolve(g *Gateway, m mail.Message, items []*mail.QueueItem) mail.Outcome {
	env := m.Envelope
	g.noteScanned(env, items)
	if len(items) > 0 {
		if err := s.cfg.Spool.Extend(env, items); err != nil {
			return later(err)
		}
		g.cfg.Queue.Add(m, items)
	}
	s.cfg.Suspects.Forget(env.ID)
	s.cfg.Log.Info("scanned", "id", env.ID.String(), "sender", "<"+env.Sender.String()+">", "size", env.Size,
		"verdict", verdictsOf(env), "waited", time.Since(env.Received).Round(time.Millisecond))
	return scanned
}

// verdictsOf names what was decided, in the order of the recipients, each once.
func verdictsOf(env *mail.Envelope) string {
	var all []string
	for i := range env.Recipients {
		text := "unscanned"
		if v := env.Recipients[i].Verdict; v != nil {
			text = string(v.Action)
			if v.Block != "" {
				text += " (" + because(v) + ")"
			}
		}
		if !slices.Contains(all, text) {
			all = append(all, text)
		}
	}
	return strings.Join(all, ", ")
}

// later is the outcome of a failure of ours.
func later(err error) mail.Outcome {
	return mail.Outcome{Status: mail.Deferred, Reply: mail.ReplyLocalError.Reply(), Cause: err.Error()}
}
