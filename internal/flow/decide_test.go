package flow

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"gatepost/internal/mail"
	"gatepost/internal/scan"
)

var (
	alice = recipient("alice@example.com")
	bob   = recipient("bob@example.com")
)

func address(s string) mail.Address {
	for i := range s {
		if s[i] == '@' {
			return mail.Address{Local: s[:i], Domain: s[i+1:], Raw: s}
		}
	}
	return mail.Address{Local: s, Raw: s}
}

func recipient(s string) *mail.Recipient { return &mail.Recipient{Address: address(s)} }

// report is what a block said; its key is its use.
func report(use string, findings ...mail.Finding) scan.Report {
	for i := range findings {
		if findings[i].Module == "" {
			findings[i].Module = use
		}
	}
	return scan.Report{Key: use, Use: use, Findings: findings}
}

// saw is a match, unsure an unknown, counted a clean finding with a score.
func saw(symbol, reason string) mail.Finding {
	return mail.Finding{Symbol: symbol, Result: mail.Match, Reason: reason}
}

func unsure(symbol, reason string) mail.Finding {
	return mail.Finding{Symbol: symbol, Result: mail.Unknown, Reason: reason}
}

func counted(symbol string, score float64) mail.Finding {
	return mail.Finding{Symbol: symbol, Result: mail.Clean, Score: score}
}

func block(use string, changes ...func(*Block)) Block {
	b := Defaults(use)
	b.Key = use
	for _, change := range changes {
		change(&b)
	}
	return b
}

func onMatch(a mail.Action) func(*Block)   { return func(b *Block) { b.OnMatch = a } }
func onUnknown(a mail.Action) func(*Block) { return func(b *Block) { b.OnUnknown = a } }
func on(class string, a mail.Action) func(*Block) {
	return func(b *Block) { b.Actions[class] = a }
}
func dmarc(mode string) func(*Block) { return func(b *Block) { b.DMARC = mode } }

func thresholds(mark, quarantine, reject float64) Block {
	return block("score", func(b *Block) {
		b.Score = &Thresholds{Mark: &mark, Quarantine: &quarantine, Reject: &reject, SubjectTag: "[SPAM] "}
	})
}

// rule is a filter that does what then says.
func rule(name string, then ...string) FilterRule {
	r := FilterRule{Name: name}
	for _, s := range then {
		a, err := ParseThen(s)
		if err != nil {
			panic(err)
		}
		r.Then = append(r.Then, a)
	}
	return r
}

func filters(rules ...FilterRule) Block {
	return block("filters", func(b *Block) { b.Filters = rules })
}

func flowOf(blocks ...Block) *Flow { return &Flow{Name: "in", Blocks: blocks} }

var (
	eicar  = saw("Eicar-Test", "Eicar-Test in a.zip > eicar.com")
	noExe  = saw("no exe", `attachment_name matched "a.exe"`)
	dmFail = mail.Finding{Symbol: "dmarc:fail", Result: mail.Match, Reason: "no aligned SPF or DKIM", Score: 1.5}
)

func dmarcFail(policy string) mail.Finding {
	f := dmFail
	f.Name = policy
	return f
}

func part(f mail.Finding, path string) mail.Finding {
	f.Part = path
	return f
}

func only(f mail.Finding, keys ...string) mail.Finding {
	f.Recipients = keys
	return f
}

type decision struct {
	name    string
	flow    *Flow
	reports []scan.Report
	to      *mail.Recipient // alice where nil
	want    mail.Verdict
}

