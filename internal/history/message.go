package history

import (
	"context"
	"slices"
	"strings"
	"time"

	"gatepost/internal/mail"
)

// Message is everything that the history knows about one message.
type Message struct {
	ID       mail.ID        `json:"id"`
	Session  mail.ID        `json:"session,omitzero"`
	Received time.Time      `json:"received"`
	Protocol mail.Protocol  `json:"protocol,omitempty"`
	Sender   string         `json:"sender,omitempty"`
	Subject  string         `json:"subject,omitempty"`
	Header   string         `json:"message_id,omitempty"`
	Size     int64          `json:"size,omitempty"`
	Action   mail.Action    `json:"verdict,omitempty"`
	Threat   mail.Threat    `json:"threat,omitempty"`
	Score    float64        `json:"score,omitempty"`
	Findings []mail.Finding `json:"findings,omitempty"`
	// Recipients are those who were named and those who got it without that, with what
	// became of it for each.
	Recipients []Delivery `json:"recipients"`
	// Related are the messages that a release made, or that this one was released from.
	Related []mail.ID `json:"related,omitempty"`
	// Client is the event that tells most about who brought it.
	Client *mail.Event `json:"client,omitempty"`
	// Events are all of the message and of its session, in the order of time.
	Events []*mail.Event `json:"events"`
	// Cut says that there are more events than are shown.
	Cut bool `json:"cut,omitempty"`
}

// DeliveryState is how a message stands for one recipient.
type DeliveryState string

// The states of Delivery.
const (
	StateRefused     DeliveryState = "refused" // the client was told so
	StateWaiting     DeliveryState = "waiting" // queued, or to be tried again
	StateDelivered   DeliveryState = "delivered"
	StateFailed      DeliveryState = "failed"
	StateQuarantined DeliveryState = "quarantined"
	StateReleased    DeliveryState = "released"
	StateDeleted     DeliveryState = "deleted"
	StateDiscarded   DeliveryState = "discarded"
	StateFetched     DeliveryState = "fetched" // by a POP3 client
)

// Delivery is one recipient, and what became of the message for him.
type Delivery struct {
	mail.Addressee
	State DeliveryState `json:"state"`
	// At is when that was, By who did it.
	At time.Time `json:"at"`
	By string    `json:"by,omitempty"`
	// Attempts is how often it was tried, Next when it is tried again.
	Attempts int       `json:"attempts,omitempty"`
	Next     time.Time `json:"next,omitzero"`
}

// maxMessageEvents bounds the events of a message that are shown.
const maxMessageEvents = 1000

// Message returns everything about a message, or nil where nothing is known of it to
// those who may see the domains (nil: all).
func (h *History) Message(ctx context.Context, id mail.ID, domains []string) (*Message, error) {
	q := &Query{clauses: []clause{{any: []term{hash(fieldID, id.String())}}}}
	found, err := h.Search(ctx, Search{Query: q, Domains: domains, Limit: maxMessageEvents})
	if err != nil || len(found.Events) == 0 {
		return nil, err
	}
	m := &Message{ID: id, Cut: !found.Next.IsZero()}
	events := found.Events
	slices.Reverse(events)
	var session mail.ID
	for _, e := range events {
		if e.Message == id && !e.Session.IsZero() {
			session = e.Session
		}
	}
	if !session.IsZero() && session != id {
		q := &Query{clauses: []clause{{any: []term{hash(fieldID, session.String())}}}}
		more, err := h.Search(ctx, Search{Query: q, Domains: domains, Limit: maxMessageEvents})
		if err != nil {
			return nil, err
		}
		for _, e := range more.Events {
			// Other messages of the session have pages of their own.
			if e.Message.IsZero() {
				events = append(events, e)
			}
		}
		m.Session, m.Cut = session, m.Cut || !more.Next.IsZero()
	}
	slices.SortFunc(events, func(a, b *mail.Event) int { return compareID(a.ID, b.ID) })
	m.Events = slices.CompactFunc(events, func(a, b *mail.Event) bool { return a.ID == b.ID })
	for _, e := range m.Events {
		if e.Message == id {
			m.heed(e)
		} else if e.Related == id && !e.Message.IsZero() {
			m.relate(e.Message)
		}
	}
	return m, nil
}

