package quarantine

import (
	"context"
	"errors"
	"time"

	"gatepost/internal/mail"
)

// TransportName is the name of the internal transport that quarantines.
const TransportName = "quarantine"

// Errors of the operations.
var (
	ErrNotFound = errors.New("no such message in the quarantine")
	// ErrReleased says that it was released before; Force does it again.
	ErrReleased = errors.New("released already")
	// ErrDeleted says that a recipient's entry was deleted.
	ErrDeleted = errors.New("deleted already")
	// ErrForbidden says that this person may not release it.
	ErrForbidden = errors.New("viruses are released by administrators only")
	// ErrBusy says that somebody else is releasing the message right now.
	ErrBusy = errors.New("is being released at this moment")
	// ErrRequest says that a request makes no sense.
	ErrRequest = errors.New("bad request")
	// ErrUnavailable says that the store does not answer.
	ErrUnavailable = errors.New("the store is not available")
	// ErrNoTrainer says that nothing can be trained.
	ErrNoTrainer = errors.New("there is no Bayesian filter to train")
)

// State is where an entry stands.
type State string

// The states of an entry.
const (
	Held     State = "held"
	Released State = "released"
	Deleted  State = "deleted"
)

// Role is on whose behalf something is done.
type Role string

// The roles. The empty Role may nothing.
const (
	RoleAdmin     Role = "admin"
	RoleRecipient Role = "recipient"
)

// Row is one message as lists show it. Its texts are one printable line each.
type Row struct {
	ID mail.ID `json:"id"`
	// State is held while it is held for anyone, then released if it was
	// released for anyone, else deleted; in a list of one state, that one.
	State    State     `json:"state"`
	Received time.Time `json:"received"`
	Sender   string    `json:"sender"` // "<>" for the null sender
	// Recipients are those of Entries.
	Recipients []string    `json:"recipients"`
	Subject    string      `json:"subject,omitempty"`
	MessageID  string      `json:"message_id,omitempty"`
	Size       int64       `json:"size"`
	Direction  string      `json:"direction,omitempty"`
	Threat     mail.Threat `json:"threat,omitempty"`
	Reason     string      `json:"reason,omitempty"`
	Block      string      `json:"block,omitempty"`
	Rule       string      `json:"rule,omitempty"`
	Score      float64     `json:"score"`
	Client     string      `json:"client,omitempty"`
	Helo       string      `json:"helo,omitempty"`
	Listener   string      `json:"listener,omitempty"`
	Node       string      `json:"node,omitempty"`
	// Entries are the recipients for whom it is or was held.
	Entries []Entry `json:"entries"`
}

// Entry is a message for one recipient.
type Entry struct {
	// Key is the recipient as operations name it (mail.Address.Key).
	Key       string      `json:"-"`
	Recipient string      `json:"recipient"`
	State     State       `json:"state"`
	Threat    mail.Threat `json:"threat,omitempty"`
	Reason    string      `json:"reason,omitempty"`
	Score     float64     `json:"score"`
	// Asked says that it is held and that By asked for its release, at Changed.
	Asked bool `json:"asked,omitempty"`
	// Changed and By tell when and by whom it was released or deleted.
	Changed time.Time `json:"changed,omitzero"`
	By      string    `json:"by,omitempty"`
	// Verdict is what the flow decided; only Show fills it in.
	Verdict *mail.Verdict `json:"verdict,omitempty"`

	address mail.Address
}

// Filter chooses messages. All that is set must hold.
type Filter struct {
	// Sender and Recipient are an address, a part of one, "@domain", or "<>" for
	// the null sender. Recipient to State must hold for one and the same entry.
	Sender    string
	Recipient string
	Domain    string // configured domain of the recipient
	// Domains and Recipients (address keys) bound what is shown to these; none: all.
	Domains    []string
	Recipients []string
	// Asked are the messages whose release was asked for.
	Asked  bool
	Threat mail.Threat
	State  State
	// Since and Before bound when it was received: from Since on, before Before.
	Since  time.Time
	Before time.Time
	// Text is words that all stand in addresses, subject, message ID, client or
	// reason, in any case.
	Text string
	// Limit is how many messages to return at most, 1 to 1000.
	Limit int
	// Cursor is Page.Next of the page before.
	Cursor string
}

// Page is one page of a list, the latest message first. Next is the Cursor of
// the next one; empty on the last.
type Page struct {
	Items []Row  `json:"items"`
	Next  string `json:"next,omitempty"`
}

// Releaser puts a message back on its way.
type Releaser interface {
	// Release queues the bytes of body for the recipients of env under a new ID,
	// with env.ID as what it was released from, and does not scan them again. A
	// recipient whose route leads into the quarantine or nowhere is routed anew.
	// Once it returns nil the message is durable.
	Release(ctx context.Context, env *mail.Envelope, body mail.Body) (mail.ID, error)
}

// Trainer learns from messages.
type Trainer interface {
	// Train learns that m is spam or ham, and reports whether that was news.
	Train(ctx context.Context, m mail.Message, spam bool) (changed bool, err error)
}

// Request asks for something to be done with messages.
type Request struct {
	IDs []mail.ID
	// Recipients limits it to these (an address each); none: all.
	Recipients []string
	// To are who gets what is released, in the place of those for whom it is held; for
	// these it stays what it is. Administrators only.
	To []string
	// By is who wants it, for log and list.
	By   string
	Role Role
	// Train tells the Bayesian filter that a released message was ham.
	Train bool
	// Force releases again what was released before.
	Force bool
}

// Result is what was done with one message.
type Result struct {
	ID mail.ID `json:"id"`
	// Recipients are those for whom it was done.
	Recipients []string `json:"recipients,omitempty"`
	// ReleasedAs is the ID under which the message is queued now.
	ReleasedAs mail.ID `json:"released_as,omitzero"`
	// Trained says that the Bayesian filter learned something new.
	Trained bool `json:"trained,omitempty"`
	// Error says why it could not be done, or, beside ReleasedAs, what went wrong
	// afterwards.
	Error string `json:"error,omitempty"`
	// Err is Error as a value.
	Err error `json:"-"`
}
