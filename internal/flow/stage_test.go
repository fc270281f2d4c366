package flow

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"gatepost/internal/mail"
	"gatepost/internal/policy"
)

// stageBlock is a block as the configuration has it where little is said.
func stageBlock(use string, changes ...func(*StageBlock)) StageBlock {
	b := StageBlock{Key: use, Use: use}
	for _, change := range changes {
		change(&b)
	}
	return b
}

func stageMatch(a mail.Action) func(*StageBlock)   { return func(b *StageBlock) { b.OnMatch = a } }
func stageUnknown(a mail.Action) func(*StageBlock) { return func(b *StageBlock) { b.OnUnknown = a } }
func scores(n float64) func(*StageBlock)           { return func(b *StageBlock) { b.Score = n } }
func threshold(n float64) func(*StageBlock)        { return func(b *StageBlock) { b.Threshold = &n } }
func says(s string) func(*StageBlock)              { return func(b *StageBlock) { b.Reply = s } }
func observing(b *StageBlock)                      { b.Observe = true }

func tarpit(t Tarpit, changes ...func(*StageBlock)) StageBlock {
	return stageBlock("tarpit", append(changes, func(b *StageBlock) { b.Tarpit = &t })...)
}

func bandwidth(limit int64, when *float64, changes ...func(*StageBlock)) StageBlock {
	return stageBlock("bandwidth", append(changes, func(b *StageBlock) { b.Bandwidth = &Bandwidth{Limit: limit, WhenScore: when} })...)
}

func at(n float64) *float64 { return &n }

func connect(blocks ...StageBlock) *StageFlow {
	return &StageFlow{Name: "ip", Stage: policy.Connect, Blocks: blocks}
}

func atRecipient(blocks ...StageBlock) *StageFlow {
	return &StageFlow{Name: "rcpt", Stage: policy.Recipient, Blocks: blocks}
}

func delayed(f *StageFlow) *StageFlow {
	f.DelayReject = true
	return f
}

func observed(f *StageFlow) *StageFlow {
	f.Observe = true
	return f
}

func stageReport(use string, findings ...mail.Finding) policy.Report {
	for i := range findings {
		findings[i].Module = use
	}
	return policy.Report{Key: use, Use: use, Findings: findings}
}

// stageChoice is what a script says that decides itself.
func stageChoice(c policy.Choice, findings ...mail.Finding) policy.Report {
	r := stageReport("script", findings...)
	r.Choice = &c
	return r
}

func allowed() mail.Finding {
	return mail.Finding{Symbol: policy.SymbolAllow, Result: mail.Clean, Reason: "in the list"}
}

func listing(zone string, score float64) mail.Finding {
	r := mail.Match
	if score < 0 {
		r = mail.Clean
	}
	return mail.Finding{Symbol: zone, Result: r, Score: score, Reason: "listed by " + zone}
}

func waits(f mail.Finding, seconds string) mail.Finding {
	f.Properties = []mail.Property{{Name: policy.PropertyWait, Value: seconds}}
	return f
}

var early = mail.Finding{Module: "protocol", Symbol: "pregreet", Result: mail.Match, Reason: "client spoke before the greeting"}

// brief is an outcome as the table has it: what the session does, the block that
// decided, and the symbols of the findings with what they count.
type brief struct {
	act       string
	reply     string
	reason    string
	delay     time.Duration
	bandwidth int64
	later     string
	block     string
	score     float64
	accepted  bool
	passed    bool
	findings  string
	observed  string
}

func briefly(o StageOutcome) brief {
	b := brief{
		act: o.Decision.Act.String(), reply: o.Decision.Reply.String(), reason: o.Decision.Reason, delay: o.Decision.Delay,
		bandwidth: o.Decision.Bandwidth, block: o.Block, score: o.Score, accepted: o.Accepted, passed: o.Passed,
	}
	if l := o.Decision.Later; l != nil {
		b.later = l.Act.String() + ": " + l.Reply.String()
	}
	var list []string
	for _, f := range o.Decision.Findings {
		s := f.Module + "/" + f.Symbol
		if f.Score != 0 {
			s += "=" + points(thousandths(f.Score))
		}
		list = append(list, s)
	}
	b.findings = strings.Join(list, " ")
	list = nil
	for _, x := range o.Observed {
		list = append(list, x.Block+":"+x.verb())
	}
	b.observed = strings.Join(list, " ")
	return b
}