func (m *Message) relate(id mail.ID) {
	if !id.IsZero() && !slices.Contains(m.Related, id) {
		m.Related = append(m.Related, id)
	}
}

// heed takes what an event says into account.
func (m *Message) heed(e *mail.Event) {
	if m.Received.IsZero() {
		m.Received = e.Time
	}
	m.relate(e.Related)
	setText(&m.Sender, e.Sender)
	setText(&m.Subject, e.Subject)
	setText(&m.Header, e.MessageID)
	if e.Size > 0 {
		m.Size = e.Size
	}
	switch e.Kind {
	case mail.EventMessage, mail.EventFetch, mail.EventScanned:
		if e.Kind != mail.EventScanned {
			m.Client, m.Protocol = e, e.Protocol
		}
		if e.Action != "" {
			m.Action, m.Threat, m.Score = e.Action, e.Threat, e.Score
		}
		if len(e.Findings) > 0 {
			m.Findings = e.Findings
		}
	}
	for i := range e.Recipients {
		m.recipient(e, &e.Recipients[i])
	}
}

func setText(to *string, text string) {
	if *to == "" {
		*to = text
	}
}

// recipient notes what an event says of one of them.
func (m *Message) recipient(e *mail.Event, r *mail.Addressee) {
	i := slices.IndexFunc(m.Recipients, func(d Delivery) bool { return strings.EqualFold(d.Address, r.Address) })
	if i < 0 {
		m.Recipients = append(m.Recipients, Delivery{Addressee: *r})
		i = len(m.Recipients) - 1
	}
	d := &m.Recipients[i]
	if e.Kind == mail.EventScanned || e.Kind == mail.EventMessage {
		attempts := d.Attempts
		*d = Delivery{Addressee: *r, Attempts: attempts}
	}
	state := stateOf(e, r)
	if state == "" {
		return
	}
	d.State, d.At, d.By = state, e.Time, e.Actor
	if e.Kind == mail.EventAttempt {
		d.Attempts, d.Next, d.Item, d.Transport, d.NextHop = e.Attempt, time.Time{}, e.Item, e.Transport, e.NextHop
		d.Status, d.Reply, d.Remote, d.Stage, d.Host, d.Cause = r.Status, r.Reply, r.Remote, r.Stage, r.Host, r.Cause
		if d.Reply == "" { // the same for all stands once
			d.Reply, d.Remote, d.Stage, d.Host, d.Cause = e.Reply, e.Remote, e.Stage, e.Host, e.Reason
		}
		if state == StateWaiting {
			d.Next = e.Next
		}
	}
}

// stateOf is how a message stands for a recipient after an event; "": as before.
func stateOf(e *mail.Event, r *mail.Addressee) DeliveryState {
	switch e.Kind {
	case mail.EventRecipient, mail.EventSender:
		return StateRefused
	case mail.EventFetch:
		return StateFetched
	case mail.EventQuarantine:
		return StateQuarantined
	case mail.EventRelease:
		return StateReleased
	case mail.EventDelete:
		return StateDeleted
	case mail.EventMessage, mail.EventScanned:
		switch {
		case e.Result == mail.EventRefused || e.Result == mail.EventDeferred:
			return StateRefused
		case r.Status == mail.Delivered:
			return StateDelivered
		case r.Item != 0:
			return StateWaiting
		case r.Action == mail.ActionDiscard:
			return StateDiscarded
		}
	case mail.EventAttempt:
		switch r.Status {
		case mail.Delivered:
			return StateDelivered
		case mail.Failed:
			return StateFailed
		}
		return StateWaiting
	case mail.EventAdmin:
		if len(e.Details) > 0 && e.Details[0].Value == "queue delete" {
			return StateDeleted
		}
	}
	return ""
}
