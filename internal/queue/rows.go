package queue

import (
	"time"

	"gatepost/internal/mail"
)

// Row is one queue item in a list.
type Row struct {
	ID      mail.ID      `json:"id"`
	QueueID mail.QueueID `json:"queue_id"`
	// Sender is "<>" for the null sender.
	Sender string `json:"sender"`
	// Recipients are those that are not done yet, as they are sent on.
	Recipients []string        `json:"recipients"`
	Transport  string          `json:"transport"`
	NextHop    string          `json:"next_hop,omitempty"`
	State      mail.QueueState `json:"state"`
	// Reason says why the item does not move: held, paused, its transport gone,
	// its destination dead. Empty where it only waits for its time.
	Reason   string    `json:"reason,omitempty"`
	Size     int64     `json:"size"`
	Attempts int       `json:"attempts"`
	Created  time.Time `json:"created"`
	// NextAttempt is zero for items that are incoming or on hold.
	NextAttempt time.Time `json:"next_attempt,omitzero"`
	// LastError is the last outcome of the first recipient that failed or was
	// deferred, on one line.
	LastError string `json:"last_error,omitempty"`
	Paused    bool   `json:"paused,omitempty"`
}

// Detail is everything about one queue item.
type Detail struct {
	Row
	Subject     string    `json:"subject,omitempty"`
	MessageID   string    `json:"message_id,omitempty"`
	Received    time.Time `json:"received"`
	Listener    string    `json:"listener"`
	Client      string    `json:"client,omitempty"`
	Helo        string    `json:"helo,omitempty"`
	User        string    `json:"user,omitempty"`
	EnvID       string    `json:"envid,omitempty"`
	LastAttempt time.Time `json:"last_attempt,omitzero"`
	// GiveUp is when a failed attempt becomes the last one, as things stand.
	GiveUp     time.Time         `json:"give_up,omitzero"`
	Warned     bool              `json:"warned,omitempty"`
	HoldBy     string            `json:"hold_by,omitempty"`
	HoldReason string            `json:"hold_reason,omitempty"`
	States     []RecipientDetail `json:"recipient_states"`
}

// RecipientDetail is how one recipient of an item stands.
type RecipientDetail struct {
	Address  string `json:"address"`
	Original string `json:"original,omitempty"`
	// Status is "" for a recipient that was not tried yet.
	Status mail.OutcomeStatus `json:"status,omitempty"`
	Reply  string             `json:"reply,omitempty"`
	Stage  string             `json:"stage,omitempty"`
	Host   string             `json:"host,omitempty"`
	TLS    string             `json:"tls,omitempty"`
	Time   time.Time          `json:"time,omitzero"`
	Cause  string             `json:"cause,omitempty"`
	// Reported says that the sender was told, or need not be.
	Reported bool `json:"reported,omitempty"`
}

// PauseTarget names what is paused: a transport, a destination domain, or (with
// both) that domain on that transport only.
type PauseTarget struct {
	Transport string `json:"transport,omitempty"`
	Domain    string `json:"domain,omitempty"`
}

// Pause is one pause in force.
type Pause struct {
	PauseTarget
	Reason string    `json:"reason,omitempty"`
	By     string    `json:"by,omitempty"`
	Since  time.Time `json:"since"`
}

// Stats is the queue at one moment.
type Stats struct {
	Incoming int `json:"incoming"`
	Active   int `json:"active"`
	Deferred int `json:"deferred"` // due now or later
	Hold     int `json:"hold"`
	// Oldest is when the oldest item was made; zero for an empty queue.
	Oldest time.Time `json:"oldest,omitzero"`
	// Suspended says that nothing is tried because outcomes cannot be stored.
	Suspended bool `json:"suspended,omitempty"`
	// Destinations that have items, or are dead, in the order of their names.
	Destinations []DestinationStats `json:"destinations"`
}

// DestinationStats is one destination at one moment.
type DestinationStats struct {
	mail.Destination
	Active  int `json:"active"`  // attempts under way
	Ready   int `json:"ready"`   // due, and waiting for their turn
	Waiting int `json:"waiting"` // due later, or waiting for a pause to end
	Hold    int `json:"hold"`
	// Limit is how many attempts may be under way at present.
	Limit  int  `json:"limit"`
	Dead   bool `json:"dead,omitempty"`
	Paused bool `json:"paused,omitempty"`
	// Missing says that the transport is not configured.
	Missing bool `json:"missing,omitempty"`
}
