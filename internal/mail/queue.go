package mail

import "time"

// QueueState is where a queue item stands.
type QueueState string

// The states of a queue item. Only incoming, deferred and hold are ever stored:
// an item that is being delivered when the process dies is stored as deferred
// and due, so a restart tries it again.
const (
	QueueIncoming QueueState = "incoming" // waits for the scanner
	QueueActive   QueueState = "active"   // a delivery attempt is under way
	QueueDeferred QueueState = "deferred" // due now or later
	QueueHold     QueueState = "hold"     // waits for an administrator
)

// QueueItem is one message × next hop.
type QueueItem struct {
	ID        QueueID    `json:"id"`
	State     QueueState `json:"state"`
	Transport string     `json:"transport"`
	// NextHop is the domain whose MX is asked; "" where the transport itself
	// says where to go.
	NextHop    string            `json:"next_hop,omitempty"`
	Recipients []QueuedRecipient `json:"recipients"`
	// Created is when the item was made; its age counts towards giving up.
	Created     time.Time `json:"created"`
	NextAttempt time.Time `json:"next_attempt"`
	// Attempts counts finished delivery attempts.
	Attempts    int       `json:"attempts"`
	LastAttempt time.Time `json:"last_attempt,omitzero"`
	// Warned says that the delay warning was sent.
	Warned bool `json:"warned,omitempty"`
	// HoldReason and HoldBy tell why and by whom the item is held.
	HoldReason string `json:"hold_reason,omitempty"`
	HoldBy     string `json:"hold_by,omitempty"`
	// Edits, where set, are what delivery changes for these recipients, in the
	// place of the envelope's: their flow marks or strips the message.
	Edits *Edits `json:"edits,omitempty"`
}

// Destination is what the scheduler treats as one place: concurrency, pauses
// and back-off are counted per destination.
type Destination struct {
	Transport string `json:"transport"`
	NextHop   string `json:"next_hop,omitempty"`
}

// Destination of the item.
func (q *QueueItem) Destination() Destination {
	return Destination{Transport: q.Transport, NextHop: q.NextHop}
}

// QueuedRecipient is one recipient of a queue item and how it stands.
type QueuedRecipient struct {
	Recipient
	// Last is the latest outcome; its zero value means not tried yet.
	Last Outcome `json:"last,omitzero"`
	// Reported says that the report on a final outcome was handed over, or that
	// none is due. An item goes when every recipient is done and reported.
	Reported bool `json:"reported,omitempty"`
}

// Done reports whether nothing is left to do for this recipient.
func (r *QueuedRecipient) Done() bool {
	return r.Last.Status == Delivered || r.Last.Status == Failed
}

// OutcomeStatus is how a delivery attempt ended for one recipient.
type OutcomeStatus string

// The outcome statuses.
const (
	Delivered OutcomeStatus = "delivered"
	Deferred  OutcomeStatus = "deferred" // 4xx or no answer: try again
	Failed    OutcomeStatus = "failed"   // 5xx: never again
)

// Outcome is the result of one attempt for one recipient.
type Outcome struct {
	Status OutcomeStatus `json:"status"`
	// Reply is the remote's where Remote is set, else Gatepost's own words.
	Reply  Reply `json:"reply"`
	Remote bool  `json:"remote,omitempty"`
	// Stage is the command that was answered: "connect", "ehlo", "starttls",
	// "auth", "mail", "rcpt", "data", "eod"; or "dns", "queue".
	Stage string `json:"stage,omitempty"`
	// Host is the next hop's name and address: "mx1.example.org [192.0.2.1]:25".
	Host string    `json:"host,omitempty"`
	TLS  TLS       `json:"tls,omitzero"`
	Time time.Time `json:"time"`
	// DSNPassed says that the next hop announced DSN and was given NOTIFY, so a
	// success report is its duty, not ours (RFC 3461 §5.2.2).
	DSNPassed bool `json:"dsn_passed,omitempty"`
	// MaybeDuplicate says that the connection was lost after the final dot, so
	// that the next hop may have the message although we must try again
	// (RFC 1047).
	MaybeDuplicate bool `json:"maybe_duplicate,omitempty"`
	// Cause is the local detail for log and history: an error text.
	Cause string `json:"cause,omitempty"`
}

// Delivery is one attempt that a transport is asked to make: one message, one
// destination, the recipients that are not done yet.
type Delivery struct {
	ID         QueueID
	Message    Message
	NextHop    string
	Recipients []Recipient
}
