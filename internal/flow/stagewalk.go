package flow

import (
	"fmt"
	"strconv"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/policy"
)

// StageWalk goes through a StageFlow block by block, so that a block is asked only
// if it is reached:
//
//	w := flow.NewStageWalk(f, in)
//	for b := w.Next(); b != nil; b = w.Next() {
//		w.Tell(ask(b, w.Score()))
//	}
//	outcome := w.Outcome()
type StageWalk struct {
	flow *StageFlow
	in   StageInput
	out  StageOutcome

	at     int  // the block that is asked now
	asking bool // Next returned it, and Tell is due
	done   bool
	points int64 // thousandths, so that the order of adding changes nothing
	// shadow is what would have been added by a flow that only observes.
	shadow int64
	// doubt says that a block matched, or could not say.
	doubt bool
}

// NewStageWalk begins a walk.
func NewStageWalk(f *StageFlow, in StageInput) *StageWalk {
	w := &StageWalk{flow: f, in: in}
	for i := range in.Findings {
		w.points += thousandths(in.Findings[i].Score)
	}
	return w
}

// Score is the sum so far, with that of earlier stages.
func (w *StageWalk) Score() float64 { return float64(w.sum()) / 1000 }

func (w *StageWalk) sum() int64 { return w.points + w.shadow }

// Next returns the next block that must be asked, nil if the flow has decided. A
// block for which Tell was not called counts as one that was not asked.
func (w *StageWalk) Next() *StageBlock {
	if w.asking {
		w.Tell(nil)
	}
	for !w.done && w.at < len(w.flow.Blocks) {
		b := &w.flow.Blocks[w.at]
		switch b.Use {
		case useTarpit:
			w.tarpit(b)
		case useBandwidth:
			w.bandwidth(b)
		case usePregreet:
			w.judge(b, w.pregreet(), nil)
		default:
			w.asking = true
			return b
		}
		w.at++
	}
	return nil
}

// Tell says what the block that Next returned reported; nil: nothing.
func (w *StageWalk) Tell(r *policy.Report) {
	if !w.asking {
		return
	}
	b := &w.flow.Blocks[w.at]
	w.asking = false
	w.at++
	if r == nil {
		r = &policy.Report{Findings: []mail.Finding{{
			Module: b.Use, Symbol: "missing", Result: mail.Unknown, Reason: b.Use + " was not asked",
		}}}
	}
	w.judge(b, r.Findings, r.Choice)
}

// Outcome is what the flow decided so far.
func (w *StageWalk) Outcome() StageOutcome {
	o := w.out
	o.Score = float64(w.points) / 1000
	o.Passed = o.Decision.Act == mail.Accept && o.Decision.Later == nil && !o.Accepted && !w.doubt && w.at == len(w.flow.Blocks)
	return o
}

func (w *StageWalk) observes(b *StageBlock) bool { return b.Observe || w.flow.Observe }

// pregreet is what the engine saw of a client that spoke before its turn.
func (w *StageWalk) pregreet() []mail.Finding {
	for _, f := range w.in.Findings {
		if f.Module == "protocol" && f.Symbol == usePregreet {
			f.Module, f.Score = usePregreet, 0 // it counted where it stood
			return []mail.Finding{f}
		}
	}
	return nil
}

// seen is what the findings of one block come to.
type seen struct {
	match, unknown, allow *mail.Finding
	points                int64
}

func look(b *StageBlock, findings []mail.Finding) (s seen) {
	for i := range findings {
		f := &findings[i]
		s.points += thousandths(f.Score)
		switch {
		case f.Result == mail.Match:
			// Of several the one that counts most explains best.
			if s.match == nil || thousandths(f.Score) > thousandths(s.match.Score) {
				s.match = f
			}
		case f.Result == mail.Clean:
			if f.Symbol == policy.SymbolAllow && mayAllow(b.Use) {
				s.allow = f
			}
		case s.unknown == nil:
			// Whatever else a result may be is no clean one.
			s.unknown = f
		}
	}
	return s
}

// mayAllow reports the blocks that end a flow in the client's favour.
func mayAllow(use string) bool { return use == useAccess || use == useTrust || use == useScript }

