package smtpserver

import (
	"context"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/smtp"
)

// Hooks are what a session asks on its way. A nil hook accepts; Intake is
// required. Hooks are called from the session's goroutine, one at a time per
// session and at once for several sessions. They may read the session and the
// envelope during the call. The context ends when the server must stop now; that
// of Commit ends two seconds later.
type Hooks struct {
	Connect ConnectHook
	Helo    HeloHook
	Auth    Authenticator
	Mail    MailHook
	Rcpt    RcptHook
	Data    DataHook
	Intake  IntakeOpener
	Reset   ResetHook
	End     EndHook
	// Refused and LoginFailed are told what a client did wrong, as it happens.
	Refused     RefusedHook
	LoginFailed LoginFailedHook
	// History is told of refusals, logins and strange ends of sessions; nil: nobody.
	History mail.Historian
}

// ConnectHook decides about a connection before the greeting, after the wait for
// early talkers (finding "protocol", "pregreet"). A client that XCLIENT turned into
// another one is asked about again.
type ConnectHook interface {
	Connect(ctx context.Context, s *mail.Session) mail.Decision
}

// HeloHook decides about HELO and EHLO; s.Helo and s.ESMTP are set.
type HeloHook interface {
	Helo(ctx context.Context, s *mail.Session) mail.Decision
}

// Authenticator checks a name and a password: Accept says that they are right,
// Reject that they are wrong, Defer that nobody could tell.
type Authenticator interface {
	Authenticate(ctx context.Context, s *mail.Session, user, password string) mail.Decision
}

// MailHook decides about MAIL. All of env but the recipients is filled in;
// env.Size is the declared SIZE, 0 for none.
type MailHook interface {
	Mail(ctx context.Context, env *mail.Envelope) mail.Decision
}

// RcptHook decides about one RCPT and fills in r.Route; on Accept r is appended to
// env.Recipients. The hook itself may add others to env.Recipients that get the mail
// because of this one.
type RcptHook interface {
	Rcpt(ctx context.Context, env *mail.Envelope, r *mail.Recipient) mail.Decision
}

// DataHook decides before the 354, or before the first chunk of BDAT is taken.
type DataHook interface {
	Data(ctx context.Context, env *mail.Envelope) mail.Decision
}

// ResetHook is told when a transaction ends without its message being committed: by
// RSET, EHLO and the like, because the client is gone, or because the message was
// refused before Commit. It must not wait.
type ResetHook interface {
	Reset(env *mail.Envelope)
}

// IntakeOpener makes a place for one message. env stays the intake's until Commit
// or Abort returns. An error with a method SMTPReply() mail.ReplyKey chooses the
// reply; any other error is a 451.
type IntakeOpener interface {
	Open(ctx context.Context, env *mail.Envelope) (Intake, error)
}

// Intake takes one message in.
type Intake interface {
	// Write takes the next bytes as they will be kept: CRLF line ends, dots
	// un-stuffed. After an error, which is treated as one of Open's, the rest of
	// the message is thrown away and Abort is called.
	Write(p []byte) (int, error)
	// Commit is called when the whole message is here. Its reply is sent to the
	// client as it is: 250 means that the message is durable.
	Commit(ctx context.Context, facts DataFacts) mail.Reply
	// Abort forgets the message. It is safe after Commit and more than once.
	Abort()
}

// PerRecipient is an Intake that can answer for each recipient apart, to clients
// that take it (draft-hall-prdr-00).
type PerRecipient interface {
	// Answers are the replies in the order of the recipients, to be asked for after
	// Commit. Nil: the reply of Commit says it all.
	Answers() []mail.Reply
}

// DataFacts is what the data reader learned of a message.
type DataFacts = smtp.DataFacts

// EndHook is told when a session that the connect hook was asked about is over.
type EndHook interface {
	End(s *mail.Session, sum Summary)
}

// RefusedHook is told each command and message that was answered 5xx. It must not
// wait.
type RefusedHook interface {
	Refused(s *mail.Session)
}

// LoginFailedHook is told each login with a wrong name or password. It must not wait.
type LoginFailedHook interface {
	LoginFailed(s *mail.Session)
}

// Summary is the account of a session.
type Summary struct {
	// Reason is why it ended: "quit", "closed by client", "idle", …
	Reason   string
	Duration time.Duration
	// Messages were answered 2xx, Errors are commands answered 5xx.
	Messages, Errors int
	// BytesIn are the bytes of messages, refused ones included.
	BytesIn int64
}

// Observer counts. All its methods must be cheap and safe for concurrent use.
type Observer interface {
	SessionStarted(listener string)
	SessionEnded(listener string, d time.Duration)
	// Replied is told each reply; verb is "CONNECT" for greetings, "MESSAGE" for
	// the reply to the end of data.
	Replied(listener, verb string, code int)
	// Received is told the size of each message that was answered 2xx.
	Received(listener string, bytes int64)
}
