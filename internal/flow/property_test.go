package flow

import (
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gatepost/internal/mail"
	"gatepost/internal/scan"
)

// dice makes flows and reports at random, the same for the same seed.
type dice struct{ *rand.Rand }

func pick[T any](d dice, list ...T) T { return list[d.IntN(len(list))] }

var allActions = []mail.Action{"deliver", "mark", "quarantine", "discard", "reject", "defer"}

func (d dice) finding(use string) mail.Finding {
	f := mail.Finding{
		Module: use, Result: pick(d, mail.Clean, mail.Match, mail.Unknown), Score: pick(d, 0, 0.1, 0.2, 0.3, 1.7, -2.6, 33.333),
		Symbol: pick(d, "a", "b", "dmarc:fail", "encrypted:zip", "macro:x", "rule 1", "rule 2"), Name: pick(d, "", "reject", "quarantine"),
	}
	if d.IntN(3) == 0 {
		f.Recipients = []string{pick(d, "alice@example.com", "bob@example.com", "carol@example.com")}
	}
	return f
}

func (d dice) block() Block {
	b := Defaults(pick(d, "clamav", "structure", "bayes", "links", "authres", "filters", "score", "icap", "script"))
	b.Key = b.Use + strconv.Itoa(d.IntN(1000))
	b.OnMatch, b.OnUnknown = pick(d, allActions...), pick(d, allActions...)
	b.DMARC = pick(d, DMARCScore, DMARCPolicy, DMARCQuarantine, DMARCOff)
	if b.Use == "score" {
		at := func() *float64 { n := d.Float64() * 20; return &n }
		b.Score = &Thresholds{Mark: at(), Quarantine: at(), Reject: at(), SubjectTag: "[S] "}
	}
	if b.Use == "filters" {
		b.Filters = []FilterRule{rule("rule 1", pick(d, "deliver", "quarantine", "score:1.1", "mark")), rule("rule 2", "copy:x@example.com", pick(d, "deliver", "discard", "strip"))}
	}
	return b
}

func (d dice) reports(f *Flow) []scan.Report {
	var list []scan.Report
	for _, b := range f.Blocks {
		if d.IntN(8) == 0 {
			continue // the module was not run
		}
		r := scan.Report{Key: b.Key, Use: b.Use}
		for range d.IntN(4) {
			r.Findings = append(r.Findings, d.finding(b.Use))
		}
		if b.Use == "script" {
			r.Findings = append(r.Findings, wants("why", "then="+pick(d, "mark", "deliver", "reject", "discard", "copy:x@example.com"), "remove=X-A", "transport=other"))
		}
		list = append(list, r)
	}
	return list
}

func (d dice) flow() *Flow {
	f := &Flow{Name: "in"}
	for range d.IntN(6) {
		f.Blocks = append(f.Blocks, d.block())
	}
	return f
}

const rounds = 5000

func eachCase(t *testing.T, check func(d dice, f *Flow, reports []scan.Report)) {
	t.Helper()
	for seed := range uint64(rounds) {
		d := dice{rand.New(rand.NewPCG(seed, 1))}
		f := d.flow()
		check(d, f, d.reports(f))
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func TestAVerdictIsAlwaysComplete(t *testing.T) {
	eachCase(t, func(d dice, f *Flow, reports []scan.Report) {
		v := Decide(f, reports, alice)
		if !slices.Contains(allActions, v.Action) || v.Flow != "in" {
			t.Errorf("action %q, flow %q", v.Action, v.Flow)
		}
		if v.Action != mail.ActionDeliver && (v.Threat == "" || v.Block == "" || v.Rule == "") {
			t.Errorf("nothing explains %+v", v)
		}
		if !v.Action.Delivers() && (v.Fields != nil || v.Strip != nil || v.Redirect != nil || v.SubjectTag != "") {
			t.Errorf("changes what is not delivered: %+v", v)
		}
		if diff := cmp.Diff(v, Decide(f, reports, alice)); diff != "" {
			t.Errorf("a second time:\n%s", diff)
		}
	})
}

// A flow of blocks that only count has one score, in whatever order.
func TestTheOrderOfBlocksThatOnlyCountDoesNotChangeTheScore(t *testing.T) {
	eachCase(t, func(d dice, f *Flow, reports []scan.Report) {
		for i := range f.Blocks {
			b := &f.Blocks[i]
			b.OnMatch, b.OnUnknown, b.Actions, b.DMARC = pick(d, mail.ActionDeliver, mail.ActionMark), "deliver", map[string]mail.Action{}, DMARCScore
			for _, class := range Classes() {
				b.Actions[class] = mail.ActionDeliver
			}
			if b.Use == "filters" {
				b.Filters = []FilterRule{rule("rule 1", "score:1.1"), rule("rule 2", "mark")}
			}
			if b.Use == "score" {
				b.Score = nil
			}
			if b.Use == "script" {
				b.Use = "links" // a script may end the flow
			}
		}
		want := Decide(f, reports, alice)
		d.Shuffle(len(f.Blocks), func(i, j int) { f.Blocks[i], f.Blocks[j] = f.Blocks[j], f.Blocks[i] })
		d.Shuffle(len(reports), func(i, j int) { reports[i], reports[j] = reports[j], reports[i] })
		got := Decide(f, reports, alice)
		if got.Score != want.Score || got.Action != want.Action {
			t.Errorf("score %v and %s, in another order %v and %s", want.Score, want.Action, got.Score, got.Action)
		}
	})
}

func TestAVirusIsNeverDelivered(t *testing.T) {
	eachCase(t, func(d dice, f *Flow, reports []scan.Report) {
		scanner := block("clamav", onMatch(pick(d, allActions[2:]...)))
		scanner.Key = "the scanner"
		f.Blocks = slices.Insert(f.Blocks, d.IntN(len(f.Blocks)+1), scanner)
		reports = append(reports, scan.Report{Key: "the scanner", Use: "clamav", Findings: []mail.Finding{d.finding("clamav"), eicar}})
		v := Decide(f, reports, alice)
		if v.Action.Delivers() {
			t.Errorf("a virus passes: %+v", v)
		}
		if len(v.Copy) > 0 {
			t.Errorf("a copy of a virus: %+v", v)
		}
	})
}

// In a flow whose other blocks do nothing, unknown gets what was configured for
// it, and nothing better.
func TestUnknownNeverGetsBetterThanConfigured(t *testing.T) {
	eachCase(t, func(d dice, _ *Flow, _ []scan.Report) {
		b := d.block()
		for b.Use == "score" {
			b = d.block()
		}
		f := flowOf(b)
		var reports []scan.Report
		if d.IntN(2) == 0 {
			reports = []scan.Report{{Key: b.Key, Use: b.Use, Findings: []mail.Finding{unsure("timeout", "x")}}}
		}
		v := Decide(f, reports, alice)
		if strictness(v.Action) < strictness(b.OnUnknown) {
			t.Errorf("%s, configured is %s", v.Action, b.OnUnknown)
		}
	})
}

func TestWhatConcernsOthersIsNotFelt(t *testing.T) {
	eachCase(t, func(d dice, f *Flow, reports []scan.Report) {
		want := Decide(f, reports, alice)
		for i := range reports {
			for range d.IntN(3) {
				reports[i].Findings = append(reports[i].Findings, only(d.finding(reports[i].Use), "bob@example.com"))
			}
		}
		if diff := cmp.Diff(want, Decide(f, reports, alice)); diff != "" {
			t.Errorf("findings about bob change the verdict for alice:\n%s", diff)
		}
	})
}

func TestScoresThatAreNoNumbersCountNothingMuch(t *testing.T) {
	f := flowOf(block("bayes"))
	for _, score := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), 1e300} {
		v := Decide(f, []scan.Report{report("bayes", counted("x", score))}, alice)
		if math.IsNaN(v.Score) || math.Abs(v.Score) > maxScore {
			t.Errorf("a score of %v makes %v", score, v.Score)
		}
	}
}

