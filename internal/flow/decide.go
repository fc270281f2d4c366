package flow

import (
	"math"
	"slices"
	"strings"

	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/scan"
)

// Limits of the texts that a verdict takes over from findings, in bytes.
const (
	maxRule   = 120
	maxReason = 400
)

// Decide goes through the blocks of the flow in order, for one recipient.
//
// The first final action wins: reject, quarantine, discard, defer, and a filter's
// deliver. What is not final adds up: mark, score, header, subject, strip, copy,
// redirect. Behind a final action only the matches of virus scanners still count:
// they overrule a filter's deliver, take copies back, and make what is quarantined
// a virus, which not everybody may release.
//
// The score of the verdict is the sum up to the block that decided. It begins with
// what the session's findings count (countSession).
func Decide(f *Flow, reports []scan.Report, r *mail.Recipient, session ...mail.Finding) mail.Verdict {
	d := decider{flow: f, reports: reports, recipient: r, verdict: mail.Verdict{Action: mail.ActionDeliver, Flow: f.Name}}
	d.countSession(session)
	for i := range f.Blocks {
		d.block = &f.Blocks[i]
		d.defaults = usual(d.block.Use)
		if d.done && d.threat() != mail.ThreatVirus {
			continue
		}
		if d.block.Observe {
			d.observe()
			continue
		}
		d.decide()
		if d.done && !d.watch {
			break
		}
	}
	v := d.finish()
	if f.Observe {
		return d.onlyObserved(v)
	}
	return v
}

// decider is the state of one call of Decide.
type decider struct {
	flow      *Flow
	reports   []scan.Report
	recipient *mail.Recipient
	keys      []string // of the recipient; made when the first finding needs them

	block    *Block
	defaults Block

	verdict mail.Verdict
	// done says that a final action fell, byFilter that it was a filter's.
	done, byFilter bool
	// stripped is why an attachment goes.
	stripped outcome
	// watch says that virus scanners behind the final action are still heard.
	watch  bool
	marked bool
	points int64 // thousandths, so that the order of adding changes nothing
	top    [topSymbols]symbol
	scored *Thresholds
	// before is what the session's findings count, with the names of those that do.
	before sessionScore
}

// outcome is what one finding, or the lack of a report, asks for.
type outcome struct {
	action mail.Action
	threat mail.Threat
	rule   string
	reason string
	reply  mail.Reply
	// down says that the block could not do its work at all. What a scanner could not
	// look into (encrypted, too large) a filter may deliver; what no virus scanner
	// looked at it may not.
	down bool
}

// strictness orders actions: of two that a block asks for at once the stricter
// is taken. Quarantine is above discard because it can be undone.
func strictness(a mail.Action) int {
	switch a {
	case mail.ActionReject:
		return 5
	case mail.ActionQuarantine:
		return 4
	case mail.ActionDiscard:
		return 3
	case mail.ActionDefer:
		return 2
	case mail.ActionMark:
		return 1
	}
	return 0
}

// final reports whether a block's action ends the flow. A block's deliver does
// not: it only says that its findings are noted.
func final(a mail.Action) bool { return strictness(a) > strictness(mail.ActionMark) }

// decide does what the block asks for.
func (d *decider) decide() {
	if d.block.Use == useScore {
		d.score()
		return
	}
	report := d.report()
	if report == nil {
		d.apply(outcome{
			action: d.onUnknown(), threat: mail.ThreatUnscanned, rule: "missing", down: true,
			reason: d.block.Use + " was not asked about this message",
		})
		return
	}
	switch d.block.Use {
	case useFilters:
		d.filters(report)
	case useSenders:
		d.senders(report)
	}
	if !d.done || d.watch {
		d.findings(report)
	}
	if d.block.Use == useScript && !d.done {
		d.script(report)
	}
}

func (d *decider) report() *scan.Report {
	for i := range d.reports {
		if d.reports[i].Key == d.block.Key {
			return &d.reports[i]
		}
	}
	return nil
}