// judge does what the findings of a block ask for, or what it chose itself.
func (w *StageWalk) judge(b *StageBlock, findings []mail.Finding, own *policy.Choice) {
	findings = append([]mail.Finding(nil), findings...) // they stay the report's
	if own != nil && own.Act != mail.Accept {
		findings = append(findings, chosen(b, own))
	}
	s := look(b, findings)
	matched := s.match != nil && (b.Threshold == nil || s.points >= thousandths(*b.Threshold))
	if matched {
		s.match.Score = float64(thousandths(s.match.Score)+thousandths(b.Score)) / 1000
		s.points += thousandths(b.Score)
	}
	w.doubt = w.doubt || s.match != nil || s.unknown != nil
	action, why := mail.ActionDeliver, s.match
	if matched && (own == nil || s.allow == nil) {
		action = b.onMatch(s.match.Symbol)
	}
	if !acts(action) && s.unknown != nil {
		action, why = b.onUnknown(), s.unknown
	}
	text := ""
	if own != nil && own.Act != mail.Accept {
		action, why, text = actionFor(own.Act), &findings[len(findings)-1], own.Text
	}
	if w.observes(b) {
		w.observe(b, s, findings)
		w.observeChoice(b, own)
		w.observeAct(b, action, why, s.allow)
		return
	}
	w.points += s.points
	w.out.Decision.Findings = append(w.out.Decision.Findings, findings...)
	w.choose(own)
	switch {
	case acts(action):
		w.decide(b, action, why, text)
	case s.allow != nil:
		w.accept(b, s.allow)
	}
}

func (b *StageBlock) onMatch(symbol string) mail.Action {
	if action, ok := b.Actions[symbol]; ok {
		return action
	}
	if b.OnMatch == "" && b.Score != 0 {
		return mail.ActionDeliver
	}
	if b.OnMatch == "" && b.Use == useDNSBL && b.Threshold == nil {
		return mail.ActionDeliver // a list alone is an opinion: without a threshold it counts
	}
	return orElse(b.OnMatch, StageDefaults(b.Use).OnMatch)
}

func (b *StageBlock) onUnknown() mail.Action {
	return orElse(b.OnUnknown, StageDefaults(b.Use).OnUnknown)
}

// acts reports the actions that end a stage.
func acts(a mail.Action) bool {
	return a == mail.ActionReject || a == mail.ActionDefer || a == ActionDrop
}

// actFor is the act of an action that ends a stage.
func actFor(a mail.Action) mail.Act {
	switch a {
	case mail.ActionReject:
		return mail.Reject
	case mail.ActionDefer:
		return mail.Defer
	case ActionDrop:
		return mail.Drop
	}
	return mail.Accept
}

// actionFor is the action of a choice against the client.
func actionFor(act mail.Act) mail.Action {
	switch act {
	case mail.Reject:
		return mail.ActionReject
	case mail.Drop:
		return ActionDrop
	}
	return mail.ActionDefer
}

// chosen is the finding by which a block leaves word that it decided itself.
func chosen(b *StageBlock, own *policy.Choice) mail.Finding {
	return mail.Finding{Module: b.Use, Symbol: own.Act.String(), Result: mail.Match, Reason: message.SafeText(own.Reason, maxReason)}
}

// choose does what of a choice does not end the flow: of several delays the longest
// counts, of several ways the last.
func (w *StageWalk) choose(own *policy.Choice) {
	if own == nil {
		return
	}
	w.out.Decision.Delay = max(w.out.Decision.Delay, own.Delay)
	if own.Transport != "" {
		w.out.Transport = own.Transport
	}
}

// observeChoice is choose for a block that observes.
func (w *StageWalk) observeChoice(b *StageBlock, own *policy.Choice) {
	if own == nil {
		return
	}
	if own.Delay > 0 {
		w.observed(Observation{Block: b.Use, Key: b.Key, What: "delay", Delay: own.Delay, Reason: "it says so"})
	}
	if own.Transport != "" {
		w.observed(Observation{Block: b.Use, Key: b.Key, What: "deliver", Transport: own.Transport, Reason: "it says so"})
	}
}

