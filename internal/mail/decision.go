package mail

import "time"

// Stage is a point of an SMTP session at which checks run.
type Stage string

// The stages, in the order in which a session meets them.
const (
	StageConnect Stage = "connect"
	StageHelo    Stage = "helo"
	StageAuth    Stage = "auth"
	StageMail    Stage = "mail"
	StageRcpt    Stage = "rcpt"
	StageData    Stage = "data"
	StageContent Stage = "content"
)

// Act is what a Decision tells the session to do.
type Act uint8

// The acts of a decision.
const (
	// Accept goes on. It is the zero value.
	Accept Act = iota
	// Defer answers 4xx: the client may try again.
	Defer
	// Reject answers 5xx.
	Reject
	// Drop closes the connection without another word.
	Drop
)

// String names the act as logs and history do.
func (a Act) String() string {
	switch a {
	case Accept:
		return "accept"
	case Defer:
		return "defer"
	case Reject:
		return "reject"
	case Drop:
		return "drop"
	}
	return "unknown"
}

// Decision is the answer of a check or hook. The zero Decision accepts.
type Decision struct {
	Act Act
	// Reply is sent for Defer and Reject (and for Accept, where it is set); the
	// zero Reply stands for the table's default for the stage.
	Reply Reply
	// Close ends the session after the reply.
	Close bool
	// Delay is how long the session waits before it answers.
	Delay time.Duration
	// Bandwidth, where above 0, limits the session to so many bytes per second
	// from now on.
	Bandwidth int64
	// Reason is for log and history; a remote peer never sees it.
	Reason string
	// Findings are added to the session, those at MAIL, RCPT and DATA to the
	// transaction.
	Findings []Finding
	// Later, where set, is a decision about the client that is to be carried out at
	// each RCPT, unless the client has authenticated until then.
	Later *Decision
	// User and Senders are for the Accept of an authentication: the canonical name
	// of the user, "" where it is the one that was given, and what Session.Senders
	// becomes.
	User    string
	Senders []string
}

// Result is what a check or scanner says: there are three answers, not two.
type Result string

// The results of a finding.
const (
	Clean   Result = "clean"
	Match   Result = "match"
	Unknown Result = "unknown" // down, timed out, could not parse, over a limit
)

// Finding is one observation. Findings decide nothing by themselves.
type Finding struct {
	// Module is the block that saw it, Symbol what it saw: "dnsbl", "zen.example.org".
	Module string  `json:"module"`
	Symbol string  `json:"symbol,omitempty"`
	Result Result  `json:"result"`
	Score  float64 `json:"score,omitempty"`
	Reason string  `json:"reason,omitempty"`
	// Part is the path of the part that it is about (mimetree Part.Path), Name
	// the file in it; "" where it is about the whole message.
	Part string `json:"part,omitempty"`
	Name string `json:"name,omitempty"`
	// Recipients are the addresses (Address.Key) that it concerns; none: all.
	Recipients []string `json:"recipients,omitempty"`
	// Properties are what it is about, in detail: "header.d", "example.org". Their
	// values are text of strangers, made safe to print.
	Properties []Property `json:"properties,omitempty"`
}

// Property is a detail of a Finding.
type Property struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}
