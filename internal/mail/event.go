package mail

import (
	"net/netip"
	"time"
)

// EventKind is what an Event is about.
type EventKind string

// The kinds of events. An ordinary message has one EventMessage and one
// EventAttempt for each attempt at a queue item.
const (
	// EventConnect is a connection that was refused or dropped before it could send
	// mail.
	EventConnect EventKind = "connect"
	// EventLogin is one login, ok or failed: of a client, or into the administration.
	EventLogin EventKind = "login"
	// EventSender and EventRecipient are an answer to MAIL or RCPT that was not
	// positive. Those who were accepted stand in EventMessage.
	EventSender    EventKind = "sender"
	EventRecipient EventKind = "recipient"
	// EventMessage is the answer to the end of a message (or to DATA, where that was
	// refused), with envelope, findings, verdicts and queue items.
	EventMessage EventKind = "message"
	// EventScanned is what was decided about a message that was answered before it
	// was scanned.
	EventScanned EventKind = "scanned"
	// EventAttempt is one attempt to deliver a queue item, in the words of the remote.
	EventAttempt EventKind = "attempt"
	// EventReport is a DSN that was sent: Related is the report's own message.
	EventReport EventKind = "report"
	// EventQuarantine is a message that was put into the quarantine; EventRelease,
	// EventDelete, EventTrain and EventRequest are what became of it there. Related is
	// the message that a release made.
	EventQuarantine EventKind = "quarantine"
	EventRelease    EventKind = "release"
	EventDelete     EventKind = "delete"
	EventTrain      EventKind = "train"
	EventRequest    EventKind = "request"
	// EventFetch is a message that a POP3 client fetched.
	EventFetch EventKind = "fetch"
	// EventSession is the end of a session worth telling about, with what it did.
	EventSession EventKind = "session"
	// EventAdmin is what an administrator did.
	EventAdmin EventKind = "admin"
)

// EventResult is how it went, in a word.
type EventResult string

// The results of events.
const (
	EventOK        EventResult = "ok"
	EventAccepted  EventResult = "accepted"  // the client was told 2xx
	EventDeferred  EventResult = "deferred"  // 4xx, to the client or by the next hop
	EventRefused   EventResult = "refused"   // 5xx, to the client
	EventDropped   EventResult = "dropped"   // the connection was closed without a word
	EventDelivered EventResult = "delivered" // by an attempt, to all of its recipients
	EventFailed    EventResult = "failed"    // an attempt (5xx), a login
	EventPartial   EventResult = "partial"   // an attempt whose recipients fared differently
	EventPassed    EventResult = "passed"    // a POP3 message, as it is or marked
	EventReplaced  EventResult = "replaced"  // a POP3 message, by a notice
)

// Event is something that happened, as history keeps it: few and rich, so that one
// answers most questions about a message. Texts of strangers must be safe to print
// and bounded. Zero fields say nothing. The Event and all that it points to may be
// changed by the caller again once Note has returned.
type Event struct {
	// ID orders events; a Historian gives one where it is zero. Time is when it
	// happened; a Historian takes the present where it is zero.
	ID   ID        `json:"id"`
	Time time.Time `json:"time"`
	// Node is the gateway that saw it, which a Historian fills in.
	Node   string      `json:"node,omitempty"`
	Kind   EventKind   `json:"kind"`
	Result EventResult `json:"result,omitempty"`

	// Session, Message and Item are what it belongs to: Item is the n of ID:n.
	// Related is another message.
	Session ID     `json:"session,omitzero"`
	Message ID     `json:"message,omitzero"`
	Item    uint16 `json:"item,omitempty"`
	Related ID     `json:"related,omitzero"`

	Protocol Protocol       `json:"protocol,omitempty"`
	Listener string         `json:"listener,omitempty"`
	Client   netip.Addr     `json:"client,omitzero"`
	Original netip.AddrPort `json:"original,omitzero"`
	Name     string         `json:"name,omitempty"` // the client's host name, where known
	Helo     string         `json:"helo,omitempty"`
	TLS      TLS            `json:"tls,omitzero"`
	User     string         `json:"user,omitempty"`
	Server   string         `json:"server,omitempty"` // POP3: "host:port"

	// Sender is the address of the envelope, "<>" for the null sender; "" where there
	// is none.
	Sender     string      `json:"sender,omitempty"`
	Recipients []Addressee `json:"recipients,omitempty"`
	Subject    string      `json:"subject,omitempty"`
	MessageID  string      `json:"message_id,omitempty"` // of the header
	Size       int64       `json:"size,omitempty"`

	// Stage is where in the session it happened, or the command of an attempt that
	// was answered; Reply what was answered, by us or (Remote) by the next hop Host.
	Stage  string `json:"stage,omitempty"`
	Reply  string `json:"reply,omitempty"`
	Remote bool   `json:"remote,omitempty"`
	Host   string `json:"host,omitempty"`
	// Reason is why, for administrators.
	Reason string `json:"reason,omitempty"`

	Findings []Finding `json:"findings,omitempty"`
	// Action and Threat are the worst verdict of the recipients.
	Action Action  `json:"verdict,omitempty"`
	Threat Threat  `json:"threat,omitempty"`
	Score  float64 `json:"score,omitempty"`

	// Transport and NextHop are where an attempt went, Attempt its number from 1, Next
	// when the next one is due.
	Transport string    `json:"transport,omitempty"`
	NextHop   string    `json:"next_hop,omitempty"`
	Attempt   int       `json:"attempt,omitempty"`
	Next      time.Time `json:"next,omitzero"`

	// Actor is who did it, where somebody of ours did.
	Actor string `json:"actor,omitempty"`
	// Took is how long it took.
	Took time.Duration `json:"took_ns,omitempty"`
	// Details are whatever else there is to say.
	Details []Property `json:"details,omitempty"`
}