// decide ends the flow against the client, now or at RCPT. text is what the block
// chose to say; "" for the usual words.
func (w *StageWalk) decide(b *StageBlock, action mail.Action, why *mail.Finding, text string) {
	w.done = true
	w.out.Block, w.out.Key = b.Use, b.Key
	d := &w.out.Decision
	reason := explain(b, why)
	if w.flow.DelayReject && w.flow.Stage == policy.Connect && action != ActionDrop {
		d.Later = &mail.Decision{Act: actFor(action), Reason: reason, Reply: withText(b.reply(action, why, policy.Recipient), text)}
		w.note(b, "kept", actFor(action).String()+" waits for RCPT: "+reason)
		return
	}
	d.Act, d.Reason = actFor(action), reason
	if action == ActionDrop {
		d.Delay = 0
		return
	}
	d.Reply = withText(b.reply(action, why, w.flow.Stage), text)
}

// withText is a reply with the words of a block that decided itself, if they may
// stand there.
func withText(r mail.Reply, text string) mail.Reply {
	if text == "" || CheckReply(text) != nil {
		return r
	}
	return r.WithText(text)
}

// accept ends the flow in the client's favour, and leaves word of it.
func (w *StageWalk) accept(b *StageBlock, why *mail.Finding) {
	w.done = true
	w.out.Accepted = true
	w.out.Block, w.out.Key = b.Use, b.Key
	w.note(b, policy.SymbolAccepted, explain(b, why))
}

// note adds a finding about what the flow did.
func (w *StageWalk) note(b *StageBlock, symbol, reason string) {
	w.out.Decision.Findings = append(w.out.Decision.Findings, mail.Finding{
		Module: b.Use, Symbol: symbol, Result: mail.Clean, Reason: message.SafeText(reason, maxReason),
	})
}

func explain(b *StageBlock, why *mail.Finding) string {
	reason := why.Reason
	if reason == "" {
		reason = why.Symbol
	}
	return message.SafeText(b.Use+": "+reason, maxReason)
}

// tarpit makes the client wait. Of several the longest counts.
func (w *StageWalk) tarpit(b *StageBlock) {
	t := b.Tarpit
	if t == nil || !w.reaches(t.WhenScore) {
		return
	}
	above := w.sum()
	if t.WhenScore != nil {
		above -= thousandths(*t.WhenScore)
	}
	limit := t.Max
	if limit <= 0 {
		limit = MaxTarpit
	}
	// In floating point: points times a duration may be more than one can hold.
	more := float64(max(above, 0)) / 1000 * float64(max(t.PerPoint, 0))
	delay := time.Duration(min(float64(limit), float64(max(t.Delay, 0))+more))
	if w.observes(b) {
		w.observed(Observation{Block: b.Use, Key: b.Key, What: "delay", Delay: delay, Reason: "score " + points(w.sum())})
		return
	}
	w.out.Decision.Delay = max(w.out.Decision.Delay, delay)
}

// bandwidth slows the client down. Of several the narrowest counts.
func (w *StageWalk) bandwidth(b *StageBlock) {
	t := b.Bandwidth
	if t == nil || t.Limit <= 0 || !w.reaches(t.WhenScore) {
		return
	}
	if w.observes(b) {
		w.observed(Observation{Block: b.Use, Key: b.Key, What: "bandwidth", Limit: t.Limit, Reason: "score " + points(w.sum())})
		return
	}
	if d := &w.out.Decision; d.Bandwidth == 0 || t.Limit < d.Bandwidth {
		d.Bandwidth = t.Limit
	}
}

func (w *StageWalk) reaches(at *float64) bool { return at == nil || w.sum() >= thousandths(*at) }

