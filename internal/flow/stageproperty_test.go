package flow

import (
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatepost/internal/mail"
	"gatepost/internal/policy"
)

var stageActions = []mail.Action{"", "deliver", "defer", "reject", ActionDrop}

func (d dice) stageFinding(use string) mail.Finding {
	return mail.Finding{
		Module: use, Result: pick(d, mail.Clean, mail.Match, mail.Unknown), Score: pick(d, 0, 0.1, 0.2, 0.3, 1.7, -2.6, 33.333),
		Symbol: pick(d, "a", "b", policy.SymbolAllow, "deny"), Reason: pick(d, "", "because"),
	}
}

func (d dice) stageBlock() StageBlock {
	b := StageBlock{
		Use: pick(d, "access", "rate", "dnsbl", "pregreet", "reputation", "tarpit", "bandwidth", "trust", "script", "helo"), OnMatch: pick(d, stageActions...),
		OnUnknown: pick(d, stageActions...), Score: pick(d, 0, 0, 1.1, -0.7), Observe: d.IntN(5) == 0, Reply: pick(d, "", "", "No", "250 yes"),
	}
	b.Key = b.Use + strconv.Itoa(d.IntN(10000))
	if d.IntN(3) == 0 {
		b.Threshold = at(d.Float64()*10 - 3)
	}
	if b.Use == "tarpit" {
		b.Tarpit = &Tarpit{Delay: time.Duration(d.IntN(1e10)), PerPoint: time.Duration(d.Int64()), Max: time.Duration(d.IntN(1e11))}
	}
	if b.Use == "bandwidth" {
		b.Bandwidth = &Bandwidth{Limit: int64(d.IntN(1000)) - 10, WhenScore: pick(d, nil, at(1))}
	}
	return b
}

func (d dice) stage() (*StageFlow, []policy.Report, StageInput) {
	f := &StageFlow{Name: "x", Stage: pick(d, policy.Connect, policy.Recipient), DelayReject: d.IntN(3) == 0, Observe: d.IntN(6) == 0}
	var reports []policy.Report
	for range d.IntN(7) {
		b := d.stageBlock()
		f.Blocks = append(f.Blocks, b)
		r := policy.Report{Key: b.Key, Use: b.Use}
		for range d.IntN(4) {
			r.Findings = append(r.Findings, d.stageFinding(b.Use))
		}
		if b.Use == "script" && d.IntN(2) == 0 {
			r.Choice = &policy.Choice{
				Act: pick(d, mail.Accept, mail.Accept, mail.Defer, mail.Reject, mail.Drop), Text: pick(d, "", "No", "250 yes"), Reason: pick(d, "", "because"),
				Delay: time.Duration(d.IntN(1e10)), Transport: pick(d, "", "", "other"),
			}
		}
		if d.IntN(8) > 0 {
			reports = append(reports, r)
		}
	}
	var in StageInput
	for range d.IntN(3) {
		in.Findings = append(in.Findings, d.stageFinding("earlier"))
	}
	if d.IntN(3) == 0 {
		in.Findings = append(in.Findings, early)
	}
	return f, reports, in
}

