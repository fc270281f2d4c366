// Package policy is what checks before content are given, and what they say. Each
// check is a package below this one; what follows from the findings is decided by
// package flow.
//
// Invariants:
//   - Checks observe. They change nothing of a session and decide nothing.
//   - A check that is down or too slow says Unknown; it never makes an answer up.
//   - Whatever a check saw stays on the session, so that later checks, content
//     flows, scripts, history and the log can use it.
package policy

import (
	"context"
	"time"

	"gatepost/internal/mail"
)

// Stage is when a check runs.
type Stage string

// The stages of flows before content.
const (
	Connect   Stage = "connect"   // a client is there, and was not greeted yet
	Recipient Stage = "recipient" // each RCPT: client, HELO name, sender and recipient are known
)

// Input is what is known. Nothing in it may be changed.
type Input struct {
	Stage   Stage
	Session *mail.Session
	// Envelope is nil at connect; its Sender is that of the transaction.
	Envelope *mail.Envelope
	// Recipient is the one of this RCPT, already routed; nil at connect.
	Recipient *mail.Recipient
	// Score is the sum of the findings so far, those of earlier stages included.
	Score float64
}

// Check looks at a client or a transaction. It is used by many goroutines at once
// and honours the end of ctx.
type Check interface {
	// Check returns what it saw. An error means that it cannot say: the runner makes
	// it a finding with the result Unknown.
	Check(ctx context.Context, in *Input) ([]mail.Finding, error)
}

// Decider is a check that says itself what is to be done, because whoever wrote it
// is the administrator: a script. It is asked instead of Check.
type Decider interface {
	Check
	// Decide returns what it wants done, and what it saw, as Check does.
	Decide(ctx context.Context, in *Input) (Choice, []mail.Finding, error)
}

// Choice is what a Decider wants done. The zero Choice leaves it to the flow.
type Choice struct {
	Act mail.Act
	// Text stands behind the codes of a reject or defer; "": the block's own. It is one
	// line of printable ASCII.
	Text   string
	Reason string
	// Delay is how long the client waits for the answer.
	Delay time.Duration
	// Transport is another way for the recipient; "" for his own.
	Transport string
}

// Scope says how long the answer of a check holds, so that it is not asked again.
type Scope uint8

// The scopes.
const (
	PerRecipient   Scope = iota // every RCPT
	PerTransaction              // once for each MAIL: it looks at client, HELO and sender
	PerSession                  // once: it looks at the client alone
)

// Block is a check in a flow.
type Block struct {
	// Key tells blocks apart that use the same check with other parameters.
	Key   string
	Use   string // "dnsbl"
	Check Check
	Scope Scope
	// Timeout bounds one question; 0: the runner's default.
	Timeout time.Duration
}
