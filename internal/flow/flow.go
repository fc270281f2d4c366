package flow

import (
	"slices"

	"gatepost/internal/mail"
)

// Flow is a content flow: its blocks in the order in which they decide.
type Flow struct {
	Name   string
	Blocks []Block
	// Observe makes the whole flow say what it would do, and do nothing.
	Observe bool
}

// Block is one block of a flow. An empty action, threat or DMARC mode stands for
// the default of the block's use (Defaults).
type Block struct {
	// Key is the scan.Block.Key of the report that it looks at, Use the name of
	// the module: "clamav".
	Key, Use string
	// OnMatch and OnUnknown are what follows from a finding with that result.
	OnMatch, OnUnknown mail.Action
	// Actions are what follows from a finding of a class ("ambiguous",
	// "encrypted", …: see Classes), whatever its result is. A finding tells its
	// class in front of its symbol: "encrypted:archive".
	Actions map[string]mail.Action
	// Threat is what a match of this block is.
	Threat mail.Threat
	// Filters are the rules of a block "filters", in order.
	Filters []FilterRule
	// Score is set for a block "score".
	Score *Thresholds
	// DMARC says what a block "authres" does about failed DMARC: "score" nothing
	// but count, "policy" what the domain asks for, "quarantine" the same but
	// never reject, "off" not even count.
	DMARC string
	// Observe makes the block say what it would do, and do and count nothing.
	Observe bool
}

// FilterRule is what a [[filter]] does when it matches. The conditions are
// package scan/filter's, whose findings carry Name as symbol.
type FilterRule struct {
	Name string
	// Then are its actions, at most one of them final (CheckThen).
	Then []FilterAction
	// Reply is the text behind the codes for reject and defer (CheckReply); "":
	// the table's.
	Reply string
}

// Thresholds are the scores from which on a block "score" acts; nil is never.
type Thresholds struct {
	Mark, Quarantine, Reject *float64
	// SubjectTag goes in front of the Subject of what is marked.
	SubjectTag string
}

// The classes of findings for which a block may have an action of their own.
const (
	ClassAmbiguous = "ambiguous" // programs would read the message differently
	ClassEncrypted = "encrypted"
	ClassDamaged   = "damaged"
	ClassLimit     = "limit" // too large, too deep, too many
	ClassMacro     = "macro"
	ClassHeuristic = "heuristic" // a scanner's suspicion without a signature
)

// Classes returns all classes.
func Classes() []string {
	return []string{ClassAmbiguous, ClassEncrypted, ClassDamaged, ClassLimit, ClassMacro, ClassHeuristic}
}

// The modes of Block.DMARC.
const (
	DMARCScore      = "score"
	DMARCPolicy     = "policy"
	DMARCQuarantine = "quarantine"
	DMARCOff        = "off"
)

// Names of blocks that Decide treats in a way of their own.
const (
	useFilters   = "filters"
	useScore     = "score"
	useAuthres   = "authres"
	useMilter    = "milter"
	useStructure = "structure"
	useClamav    = "clamav"
	useSenders   = "senders"
)

// Defaults returns a block of that use with the actions, the threat and the DMARC
// mode that it has where the configuration says nothing. A use that it does not
// know gets the safest: quarantine on a match, defer on unknown.
func Defaults(use string) Block {
	b := usual(use)
	for _, class := range Classes() {
		if a := classAction(use, class); a != "" {
			if b.Actions == nil {
				b.Actions = map[string]mail.Action{}
			}
			b.Actions[class] = a
		}
	}
	return b
}

// usual is Defaults without the classes, for which classAction stands.
func usual(use string) Block {
	b := Block{Use: use, Threat: mail.ThreatSpam, OnMatch: mail.ActionDeliver, OnUnknown: mail.ActionDeliver}
	switch use {
	case "bayes", "reputation", "links", "rspamd", "spamd", useScore:
	case useAuthres:
		b.Threat, b.DMARC = mail.ThreatPolicy, DMARCScore
	case useFilters:
		b.Threat, b.OnUnknown = mail.ThreatFilter, mail.ActionDefer
	case useSenders:
		// A list that cannot be read is as an empty one: the blocks behind it still judge.
		b.Threat, b.OnMatch = mail.ThreatFilter, mail.ActionQuarantine
	case useStructure:
		b.Threat, b.OnUnknown = mail.ThreatUnscanned, mail.ActionQuarantine
	case useMilter:
		// Whatever it looks for: only virus scanners may overrule a filter's deliver.
		b.Threat, b.OnMatch, b.OnUnknown = mail.ThreatPolicy, mail.ActionQuarantine, mail.ActionDefer
	case useScript:
		// It says itself what it wants done.
		b.Threat, b.OnUnknown = mail.ThreatFilter, mail.ActionDefer
	default: // clamav, icap
		b.Threat, b.OnMatch, b.OnUnknown = mail.ThreatVirus, mail.ActionQuarantine, mail.ActionDefer
	}
	return b
}

// classAction is the default for a class of findings; "" where the block of that
// use has none.
func classAction(use, class string) mail.Action {
	if use != useStructure && use != useClamav || !slices.Contains(Classes(), class) {
		return ""
	}
	if class == ClassMacro {
		return mail.ActionDeliver
	}
	return mail.ActionQuarantine
}

// Threat returns what a match of a block of that use is.
func Threat(use string) mail.Threat { return usual(use).Threat }