// findings takes what the findings of the block ask for: the strictest, and of
// equals the first. What a match asks for comes before what "unknown" does, so
// that a virus is called one also where another part could not be scanned.
func (d *decider) findings(report *scan.Report) {
	var matched, unknown outcome
	for i := range report.Findings {
		f := &report.Findings[i]
		if !d.concerns(f) {
			continue
		}
		if !d.done {
			d.count(f)
		}
		o, certain := d.judge(f)
		best := &unknown
		if certain {
			best = &matched
		}
		if o.action != "" && (best.action == "" || strictness(o.action) > strictness(best.action)) {
			*best = o
		}
	}
	d.apply(matched)
	if !final(matched.action) {
		d.apply(unknown)
	}
}

// judge returns what one finding asks for, and whether it is something that was
// seen and not something that could not be.
func (d *decider) judge(f *mail.Finding) (o outcome, certain bool) {
	if f.Result == mail.Clean || d.block.Use == useFilters && !failed(f) || d.block.Use == useSenders && f.Symbol == symbolAllowed {
		return outcome{}, false
	}
	if d.block.Use == useAuthres && isDMARC(f) {
		return d.dmarc(f), true
	}
	o = outcome{threat: d.threat(), rule: f.Symbol, reason: f.Reason}
	if action, class := d.classed(f.Symbol); class != "" {
		o.action = action
		if class != ClassHeuristic {
			o.threat = mail.ThreatUnscanned
		}
		return o, false
	}
	if f.Result == mail.Match {
		o.action = d.onMatch()
		return o, true
	}
	// Whatever else a result may be is no clean one.
	o.action, o.threat, o.down = d.onUnknown(), mail.ThreatUnscanned, true
	return o, false
}

// failed reports what scan.Run says about a module that could not answer. What
// else the block "filters" reports is about its filters one by one, and concerns
// this flow only where it has the filter.
func failed(f *mail.Finding) bool {
	return f.Result != mail.Match && (f.Symbol == "error" || f.Symbol == "timeout")
}

// classed returns the class of a symbol for which the block has an action, and
// the action.
func (d *decider) classed(symbol string) (mail.Action, string) {
	class, _, ok := strings.Cut(symbol, ":")
	if !ok {
		return "", ""
	}
	if a := d.block.Actions[class]; a != "" {
		return a, class
	}
	if a := classAction(d.block.Use, class); a != "" {
		return a, class
	}
	return "", ""
}

func isDMARC(f *mail.Finding) bool {
	return f.Module == useAuthres && strings.HasPrefix(f.Symbol, "dmarc:")
}

// dmarc returns what follows from a failed DMARC check: Name of the finding is
// the policy that the domain has for such mail.
func (d *decider) dmarc(f *mail.Finding) outcome {
	o := outcome{threat: mail.ThreatPolicy, rule: f.Symbol, reason: f.Reason}
	if f.Symbol != "dmarc:fail" || f.Result != mail.Match {
		return outcome{}
	}
	switch mode := orElse(d.block.DMARC, d.defaults.DMARC); {
	case mode != DMARCPolicy && mode != DMARCQuarantine:
		return outcome{}
	case f.Name == "reject" && mode == DMARCPolicy:
		o.action, o.reply = mail.ActionReject, mail.ReplyDMARC.Reply()
	case f.Name == "reject", f.Name == "quarantine":
		o.action = mail.ActionQuarantine
	}
	return o
}

// filters does what the rules say whose findings match, in the order of the
// rules. A rule that could not be evaluated counts as unknown in its place: one
// behind it could let pass what it would have held.
func (d *decider) filters(report *scan.Report) {
	for i := range d.block.Filters {
		rule := &d.block.Filters[i]
		matched, unknown := d.look(report, rule.Name)
		switch {
		case matched != nil:
			d.follow(rule, report, matched)
		case unknown != nil:
			d.apply(outcome{action: d.onUnknown(), threat: mail.ThreatUnscanned, rule: rule.Name, reason: unknown.Reason})
		}
		if d.done {
			return
		}
	}
}

// senders delivers what is from somebody whom the recipient, or who speaks for it, has
// allowed. As with a filter's deliver, only the match of a virus scanner behind it counts.
func (d *decider) senders(report *scan.Report) {
	if d.done {
		return
	}
	for i := range report.Findings {
		f := &report.Findings[i]
		if f.Symbol == symbolAllowed && f.Result == mail.Match && d.concerns(f) {
			d.decided(outcome{action: mail.ActionDeliver, rule: f.Symbol, reason: f.Reason})
			d.byFilter = true
			return
		}
	}
}