func TestThreat(t *testing.T) {
	for use, want := range map[string]mail.Threat{
		"clamav": "virus", "icap": "virus", "milter": "policy", "bayes": "spam", "reputation": "spam", "links": "spam", "rspamd": "spam",
		"spamd": "spam", "score": "spam", "filters": "filter", "script": "filter", "structure": "unscanned", "authres": "policy",
	} {
		if got := Threat(use); got != want {
			t.Errorf("a match of %s is %q, want %q", use, got, want)
		}
	}
}

func TestFields(t *testing.T) {
	id, err := mail.ParseID("01h455vb4pex5vsknk084sn02q")
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("word ", 30) + strings.Repeat("x", 100) + " end"
	tests := []struct {
		name    string
		verdict mail.Verdict
		want    []string
	}{
		{"a clean message", mail.Verdict{Action: "deliver"}, []string{"X-Gatepost-ID: 01h455vb4pex5vsknk084sn02q", "X-Gatepost-Verdict: deliver"}},
		{
			"a marked message", mail.Verdict{Action: "mark", Block: "score", Rule: "mark", Fields: []string{"X-A: b"}},
			[]string{"X-Gatepost-ID: 01h455vb4pex5vsknk084sn02q", "X-Gatepost-Verdict: mark (score, mark)", "X-A: b"},
		},
		{
			"a rule that wants to be a field", mail.Verdict{Action: "mark", Block: "filters", Rule: "ä\r\nX: y\x00"},
			[]string{"X-Gatepost-ID: 01h455vb4pex5vsknk084sn02q", "X-Gatepost-Verdict: mark (filters, ___X:_y_)"},
		},
		{
			"a long field", mail.Verdict{Action: "deliver", Fields: []string{"X-Long: " + long}},
			[]string{
				"X-Gatepost-ID: 01h455vb4pex5vsknk084sn02q", "X-Gatepost-Verdict: deliver",
				"X-Long: " + strings.TrimSpace(strings.Repeat("word ", 14)) + "\r\n " + strings.TrimSpace(strings.Repeat("word ", 15)) + "\r\n word\r\n " + strings.Repeat("x", 100) + "\r\n end",
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, Fields(tt.verdict, id)); diff != "" {
				t.Errorf("fields (-want +got):\n%s", diff)
			}
		})
	}
}

// BenchmarkDecide is an ordinary clean message in an ordinary flow.
func BenchmarkDecide(b *testing.B) {
	f := flowOf(block("authres"), filters(rule("no exe", "quarantine")), block("clamav"), block("reputation"), block("bayes"), block("links"), thresholds(5, 8, 15), block("structure"))
	reports := []scan.Report{
		report("authres", counted("spf:pass", -0.1), counted("dkim:pass", -0.1)), report("filters"), report("clamav"),
		report("reputation", counted("network", 0.2)), report("bayes", counted("ham", -1.5)), report("links"), report("structure"),
	}
	b.ReportAllocs()
	for b.Loop() {
		Decide(f, reports, alice)
	}
}