// observe keeps the findings of a block without what they count. In a flow that
// observes as a whole the blocks behind see the sum that they would see.
func (w *StageWalk) observe(b *StageBlock, s seen, findings []mail.Finding) {
	for i := range findings {
		f := &findings[i]
		if f.Score != 0 {
			f.Properties = append(f.Properties[:len(f.Properties):len(f.Properties)], mail.Property{Name: "observed-score", Value: points(thousandths(f.Score))})
			f.Score = 0
		}
	}
	w.out.Decision.Findings = append(w.out.Decision.Findings, findings...)
	if w.flow.Observe {
		w.shadow += s.points
	}
	if s.points == 0 {
		return
	}
	w.observed(Observation{Block: b.Use, Key: b.Key, What: "score", Score: float64(s.points) / 1000, Reason: "score " + points(s.points)})
}

// observeAct notes what a block would have decided. A flow that observes as a
// whole ends there, as it would have.
func (w *StageWalk) observeAct(b *StageBlock, action mail.Action, why, allow *mail.Finding) {
	w.done = w.flow.Observe && (acts(action) || allow != nil)
	switch {
	case acts(action):
		w.observed(Observation{Block: b.Use, Key: b.Key, What: actFor(action).String(), Reason: explain(b, why)})
	case allow != nil:
		w.observed(Observation{Block: b.Use, Key: b.Key, What: mail.Accept.String(), Reason: explain(b, allow)})
	}
}

// observed notes what would have been done, for history as well.
func (w *StageWalk) observed(o Observation) {
	w.out.Observed = append(w.out.Observed, o)
	w.out.Decision.Findings = append(w.out.Decision.Findings, mail.Finding{
		Module: o.Block, Symbol: "observe", Name: o.What, Result: mail.Clean,
		Reason: message.SafeText("would "+o.verb()+": "+o.Reason, maxReason),
	})
}

func (o *Observation) verb() string {
	switch o.What {
	case "score":
		return "count"
	case "delay":
		return "wait " + o.Delay.String()
	case "deliver":
		return "deliver by " + o.Transport
	case "bandwidth":
		return fmt.Sprintf("slow down to %d bytes per second", o.Limit)
	}
	return o.What
}

// reply is what the client is told; the zero Reply leaves it to the stage's own.
func (b *StageBlock) reply(action mail.Action, why *mail.Finding, stage policy.Stage) mail.Reply {
	r := b.tableReply(action, stage)
	own := b.words(why, stage)
	if !own.IsZero() && own.Permanent() == r.Permanent() {
		r = own
	}
	switch {
	case b.Reply != "" && CheckReply(b.Reply) == nil:
		return r.WithText(b.Reply)
	case own.IsZero() && action == mail.ActionDefer && waitOf(why) > 0:
		return r.WithText("Try again in " + strconv.Itoa(waitOf(why)) + " seconds")
	}
	return r
}

// words are the block's own reply to a match; none at connect, where nothing was
// asked yet.
func (b *StageBlock) words(why *mail.Finding, stage policy.Stage) mail.Reply {
	if b.Words == nil || why.Result != mail.Match || stage == policy.Connect {
		return mail.Reply{}
	}
	return b.Words(why)
}

// tableReply is the reply of the table for a block at a stage.
func (b *StageBlock) tableReply(action mail.Action, stage policy.Stage) mail.Reply {
	flood := b.Use == useRate || b.Use == useConcurrency
	switch {
	case stage == policy.Connect && action == mail.ActionReject:
		return mail.ReplyNoService.Reply()
	case stage == policy.Connect && flood:
		return mail.ReplyTooManyFromHost.Reply()
	case stage == policy.Connect:
		return mail.ReplyConnectDefer.Reply()
	case b.Use == "verify-recipient" && action == mail.ActionReject:
		return mail.ReplyNoSuchUser.Reply()
	case b.Use == "verify-recipient":
		return mail.ReplyLookupFailed.Reply()
	case action == mail.ActionReject:
		return mail.ReplyAccessDenied.Reply()
	case flood:
		return mail.ReplyRateLimited.Reply()
	}
	return mail.ReplyTryLater.Reply()
}

// waitOf is how many seconds a finding says to wait; 0 for none.
func waitOf(f *mail.Finding) int {
	for _, p := range f.Properties {
		if p.Name == policy.PropertyWait {
			if n, err := strconv.Atoi(p.Value); err == nil && n > 0 {
				return n
			}
		}
	}
	return 0
}