var decisions = []decision{
	// --- nothing to object
	{
		name: "a flow without blocks delivers",
		flow: flowOf(),
		want: mail.Verdict{Action: "deliver"},
	},
	{
		name: "clean reports deliver",
		flow: flowOf(block("clamav"), block("structure")), reports: []scan.Report{report("clamav"), report("structure")},
		want: mail.Verdict{Action: "deliver"},
	},

	// --- scanners
	{
		name: "a virus is quarantined",
		flow: flowOf(block("clamav")), reports: []scan.Report{report("clamav", eicar)},
		want: mail.Verdict{Action: "quarantine", Threat: "virus", Block: "clamav", Rule: "Eicar-Test", Reason: "Eicar-Test in a.zip > eicar.com"},
	},
	{
		name: "a virus is rejected where the block says so",
		flow: flowOf(block("clamav", onMatch("reject"))), reports: []scan.Report{report("clamav", eicar)},
		want: mail.Verdict{Action: "reject", Threat: "virus", Block: "clamav", Rule: "Eicar-Test", Reason: "Eicar-Test in a.zip > eicar.com"},
	},
	{
		name: "a scanner that cannot say defers",
		flow: flowOf(block("clamav")), reports: []scan.Report{report("clamav", unsure("timeout", "deadline exceeded"))},
		want: mail.Verdict{Action: "defer", Threat: "unscanned", Block: "clamav", Rule: "timeout", Reason: "deadline exceeded"},
	},
	{
		name: "a scanner that was not asked counts as one that cannot say",
		flow: flowOf(block("clamav")),
		want: mail.Verdict{Action: "defer", Threat: "unscanned", Block: "clamav", Rule: "missing", Reason: "clamav was not asked about this message"},
	},
	{
		name: "the report of another block is not this one's",
		flow: flowOf(block("clamav")), reports: []scan.Report{{Key: "clamav/2", Use: "clamav"}},
		want: mail.Verdict{Action: "defer", Threat: "unscanned", Block: "clamav", Rule: "missing", Reason: "clamav was not asked about this message"},
	},
	{
		name: "unknown delivers where the administrator wants it so",
		flow: flowOf(block("clamav", onUnknown("deliver"))), reports: []scan.Report{report("clamav", unsure("timeout", "x"))},
		want: mail.Verdict{Action: "deliver"},
	},
	{
		name: "unknown may mark",
		flow: flowOf(block("clamav", onUnknown("mark"))), reports: []scan.Report{report("clamav", unsure("timeout", "too slow"))},
		want: mail.Verdict{Action: "mark", Threat: "unscanned", Block: "clamav", Rule: "timeout", Reason: "too slow"},
	},
	{
		name: "a result that nobody knows is unknown",
		flow: flowOf(block("clamav")), reports: []scan.Report{report("clamav", mail.Finding{Symbol: "x", Result: "maybe"})},
		want: mail.Verdict{Action: "defer", Threat: "unscanned", Block: "clamav", Rule: "x"},
	},
	{
		name: "a virus is called one also where another part could not be scanned",
		flow: flowOf(block("clamav")), reports: []scan.Report{report("clamav", unsure("error", "x"), eicar)},
		want: mail.Verdict{Action: "quarantine", Threat: "virus", Block: "clamav", Rule: "Eicar-Test", Reason: eicar.Reason},
	},
	{
		name: "a match that is only noted does not hide that another part is unknown",
		flow: flowOf(block("icap", onMatch("deliver"))), reports: []scan.Report{report("icap", eicar, unsure("error", "x"))},
		want: mail.Verdict{Action: "defer", Threat: "unscanned", Block: "icap", Rule: "error", Reason: "x"},
	},
	{
		name: "an unknown module is treated as a scanner",
		flow: flowOf(Block{Key: "new", Use: "new"}), reports: []scan.Report{report("new", eicar)},
		want: mail.Verdict{Action: "quarantine", Threat: "virus", Block: "new", Rule: "Eicar-Test", Reason: eicar.Reason},
	},

	// --- classes
	{
		name: "an encrypted archive is no virus",
		flow: flowOf(block("clamav")), reports: []scan.Report{report("clamav", saw("encrypted:Heuristics.Encrypted.Zip", "encrypted"))},
		want: mail.Verdict{Action: "quarantine", Threat: "unscanned", Block: "clamav", Rule: "encrypted:Heuristics.Encrypted.Zip", Reason: "encrypted"},
	},
	{
		name: "a class has an action of its own",
		flow: flowOf(block("structure", on("encrypted", "deliver"))), reports: []scan.Report{report("structure", unsure("encrypted:archive", "x"))},
		want: mail.Verdict{Action: "deliver"},
	},
	{
		name: "of several classes the strictest counts, wherever it stands",
		flow: flowOf(block("structure", on("damaged", "reject"))), reports: []scan.Report{report("structure", unsure("encrypted:archive", "locked"), unsure("damaged:zip", "broken"))},
		want: mail.Verdict{Action: "reject", Threat: "unscanned", Block: "structure", Rule: "damaged:zip", Reason: "broken"},
	},
	{
		name: "quarantine is stricter than discard: it can be undone",
		flow: flowOf(block("structure", on("encrypted", "discard"))), reports: []scan.Report{report("structure", unsure("encrypted:archive", "locked"), unsure("damaged:zip", "broken"))},
		want: mail.Verdict{Action: "quarantine", Threat: "unscanned", Block: "structure", Rule: "damaged:zip", Reason: "broken"},
	},
	{
		name: "a virus is not also a suspicion",
		flow: flowOf(block("clamav")), reports: []scan.Report{report("clamav", saw("heuristic:Phishing", "x"), eicar)},
		want: mail.Verdict{Action: "quarantine", Threat: "virus", Block: "clamav", Rule: "Eicar-Test", Reason: eicar.Reason},
	},
	{
		name: "macros are only noted",
		flow: flowOf(block("structure")), reports: []scan.Report{report("structure", saw("macro:office", "VBA"))},
		want: mail.Verdict{Action: "deliver"},
	},
	{
		name: "a suspicion of the scanner keeps its threat",
		flow: flowOf(block("clamav", on("heuristic", "reject"))), reports: []scan.Report{report("clamav", saw("heuristic:Phishing", "x"))},
		want: mail.Verdict{Action: "reject", Threat: "virus", Block: "clamav", Rule: "heuristic:Phishing", Reason: "x"},
	},
	{
		name: "an ambiguous message is quarantined",
		flow: flowOf(Block{Key: "structure", Use: "structure"}), reports: []scan.Report{report("structure", saw("ambiguous:boundary", "two boundaries"))},
		want: mail.Verdict{Action: "quarantine", Threat: "unscanned", Block: "structure", Rule: "ambiguous:boundary", Reason: "two boundaries"},
	},
	{
		name: "a colon alone makes no class",
		flow: flowOf(block("authres")), reports: []scan.Report{report("authres", saw("spf:fail", "x"))},
		want: mail.Verdict{Action: "deliver"},
	},
	{
		name: "structure that cannot be told is quarantined",
		flow: flowOf(block("structure")), reports: []scan.Report{report("structure", unsure("timeout", "x"))},
		want: mail.Verdict{Action: "quarantine", Threat: "unscanned", Block: "structure", Rule: "timeout", Reason: "x"},
	},

	// --- order
	{
		name: "the first final action wins",
		flow: flowOf(block("clamav"), block("icap", onMatch("reject"))), reports: []scan.Report{report("icap", eicar), report("clamav", eicar)},
		want: mail.Verdict{Action: "quarantine", Threat: "virus", Block: "clamav", Rule: "Eicar-Test", Reason: eicar.Reason},
	},
	{
		name: "a mark does not end the flow",
		flow: flowOf(block("icap", onMatch("mark")), block("clamav")), reports: []scan.Report{report("icap", saw("Adware", "x")), report("clamav", eicar)},
		want: mail.Verdict{Action: "quarantine", Threat: "virus", Block: "clamav", Rule: "Eicar-Test", Reason: eicar.Reason},
	},
	{
		name: "of two marks the first explains",
		flow: flowOf(block("icap", onMatch("mark")), block("milter", onMatch("mark"))), reports: []scan.Report{report("icap", saw("a", "x")), report("milter", saw("b", "y"))},
		want: mail.Verdict{Action: "mark", Threat: "virus", Block: "icap", Rule: "a", Reason: "x"},
	},

	{
		name:    "spam in quarantine that holds a virus too is a virus",
		flow:    flowOf(block("bayes"), thresholds(1, 2, 30), block("links"), block("clamav", onMatch("reject"))),
		reports: []scan.Report{report("bayes", counted("spam", 9)), report("links"), report("clamav", eicar)},
		want: mail.Verdict{
			Action: "quarantine", Threat: "virus", Block: "score", Rule: "quarantine", Score: 9,
			Reason: "score 9.0 reaches quarantine at 2.0; clamav: " + eicar.Reason,
		},
	},

	// --- score
	{
		name: "a score below every threshold delivers and is told",
		flow: flowOf(block("bayes"), thresholds(5, 8, 15)), reports: []scan.Report{report("bayes", counted("ham", -1.25))},
		want: mail.Verdict{Action: "deliver", Score: -1.25, Fields: []string{"X-Gatepost-Score: -1.25 (mark 5.0, quarantine 8.0, reject 15.0)", "X-Gatepost-Report: bayes:ham -1.25"}},
	},
	{
		name: "a score at the threshold reaches it",
		flow: flowOf(block("bayes"), thresholds(5, 8, 15)), reports: []scan.Report{report("bayes", counted("spam", 5))},
		want: mail.Verdict{
			Action: "mark", Threat: "spam", Block: "score", Rule: "mark", Reason: "score 5.0 reaches mark at 5.0", Score: 5, SubjectTag: "[SPAM] ",
			Fields: []string{"X-Gatepost-Score: 5.0 (mark 5.0, quarantine 8.0, reject 15.0)", "X-Gatepost-Report: bayes:spam 5.0"},
		},
	},
	{
		name: "tenths add up exactly",
		flow: flowOf(block("bayes"), thresholds(0.3, 8, 15)), reports: []scan.Report{report("bayes", counted("a", 0.1), counted("b", 0.2))},
		want: mail.Verdict{
			Action: "mark", Threat: "spam", Block: "score", Rule: "mark", Reason: "score 0.3 reaches mark at 0.3", Score: 0.3, SubjectTag: "[SPAM] ",
			Fields: []string{"X-Gatepost-Score: 0.3 (mark 0.3, quarantine 8.0, reject 15.0)", "X-Gatepost-Report: bayes:b 0.2, bayes:a 0.1"},
		},
	},
	{
		name: "scores of all blocks in front add up",
		flow: flowOf(block("bayes"), block("links"), thresholds(5, 8, 15)), reports: []scan.Report{report("bayes", counted("spam", 5)), report("links", counted("dbl", 4))},
		want: mail.Verdict{Action: "quarantine", Threat: "spam", Block: "score", Rule: "quarantine", Reason: "score 9.0 reaches quarantine at 8.0", Score: 9},
	},
	{
		name: "blocks behind the score do not count",
		flow: flowOf(block("bayes"), thresholds(5, 8, 15), block("links")), reports: []scan.Report{report("bayes", counted("spam", 15)), report("links", counted("dbl", -20))},
		want: mail.Verdict{Action: "reject", Threat: "spam", Block: "score", Rule: "reject", Reason: "score 15.0 reaches reject at 15.0", Score: 15},
	},
	{
		name: "a threshold that is not set is never reached",
		flow: flowOf(block("bayes"), block("score", func(b *Block) { b.Score = &Thresholds{} })), reports: []scan.Report{report("bayes", counted("spam", 900))},
		want: mail.Verdict{Action: "deliver", Score: 900, Fields: []string{"X-Gatepost-Score: 900.0", "X-Gatepost-Report: bayes:spam 900.0"}},
	},
	{
		name: "filters add to the score",
		flow: flowOf(filters(rule("free mail", "score:2.5"), rule("news", "score:-1")), thresholds(1, 8, 15)), reports: []scan.Report{report("filters", saw("news", "x"), saw("free mail", "y"))},
		want: mail.Verdict{
			Action: "mark", Threat: "spam", Block: "score", Rule: "mark", Reason: "score 1.5 reaches mark at 1.0", Score: 1.5, SubjectTag: "[SPAM] ",
			Fields: []string{"X-Gatepost-Score: 1.5 (mark 1.0, quarantine 8.0, reject 15.0)", "X-Gatepost-Report: filters:free_mail 2.5, filters:news -1.0"},
		},
	},

	// --- filters
	{
		name: "a filter that matches does what it says",
		flow: flowOf(filters(rule("no exe", "quarantine"))), reports: []scan.Report{report("filters", noExe)},
		want: mail.Verdict{Action: "quarantine", Threat: "filter", Block: "filters", Rule: "no exe", Reason: noExe.Reason},
	},
	{
		name: "a filter that this flow does not have does nothing",
		flow: flowOf(filters(rule("other", "reject"))), reports: []scan.Report{report("filters", noExe)},
		want: mail.Verdict{Action: "deliver"},
	},
	{
		name: "a filter that rejects says its reply",
		flow: flowOf(filters(FilterRule{Name: "no exe", Then: rule("", "reject").Then, Reply: "We take no programs"})), reports: []scan.Report{report("filters", noExe)},
		want: mail.Verdict{
			Action: "reject", Threat: "filter", Block: "filters", Rule: "no exe", Reason: noExe.Reason,
			Reply: mail.Reply{Code: 554, Enhanced: "5.7.1", Lines: []string{"We take no programs"}},
		},
	},
	{
		name: "a filter that defers says its reply",
		flow: flowOf(filters(FilterRule{Name: "no exe", Then: rule("", "defer").Then, Reply: "Tomorrow"})), reports: []scan.Report{report("filters", noExe)},
		want: mail.Verdict{
			Action: "defer", Threat: "filter", Block: "filters", Rule: "no exe", Reason: noExe.Reason,
			Reply: mail.Reply{Code: 451, Enhanced: "4.7.1", Lines: []string{"Tomorrow"}},
		},
	},
	{
		name: "a reply that is no text is left out",
		flow: flowOf(filters(FilterRule{Name: "no exe", Then: rule("", "reject").Then, Reply: "x\r\n250 fine"})), reports: []scan.Report{report("filters", noExe)},
		want: mail.Verdict{Action: "reject", Threat: "filter", Block: "filters", Rule: "no exe", Reason: noExe.Reason},
	},
	{
		name: "filters go in the order of the flow, not of the findings",
		flow: flowOf(filters(rule("first", "discard"), rule("second", "reject"))), reports: []scan.Report{report("filters", saw("second", "2"), saw("first", "1"))},
		want: mail.Verdict{Action: "discard", Threat: "filter", Block: "filters", Rule: "first", Reason: "1"},
	},
	{
		name: "all that a filter says is done, the final action last",
		flow: flowOf(filters(rule("vip", "deliver", `header:"X-VIP: yes"`, "subject:'[VIP] '", "redirect:carol@example.com", "copy:log@example.com"))), reports: []scan.Report{report("filters", saw("vip", "x"))},
		want: mail.Verdict{
			Action: "deliver", Threat: "filter", Block: "filters", Rule: "vip", Reason: "x", Fields: []string{"X-VIP: yes"}, SubjectTag: "[VIP] ",
			Redirect: []mail.Address{address("carol@example.com")}, Copy: []mail.Address{address("log@example.com")},
		},
	},
	{
		name: "what is not final adds up over filters",
		flow: flowOf(filters(rule("a", "subject:[A]", "copy:a@example.com"), rule("b", "subject:[B]", "copy:b@example.com"))), reports: []scan.Report{report("filters", saw("a", "x"), saw("b", "y"))},
		want: mail.Verdict{Action: "deliver", SubjectTag: "[A][B]", Copy: []mail.Address{address("a@example.com"), address("b@example.com")}},
	},
	{
		name: "strip takes out every part that the filter names, once",
		flow: flowOf(filters(rule("no exe", "strip"))), reports: []scan.Report{report("filters", part(noExe, "1.2"), part(noExe, "1.3"), part(noExe, "1.2"), part(saw("other", ""), "1.4"))},
		want: mail.Verdict{Action: "mark", Threat: "filter", Block: "filters", Rule: "no exe", Reason: noExe.Reason, Strip: []string{"1.2", "1.3"}},
	},
	{
		name: "a filter marks",
		flow: flowOf(filters(rule("bulk", "mark"))), reports: []scan.Report{report("filters", saw("bulk", "x"))},
		want: mail.Verdict{Action: "mark", Threat: "filter", Block: "filters", Rule: "bulk", Reason: "x"},
	},
	{
		name: "deliver ends the flow for all but viruses",
		flow: flowOf(filters(rule("friend", "deliver")), block("bayes", onMatch("reject")), block("structure"), thresholds(1, 2, 3), block("clamav")), reports: []scan.Report{
			report("filters", saw("friend", "x")), report("bayes", mail.Finding{Symbol: "spam", Result: mail.Match, Score: 9}),
			report("structure", saw("ambiguous:boundary", "x")), report("clamav"),
		},
		want: mail.Verdict{Action: "deliver", Threat: "filter", Block: "filters", Rule: "friend", Reason: "x"},
	},
	{
		name: "a virus overrules deliver",
		flow: flowOf(filters(rule("friend", "deliver", "copy:log@example.com")), block("clamav")), reports: []scan.Report{report("filters", saw("friend", "x")), report("clamav", eicar)},
		want: mail.Verdict{Action: "quarantine", Threat: "virus", Block: "clamav", Rule: "Eicar-Test", Reason: eicar.Reason},
	},
	{
		name: "what no virus scanner could look at is not delivered because a filter says so",
		flow: flowOf(filters(rule("friend", "deliver")), block("clamav")), reports: []scan.Report{report("filters", saw("friend", "x")), report("clamav", unsure("error", "down"))},
		want: mail.Verdict{Action: "defer", Threat: "unscanned", Block: "clamav", Rule: "error", Reason: "down"},
	},
	{
		name: "an encrypted archive does not overrule deliver",
		flow: flowOf(filters(rule("friend", "deliver")), block("clamav")), reports: []scan.Report{report("filters", saw("friend", "x")), report("clamav", saw("encrypted:zip", "x"))},
		want: mail.Verdict{Action: "deliver", Threat: "filter", Block: "filters", Rule: "friend", Reason: "x"},
	},
	{
		name: "what scanners behind deliver find does not count",
		flow: flowOf(filters(rule("friend", "deliver", "score:1")), block("clamav")), reports: []scan.Report{report("filters", saw("friend", "x")), report("clamav", counted("x", 5))},
		want: mail.Verdict{Action: "deliver", Threat: "filter", Block: "filters", Rule: "friend", Reason: "x", Score: 1},
	},
	{
		name: "deliver takes back a mark that was made before",
		flow: flowOf(block("icap", onMatch("mark")), filters(rule("friend", "deliver"))), reports: []scan.Report{report("icap", saw("a", "")), report("filters", saw("friend", "x"))},
		want: mail.Verdict{Action: "deliver", Threat: "filter", Block: "filters", Rule: "friend", Reason: "x"},
	},
	{
		name: "a filter behind a final action is not followed",
		flow: flowOf(block("clamav"), filters(rule("friend", "deliver", "copy:log@example.com"))), reports: []scan.Report{report("clamav", eicar), report("filters", saw("friend", "x"))},
		want: mail.Verdict{Action: "quarantine", Threat: "virus", Block: "clamav", Rule: "Eicar-Test", Reason: eicar.Reason},
	},
	{
		name: "quarantine with a copy keeps the copy",
		flow: flowOf(filters(rule("dlp", "quarantine", "copy:security@example.com")), block("clamav")), reports: []scan.Report{report("filters", saw("dlp", "x")), report("clamav")},
		want: mail.Verdict{Action: "quarantine", Threat: "filter", Block: "filters", Rule: "dlp", Reason: "x", Copy: []mail.Address{address("security@example.com")}},
	},
	{
		name: "nobody gets a copy of a virus, and not everybody may release it",
		flow: flowOf(filters(rule("dlp", "quarantine", "copy:security@example.com")), block("clamav")), reports: []scan.Report{report("filters", saw("dlp", "x")), report("clamav", eicar)},
		want: mail.Verdict{Action: "quarantine", Threat: "virus", Block: "filters", Rule: "dlp", Reason: "x; clamav: " + eicar.Reason},
	},
	{
		name: "nobody gets a copy of what is rejected",
		flow: flowOf(filters(rule("dlp", "reject", "copy:security@example.com"))), reports: []scan.Report{report("filters", saw("dlp", "x"))},
		want: mail.Verdict{Action: "reject", Threat: "filter", Block: "filters", Rule: "dlp", Reason: "x"},
	},
	{
		name: "nobody gets a copy of what a later block quarantines",
		flow: flowOf(filters(rule("log", "copy:log@example.com", "redirect:carol@example.com", "header:'X-A: b'", "strip")), block("clamav")), reports: []scan.Report{report("filters", part(saw("log", "x"), "1.2")), report("clamav", eicar)},
		want: mail.Verdict{Action: "quarantine", Threat: "virus", Block: "clamav", Rule: "Eicar-Test", Reason: eicar.Reason},
	},
	{
		name: "a filter that cannot be evaluated defers in its place",
		flow: flowOf(filters(rule("no exe", "quarantine"), rule("friend", "deliver"))), reports: []scan.Report{report("filters", unsure("no exe", "disk is broken"), saw("friend", "x"))},
		want: mail.Verdict{Action: "defer", Threat: "unscanned", Block: "filters", Rule: "no exe", Reason: "disk is broken"},
	},
	{
		name: "a filter in front of the one that cannot be evaluated still counts",
		flow: flowOf(filters(rule("friend", "deliver"), rule("no exe", "quarantine"))), reports: []scan.Report{report("filters", saw("friend", "x"), unsure("no exe", "disk is broken"))},
		want: mail.Verdict{Action: "deliver", Threat: "filter", Block: "filters", Rule: "friend", Reason: "x"},
	},
	{
		name: "a filter of other flows that cannot be evaluated is not missed here",
		flow: flowOf(filters(rule("friend", "score:1"))), reports: []scan.Report{report("filters", unsure("no exe", "disk is broken"))},
		want: mail.Verdict{Action: "deliver"},
	},
	{
		name: "filters that ran out of time are unknown",
		flow: flowOf(filters(rule("no exe", "quarantine"))), reports: []scan.Report{report("filters", unsure("timeout", "x"))},
		want: mail.Verdict{Action: "defer", Threat: "unscanned", Block: "filters", Rule: "timeout", Reason: "x"},
	},

	// --- recipients
	{
		name: "a finding about bob is not about alice",
		flow: flowOf(filters(rule("no exe", "quarantine"))), reports: []scan.Report{report("filters", only(noExe, "bob@example.com"))},
		want: mail.Verdict{Action: "deliver"},
	},
	{
		name: "a finding about bob is about bob",
		flow: flowOf(filters(rule("no exe", "quarantine"))), reports: []scan.Report{report("filters", only(noExe, "bob@example.com"))}, to: bob,
		want: mail.Verdict{Action: "quarantine", Threat: "filter", Block: "filters", Rule: "no exe", Reason: noExe.Reason},
	},
	{
		name: "a finding about the address that RCPT named is about the recipient it became",
		flow: flowOf(filters(rule("no exe", "quarantine"))), reports: []scan.Report{report("filters", only(noExe, "sales@example.com"))},
		to:   &mail.Recipient{Address: address("bob@example.com"), Original: address("Sales@example.com")},
		want: mail.Verdict{Action: "quarantine", Threat: "filter", Block: "filters", Rule: "no exe", Reason: noExe.Reason},
	},
	{
		name: "a score for bob does not count for alice",
		flow: flowOf(block("bayes"), thresholds(5, 8, 15)), reports: []scan.Report{report("bayes", only(counted("spam", 9), "bob@example.com"), counted("ham", 1))},
		want: mail.Verdict{Action: "deliver", Score: 1, Fields: []string{"X-Gatepost-Score: 1.0 (mark 5.0, quarantine 8.0, reject 15.0)", "X-Gatepost-Report: bayes:ham 1.0"}},
	},
	{
		name: "a part is taken out for bob only",
		flow: flowOf(filters(rule("no exe", "strip"))), reports: []scan.Report{report("filters", only(part(noExe, "1.2"), "bob@example.com"), part(noExe, "1.3"))},
		want: mail.Verdict{Action: "mark", Threat: "filter", Block: "filters", Rule: "no exe", Reason: noExe.Reason, Strip: []string{"1.3"}},
	},

	// --- DMARC
	{
		name: "DMARC only counts where nothing else is said",
		flow: flowOf(block("authres")), reports: []scan.Report{report("authres", dmarcFail("reject"))},
		want: mail.Verdict{Action: "deliver", Score: 1.5},
	},
	{
		name: "DMARC is honoured: reject",
		flow: flowOf(block("authres", dmarc("policy"))), reports: []scan.Report{report("authres", dmarcFail("reject"))},
		want: mail.Verdict{
			Action: "reject", Threat: "policy", Block: "authres", Rule: "dmarc:fail", Reason: dmFail.Reason, Score: 1.5, Reply: mail.ReplyDMARC.Reply(),
		},
	},
	{
		name: "DMARC is honoured: quarantine",
		flow: flowOf(block("authres", dmarc("policy"))), reports: []scan.Report{report("authres", dmarcFail("quarantine"))},
		want: mail.Verdict{Action: "quarantine", Threat: "policy", Block: "authres", Rule: "dmarc:fail", Reason: dmFail.Reason, Score: 1.5},
	},
	{
		name: "DMARC is honoured: none",
		flow: flowOf(block("authres", dmarc("policy"))), reports: []scan.Report{report("authres", dmarcFail("none"))},
		want: mail.Verdict{Action: "deliver", Score: 1.5},
	},
	{
		name: "a policy that is no word of DMARC asks for nothing",
		flow: flowOf(block("authres", dmarc("policy"))), reports: []scan.Report{report("authres", dmarcFail("REJECT; x"))},
		want: mail.Verdict{Action: "deliver", Score: 1.5},
	},
	{
		name: "DMARC is honoured up to the quarantine",
		flow: flowOf(block("authres", dmarc("quarantine"))), reports: []scan.Report{report("authres", dmarcFail("reject"))},
		want: mail.Verdict{Action: "quarantine", Threat: "policy", Block: "authres", Rule: "dmarc:fail", Reason: dmFail.Reason, Score: 1.5},
	},
	{
		name: "DMARC that is off does not even count",
		flow: flowOf(block("authres", dmarc("off"))), reports: []scan.Report{report("authres", dmarcFail("reject"), counted("spf:softfail", 0.5))},
		want: mail.Verdict{Action: "deliver", Score: 0.5},
	},
	{
		name: "another module cannot speak for DMARC",
		flow: flowOf(block("authres", dmarc("policy"))), reports: []scan.Report{report("authres", mail.Finding{Module: "milter", Symbol: "dmarc:fail", Name: "reject", Result: mail.Match})},
		want: mail.Verdict{Action: "deliver"},
	},

	// --- names that want to be more than names (SCN-05)
	{
		name: "a signature cannot write into verdicts",
		flow: flowOf(block("clamav")), reports: []scan.Report{report("clamav", saw("<img src=x onerror=alert(1)>\r\nX: y", "found\r\nX-Evil: \x1b[31m\u202eexe"))},
		want: mail.Verdict{Action: "quarantine", Threat: "virus", Block: "clamav", Rule: "<img src=x onerror=alert(1)>??X: y", Reason: `found??X-Evil: ?[31m\u202eexe`},
	},
	{
		name: "a symbol cannot write header fields",
		flow: flowOf(block("bayes"), thresholds(5, 8, 15)), reports: []scan.Report{report("bayes", counted("<img src=x onerror=alert(1)>\r\nX: y", 1))},
		want: mail.Verdict{Action: "deliver", Score: 1, Fields: []string{"X-Gatepost-Score: 1.0 (mark 5.0, quarantine 8.0, reject 15.0)", "X-Gatepost-Report: bayes:_img_src_x_onerror_alert_1____X:_y 1.0"}},
	},
}

func TestDecide(t *testing.T) {
	for _, tt := range decisions {
		t.Run(tt.name, func(t *testing.T) {
			to := tt.to
			if to == nil {
				to = alice
			}
			tt.want.Flow = "in"
			got := Decide(tt.flow, tt.reports, to)
			if diff := cmp.Diff(tt.want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("verdict (-want +got):\n%s", diff)
			}
		})
	}
}
