package flow

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gatepost/internal/mail"
	"gatepost/internal/scan"
)

// wants is the finding of a script that wants something done.
func wants(reason string, properties ...string) mail.Finding {
	f := mail.Finding{Module: "script", Symbol: "edit", Result: mail.Clean, Name: "x.star", Reason: reason}
	for _, p := range properties {
		name, value, _ := strings.Cut(p, "=")
		f.Properties = append(f.Properties, mail.Property{Name: name, Value: value})
	}
	return f
}

// scored is a finding of the session.
func scored(module, symbol string, score float64) mail.Finding {
	return mail.Finding{Module: module, Symbol: symbol, Result: mail.Match, Score: score}
}

func TestAScriptDecidesAboutAMessage(t *testing.T) {
	virus := block("clamav")
	for _, c := range []struct {
		name    string
		flow    *Flow
		reports []scan.Report
		want    mail.Verdict
	}{
		{
			"it quarantines with its reason", flowOf(block("script")), []scan.Report{report("script", wants("held", "then=quarantine"))},
			mail.Verdict{Action: "quarantine", Threat: "filter", Block: "script", Rule: "x.star", Reason: "held"},
		},
		{
			"it rejects with its words", flowOf(block("script")), []scan.Report{report("script", wants("no", "then=reject", "text=Not this"))},
			mail.Verdict{Action: "reject", Threat: "filter", Block: "script", Rule: "x.star", Reason: "no", Reply: mail.ReplyContentRejected.Reply().WithText("Not this")},
		},
		{
			"it marks, and takes fields away, and sends it elsewhere", flowOf(block("script")),
			[]scan.Report{report("script", wants("m", "then=mark", `then=header:"X-A: b"`, `then=subject:"[T] "`, "remove=X-B", "transport=archive"))},
			mail.Verdict{Action: "mark", Threat: "filter", Block: "script", Rule: "x.star", Reason: "m", Fields: []string{"X-A: b"}, SubjectTag: "[T] ", Remove: []string{"X-B"}, Transport: "archive"},
		},
		{
			"what is held is not changed", flowOf(block("script")),
			[]scan.Report{report("script", wants("m", "then=quarantine", "remove=X-B", "transport=archive"))},
			mail.Verdict{Action: "quarantine", Threat: "filter", Block: "script", Rule: "x.star", Reason: "m"},
		},
		{
			"one that marks and accepts does both", flowOf(block("script"), block("milter")), []scan.Report{report("script", wants("m", "then=mark", "then=deliver")), report("milter", saw("x", "y"))},
			mail.Verdict{Action: "mark", Threat: "filter", Block: "script", Rule: "x.star", Reason: "m"},
		},
		{
			"a virus overrules its accept", flowOf(block("script"), virus), []scan.Report{report("script", wants("fine", "then=deliver")), report("clamav", eicar)},
			mail.Verdict{Action: "quarantine", Threat: "virus", Block: "clamav", Rule: eicar.Symbol, Reason: eicar.Reason},
		},
		{
			"what it scores counts once", flowOf(block("script"), thresholds(1, 2, 9)), []scan.Report{report("script", scored("script", "far", 2.5))},
			mail.Verdict{Action: "quarantine", Threat: "spam", Block: "score", Rule: "quarantine", Reason: "score 2.5 reaches quarantine at 2.0", Score: 2.5},
		},
		{
			"one that failed defers", flowOf(block("script")), []scan.Report{report("script", unsure("error", "line 3"))},
			mail.Verdict{Action: "defer", Threat: "unscanned", Block: "script", Rule: "error", Reason: "line 3"},
		},
		{
			"what nobody understands is one that failed", flowOf(block("script")), []scan.Report{report("script", wants("x", "then=explode"))},
			mail.Verdict{Action: "defer", Threat: "unscanned", Block: "script", Rule: "x.star", Reason: "the script wants something that is not possible"},
		},
		{
			"of another block it is not believed", flowOf(block("bayes")), []scan.Report{report("bayes", wants("x", "then=discard", "transport=evil"))},
			mail.Verdict{Action: "deliver"},
		},
	} {
		c.want.Flow = "in"
		if diff := cmp.Diff(c.want, Decide(c.flow, c.reports, alice)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestWhatTheSessionScoredCounts(t *testing.T) {
	f := flowOf(block("reputation"), block("spf"), thresholds(1, 4, 9))
	session := []mail.Finding{
		scored("dnsbl", "zen", 2), scored("script", "far", 1), scored("reputation", "network", 5), scored("authres", "x", 0),
		{Module: "rate", Symbol: "x", Result: mail.Match, Score: 8, Recipients: []string{"bob@example.com"}},
		{Module: "script", Symbol: "trap", Result: mail.Match, Score: 1, Recipients: []string{"alice@example.com"}},
	}
	reports := []scan.Report{report("reputation", scored("reputation", "domain", 0.5)), report("spf")}
	v := Decide(f, reports, alice, session...)
	if v.Score != 4.5 || v.Action != "quarantine" || v.Reason != "score 4.5 reaches quarantine at 4.0, 4.0 of it from the session: dnsbl:zen, script:far, script:trap" {
		t.Errorf("%+v", v)
	}
	if v := Decide(f, reports, bob, session...); v.Score != 11.5 || v.Action != "reject" {
		t.Errorf("%+v", v)
	}
	// A module that has nothing to say about the message leaves the session's word.
	if v := Decide(f, []scan.Report{report("reputation"), report("spf")}, alice, session...); v.Score != 9 {
		t.Errorf("%+v", v)
	}
}

func TestBeforeIsWhatAScriptSees(t *testing.T) {
	f := flowOf(filters(rule("n", "score:4")), block("bayes"), block("script"), block("links"))
	reports := []scan.Report{
		report("filters", saw("n", "x")), report("bayes", counted("spam", 2), only(counted("other", 7), "bob@example.com")), report("links", counted("late", 1)), report("elsewhere", counted("y", 3)),
	}
	seen, score, ok := Before(f, "script", reports, alice, scored("dnsbl", "zen", 1))
	var names []string
	for _, s := range seen {
		names = append(names, s.Symbol)
	}
	if want := []string{"zen", "n", "spam", "late"}; !ok || score != 7 || !slices.Equal(names, want) {
		t.Errorf("%v, %v, %v", names, score, ok)
	}
	if _, _, ok := Before(f, "nobody", reports, alice); ok {
		t.Error("a block is found that is not there")
	}
}

func watching(b *Block) { b.Observe = true }

func TestWhatObservesDoesNothing(t *testing.T) {
	for _, c := range []struct {
		name    string
		flow    *Flow
		reports []scan.Report
		want    []string
	}{
		{"a block that has nothing to say", flowOf(block("clamav", watching)), []scan.Report{report("clamav")}, nil},
		{"a virus", flowOf(block("clamav", watching)), []scan.Report{report("clamav", eicar)}, []string{"would quarantine (clamav: " + eicar.Symbol + ": " + eicar.Reason + ")"}},
		{"a scanner that is down", flowOf(block("clamav", watching)), nil, []string{"would defer (clamav: missing: clamav was not asked about this message)"}},
		{
			"a score is not counted", flowOf(block("bayes", watching), thresholds(1, 2, 3)), []scan.Report{report("bayes", counted("spam", 6))},
			[]string{"would count 6.0 (bayes)"},
		},
		{
			"a script with edits", flowOf(block("script", watching)), []scan.Report{report("script", wants("m", "then=mark", `then=subject:"[T] "`, "remove=X-B", "transport=a"))},
			[]string{"would mark, tag the subject, remove fields, deliver by a (script: x.star: m)"},
		},
	} {
		v := Decide(c.flow, c.reports, alice)
		v.Fields = nil
		want := mail.Verdict{Action: "deliver", Flow: "in", Observed: c.want, Reason: strings.Join(c.want, "; ")}
		if diff := cmp.Diff(want, v); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestAFlowThatObservesSaysWhatItWouldDo(t *testing.T) {
	f := flowOf(block("bayes"), thresholds(1, 5, 9))
	f.Observe = true
	v := Decide(f, []scan.Report{report("bayes", counted("spam", 6))}, alice)
	want := mail.Verdict{Action: "deliver", Flow: "in", Score: 6, Observed: []string{"would quarantine (score: quarantine: score 6.0 reaches quarantine at 5.0)"}}
	want.Reason = want.Observed[0]
	if diff := cmp.Diff(want, v); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A flow does what it said it would when it observed, and with all blocks observing
// nothing is done at all.
func TestAContentFlowDoesWhatItObserved(t *testing.T) {
	eachCase(t, func(d dice, f *Flow, reports []scan.Report) {
		did := Decide(f, reports, alice)
		f.Observe = true
		v := Decide(f, reports, alice)
		would := strings.Join(v.Observed, " ")
		if (did.Action != mail.ActionDeliver) != strings.HasPrefix(would, "would "+string(did.Action)) {
			t.Errorf("did %+v, %q", did, would)
		}
		if d.IntN(2) == 0 {
			f.Observe = false
			for i := range f.Blocks {
				f.Blocks[i].Observe = true
			}
			v = Decide(f, reports, alice)
			if v.Score != 0 {
				t.Errorf("it counts %v", v.Score)
			}
		}
		if v.Action != mail.ActionDeliver || v.SubjectTag != "" || len(v.Strip)+len(v.Copy)+len(v.Redirect)+len(v.Remove) > 0 || v.Transport != "" || !v.Reply.IsZero() {
			t.Errorf("it does something: %+v", v)
		}
	})
}
