package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"time"

	"gatepost/internal/flow"
	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/policy"
)

// Stages are the flows before content of one configuration. The zero Stages let
// everybody in.
type Stages struct {
	// Connect holds the flow of each listener that has one.
	Connect map[string]*Stage
	// Recipient tells the flow that decides about mail to a domain on a listener, by
	// the domain that RCPT names; nil: none. The func itself may be nil.
	Recipient func(listener, domain string) *Stage
	// Recipients are all that Recipient may tell.
	Recipients []*Stage
	// Observer counts what blocks say and flows decide; nil: nobody.
	Observer StageObserver
}

// Stage is a flow before content: what decides, and what observes for it. The
// funcs are those of its blocks; none of them waits for anybody.
type Stage struct {
	Decide *flow.StageFlow
	// Blocks are the checks by the keys of Decide.Blocks.
	Blocks map[string]policy.Block

	// Passed are told of clients that nothing was found against (block "trust").
	Passed []func(s *mail.Session)
	// Before are asked before anybody looks at a recipient (block "harvest"), and
	// Unknown told of each that does not exist.
	Before  []func(s *mail.Session) mail.Decision
	Unknown []func(s *mail.Session)
	// Data are asked when the client wants to send the message (block "greylist"): the
	// finding of the key decides as the block's own do. Unlike the others they may wait.
	Data []DataCheck
	// Charge are told what the flow itself does not see (block "rate"), End that a
	// session is over.
	Charge []func(s *mail.Session, env *mail.Envelope, kind Charge, n int64)
	End    []func(s *mail.Session)
}

// DataCheck is what a block has to say only when all recipients are known.
type DataCheck struct {
	Key   string
	Check func(ctx context.Context, s *mail.Session, env *mail.Envelope) ([]mail.Finding, error)
}

// Charge is something that clients use up.
type Charge string

// What is charged as it happens.
const (
	ChargeMessages   Charge = "messages"   // MAIL
	ChargeRecipients Charge = "recipients" // RCPT
	ChargeBytes      Charge = "bytes"      // of a message that was taken
	ChargeErrors     Charge = "errors"     // a command that was answered 5xx
	ChargeLogins     Charge = "logins"     // a login that failed
)

// StageObserver counts what happens before content.
type StageObserver interface {
	// Checked is told each answer of a block.
	Checked(stage, use string, result mail.Result, took time.Duration)
	// StageDecided is told what a flow decided; by is the block, "" for none.
	StageDecided(flow, by string, act mail.Act)
}

// defaultCheckTime bounds a block that has no bound of its own: far below the five
// minutes that a client waits for an answer (RFC 5321 §4.5.3.2).
const defaultCheckTime = 30 * time.Second

// all are all flows.
func (s *Stages) all() []*Stage {
	all := slices.Clone(s.Recipients)
	for _, st := range s.Connect {
		all = append(all, st)
	}
	return all
}

// Connect is the hook for a new client. One that XCLIENT made another is new.
func (g *Gateway) Connect(ctx context.Context, s *mail.Session) mail.Decision {
	st := g.cfg.Stages.Connect[s.Listener]
	if st == nil {
		return mail.Decision{}
	}
	v := g.visits.of(s)
	*v = visit{}
	out := g.walk(ctx, st, &policy.Input{Stage: policy.Connect, Session: s}, v)
	v.later, out.Decision.Later = out.Decision.Later, nil
	if out.Passed {
		for _, tell := range st.Passed {
			tell(s)
		}
	}
	return out.Decision
}

// walk asks the blocks of a flow one after the other until it has decided. Each sees
// on the session what those before it found: greylist knows by spf who it is.
func (g *Gateway) walk(ctx context.Context, st *Stage, in *policy.Input, v *visit) flow.StageOutcome {
	view := *in.Session
	view.Findings = slices.Clip(view.Findings)
	in.Session = &view
	w := flow.NewStageWalk(st.Decide, flow.StageInput{Findings: view.Findings})
	for b := w.Next(); b != nil; b = w.Next() {
		in.Score = w.Score()
		r := g.report(ctx, st.Blocks[b.Key], in, v)
		view.Findings = append(view.Findings, r.Findings...)
		w.Tell(r)
	}
	out := w.Outcome()
	if o := g.cfg.Stages.Observer; o != nil {
		o.StageDecided(st.Decide.Name, out.Block, out.Decision.Act)
	}
	return out
}

// report is what a block says, or said before where that still holds.
func (g *Gateway) report(ctx context.Context, b policy.Block, in *policy.Input, v *visit) *policy.Report {
	known := v.reports(b.Scope, in)
	if r, ok := known[b.Key]; ok {
		return r
	}
	r := ask(ctx, b, in, g.cfg.Log)
	if o := g.cfg.Stages.Observer; o != nil {
		o.Checked(string(in.Stage), b.Use, worst(r.Findings), r.Took)
	}
	if known != nil {
		known[b.Key] = r
	}
	return r
}

// ask runs a check. One that fails or panics has said that it cannot say.
func ask(ctx context.Context, b policy.Block, in *policy.Input, log *slog.Logger) (r *policy.Report) {
	begun := time.Now()
	timeout := b.Timeout
	if timeout <= 0 {
		timeout = defaultCheckTime
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	r = &policy.Report{Key: b.Key, Use: b.Use}
	defer func() {
		if p := recover(); p != nil {
			log.Error("a check panicked", "block", b.Use, "session", in.Session.ID.String(), "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			r.Findings = []mail.Finding{unknown(b.Use, "panic", "the check failed")}
		}
		r.Took = time.Since(begun)
	}()
	var choice policy.Choice
	var findings []mail.Finding
	var err error
	d, decides := b.Check.(policy.Decider)
	if decides {
		choice, findings, err = d.Decide(ctx, in)
	} else {
		findings, err = b.Check.Check(ctx, in)
	}
	if err != nil {
		findings = append(findings, unknown(b.Use, "error", err.Error()))
	} else if decides {
		r.Choice = &choice
	}
	r.Findings = findings
	return r
}

// maxCheckReason bounds the text of an error in a finding, in bytes.
const maxCheckReason = 300

func unknown(use, symbol, reason string) mail.Finding {
	return mail.Finding{Module: use, Symbol: symbol, Result: mail.Unknown, Reason: message.SafeText(reason, maxCheckReason)}
}

// worst sums findings up for the count.
func worst(findings []mail.Finding) mail.Result {
	result := mail.Clean
	for i := range findings {
		switch findings[i].Result {
		case mail.Match:
			return mail.Match
		case mail.Clean:
		default:
			result = mail.Unknown
		}
	}
	return result
}