func eachStage(t *testing.T, check func(d dice, f *StageFlow, reports []policy.Report, in StageInput)) {
	t.Helper()
	for seed := range uint64(rounds) {
		d := dice{rand.New(rand.NewPCG(seed, 2))}
		f, reports, in := d.stage()
		check(d, f, reports, in)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func sumOf(lists ...[]mail.Finding) (sum int64) {
	for _, list := range lists {
		for i := range list {
			sum += thousandths(list[i].Score)
		}
	}
	return sum
}

func TestAnOutcomeIsAlwaysComplete(t *testing.T) {
	eachStage(t, func(_ dice, f *StageFlow, reports []policy.Report, in StageInput) {
		o := DecideStage(f, reports, in)
		d := o.Decision
		if d.Act != mail.Accept && (o.Block == "" || d.Reason == "") {
			t.Errorf("nothing explains %+v", o)
		}
		if (d.Act == mail.Reject || d.Act == mail.Defer) && (d.Reply.Code/100 != 4+int(d.Act-mail.Defer) || d.Reply.Enhanced == "") {
			t.Errorf("%s is answered %v", d.Act, d.Reply)
		}
		if d.Later != nil && (d.Act != mail.Accept || d.Later.Act != mail.Reject && d.Later.Act != mail.Defer || !f.DelayReject || f.Stage != policy.Connect) {
			t.Errorf("later %+v of %+v", d.Later, o)
		}
		if d.Delay < 0 || d.Delay > 100*time.Second || d.Bandwidth < 0 {
			t.Errorf("delay %v, bandwidth %d", d.Delay, d.Bandwidth)
		}
		if o.Accepted && d.Act != mail.Accept || o.Passed && (o.Accepted || d.Later != nil || d.Act != mail.Accept) {
			t.Errorf("contradicts itself: %+v", o)
		}
		if got := sumOf(in.Findings, d.Findings); got != thousandths(o.Score) {
			t.Errorf("the findings count %d, the score is %v", got, o.Score)
		}
	})
}

// What is asked block by block ends as what is asked at once, and changes neither
// the reports nor what was known before.
func TestDecidingIsPureAndAWalkIsTheSame(t *testing.T) {
	eachStage(t, func(_ dice, f *StageFlow, reports []policy.Report, in StageInput) {
		copied := slices.Clone(reports)
		for i := range copied {
			copied[i].Findings = slices.Clone(copied[i].Findings)
		}
		want := DecideStage(f, reports, in)
		w := NewStageWalk(f, in)
		askedFor := 0
		for b := w.Next(); b != nil; b = w.Next() {
			askedFor++
			if r := reportOf(b.Key, reports); r != nil {
				w.Tell(r)
			} // or nothing, which Next takes for no answer
			w.Tell(nil) // too many are ignored
		}
		if diff := cmp.Diff(want, w.Outcome()); diff != "" {
			t.Errorf("a walk (-at once +walk):\n%s", diff)
		}
		if diff := cmp.Diff(copied, reports); diff != "" {
			t.Errorf("the reports are changed:\n%s", diff)
		}
		if askedFor > len(f.Blocks) {
			t.Errorf("%d blocks asked of %d", askedFor, len(f.Blocks))
		}
	})
}

func TestAFlowThatObservesDoesNothing(t *testing.T) {
	eachStage(t, func(d dice, f *StageFlow, reports []policy.Report, in StageInput) {
		if d.IntN(2) == 0 {
			f.Observe = true
		} else {
			for i := range f.Blocks {
				f.Blocks[i].Observe = true
			}
		}
		o := DecideStage(f, reports, in)
		if x := o.Decision; x.Act != mail.Accept || x.Later != nil || x.Delay != 0 || x.Bandwidth != 0 || o.Accepted || o.Transport != "" {
			t.Errorf("it does something: %+v", o)
		}
		if sumOf(o.Decision.Findings) != 0 || thousandths(o.Score) != sumOf(in.Findings) {
			t.Errorf("it counts: %v", o.Score)
		}
		if _, ok := policy.Accepted(o.Decision.Findings); ok {
			t.Error("later stages are told that the client is accepted")
		}
	})
}

// What a flow that observes says of its last step is what the same flow does.
func TestAFlowDoesWhatItObserved(t *testing.T) {
	eachStage(t, func(_ dice, f *StageFlow, reports []policy.Report, in StageInput) {
		for i := range f.Blocks {
			f.Blocks[i].Observe = false
		}
		f.Observe, f.DelayReject = false, false
		did := DecideStage(f, reports, in)
		f.Observe = true
		would := "accept"
		for _, o := range DecideStage(f, reports, in).Observed {
			if o.What == "reject" || o.What == "defer" || o.What == "drop" {
				would = o.What
			}
		}
		if would != did.Decision.Act.String() {
			t.Errorf("would %s, did %s", would, did.Decision.Act)
		}
	})
}

func TestBlocksBehindADecisionAreNotAsked(t *testing.T) {
	eachStage(t, func(d dice, f *StageFlow, reports []policy.Report, in StageInput) {
		stop := StageBlock{Key: "stop", Use: "access", OnMatch: pick(d, mail.ActionReject, ActionDrop)}
		f.Blocks = append([]StageBlock{stop}, f.Blocks...)
		reports = append(reports, policy.Report{Key: "stop", Findings: []mail.Finding{saw("deny", "x")}})
		w := NewStageWalk(f, in)
		n := 0
		for b := w.Next(); b != nil; b = w.Next() {
			n++
			w.Tell(reportOf(b.Key, reports))
		}
		if n != 1 {
			t.Errorf("%d blocks asked", n)
		}
	})
}

func TestUnknownNeverGetsBetterThanConfiguredAtAStage(t *testing.T) {
	for _, action := range stageActions[2:] {
		for _, use := range []string{"access", "rate", "dnsbl", "trust", "script", "helo", "new"} {
			f := connect(StageBlock{Key: "k", Use: use, OnUnknown: action})
			for _, reports := range [][]policy.Report{nil, {{Key: "k", Findings: []mail.Finding{unsure("x", "y"), allowed()}}}} {
				if o := DecideStage(f, reports, StageInput{}); o.Decision.Act != actFor(action) {
					t.Errorf("%s, on_unknown %s: %s", use, action, o.Decision.Act)
				}
			}
		}
	}
}

func TestStageScoresThatAreNoNumbers(t *testing.T) {
	for _, score := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), 1e300} {
		f := connect(stageBlock("dnsbl", scores(score)), tarpit(Tarpit{Delay: 1, PerPoint: math.MaxInt64}))
		o := DecideStage(f, []policy.Report{stageReport("dnsbl", listing("a", score))}, StageInput{})
		if math.IsNaN(o.Score) || math.Abs(o.Score) > 2*maxScore || o.Decision.Delay > MaxTarpit || o.Decision.Delay < 0 {
			t.Errorf("a score of %v makes %v and %v", score, o.Score, o.Decision.Delay)
		}
	}
}

func BenchmarkDecideStage(b *testing.B) {
	f := connect(stageBlock("access"), stageBlock("rate"), stageBlock("concurrency"), stageBlock("dnsbl", threshold(3)), stageBlock("pregreet"), tarpit(Tarpit{Delay: 1, WhenScore: at(2)}))
	reports := []policy.Report{stageReport("access"), stageReport("rate"), stageReport("concurrency"), stageReport("dnsbl", listing("a", 1))}
	b.ReportAllocs()
	for b.Loop() {
		DecideStage(f, reports, StageInput{})
	}
}