var stageDecisions = []struct {
	name    string
	flow    *StageFlow
	reports []policy.Report
	before  []mail.Finding // of the session
	want    brief
}{
	// --- nothing to object
	{
		name: "a flow without blocks accepts",
		flow: connect(),
		want: brief{act: "accept", passed: true},
	},
	{
		name: "clean reports accept",
		flow: connect(stageBlock("access"), stageBlock("dnsbl")), reports: []policy.Report{stageReport("access"), stageReport("dnsbl")},
		want: brief{act: "accept", passed: true},
	},

	// --- the first that decides wins
	{
		name: "a client on a deny list is refused",
		flow: connect(stageBlock("access")), reports: []policy.Report{stageReport("access", saw("deny", "in the list"))},
		want: brief{act: "reject", reply: "554 5.7.1 No service for you", reason: "access: in the list", block: "access", findings: "access/deny"},
	},
	{
		name: "a rate that is exceeded defers",
		flow: connect(stageBlock("rate")), reports: []policy.Report{stageReport("rate", saw("connections", "60/m"))},
		want: brief{act: "defer", reply: "421 4.7.0 Too many connections from your network, try again later", reason: "rate: 60/m", block: "rate", findings: "rate/connections"},
	},
	{
		name: "the first that decides wins",
		flow: connect(stageBlock("rate"), stageBlock("access")), reports: []policy.Report{stageReport("access", saw("deny", "x")), stageReport("rate", saw("connections", "60/m"))},
		want: brief{act: "defer", reply: "421 4.7.0 Too many connections from your network, try again later", reason: "rate: 60/m", block: "rate", findings: "rate/connections"},
	},
	{
		name: "a drop says nothing and waits for nothing",
		flow: connect(tarpit(Tarpit{Delay: time.Second}), stageBlock("access", stageMatch("drop"))), reports: []policy.Report{stageReport("access", saw("deny", "x"))},
		want: brief{act: "drop", reason: "access: x", block: "access", findings: "access/deny"},
	},
	{
		name: "a block may only note",
		flow: connect(stageBlock("access", stageMatch("deliver"))), reports: []policy.Report{stageReport("access", saw("deny", "x"))},
		want: brief{act: "accept", findings: "access/deny"},
	},
	{
		name: "an action that no stage has is as good as none",
		flow: connect(stageBlock("access", stageMatch("quarantine"))), reports: []policy.Report{stageReport("access", saw("deny", "x"))},
		want: brief{act: "accept", findings: "access/deny"},
	},

	// --- allowed
	{
		name: "an allow ends the flow",
		flow: connect(stageBlock("access"), stageBlock("rate")), reports: []policy.Report{stageReport("access", allowed()), stageReport("rate", saw("connections", "x"))},
		want: brief{act: "accept", block: "access", accepted: true, findings: "access/allow access/accepted"},
	},
	{
		name: "a client that passed before is let in",
		flow: connect(stageBlock("trust"), stageBlock("dnsbl", threshold(1))), reports: []policy.Report{stageReport("trust", allowed()), stageReport("dnsbl", listing("zen", 3))},
		want: brief{act: "accept", block: "trust", accepted: true, findings: "trust/allow trust/accepted"},
	},
	{
		name: "what was decided before an allow stays",
		flow: connect(stageBlock("rate"), stageBlock("access")), reports: []policy.Report{stageReport("access", allowed()), stageReport("rate", saw("connections", "x"))},
		want: brief{act: "defer", reply: "421 4.7.0 Too many connections from your network, try again later", reason: "rate: x", block: "rate", findings: "rate/connections"},
	},
	{
		name: "not every block may allow",
		flow: connect(stageBlock("dnsbl"), stageBlock("access")), reports: []policy.Report{stageReport("dnsbl", allowed()), stageReport("access", saw("deny", "x"))},
		want: brief{act: "reject", reply: "554 5.7.1 No service for you", reason: "access: x", block: "access", findings: "dnsbl/allow access/deny"},
	},
	{
		name: "an allow that is a match is none",
		flow: connect(stageBlock("access", stageMatch("deliver"))), reports: []policy.Report{stageReport("access", saw("allow", "x"))},
		want: brief{act: "accept", findings: "access/allow"},
	},

	// --- unknown
	{
		name: "unknown goes on",
		flow: connect(stageBlock("dnsbl", threshold(1)), stageBlock("access")), reports: []policy.Report{stageReport("dnsbl", unsure("list-error", "x")), stageReport("access")},
		want: brief{act: "accept", findings: "dnsbl/list-error"},
	},
	{
		name: "unknown defers where the administrator wants it so",
		flow: connect(stageBlock("access", stageUnknown("defer"))), reports: []policy.Report{stageReport("access", unsure("name", "no answer"))},
		want: brief{act: "defer", reply: "421 4.7.0 Try again later, closing connection", reason: "access: no answer", block: "access", findings: "access/name"},
	},
	{
		name: "a block that was not asked is one that cannot say",
		flow: connect(stageBlock("dnsbl", stageUnknown("reject"))),
		want: brief{act: "reject", reply: "554 5.7.1 No service for you", reason: "dnsbl: dnsbl was not asked", block: "dnsbl", findings: "dnsbl/missing"},
	},
	{
		name: "a result that nobody knows is unknown",
		flow: connect(stageBlock("access", stageUnknown("drop"))), reports: []policy.Report{stageReport("access", mail.Finding{Symbol: "x", Result: "maybe"})},
		want: brief{act: "drop", reason: "access: x", block: "access", findings: "access/x"},
	},
	{
		name: "a script that cannot say defers",
		flow: atRecipient(stageBlock("script")), reports: []policy.Report{stageReport("script", unsure("error", "line 3"))},
		want: brief{act: "defer", reply: "451 4.7.1 Try again later", reason: "script: line 3", block: "script", findings: "script/error"},
	},
	{
		name: "a script refuses with its own words, and a later one is not asked",
		flow: atRecipient(stageBlock("script", says("not this")), stageBlock("access")), reports: []policy.Report{stageChoice(policy.Choice{Act: mail.Reject, Text: "Log in first", Reason: "Log in first"}), stageReport("access", saw("deny", "x"))},
		want: brief{act: "reject", reply: "550 5.7.1 Log in first", reason: "script: Log in first", block: "script", findings: "script/reject"},
	},
	{
		name: "at connect it has the codes of connect",
		flow: connect(stageBlock("script")), reports: []policy.Report{stageChoice(policy.Choice{Act: mail.Defer, Text: "Come back"})},
		want: brief{act: "defer", reply: "421 4.7.0 Come back", reason: "script: defer", block: "script", findings: "script/defer"},
	},
	{
		name: "a script without words has those of the block",
		flow: atRecipient(stageBlock("script", says("Ask us"))), reports: []policy.Report{stageChoice(policy.Choice{Act: mail.Reject})},
		want: brief{act: "reject", reply: "550 5.7.1 Ask us", reason: "script: reject", block: "script", findings: "script/reject"},
	},
	{
		name: "words that would be codes are not said",
		flow: atRecipient(stageBlock("script")), reports: []policy.Report{stageChoice(policy.Choice{Act: mail.Reject, Text: "250 fine"})},
		want: brief{act: "reject", reply: "550 5.7.1 Refused by policy", reason: "script: reject", block: "script", findings: "script/reject"},
	},
	{
		name: "what a script scores counts once and decides nothing",
		flow: atRecipient(stageBlock("script")), reports: []policy.Report{stageChoice(policy.Choice{}, mail.Finding{Symbol: "far", Result: mail.Match, Score: 2})},
		want: brief{act: "accept", score: 2, findings: "script/far=2.0"},
	},
	{
		name: "unless on_match says so",
		flow: atRecipient(stageBlock("script", stageMatch("defer"))), reports: []policy.Report{stageChoice(policy.Choice{}, mail.Finding{Symbol: "far", Result: mail.Match, Score: 2})},
		want: brief{act: "defer", reply: "451 4.7.1 Try again later", reason: "script: far", block: "script", score: 2, findings: "script/far=2.0"},
	},
	{
		name: "what a script decides comes before on_match",
		flow: atRecipient(stageBlock("script", stageMatch("defer"))), reports: []policy.Report{stageChoice(policy.Choice{Act: mail.Reject}, mail.Finding{Symbol: "far", Result: mail.Match, Score: 2})},
		want: brief{act: "reject", reply: "550 5.7.1 Refused by policy", reason: "script: reject", block: "script", score: 2, findings: "script/far=2.0 script/reject"},
	},
	{
		name: "a script that accepts ends the flow, whatever it scored",
		flow: atRecipient(stageBlock("script", stageMatch("defer")), stageBlock("access")), reports: []policy.Report{stageChoice(policy.Choice{}, saw("far", "x"), allowed()), stageReport("access", saw("deny", "x"))},
		want: brief{act: "accept", block: "script", accepted: true, findings: "script/far script/allow script/accepted"},
	},
	{
		name: "whom a script drops does not wait",
		flow: connect(stageBlock("script")), reports: []policy.Report{stageChoice(policy.Choice{Act: mail.Drop, Delay: 10 * time.Second})},
		want: brief{act: "drop", reason: "script: drop", block: "script", findings: "script/drop"},
	},
	{
		name: "a script's refusal at connect waits for RCPT with its words",
		flow: delayed(connect(stageBlock("script"))), reports: []policy.Report{stageChoice(policy.Choice{Act: mail.Reject, Text: "Far away"})},
		want: brief{act: "accept", later: "reject: 550 5.7.1 Far away", block: "script", findings: "script/reject script/kept"},
	},
	{
		name: "a script that observes says what it would do",
		flow: atRecipient(stageBlock("script", observing)), reports: []policy.Report{stageChoice(policy.Choice{Act: mail.Reject, Delay: time.Second, Transport: "slow"}, mail.Finding{Symbol: "far", Result: mail.Match, Score: 2})},
		want: brief{act: "accept", findings: "script/far script/reject script/observe script/observe script/observe script/observe", observed: "script:count script:wait 1s script:deliver by slow script:reject"},
	},
	{
		name: "a match that only counts does not hide that something is unknown",
		flow: connect(stageBlock("dnsbl", stageUnknown("defer"))), reports: []policy.Report{stageReport("dnsbl", listing("zen", 3), unsure("list-error", "no answer"))},
		want: brief{act: "defer", reply: "421 4.7.0 Try again later, closing connection", reason: "dnsbl: no answer", block: "dnsbl", score: 3, findings: "dnsbl/zen=3.0 dnsbl/list-error"},
	},

	// --- scores
	{
		name: "scores of all blocks add up, those of earlier stages too",
		flow: connect(stageBlock("dnsbl"), stageBlock("reputation")), reports: []policy.Report{stageReport("dnsbl", listing("zen", 0.1), listing("white", -2)), stageReport("reputation", listing("network", 0.2))},
		before: []mail.Finding{{Module: "x", Result: mail.Clean, Score: 1}},
		want:   brief{act: "accept", score: -0.7, findings: "dnsbl/zen=0.1 dnsbl/white=-2.0 reputation/network=0.2"},
	},
	{
		name: "a score makes of a refusal something that counts",
		flow: connect(stageBlock("access", scores(4))), reports: []policy.Report{stageReport("access", saw("deny", "x"))},
		want: brief{act: "accept", score: 4, findings: "access/deny=4.0"},
	},
	{
		name: "a score counts once, whatever number of findings there are",
		flow: connect(stageBlock("rate", scores(1.5))), reports: []policy.Report{stageReport("rate", saw("connections", "x"), saw("errors", "y"))},
		want: brief{act: "accept", score: 1.5, findings: "rate/connections=1.5 rate/errors"},
	},
	{
		name: "an action and a score do both",
		flow: connect(stageBlock("access", scores(4), stageMatch("reject"))), reports: []policy.Report{stageReport("access", saw("deny", "x"))},
		want: brief{act: "reject", reply: "554 5.7.1 No service for you", reason: "access: x", block: "access", score: 4, findings: "access/deny=4.0"},
	},

	// --- thresholds
	{
		name: "lists below the threshold only count",
		flow: connect(stageBlock("dnsbl", threshold(3))), reports: []policy.Report{stageReport("dnsbl", listing("a", 1), listing("b", 1.999))},
		want: brief{act: "accept", score: 2.999, findings: "dnsbl/a=1.0 dnsbl/b=1.999"},
	},
	{
		name: "lists that reach the threshold together",
		flow: connect(stageBlock("dnsbl", threshold(0.3))), reports: []policy.Report{stageReport("dnsbl", listing("a", 0.1), listing("b", 0.2))},
		want: brief{act: "reject", reply: "554 5.7.1 No service for you", reason: "dnsbl: listed by b", block: "dnsbl", score: 0.3, findings: "dnsbl/a=0.1 dnsbl/b=0.2"},
	},
	{
		name: "a list of the good takes a client below the threshold",
		flow: connect(stageBlock("dnsbl", threshold(3))), reports: []policy.Report{stageReport("dnsbl", listing("a", 4), listing("white", -2))},
		want: brief{act: "accept", score: 2, findings: "dnsbl/a=4.0 dnsbl/white=-2.0"},
	},
	{
		name: "the threshold is about the block's own findings",
		flow: connect(stageBlock("dnsbl", threshold(3))), reports: []policy.Report{stageReport("dnsbl", listing("a", 2))}, before: []mail.Finding{{Score: 9}},
		want: brief{act: "accept", score: 11, findings: "dnsbl/a=2.0"},
	},
	{
		name: "a threshold that is not positive needs a listing",
		flow: connect(stageBlock("dnsbl", threshold(-5))), reports: []policy.Report{stageReport("dnsbl", listing("white", -2))},
		want: brief{act: "accept", score: -2, passed: true, findings: "dnsbl/white=-2.0"},
	},
	{
		name: "without a threshold lists only count",
		flow: connect(stageBlock("dnsbl")), reports: []policy.Report{stageReport("dnsbl", listing("a", 9))},
		want: brief{act: "accept", score: 9, findings: "dnsbl/a=9.0"},
	},
	{
		name: "without a threshold an action follows from any listing",
		flow: connect(stageBlock("dnsbl", stageMatch("defer"))), reports: []policy.Report{stageReport("dnsbl", listing("a", 0.5))},
		want: brief{act: "defer", reply: "421 4.7.0 Try again later, closing connection", reason: "dnsbl: listed by a", block: "dnsbl", score: 0.5, findings: "dnsbl/a=0.5"},
	},

	// --- pregreet
	{
		name: "a client that spoke before the greeting is refused",
		flow: connect(stageBlock("pregreet")), before: []mail.Finding{early},
		want: brief{act: "reject", reply: "554 5.7.1 No service for you", reason: "pregreet: client spoke before the greeting", block: "pregreet", findings: "pregreet/pregreet"},
	},
	{
		name: "or only counted",
		flow: connect(stageBlock("pregreet", scores(2))), before: []mail.Finding{early},
		want: brief{act: "accept", score: 2, findings: "pregreet/pregreet=2.0"},
	},
	{
		name: "one that waited has passed",
		flow: connect(stageBlock("pregreet")),
		want: brief{act: "accept", passed: true},
	},
	{
		name: "another finding of the engine is no early talk",
		flow: connect(stageBlock("pregreet")), before: []mail.Finding{{Module: "protocol", Symbol: "pipelining", Result: mail.Match}},
		want: brief{act: "accept", passed: true},
	},

	// --- tarpit and bandwidth
	{
		name: "a tarpit without a score holds everybody",
		flow: connect(tarpit(Tarpit{Delay: 5 * time.Second})),
		want: brief{act: "accept", delay: 5 * time.Second, passed: true},
	},
	{
		name: "a tarpit below its score holds nobody",
		flow: connect(stageBlock("dnsbl"), tarpit(Tarpit{Delay: 5 * time.Second, WhenScore: at(2)})), reports: []policy.Report{stageReport("dnsbl", listing("a", 1.9))},
		want: brief{act: "accept", score: 1.9, findings: "dnsbl/a=1.9"},
	},
	{
		name: "at its score it begins",
		flow: connect(stageBlock("dnsbl"), tarpit(Tarpit{Delay: 5 * time.Second, PerPoint: time.Second, WhenScore: at(2)})), reports: []policy.Report{stageReport("dnsbl", listing("a", 2))},
		want: brief{act: "accept", score: 2, delay: 5 * time.Second, findings: "dnsbl/a=2.0"},
	},
	{
		name: "and grows with every point",
		flow: connect(stageBlock("dnsbl"), tarpit(Tarpit{Delay: 5 * time.Second, PerPoint: 2 * time.Second, WhenScore: at(2)})), reports: []policy.Report{stageReport("dnsbl", listing("a", 4.5))},
		want: brief{act: "accept", score: 4.5, delay: 10 * time.Second, findings: "dnsbl/a=4.5"},
	},
	{
		name: "up to its end",
		flow: connect(stageBlock("dnsbl"), tarpit(Tarpit{Delay: 5 * time.Second, PerPoint: time.Hour, Max: 20 * time.Second})), reports: []policy.Report{stageReport("dnsbl", listing("a", 1000))},
		want: brief{act: "accept", score: 1000, delay: 20 * time.Second, findings: "dnsbl/a=1000.0"},
	},
	{
		name: "or the longest there is",
		flow: connect(tarpit(Tarpit{Delay: time.Hour})),
		want: brief{act: "accept", delay: MaxTarpit, passed: true},
	},
	{
		name: "a good score makes it no shorter",
		flow: connect(stageBlock("dnsbl"), tarpit(Tarpit{Delay: 5 * time.Second, PerPoint: time.Second})), reports: []policy.Report{stageReport("dnsbl", listing("white", -3))},
		want: brief{act: "accept", score: -3, delay: 5 * time.Second, passed: true, findings: "dnsbl/white=-3.0"},
	},
	{
		name: "of two the longer counts",
		flow: connect(tarpit(Tarpit{Delay: 3 * time.Second}), tarpit(Tarpit{Delay: 2 * time.Second})),
		want: brief{act: "accept", delay: 3 * time.Second, passed: true},
	},
	{
		name: "a tarpit sees the score where it stands",
		flow: connect(tarpit(Tarpit{Delay: time.Second, WhenScore: at(1)}), stageBlock("dnsbl")), reports: []policy.Report{stageReport("dnsbl", listing("a", 5))},
		want: brief{act: "accept", score: 5, findings: "dnsbl/a=5.0"},
	},
	{
		name: "a client that is refused waits for its refusal",
		flow: connect(tarpit(Tarpit{Delay: 3 * time.Second}), stageBlock("access")), reports: []policy.Report{stageReport("access", saw("deny", "x"))},
		want: brief{act: "reject", reply: "554 5.7.1 No service for you", reason: "access: x", delay: 3 * time.Second, block: "access", findings: "access/deny"},
	},
	{
		name: "bandwidth from a score on, the narrowest",
		flow: connect(stageBlock("dnsbl"), bandwidth(9000, at(1)), bandwidth(500, at(2)), bandwidth(700, nil), bandwidth(100, at(9))), reports: []policy.Report{stageReport("dnsbl", listing("a", 2))},
		want: brief{act: "accept", score: 2, bandwidth: 500, findings: "dnsbl/a=2.0"},
	},
	{
		name: "blocks without parameters do nothing",
		flow: connect(stageBlock("tarpit"), stageBlock("bandwidth"), bandwidth(-1, nil)),
		want: brief{act: "accept", passed: true},
	},

	// --- refusals that wait for RCPT
	{
		name: "a reject waits for RCPT",
		flow: delayed(connect(stageBlock("access"))), reports: []policy.Report{stageReport("access", saw("deny", "x"))},
		want: brief{act: "accept", later: "reject: 550 5.7.1 Refused by policy", block: "access", findings: "access/deny access/kept"},
	},
	{
		name: "a defer does as well",
		flow: delayed(connect(stageBlock("rate"))), reports: []policy.Report{stageReport("rate", saw("connections", "x"))},
		want: brief{act: "accept", later: "defer: 451 4.7.1 Too much in too short a time, try again later", block: "rate", findings: "rate/connections rate/kept"},
	},
	{
		name: "a drop does not",
		flow: delayed(connect(stageBlock("access", stageMatch("drop")))), reports: []policy.Report{stageReport("access", saw("deny", "x"))},
		want: brief{act: "drop", reason: "access: x", block: "access", findings: "access/deny"},
	},
	{
		name: "what slows down does not wait",
		flow: delayed(connect(tarpit(Tarpit{Delay: time.Second}), bandwidth(9, nil), stageBlock("access"))), reports: []policy.Report{stageReport("access", saw("deny", "x"))},
		want: brief{act: "accept", later: "reject: 550 5.7.1 Refused by policy", delay: time.Second, bandwidth: 9, block: "access", findings: "access/deny access/kept"},
	},
	{
		name: "at RCPT there is nothing to wait for",
		flow: delayed(atRecipient(stageBlock("spf"))), reports: []policy.Report{stageReport("spf", saw("fail", "x"))},
		want: brief{act: "reject", reply: "550 5.7.1 Refused by policy", reason: "spf: x", block: "spf", findings: "spf/fail"},
	},

	// --- observing
	{
		name: "a block that observes says what it would do",
		flow: connect(stageBlock("access", observing), stageBlock("dnsbl", threshold(1))), reports: []policy.Report{stageReport("access", saw("deny", "x")), stageReport("dnsbl")},
		want: brief{act: "accept", findings: "access/deny access/observe", observed: "access:reject"},
	},
	{
		name: "and counts nothing",
		flow: connect(stageBlock("dnsbl", threshold(3), observing), tarpit(Tarpit{Delay: time.Second, WhenScore: at(1)})), reports: []policy.Report{stageReport("dnsbl", listing("a", 3))},
		want: brief{act: "accept", findings: "dnsbl/a dnsbl/observe dnsbl/observe", observed: "dnsbl:count dnsbl:reject"},
	},
	{
		name: "and lets nobody in",
		flow: connect(stageBlock("access", observing), stageBlock("rate")), reports: []policy.Report{stageReport("access", allowed()), stageReport("rate", saw("connections", "x"))},
		want: brief{act: "defer", reply: "421 4.7.0 Too many connections from your network, try again later", reason: "rate: x", block: "rate", findings: "access/allow access/observe rate/connections", observed: "access:accept"},
	},
	{
		name: "a tarpit and a bandwidth that observe",
		flow: connect(tarpit(Tarpit{Delay: time.Second}, observing), bandwidth(9, nil, observing)),
		want: brief{act: "accept", passed: true, findings: "tarpit/observe bandwidth/observe", observed: "tarpit:wait 1s bandwidth:slow down to 9 bytes per second"},
	},
	{
		name:    "a flow that observes adds up as if it counted, and ends where it would",
		flow:    observed(connect(stageBlock("dnsbl", threshold(9)), tarpit(Tarpit{Delay: time.Second, WhenScore: at(1)}), stageBlock("access"), stageBlock("rate"))),
		reports: []policy.Report{stageReport("dnsbl", listing("a", 3)), stageReport("access", saw("deny", "x")), stageReport("rate", saw("connections", "x"))},
		want:    brief{act: "accept", findings: "dnsbl/a dnsbl/observe tarpit/observe access/deny access/observe", observed: "dnsbl:count tarpit:wait 1s access:reject"},
	},
	{
		name: "what would have waited for RCPT is observed too",
		flow: delayed(observed(connect(stageBlock("access")))), reports: []policy.Report{stageReport("access", saw("deny", "x"))},
		want: brief{act: "accept", findings: "access/deny access/observe", observed: "access:reject"},
	},

	// --- replies
	{
		name: "a reply of the administrator",
		flow: connect(stageBlock("access", says("Ask postmaster@example.com"))), reports: []policy.Report{stageReport("access", saw("deny", "x"))},
		want: brief{act: "reject", reply: "554 5.7.1 Ask postmaster@example.com", reason: "access: x", block: "access", findings: "access/deny"},
	},
	{
		name: "a reply that would break the protocol is not given",
		flow: connect(stageBlock("access", says("a\r\n250 OK"))), reports: []policy.Report{stageReport("access", saw("deny", "x"))},
		want: brief{act: "reject", reply: "554 5.7.1 No service for you", reason: "access: x", block: "access", findings: "access/deny"},
	},
	{
		name: "a finding says when to try again",
		flow: atRecipient(stageBlock("greylist")), reports: []policy.Report{stageReport("greylist", waits(saw("new", "first seen"), "300"))},
		want: brief{act: "defer", reply: "451 4.7.1 Try again in 300 seconds", reason: "greylist: first seen", block: "greylist", findings: "greylist/new"},
	},
	{
		name: "a time to wait that is none",
		flow: atRecipient(stageBlock("rate")), reports: []policy.Report{stageReport("rate", waits(saw("recipients", "x"), "soon"))},
		want: brief{act: "defer", reply: "451 4.7.1 Too much in too short a time, try again later", reason: "rate: x", block: "rate", findings: "rate/recipients"},
	},
	{
		name: "a recipient that does not exist",
		flow: atRecipient(stageBlock("verify-recipient")), reports: []policy.Report{stageReport("verify-recipient", saw("unknown-user", "x"))},
		want: brief{act: "reject", reply: "550 5.1.1 No such recipient", reason: "verify-recipient: x", block: "verify-recipient", findings: "verify-recipient/unknown-user"},
	},
	{
		name: "a recipient that nobody can tell of (SCN-14)",
		flow: atRecipient(stageBlock("verify-recipient")), reports: []policy.Report{stageReport("verify-recipient", unsure("down", "x"))},
		want: brief{act: "defer", reply: "451 4.3.0 Lookup failed, try again later", reason: "verify-recipient: x", block: "verify-recipient", findings: "verify-recipient/down"},
	},
	{
		name: "what a remote said does not write into reasons",
		flow: connect(stageBlock("access")), reports: []policy.Report{stageReport("access", saw("deny", "a\r\nb\x1b[31m"))},
		want: brief{act: "reject", reply: "554 5.7.1 No service for you", reason: "access: a??b?[31m", block: "access", findings: "access/deny"},
	},
}

