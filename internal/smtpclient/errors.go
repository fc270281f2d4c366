package smtpclient

import (
	"context"
	"errors"
	"net"
	"os"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/smtp"
)

// ErrProtocol says that the remote answered what it must not.
var ErrProtocol = errors.New("protocol violation")

// Error is why a conversation did not come about or is over.
type Error struct {
	// Stage is the command that was to be answered, as in mail.Outcome.
	Stage string
	// Reply is what the remote said; zero where it said nothing.
	Reply mail.Reply
	// Key is what we say where Reply is zero.
	Key mail.ReplyKey
	// Err is the cause in detail; nil where Reply is everything.
	Err error
	// Early says that the remote had not said anything about the message when
	// the session ended: an old session that has died in the meantime looks so.
	Early bool
}

// Error names stage and cause, for the log.
func (e *Error) Error() string {
	s := e.Stage
	if !e.Reply.IsZero() {
		s += ": " + e.Reply.String()
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Outcome is what the error means for a recipient. That is always Deferred: a
// session that fails says nothing about the recipient.
func (e *Error) Outcome() mail.Outcome {
	o := mail.Outcome{Status: mail.Deferred, Reply: e.Reply, Remote: true, Stage: e.Stage, Time: time.Now()}
	if e.Reply.IsZero() {
		o.Reply, o.Remote = e.Key.Reply(), false
	}
	if e.Err != nil {
		o.Cause = e.Err.Error()
	}
	return o
}

// ioError is the Error for a read or write that went wrong.
func (c *Conn) ioError(stage string, err error) *Error {
	e := &Error{Stage: stage, Key: mail.ReplyNextHopLost, Err: err}
	var netErr net.Error
	switch {
	case c.ctx.Err() != nil:
		e.Key, e.Err = mail.ReplyInterrupted, context.Cause(c.ctx)
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout():
		e.Key = mail.ReplyNextHopSilent
	case errors.Is(err, smtp.ErrReply), errors.Is(err, smtp.ErrReplyLimit), errors.Is(err, ErrProtocol):
		e.Key = mail.ReplyNextHopProtocol
	}
	return e
}
