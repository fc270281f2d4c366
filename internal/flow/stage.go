package flow

import (
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/policy"
)

// ActionDrop is an action of stages before content: close the connection without
// another word.
const ActionDrop mail.Action = "drop"

// StageFlow is a flow of a stage before content: its blocks in the order in which
// they are asked and decide.
type StageFlow struct {
	Name   string
	Stage  policy.Stage
	Blocks []StageBlock
	// DelayReject lets a reject or a defer of the connect stage wait for RCPT, so that
	// history knows sender and recipient and authenticated users are spared. A drop
	// does not wait.
	DelayReject bool
	// Observe makes the whole flow say what it would do, and do nothing.
	Observe bool
}

// StageBlock is one block of a StageFlow. An empty action stands for the default of
// the block's use (StageDefaults).
type StageBlock struct {
	// Key is the policy.Block.Key of the report that it looks at, Use the name of
	// the check: "dnsbl".
	Key, Use string
	// OnMatch and OnUnknown are deliver (go on), defer, reject or ActionDrop.
	OnMatch, OnUnknown mail.Action
	// Score is what a match of this block adds, beside what its findings count
	// themselves. Where it is not 0 and OnMatch is empty, a match only counts.
	Score float64
	// Threshold is the sum of the scores of the block's own findings from which on
	// OnMatch follows; nil: it follows from any match.
	Threshold *float64
	// Actions, by the symbol of the finding that matched, come before OnMatch.
	Actions map[string]mail.Action
	// Observe makes the block say what it would do, and do and count nothing.
	Observe bool
	// Words are the reply to a match; one of the other kind (4xx for a reject) is the
	// table's instead. Nil: always the table's.
	Words func(why *mail.Finding) mail.Reply
	// Reply is the text behind the codes for reject and defer (CheckReply); "":
	// the table's.
	Reply string
	// Tarpit is set for a block "tarpit", Bandwidth for a block "bandwidth".
	Tarpit    *Tarpit
	Bandwidth *Bandwidth
}

// Tarpit makes a client wait, the longer the higher its score is.
type Tarpit struct {
	// Delay is waited from WhenScore on, PerPoint more for each point above it, and
	// Max at most; Max 0: MaxTarpit.
	Delay, PerPoint, Max time.Duration
	// WhenScore nil: every client waits, and points count from 0.
	WhenScore *float64
}

// MaxTarpit is the longest that a tarpit holds a client if nothing else is said:
// below the five minutes after which clients give up (RFC 5321 §4.5.3.2.1), and
// short enough not to fill the table of sessions.
const MaxTarpit = 30 * time.Second

// Bandwidth slows a connection down.
type Bandwidth struct {
	// Limit is in bytes per second, above 0.
	Limit int64
	// WhenScore nil: every client is slowed down.
	WhenScore *float64
}

// StageInput is what was known before a stage began.
type StageInput struct {
	// Findings are those of the session so far. Their scores are where this stage's
	// score begins, and the engine's are what a block "pregreet" is about.
	Findings []mail.Finding
}

// StageOutcome is what a flow of a stage decided.
type StageOutcome struct {
	// Decision is what the session does. Its Findings are all that the blocks saw
	// and what they count, ready for the session.
	Decision mail.Decision
	// Block and Key are the block that decided; "" where none did.
	Block, Key string
	// Score is the sum of all findings, those of earlier stages included.
	Score float64
	// Transport is where a block wants the recipient delivered; "": where he is.
	Transport string
	// Accepted says that a block ended the flow in the client's favour.
	Accepted bool
	// Passed says that every block was asked, none had anything against the client
	// and none was at a loss: a client to be remembered (block "trust").
	Passed bool
	// Observed is what blocks in mode "observe" would have done, in order.
	Observed []Observation
}

// Observation is what a block would have done.
type Observation struct {
	Block, Key string
	// What is "accept", "defer", "reject", "drop", "score", "delay", "bandwidth" or
	// "deliver".
	What      string
	Score     float64
	Delay     time.Duration
	Limit     int64
	Transport string
	Reason    string
}

// The uses of blocks that a stage treats in a way of their own.
const (
	useAccess      = "access"
	useTrust       = "trust"
	useScript      = "script"
	usePregreet    = "pregreet"
	useTarpit      = "tarpit"
	useBandwidth   = "bandwidth"
	useDNSBL       = "dnsbl"
	useRate        = "rate"
	useConcurrency = "concurrency"
)

// StageDefaults returns a block of that use with the actions that it has where
// the configuration says nothing. It is for documentation and tests: a StageBlock
// whose actions are left empty takes them by itself, and knows two cases more. With
// a Score and no OnMatch, and in a block "dnsbl" with neither OnMatch nor Threshold,
// a match only counts. Unknown goes on everywhere but in a script: no
// outage of a list, a resolver or a file keeps mail away, and scripts are what
// administrators write for decisions.
func StageDefaults(use string) StageBlock {
	b := StageBlock{Use: use, OnMatch: mail.ActionReject, OnUnknown: mail.ActionDeliver}
	switch use {
	case useRate, useConcurrency, "greylist", "harvest":
		b.OnMatch = mail.ActionDefer
	case "reputation", useTrust, "helo":
		// RFC 5321 §4.1.4 on helo: honest servers have odd names, too.
		b.OnMatch = mail.ActionDeliver
	case "verify-recipient":
		// Neither a 550 nor everything accepted where nobody can say who exists.
		b.OnUnknown = mail.ActionDefer
	case useScript:
		// It says itself what it wants done; what it scores counts and nothing else.
		b.OnMatch, b.OnUnknown = mail.ActionDeliver, mail.ActionDefer
	}
	return b
}

// DecideStage goes through the blocks of the flow in order, with what they said.
//
// The first reject, defer or drop wins, and an allow of the blocks that may say so
// ends the flow in the client's favour. Scores add up, and "tarpit" and "bandwidth"
// look at the sum where they stand. A block without a report counts as one that
// cannot say. Whoever does not want to ask blocks behind the one that decides
// takes a StageWalk; the outcome is the same.
func DecideStage(f *StageFlow, reports []policy.Report, in StageInput) StageOutcome {
	w := NewStageWalk(f, in)
	for b := w.Next(); b != nil; b = w.Next() {
		w.Tell(reportOf(b.Key, reports))
	}
	return w.Outcome()
}

func reportOf(key string, reports []policy.Report) *policy.Report {
	for i := range reports {
		if reports[i].Key == key {
			return &reports[i]
		}
	}
	return nil
}

// AtRcpt returns the decision that a connect flow left for RCPT, and whether it
// is due: authenticated users are spared.
func AtRcpt(later *mail.Decision, s *mail.Session) (mail.Decision, bool) {
	if later == nil || s.User != "" {
		return mail.Decision{}, false
	}
	return *later, true
}
