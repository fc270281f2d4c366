package flow

import (
	"slices"

	"gatepost/internal/mail"
	"gatepost/internal/scan"
)

// script does what scripts say in their findings (scan.PropertyThen and its
// neighbours). What they score counts by their findings.
func (d *decider) script(report *scan.Report) {
	for i := range report.Findings {
		f := &report.Findings[i]
		if !d.concerns(f) {
			continue
		}
		rule, ok := d.wishes(f)
		if !ok {
			d.apply(outcome{action: d.onUnknown(), threat: mail.ThreatUnscanned, rule: f.Name, reason: "the script wants something that is not possible"})
		} else if len(rule.Then) > 0 {
			marked := d.marked
			d.follow(&rule, report, f)
			if d.marked && !marked && d.verdict.Action == mail.ActionDeliver && d.done {
				// It marks, and wants nobody else asked: both.
				d.verdict.Action = mail.ActionMark
			}
		}
		if d.done {
			return
		}
	}
}

// wishes reads what a finding of a script wants done; false where it cannot be meant.
func (d *decider) wishes(f *mail.Finding) (FilterRule, bool) {
	rule := FilterRule{Name: f.Name}
	for _, p := range f.Properties {
		switch p.Name {
		case scan.PropertyThen:
			a, err := ParseThen(p.Value)
			if err != nil {
				return rule, false
			}
			rule.Then = append(rule.Then, a)
		case scan.PropertyText:
			rule.Reply = p.Value
		case scan.PropertyTransport:
			d.verdict.Transport = p.Value
		case scan.PropertyRemove:
			if !slices.Contains(d.verdict.Remove, p.Value) {
				d.verdict.Remove = append(d.verdict.Remove, p.Value)
			}
		}
	}
	return rule, CheckThen(append(slices.Clone(rule.Then), FilterAction{Verb: string(mail.ActionMark)})) == nil
}

// Before is what a block sees that looks at what others found: the findings of the
// session and of the flow's blocks that have answered, as far as they concern the
// recipient, and the score of the blocks above it. It reports false for a block that is
// not in the flow.
func Before(f *Flow, key string, reports []scan.Report, r *mail.Recipient, session ...mail.Finding) ([]mail.Finding, float64, bool) {
	at := slices.IndexFunc(f.Blocks, func(b Block) bool { return b.Key == key })
	if at < 0 {
		return nil, 0, false
	}
	d := decider{flow: f, recipient: r}
	var seen []mail.Finding
	add := func(findings []mail.Finding) {
		for i := range findings {
			if d.concerns(&findings[i]) {
				seen = append(seen, findings[i])
			}
		}
	}
	add(session)
	for i := range reports {
		if slices.ContainsFunc(f.Blocks, func(b Block) bool { return b.Key == reports[i].Key }) {
			add(reports[i].Findings)
		}
	}
	above := Flow{Name: f.Name, Blocks: f.Blocks[:at]}
	return seen, Decide(&above, reports, r, session...).Score, true
}
