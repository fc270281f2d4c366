package upstream

import (
	"errors"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/smtpclient"
)

// Fault is why a Result holds no answer of an upstream, and what that means for
// the message.
type Fault uint8

// The faults. The zero Fault is an answer.
const (
	// Answered: Reply is the upstream's.
	Answered Fault = iota
	// Unreached: no upstream gave us a session. Nothing was sent.
	Unreached
	// Broken: the session ended, or we ended it, before the end of the data. The
	// upstream does not have the message. Reply is its own where it is a 421.
	Broken
	// Lost: the session ended when the end of the data had been sent. The upstream
	// may have the message, and who sends it again may deliver it twice (RFC 1047).
	Lost
	// Unable: the upstream lacks an extension without which the message must not be
	// sent, or the message itself must not be. The session goes on.
	Unable
)

// Result is what came of one step of a transaction.
type Result struct {
	// Reply is for the client: the upstream's own words where Fault is Answered (or
	// its 421), and ours, from the table, where not.
	Reply mail.Reply
	Fault Fault
	// Stage is the command that was answered or not, as in mail.Outcome.
	Stage string
	// Host and TLS say who was spoken to, as in mail.Outcome.
	Host string
	TLS  mail.TLS
	// DSN says, of Data, that the upstream takes what senders want to be told (RFC 3461):
	// telling them of success is then its duty.
	DSN bool
	// Err is the cause in detail, for the log; nil where Reply is everything.
	Err error
}

// OK reports that the upstream did what it was asked.
func (r Result) OK() bool { return r.Fault == Answered && r.Reply.Positive() }

// Adoptable reports that no upstream has the message and none has refused it, so
// that it may be queued for later.
func (r Result) Adoptable() bool { return r.Fault == Unreached || r.Fault == Broken }

// Outcome is the result as history keeps it for a recipient. After OK of anything
// but Data nothing is delivered yet: that is Deferred.
func (r Result) Outcome() mail.Outcome {
	o := mail.Outcome{Status: mail.Deferred, Reply: r.Reply, Stage: r.Stage,
		// 421 is never ours.
		Remote:    r.Fault == Answered || r.Reply.Code == 421,
		DSNPassed: r.DSN,
		Host:      r.Host, TLS: r.TLS, Time: time.Now(), MaybeDuplicate: r.Fault == Lost}
	switch {
	case r.Reply.Permanent():
		o.Status = mail.Failed
	case r.OK() && r.Stage == "eod":
		o.Status = mail.Delivered
	}
	if r.Err != nil {
		o.Cause = r.Err.Error()
	}
	return o
}

// ours is a Result in our words.
func ours(key mail.ReplyKey, fault Fault, stage string, err error) Result {
	return Result{Reply: key.Reply(), Fault: fault, Stage: stage, Err: err}
}

// unreached is the Result where there is no session. The client hears the same
// whatever the reason: it can do nothing about it but come again.
func unreached(err error) Result {
	res := ours(mail.ReplyNextHopDown, Unreached, "connect", err)
	var e *smtpclient.Error
	if errors.As(err, &e) {
		res.Stage = e.Stage
	}
	switch {
	case errors.Is(err, errRequireTLS):
		return ours(mail.ReplyNextHopReqTLS, Unable, "starttls", err)
	case errors.Is(err, errBusy):
		res.Reply = mail.ReplyUpstreamBusy.Reply()
	case errors.Is(err, errClosed):
		res.Reply = mail.ReplyInterrupted.Reply()
	}
	return res
}

// broken is the Result of a session that ended before the end of the data.
func broken(err error) Result {
	var e *smtpclient.Error
	if !errors.As(err, &e) {
		return ours(mail.ReplyNextHopLost, Broken, "data", err)
	}
	res := ours(e.Key, Broken, e.Stage, err)
	if !e.Reply.IsZero() {
		res.Reply = e.Reply
	}
	return res
}