// Addressee is one recipient of an event, and how he fared.
type Addressee struct {
	Address string `json:"address"`
	// Original is what RCPT said, where that is another.
	Original string `json:"original,omitempty"`
	// Domain is the configured domain that matched.
	Domain string `json:"domain,omitempty"`
	// Item is the queue item that carries the message to him, 0: none.
	Item      uint16 `json:"item,omitempty"`
	Transport string `json:"transport,omitempty"`
	NextHop   string `json:"next_hop,omitempty"`
	// What his flow decided.
	Flow   string  `json:"flow,omitempty"`
	Action Action  `json:"verdict,omitempty"`
	Threat Threat  `json:"threat,omitempty"`
	Block  string  `json:"block,omitempty"`
	Rule   string  `json:"rule,omitempty"`
	Reason string  `json:"reason,omitempty"`
	Score  float64 `json:"score,omitempty"`
	// How an attempt went for him: Reply is the next hop's where Remote is set.
	Status OutcomeStatus `json:"status,omitempty"`
	Reply  string        `json:"reply,omitempty"`
	Remote bool          `json:"remote,omitempty"`
	Stage  string        `json:"stage,omitempty"`
	Host   string        `json:"host,omitempty"`
	Cause  string        `json:"cause,omitempty"`
}

// Historian keeps events. Note never fails, and waits for nobody but, for an event
// of an accepted message, the log of the spool that the message itself waits for.
type Historian interface {
	Note(e *Event)
}

// About fills in what an event says of its session.
func (e *Event) About(s *Session) {
	e.Session, e.Protocol, e.Listener = s.ID, s.Protocol, s.Listener
	e.Client, e.Original = s.Client.Addr().Unmap(), s.Original
	e.Name, e.Helo, e.TLS, e.User, e.Server = s.Name, s.Helo, s.TLS, s.User, s.Server
}

// AboutMessage fills in what an event says of a message: About its session, its
// envelope and what its flows decided. It does not copy the findings.
func (e *Event) AboutMessage(env *Envelope) {
	e.About(&env.Session)
	e.Message, e.Sender = env.ID, SenderText(env.Sender)
	e.Subject, e.MessageID, e.Size = env.Subject, env.MessageID, env.Size
	e.Findings, e.Related = env.Findings, env.ReleasedFrom
	e.Recipients = make([]Addressee, 0, len(env.Recipients))
	for i := range env.Recipients {
		r := AddresseeOf(&env.Recipients[i])
		if e.Action == "" || r.Action.Worse(e.Action) {
			e.Action, e.Threat, e.Score = r.Action, r.Threat, r.Score
		}
		e.Recipients = append(e.Recipients, r)
	}
}

// AddresseeOf is a recipient as events show him.
func AddresseeOf(r *Recipient) Addressee {
	e := Addressee{Address: r.Address.String(), Domain: r.Route.Domain, Transport: r.Route.Transport,
		NextHop: r.Route.NextHop, Flow: r.Route.Flow}
	if original := r.Original.String(); original != e.Address {
		e.Original = original
	}
	if v := r.Verdict; v != nil {
		e.Action, e.Threat, e.Block, e.Rule, e.Reason, e.Score = v.Action, v.Threat, v.Block, v.Rule, v.Reason, v.Score
	}
	return e
}

// SenderText is a sender as events show it.
func SenderText(a Address) string {
	if a.IsNull() {
		return "<>"
	}
	return a.String()
}

// Worse tells which of two verdicts an administrator looks at first.
func (a Action) Worse(b Action) bool {
	rank := func(a Action) int {
		switch a {
		case ActionReject:
			return 6
		case ActionQuarantine:
			return 5
		case ActionDefer:
			return 4
		case ActionDiscard:
			return 3
		case ActionMark:
			return 2
		case ActionDeliver:
			return 1
		}
		return 0
	}
	return rank(a) > rank(b)
}
