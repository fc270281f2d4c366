package flow

import (
	"slices"
	"strings"

	"gatepost/internal/mail"
	"gatepost/internal/message"
)

// observe notes what the block would do, and does nothing of it.
func (d *decider) observe() {
	try := *d
	v := &try.verdict
	v.Fields, v.Strip, v.Remove = slices.Clip(v.Fields), slices.Clip(v.Strip), slices.Clip(v.Remove)
	v.Copy, v.Redirect, v.Observed = slices.Clip(v.Copy), slices.Clip(v.Redirect), nil
	try.decide()
	d.keys = try.keys // no need to make them again
	if would := d.difference(&try); would != "" {
		d.verdict.Observed = append(d.verdict.Observed, message.SafeText("would "+would, maxReason))
	}
}

// difference says what a block did; "" for nothing.
func (d *decider) difference(try *decider) string {
	var did []string
	was, is := &d.verdict, &try.verdict
	switch {
	case try.done && (!d.done || was.Action != is.Action):
		did = append(did, string(is.Action))
	case try.marked && !d.marked:
		did = append(did, string(mail.ActionMark))
	}
	if try.points != d.points {
		did = append(did, "count "+points(try.points-d.points))
	}
	did = append(did, changes(was, is)...)
	if len(did) == 0 {
		return ""
	}
	why := d.block.Use
	if is.Block != "" && (is.Rule != was.Rule || is.Reason != was.Reason || is.Block != was.Block) {
		why = because(is)
	}
	return strings.Join(did, ", ") + " (" + why + ")"
}

// changes name how one verdict changes a message more than another.
func changes(was, is *mail.Verdict) []string {
	var list []string
	for _, c := range []struct {
		done bool
		what string
	}{
		{is.SubjectTag != was.SubjectTag, "tag the subject"},
		{len(is.Fields) > len(was.Fields), "add fields"},
		{len(is.Remove) > len(was.Remove), "remove fields"},
		{len(is.Strip) > len(was.Strip), "strip attachments"},
		{len(is.Copy) > len(was.Copy), "copy"},
		{len(is.Redirect) > len(was.Redirect), "redirect"},
		{is.Disclaimer != was.Disclaimer, "add a disclaimer"},
		{is.Transport != was.Transport, "deliver by " + is.Transport},
	} {
		if c.done {
			list = append(list, c.what)
		}
	}
	return list
}

// because is who wants what a verdict says, and why.
func because(v *mail.Verdict) string {
	said := slices.DeleteFunc([]string{v.Block, v.Rule, v.Reason}, func(s string) bool { return s == "" })
	return strings.Join(said, ": ")
}

// onlyObserved is the verdict of a flow that observes as a whole: it delivers, and
// says what it would have done. The score is what it would have been.
func (d *decider) onlyObserved(v mail.Verdict) mail.Verdict {
	seen := mail.Verdict{Action: mail.ActionDeliver, Flow: v.Flow, Score: v.Score, Observed: v.Observed}
	var did []string
	if v.Action != mail.ActionDeliver {
		did = append(did, string(v.Action))
	}
	plain := mail.Verdict{Fields: v.Fields}
	if v.Action.Delivers() && d.scored == nil {
		plain.Fields = nil // the score's own are no news
	}
	if did = append(did, changes(&plain, &v)...); len(did) > 0 {
		why := because(&v)
		if why == "" {
			why = d.flow.Name
		}
		seen.Observed = append(slices.Clip(seen.Observed), message.SafeText("would "+strings.Join(did, ", ")+" ("+why+")", maxReason))
	}
	if len(seen.Observed) > 0 {
		seen.Reason = message.SafeText(strings.Join(seen.Observed, "; "), maxReason)
	}
	return seen
}
