package auth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/policy"
)

// Module is the module of the gate's own findings.
const Module = "auth"

// Block is a backend in a flow.
type Block struct {
	// Use is what the block is called in findings: "auth-file".
	Use     string
	Backend policy.AuthBackend
	// Timeout is for one question; default 30s.
	Timeout time.Duration
	// Observe has the backend asked and its answer noted, but not followed.
	Observe bool
}

// Config is an authentication flow. Zero values but Blocks take the default.
type Config struct {
	Blocks []Block
	// Guard counts failures; nil stands for one of its own with the defaults. Flows
	// and listeners may share one, and it outlives a change of the configuration.
	Guard *Guard
	// Pad is what answers of no are padded to a multiple of; default 500ms, below 0
	// not at all. MaxPad is the longest that is padded to; default 5s.
	Pad, MaxPad time.Duration
	Log         *slog.Logger
}

// Gate asks the backends. It may be used by any number of goroutines.
type Gate struct {
	blocks []Block
	guard  *Guard
	pad    pad
	log    *slog.Logger
}

// New makes a gate.
func New(cfg Config) (*Gate, error) {
	if len(cfg.Blocks) == 0 {
		return nil, errors.New("blocks: a flow for authentication needs one")
	}
	g := &Gate{guard: cfg.Guard, log: cfg.Log, pad: pad{grid: cmp.Or(cfg.Pad, 500*time.Millisecond), most: cmp.Or(cfg.MaxPad, 5*time.Second)}}
	for _, b := range cfg.Blocks {
		if b.Backend == nil {
			return nil, fmt.Errorf("%s: there is no backend", b.Use)
		}
		b.Timeout = cmp.Or(b.Timeout, 30*time.Second)
		g.blocks = append(g.blocks, b)
	}
	if g.log == nil {
		g.log = slog.New(slog.DiscardHandler)
	}
	if g.guard == nil {
		var err error
		if g.guard, err = NewGuard(GuardConfig{}); err != nil {
			return nil, err
		}
	}
	return g, nil
}

// Authenticate decides about a name and a password. It is what a session of SMTP
// asks; the delay of the decision is part of the answer.
func (g *Gate) Authenticate(ctx context.Context, s *mail.Session, user, password string) mail.Decision {
	start := time.Now()
	attempt := g.guard.enter(ctx, s, user)
	if attempt.lock != unlocked {
		return attempt.refusal()
	}
	defer attempt.done(policy.AuthUnknown, "") // for a backend that panics
	answer, findings := g.ask(ctx, s, user, password)
	locked := attempt.done(answer.Result, password)
	if locked != unlocked {
		g.log.WarnContext(ctx, "too many failed logins", "client", s.Client.Addr().String(), "user", user, "locked", locked.String(), "for", g.guard.cfg.Lock.String())
	}
	d := mail.Decision{Findings: findings, Reason: answer.Reason, Delay: attempt.delay}
	switch answer.Result {
	case policy.AuthYes:
		d.Act, d.Reply = mail.Accept, mail.ReplyAuthOK.Reply()
		d.User, d.Senders = canonical(answer.User), answer.Senders
	case policy.AuthNo, policy.AuthNobody:
		d.Act, d.Reply = mail.Reject, mail.ReplyAuthFailed.Reply()
		// Both: what a backend took must not show behind a longer delay either.
		took := time.Since(start)
		d.Delay += max(0, g.pad.until(took)-took)
	default:
		d.Act, d.Reply = mail.Defer, mail.ReplyAuthTempFail.Reply()
	}
	return d
}

// refusal is the answer where nobody is asked, the same whoever the user is.
func (a *attempt) refusal() mail.Decision {
	d := mail.Decision{Act: mail.Defer, Delay: a.delay, Reply: mail.ReplyAuthTempFail.Reply(), Reason: a.lock.reason()}
	if a.lock == lockedNetwork {
		d.Reply, d.Close = mail.ReplyTooManyLogins.Reply(), true
	}
	return d
}

// ask asks the backends until one says yes or no.
func (g *Gate) ask(ctx context.Context, s *mail.Session, user, password string) (policy.AuthAnswer, []mail.Finding) {
	// Nobody knows the user until somebody does, or cannot tell.
	outcome := policy.AuthAnswer{Result: policy.AuthNobody}
	var findings []mail.Finding
	var reasons []string
	for i := range g.blocks {
		b := &g.blocks[i]
		answer := b.ask(ctx, s, user, password)
		findings = append(findings, finding(b, answer))
		if b.Observe {
			continue
		}
		reasons = append(reasons, b.Use+": "+cmp.Or(answer.Reason, answer.Result.String()))
		switch answer.Result {
		case policy.AuthYes, policy.AuthNo:
			answer.Reason = strings.Join(reasons, "; ")
			return answer, findings
		case policy.AuthUnknown:
			outcome.Result = policy.AuthUnknown
		}
	}
	outcome.Reason = strings.Join(reasons, "; ")
	return outcome, findings
}

// ask asks the backend; an error becomes the answer that it cannot tell.
func (b *Block) ask(ctx context.Context, s *mail.Session, user, password string) policy.AuthAnswer {
	ctx, cancel := context.WithTimeout(ctx, b.Timeout)
	defer cancel()
	answer, err := b.Backend.Authenticate(ctx, s, user, password)
	if err != nil {
		return policy.AuthAnswer{Reason: message.SafeText(err.Error(), 300)}
	}
	return answer
}

// finding is what a backend said, for log, history and later flows.
func finding(b *Block, a policy.AuthAnswer) mail.Finding {
	f := mail.Finding{Module: b.Use, Symbol: "unknown", Result: mail.Unknown, Reason: a.Reason}
	switch a.Result {
	case policy.AuthYes:
		f.Symbol, f.Result = "yes", mail.Clean
	case policy.AuthNo:
		f.Symbol, f.Result = "no", mail.Match
	case policy.AuthNobody:
		f.Symbol, f.Result = "nobody", mail.Match
	}
	if b.Observe {
		f.Reason = strings.TrimSuffix("observed only: "+f.Reason, ": ")
	}
	return f
}

// canonical is a name that can stand in logs and lists, or "" for the one that was
// given.
func canonical(name string) string {
	if len(name) > 255 || !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) {
		return ""
	}
	return name
}