func TestDecideStage(t *testing.T) {
	for _, tt := range stageDecisions {
		t.Run(tt.name, func(t *testing.T) {
			got := briefly(DecideStage(tt.flow, tt.reports, StageInput{Findings: tt.before}))
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(brief{}), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("outcome (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLaterStagesKnowThatAClientWasAccepted(t *testing.T) {
	o := DecideStage(connect(stageBlock("access")), []policy.Report{stageReport("access", allowed())}, StageInput{})
	if by, ok := policy.Accepted(o.Decision.Findings); by != "access" || !ok {
		t.Errorf("accepted by %q, %v", by, ok)
	}
	o = DecideStage(connect(stageBlock("access")), []policy.Report{stageReport("access", saw(policy.SymbolAccepted, "x"))}, StageInput{})
	if by, ok := policy.Accepted(o.Decision.Findings); ok {
		t.Errorf("accepted by %q", by)
	}
}

func TestADelayedRefusalSparesAuthenticatedUsers(t *testing.T) {
	o := DecideStage(delayed(connect(stageBlock("access"))), []policy.Report{stageReport("access", saw("deny", "x"))}, StageInput{})
	if d, due := AtRcpt(o.Decision.Later, &mail.Session{}); !due || d.Act != mail.Reject || d.Reason != "access: x" {
		t.Errorf("%+v, due %v", d, due)
	}
	if _, due := AtRcpt(o.Decision.Later, &mail.Session{User: "alice"}); due {
		t.Error("an authenticated user is refused")
	}
	if _, due := AtRcpt(nil, &mail.Session{}); due {
		t.Error("nothing is due")
	}
}

func TestStageDefaults(t *testing.T) {
	for use, want := range map[string][2]mail.Action{
		"access": {"reject", "deliver"}, "dnsbl": {"reject", "deliver"}, "pregreet": {"reject", "deliver"}, "rate": {"defer", "deliver"}, "concurrency": {"defer", "deliver"},
		"reputation": {"deliver", "deliver"}, "trust": {"deliver", "deliver"}, "helo": {"deliver", "deliver"}, "harvest": {"defer", "deliver"}, "spf": {"reject", "deliver"}, "greylist": {"defer", "deliver"},
		"verify-sender": {"reject", "deliver"}, "verify-recipient": {"reject", "defer"}, "script": {"deliver", "defer"},
	} {
		if b := StageDefaults(use); b.OnMatch != want[0] || b.OnUnknown != want[1] {
			t.Errorf("%s: %s, %s", use, b.OnMatch, b.OnUnknown)
		}
	}
}

func TestAScriptChoosesAnotherWay(t *testing.T) {
	f := atRecipient(stageBlock("script"), stageBlock("rate"))
	reports := []policy.Report{stageChoice(policy.Choice{Transport: "archive"}), stageReport("rate")}
	if o := DecideStage(f, reports, StageInput{}); o.Transport != "archive" || !o.Passed {
		t.Errorf("%+v", o)
	}
	f.Blocks[0].Observe = true
	if o := DecideStage(f, reports, StageInput{}); o.Transport != "" {
		t.Errorf("one that observes sends it by %q", o.Transport)
	}
}

func TestABlockWithAnActionForEachAnswer(t *testing.T) {
	b := stageBlock("spf")
	b.Actions = map[string]mail.Action{"spf:fail": mail.ActionReject, "spf:softfail": mail.ActionDefer, "spf:permerror": mail.ActionDeliver}
	for symbol, want := range map[string]mail.Act{"spf:fail": mail.Reject, "spf:softfail": mail.Defer, "spf:permerror": mail.Accept} {
		o := DecideStage(atRecipient(b), []policy.Report{stageReport("spf", saw(symbol, "x"))}, StageInput{})
		if o.Decision.Act != want {
			t.Errorf("%s: %s, want %s", symbol, o.Decision.Act, want)
		}
	}
}

func TestABlockWithWordsOfItsOwn(t *testing.T) {
	cases := []struct {
		name   string
		action mail.Action
		reply  string
		want   string
	}{
		{"they are given", mail.ActionReject, "", "550 5.7.27 Domain of the sender does not accept mail"},
		{"not where they say the contrary", mail.ActionDefer, "", "451 4.7.1 Try again later"},
		{"the administrator's text stands behind their codes", mail.ActionReject, "Go away", "550 5.7.27 Go away"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b := stageBlock("sender-domain")
			b.OnMatch, b.Reply = c.action, c.reply
			b.Words = func(*mail.Finding) mail.Reply { return mail.ReplySenderNullMX.Reply() }
			o := DecideStage(atRecipient(b), []policy.Report{stageReport("sender-domain", saw("null-mx", "x"))}, StageInput{})
			if got := o.Decision.Reply.String(); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}
