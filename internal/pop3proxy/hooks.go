package pop3proxy

import (
	"context"
	"io"
	"net/netip"
	"time"

	"gatepost/internal/mail"
)

// Hooks are what a session asks and tells on its way. Each may be nil. They are called
// from the session's goroutine, and at once for several sessions; the context ends when
// the session must stop.
type Hooks struct {
	// Scanner judges messages. Nil: they are passed through as they come.
	Scanner Scanner
	// Guard slows down who guesses passwords.
	Guard Guard
	// Traffic is told of each message and session.
	Traffic Traffic
}

// Key names a message at its server.
type Key = mail.Mailed

// Scanner judges messages.
type Scanner interface {
	// Retrieve makes a place for a message. key.UIDL is "" where the server has none or the
	// user is not known. The envelope stays the scanner's until Close.
	Retrieve(ctx context.Context, env *mail.Envelope, key Key) (Retrieval, error)
	// Known tells what is known of a message that was judged before and would be replaced
	// again; then it need not be fetched. The Retrieved has no Body.
	Known(ctx context.Context, env *mail.Envelope, key Key) (*Retrieved, bool)
}

// Retrieval takes one message in.
type Retrieval interface {
	// Write takes the next bytes as the server gave them, dots un-stuffed.
	io.Writer
	// Judge is called once, when the whole message is here. An error is a failure of
	// ours: nobody knows what the message is.
	Judge(ctx context.Context) (*Retrieved, error)
	// Close forgets the message, and the Body of what Judge returned with it. It is
	// called once.
	Close()
}

// Retrieved is what is to be done with a message.
type Retrieved struct {
	// Pass: the client gets Body with Edits. Else it gets Notice, a whole message; without
	// one, it cannot have the message now.
	Pass   bool
	Edits  mail.Edits
	Body   mail.Body
	Notice []byte
	// Verdict and Reason are for log and history; Cached says that it was known before.
	Verdict *mail.Verdict
	Reason  string
	Cached  bool
	// ID is what history and the quarantine call the message.
	ID mail.ID
}

// Guard counts failed logins.
type Guard interface {
	// Begin is asked before the server is. It may wait for other attempts.
	Begin(ctx context.Context, s *mail.Session, user string) Attempt
}

// Attempt is a login that the server decides about.
type Attempt interface {
	// Refused is why nobody should be asked, "" for no reason; final says that the session
	// should end.
	Refused() (reason string, final bool)
	// Delay is how long the answer is to wait, whatever it is.
	Delay() time.Duration
	// Done tells what became of it. It is called once, unless it was refused.
	Done(result LoginResult, secret string)
}

// LoginResult is what a server said to a login.
type LoginResult uint8

// The results. LoginUnknown is a mailbox in use, a server in trouble, and the like.
const (
	LoginUnknown LoginResult = iota
	LoginOK
	LoginFailed
	// LoginRefused is one that no server was asked about.
	LoginRefused
)

// Limiter counts sessions over all listeners.
type Limiter interface {
	Enter() bool
	Leave()
	// EnterFrom returns the network to leave, invalid where none is counted.
	EnterFrom(client netip.Addr) (netip.Prefix, bool)
	LeaveFrom(network netip.Prefix)
}

// Observer counts. All its methods must be cheap and safe for concurrent use.
type Observer interface {
	POPSessionStarted(listener string)
	POPSessionEnded(listener string, d time.Duration)
	// POPReplied is told each answer to a client; verb is "CONNECT" for greetings.
	POPReplied(listener, verb string, ok bool)
	// POPRetrieved is told what became of a message, its size and how long its judgement
	// took.
	POPRetrieved(listener string, fate Fate, size int64, took time.Duration)
	// POPLogin is told what became of a login.
	POPLogin(listener string, result LoginResult)
}

// Fate is what a client got when it asked for a message.
type Fate string

// The fates.
const (
	FatePassed    Fate = "passed"
	FateReplaced  Fate = "replaced"
	FateUnscanned Fate = "unscanned" // passed without being judged, by configuration
	FateRefused   Fate = "refused"   // too large
	FateFailed    Fate = "failed"    // could not be judged, or broke off
)

// Traffic is told of each message and session when it is over. It must not wait.
type Traffic interface {
	Retrieved(env *mail.Envelope, m MessageSummary)
	Ended(s *mail.Session, sum Summary)
	// LoggedIn is told each login that the server, or the guard, has decided.
	LoggedIn(s *mail.Session, user string, result LoginResult, reason string)
}

// MessageSummary is the account of one message.
type MessageSummary struct {
	Verb   string // RETR or TOP
	Number int
	UIDL   string
	Fate   Fate
	// Result is nil where nothing was judged.
	Result *Retrieved
	Reason string
	// Size is in bytes as the server gave it; Fetch, Scan and Total are how long it took
	// to come, to be judged, and until the client had it. Waits is how many lines kept
	// the client waiting.
	Size               int64
	Fetch, Scan, Total time.Duration
	Waits              int
}

// Summary is the account of a session.
type Summary struct {
	// Reason is why it ended: "quit", "closed by client", "closed by server", "idle", …
	Reason   string
	Duration time.Duration
	// Messages and Replaced are what the client fetched, Deleted what it had marked when it
	// said QUIT.
	Messages, Replaced, Deleted int
	Errors                      int
	BytesOut                    int64
	// UpstreamTLS describes the encryption towards the server.
	UpstreamTLS mail.TLS
}
