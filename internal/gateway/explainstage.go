package gateway

import (
	"context"
	"slices"
	"time"

	"gatepost/internal/flow"
	"gatepost/internal/mail"
	"gatepost/internal/policy"
)

// StageExplanation is what a flow before content sees and decides, block by block.
type StageExplanation struct {
	Flow    string       `json:"flow"`
	Stage   policy.Stage `json:"stage"`
	Observe bool         `json:"observe,omitempty"`
	Steps   []StageStep  `json:"steps"`
	// Action is accept, defer, reject or drop; Block the one that decided, "" for
	// none; Reply what the client is told, Reason why.
	Action string `json:"action"`
	Block  string `json:"block,omitempty"`
	Reply  string `json:"reply,omitempty"`
	Reason string `json:"reason,omitempty"`
	// Later says that the refusal waits for RCPT.
	Later bool `json:"later,omitempty"`
	// Score is the sum at the end, Delay how long the answer is held back, Bandwidth
	// how many bytes per second the session gets; 0: all.
	Score     float64       `json:"score"`
	Delay     time.Duration `json:"delay,omitempty"`
	Bandwidth int64         `json:"bandwidth,omitempty"`
	// Would is what blocks in mode "observe" would have done.
	Would []string `json:"would,omitempty"`
}

// StageStep is one block that was come to.
type StageStep struct {
	Block    string         `json:"block"`
	Findings []mail.Finding `json:"findings"`
	// Score is the sum behind the block.
	Score float64       `json:"score"`
	Took  time.Duration `json:"took"`
	// Note says why the block was not asked.
	Note string `json:"note,omitempty"`
}

// countingBlocks cannot be asked without a consequence for the next who is.
var countingBlocks = []string{"rate", "concurrency", "greylist", "harvest", "trust"}

// notAsked is the note about them.
const notAsked = "not asked: it would count"

// ExplainConnect says what the connect flow of a listener does with a client, and
// adds what it finds to the session. Nothing is counted and nothing remembered. Nil:
// the listener has no such flow.
func (g *Gateway) ExplainConnect(ctx context.Context, s *mail.Session) *StageExplanation {
	st := g.cfg.Stages.Connect[s.Listener]
	if st == nil {
		return nil
	}
	x, d := g.explainStage(ctx, st, &policy.Input{Stage: policy.Connect, Session: s})
	if d.Later != nil {
		later := *d.Later
		x.Later = true
		x.Action, x.Reply, x.Reason = later.Act.String(), later.Reply.String(), later.Reason
	}
	s.Findings = append(s.Findings, d.Findings...)
	return x
}

// ExplainRecipient says what the recipient flow does with one who is routed already,
// and adds what it finds to the session of the envelope. Nil: there is none.
func (g *Gateway) ExplainRecipient(ctx context.Context, env *mail.Envelope, r *mail.Recipient) *StageExplanation {
	st := g.stageFor(env.Session.Listener, r.Original.Domain)
	if st == nil {
		return nil
	}
	x, d := g.explainStage(ctx, st, &policy.Input{Stage: policy.Recipient, Session: &env.Session, Envelope: env, Recipient: r})
	if len(st.Before) > 0 && !slices.ContainsFunc(x.Steps, func(s StageStep) bool { return s.Block == "harvest" }) {
		x.Steps = slices.Insert(x.Steps, 0, StageStep{Block: "harvest", Findings: []mail.Finding{}, Note: notAsked})
	}
	env.Session.Findings = append(env.Session.Findings, d.Findings...)
	return x
}

// explainStage is walk with everything taken down, and nothing told to others.
func (g *Gateway) explainStage(ctx context.Context, st *Stage, in *policy.Input) (*StageExplanation, mail.Decision) {
	view := *in.Session
	view.Findings = slices.Clip(view.Findings)
	in.Session = &view
	x := &StageExplanation{Flow: st.Decide.Name, Stage: st.Decide.Stage, Observe: st.Decide.Observe, Steps: []StageStep{}}
	w := flow.NewStageWalk(st.Decide, flow.StageInput{Findings: view.Findings})
	for b := w.Next(); b != nil; b = w.Next() {
		in.Score = w.Score()
		r, note := &policy.Report{Key: b.Key, Use: b.Use}, notAsked
		if !slices.Contains(countingBlocks, b.Use) {
			r, note = ask(ctx, st.Blocks[b.Key], in, g.cfg.Log), ""
		}
		view.Findings = append(view.Findings, r.Findings...)
		w.Tell(r)
		x.Steps = append(x.Steps, StageStep{Block: b.Use, Findings: orEmpty(r.Findings), Score: w.Score(), Took: r.Took, Note: note})
	}
	out := w.Outcome()
	d := out.Decision
	x.Action, x.Block, x.Reason, x.Score = d.Act.String(), out.Block, d.Reason, out.Score
	x.Delay, x.Bandwidth = d.Delay, d.Bandwidth
	if d.Act != mail.Accept && d.Act != mail.Drop {
		x.Reply = d.Reply.String()
	}
	for i := range d.Findings {
		if f := &d.Findings[i]; f.Symbol == "observe" {
			x.Would = append(x.Would, f.Module+" "+f.Reason)
		}
	}
	return x, d
}

func orEmpty(findings []mail.Finding) []mail.Finding {
	if findings == nil {
		return []mail.Finding{}
	}
	return findings
}
