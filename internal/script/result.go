package script

import (
	"strconv"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/policy"
)

// Module is the name of the module in findings: the block's use.
const Module = "script"

// Verb is what a script decided.
type Verb string

// The verbs. The empty Verb decides nothing: the next block is asked.
const (
	Accept     Verb = "accept"
	Reject     Verb = "reject"
	Defer      Verb = "defer"
	Quarantine Verb = "quarantine"
	Discard    Verb = "discard"
	Drop       Verb = "drop"
)

// Result is what one call of a script said.
type Result struct {
	// Verb is what ended the script, "" if it came to its end. A script that failed
	// has none.
	Verb Verb `json:"verb,omitempty"`
	// Text is that of reject and defer: printable ASCII of at most 200 bytes, "" for
	// the reply of the table.
	Text string `json:"text,omitempty"`
	// Reason is that of quarantine and discard, for administrators.
	Reason string `json:"reason,omitempty"`
	// User and Senders are what accept said at Auth: the canonical name, "" for the
	// one that was given, and what the user may send as.
	User    string   `json:"user,omitempty"`
	Senders []string `json:"senders,omitempty"`
	// Mark says that the message is to be marked; the tag is in Edits.
	Mark bool `json:"mark,omitempty"`
	// Transport is where deliver sends the recipient (at Recipient) or the message.
	Transport string `json:"transport,omitempty"`
	// Delay is how long the client has to wait for the answer.
	Delay time.Duration `json:"delay,omitempty"`
	// Score is the sum of what score added; each has a finding.
	Score float64 `json:"score,omitempty"`
	Edits Edits   `json:"edits,omitzero"`
	// Findings are what the script scored, that it accepted, and that it failed.
	Findings []mail.Finding `json:"findings,omitempty"`
	// Personal says that the script asked who the recipient is: what it said is about him.
	Personal bool `json:"-"`
	// Log is what the script said with echo, and the traceback if it failed.
	Log []string `json:"log,omitempty"`
	// Failed is set for a script that failed or overran.
	Failed *Failure `json:"failed,omitempty"`
}

// Edits are what a script changes in a message that is delivered.
type Edits struct {
	// Fields are header fields to add, "X-Foo: bar", ASCII, without line end.
	Fields []string `json:"fields,omitempty"`
	// Remove are names of fields of which every instance goes away.
	Remove []string `json:"remove,omitempty"`
	// SubjectTag goes in front of the Subject.
	SubjectTag string `json:"subject_tag,omitempty"`
	// Copy gets the message as well, Redirect instead of the recipient.
	Copy     []mail.Address `json:"copy,omitempty"`
	Redirect []mail.Address `json:"redirect,omitempty"`
}

// Failure is why a script has no answer.
type Failure struct {
	// Symbol is "error", or the limit: "steps", "time", "memory", "timeout" (the
	// caller's context ended).
	Symbol string `json:"symbol"`
	// Line and Column are where, 0 where that is not known.
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
	Text   string `json:"text"`
	// Traceback is the calls that led there, a line for each.
	Traceback []string `json:"traceback,omitempty"`
}

// Limits of what a result holds.
const (
	maxReply     = 200
	maxReason    = 400
	maxTag       = 100
	maxField     = 800
	maxFindings  = 100
	maxEdits     = 100
	maxLogLines  = 200
	maxLogLine   = 1000
	maxTraceback = 20
	maxDelay     = 5 * time.Minute
	maxScore     = 1000
)

// Decision is what the session does, for the stages before content. A script that
// failed decides nothing: its finding says Unknown, and the block's on_unknown
// says what follows.
func (r *Result) Decision() mail.Decision {
	d := mail.Decision{Delay: r.Delay, Findings: r.Findings, Reason: r.Reason}
	switch r.Verb {
	case Reject:
		d.Act, d.Reply = mail.Reject, mail.ReplyAccessDenied.Reply()
	case Defer:
		d.Act, d.Reply = mail.Defer, mail.ReplyTryLater.Reply()
	case Drop:
		d.Act = mail.Drop
	}
	if r.Text != "" && !d.Reply.IsZero() {
		d.Reply = d.Reply.WithText(r.Text)
	}
	return d
}

// Answer is what the script says as a backend: accept is yes, reject is no, an
// end without a word is that it knows no such user, and all else is unknown.
func (r *Result) Answer() policy.AuthAnswer {
	a := policy.AuthAnswer{Reason: r.Reason}
	switch {
	case r.Failed != nil:
		a.Reason = r.Failed.Text
	case r.Verb == Accept:
		a.Result, a.User, a.Senders = policy.AuthYes, r.User, r.Senders
	case r.Verb == Reject:
		a.Result = policy.AuthNo
	case r.Verb == "":
		a.Result = policy.AuthNobody
	}
	return a
}

// Then is what the script wants done at Content, in the words of a filter's
// actions ("score:2.5", "redirect:user@example.com", "quarantine"): what is final
// comes last. Text, Reason, Transport, Edits.Remove and Delay have no such word.
func (r *Result) Then() []string {
	var list []string
	if r.Failed != nil {
		return nil
	}
	if r.Mark {
		list = append(list, string(mail.ActionMark))
	}
	if r.Score != 0 {
		list = append(list, "score:"+strconv.FormatFloat(r.Score, 'f', -1, 64))
	}
	for _, f := range r.Edits.Fields {
		list = append(list, `header:"`+f+`"`)
	}
	if r.Edits.SubjectTag != "" {
		list = append(list, `subject:"`+r.Edits.SubjectTag+`"`)
	}
	for _, a := range r.Edits.Copy {
		list = append(list, "copy:"+a.Raw)
	}
	for _, a := range r.Edits.Redirect {
		list = append(list, "redirect:"+a.Raw)
	}
	switch r.Verb {
	case Accept:
		list = append(list, string(mail.ActionDeliver))
	case Reject, Defer, Quarantine, Discard:
		list = append(list, string(r.Verb))
	}
	return list
}