// symbolAllowed is that of findings of the block "senders" for those who are allowed.
const symbolAllowed = "allowed"

// look returns the first findings of a filter for this recipient.
func (d *decider) look(report *scan.Report, name string) (matched, unknown *mail.Finding) {
	for i := range report.Findings {
		f := &report.Findings[i]
		if f.Symbol != name || !d.concerns(f) {
			continue
		}
		switch {
		case f.Result == mail.Match && matched == nil:
			matched = f
		case f.Result == mail.Unknown && unknown == nil:
			unknown = f
		}
	}
	return matched, unknown
}

// follow does what one filter says.
func (d *decider) follow(rule *FilterRule, report *scan.Report, f *mail.Finding) {
	why := outcome{threat: orElse(d.block.Threat, mail.ThreatFilter), rule: rule.Name, reason: f.Reason}
	v := &d.verdict
	for i := range rule.Then {
		switch a := &rule.Then[i]; a.Verb {
		case VerbScore:
			d.add(symbol{module: useFilters, name: rule.Name, points: thousandths(a.Score)})
		case VerbHeader:
			v.Fields = append(v.Fields, a.Field)
		case VerbSubject:
			v.SubjectTag += a.Tag
		case VerbDisclaimer:
			if v.Disclaimer == "" {
				v.Disclaimer = a.Arg
			}
		case VerbStrip:
			d.strip(report, rule.Name)
		case VerbRedirect:
			v.Redirect = append(v.Redirect, a.Address)
		case VerbCopy:
			v.Copy = append(v.Copy, a.Address)
		default:
			why.action = mail.Action(a.Verb)
			if !a.Final() {
				d.apply(why)
			}
		}
	}
	for i := range rule.Then {
		if a := &rule.Then[i]; a.Final() {
			d.end(rule, why, mail.Action(a.Verb))
			return
		}
	}
}

// end does the final action of a filter.
func (d *decider) end(rule *FilterRule, why outcome, action mail.Action) {
	why.action = action
	if rule.Reply != "" && CheckReply(rule.Reply) == nil {
		switch action {
		case mail.ActionReject:
			why.reply = mail.ReplyContentRejected.Reply().WithText(rule.Reply)
		case mail.ActionDefer:
			why.reply = mail.ReplyTryLater.Reply().WithText(rule.Reply)
		}
	}
	d.decided(why)
	d.byFilter = true
}

// strip notes the parts that the findings of a filter name.
func (d *decider) strip(report *scan.Report, name string) {
	for i := range report.Findings {
		f := &report.Findings[i]
		if f.Symbol == name && f.Result == mail.Match && f.Part != "" && d.concerns(f) && !slices.Contains(d.verdict.Strip, f.Part) {
			d.verdict.Strip = append(d.verdict.Strip, f.Part)
			if d.stripped.rule == "" {
				d.stripped = outcome{rule: message.SafeText(name, maxRule), reason: message.SafeText(f.Reason, maxReason)}
			}
		}
	}
}

// score compares the sum so far with the thresholds.
func (d *decider) score() {
	t := d.block.Score
	if t == nil {
		return
	}
	d.scored = t
	for _, step := range []struct {
		at     *float64
		action mail.Action
	}{{t.Reject, mail.ActionReject}, {t.Quarantine, mail.ActionQuarantine}, {t.Mark, mail.ActionMark}} {
		if step.at == nil || d.points < thousandths(*step.at) {
			continue
		}
		if step.action == mail.ActionMark && !d.marked {
			d.verdict.SubjectTag = t.SubjectTag + d.verdict.SubjectTag
		}
		d.apply(outcome{
			action: step.action, threat: d.threat(), rule: string(step.action),
			reason: "score " + points(d.points) + " reaches " + string(step.action) + " at " + points(thousandths(*step.at)) + d.before.text(),
		})
		return
	}
}

// apply does an action of a block: the final ones end the flow, a mark is kept
// with its reason. Behind a filter's end only the match of a virus counts.
func (d *decider) apply(o outcome) {
	switch {
	case d.done:
		if final(o.action) && (o.threat == mail.ThreatVirus || o.down && d.verdict.Action == mail.ActionDeliver) {
			d.overrule(o)
		}
	case final(o.action):
		d.decided(o)
	case o.action == mail.ActionMark && !d.marked:
		d.marked = true
		d.explain(o)
	}
}

func (d *decider) decided(o outcome) {
	d.done, d.byFilter = true, false
	d.watch = o.threat != mail.ThreatVirus && (o.action == mail.ActionDeliver || o.action == mail.ActionQuarantine || len(d.verdict.Copy) > 0)
	d.verdict.Action = o.action
	d.verdict.Reply = o.reply
	d.explain(o)
}

// overrule makes a virus that was found behind a final action count: it is not
// delivered, nobody gets a copy of it, and its threat is that of a virus.
func (d *decider) overrule(o outcome) {
	v := &d.verdict
	v.Copy = nil
	switch v.Action {
	case mail.ActionDeliver:
		d.decided(o)
	case mail.ActionQuarantine:
		v.Threat = mail.ThreatVirus
		v.Reason = message.SafeText(v.Reason+"; "+d.block.Use+": "+o.reason, maxReason)
	}
	d.watch = false
}

func (d *decider) explain(o outcome) {
	d.verdict.Threat, d.verdict.Block = o.threat, d.block.Use
	d.verdict.Rule = message.SafeText(o.rule, maxRule)
	d.verdict.Reason = message.SafeText(o.reason, maxReason)
}

// finish completes the verdict.
func (d *decider) finish() mail.Verdict {
	v := &d.verdict
	if (d.marked || len(v.Strip) > 0) && !d.done {
		v.Action = mail.ActionMark
		if v.Block == "" {
			v.Threat, v.Block, v.Rule, v.Reason = mail.ThreatFilter, useFilters, d.stripped.rule, d.stripped.reason
		}
	}
	v.Score = float64(d.points) / 1000
	if !v.Action.Delivers() {
		// What is not delivered is not changed either: the quarantine keeps, and
		// releases, what came in.
		v.Fields, v.SubjectTag, v.Strip, v.Redirect, v.Remove, v.Transport = nil, "", nil, nil, nil, ""
		v.Disclaimer = ""
	}
	if v.Action == mail.ActionReject || v.Action == mail.ActionDefer || d.done && !d.byFilter {
		// A copy of what is refused would be one for each try of the client; and
		// whoever asked for a copy did not ask for one of what a scanner holds.
		v.Copy = nil
	}
	if v.Action.Delivers() && d.scored != nil {
		v.Fields = d.scoreFields(v.Fields)
	}
	if v.Reason == "" && len(v.Observed) > 0 {
		v.Reason = message.SafeText(strings.Join(v.Observed, "; "), maxReason)
	}
	return *v
}

// concerns reports whether a finding is about this recipient.
func (d *decider) concerns(f *mail.Finding) bool {
	if len(f.Recipients) == 0 {
		return true
	}
	if d.keys == nil {
		d.keys = []string{d.recipient.Address.Key()}
		if o := d.recipient.Original; !o.IsNull() {
			d.keys = append(d.keys, o.Key())
		}
	}
	for _, key := range d.keys {
		if slices.Contains(f.Recipients, key) {
			return true
		}
	}
	return false
}

func (d *decider) threat() mail.Threat    { return orElse(d.block.Threat, d.defaults.Threat) }
func (d *decider) onMatch() mail.Action   { return orElse(d.block.OnMatch, d.defaults.OnMatch) }
func (d *decider) onUnknown() mail.Action { return orElse(d.block.OnUnknown, d.defaults.OnUnknown) }

func orElse[T comparable](v, other T) T {
	var zero T
	if v == zero {
		return other
	}
	return v
}

// thousandths makes a whole number of a score; what is no number is nothing.
func thousandths(score float64) int64 {
	if math.IsNaN(score) {
		return 0
	}
	return int64(math.Round(max(-maxScore, min(maxScore, score)) * 1000))
}
