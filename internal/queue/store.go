package queue

import (
	"time"

	"gatepost/internal/mail"
)

// Store is what the queue needs of the spool. Its methods are safe for use by
// many goroutines; items and envelopes that it returns belong to the caller.
type Store interface {
	Reader
	Writer
	Settings
}

// Reader reads messages and their items.
type Reader interface {
	Item(id mail.QueueID) (*mail.QueueItem, error)
	// Items returns the items of one message in the order of their numbers.
	Items(id mail.ID) ([]*mail.QueueItem, error)
	Envelope(id mail.ID) (*mail.Envelope, error)
	Body(id mail.ID) (mail.Body, error)
	// Scan calls fn for every item, without reading envelopes.
	Scan(fn func(Entry) error) error
	// Walk calls fn for every item from the given ID on, in the order of IDs,
	// until fn returns false or an error.
	Walk(from mail.QueueID, fn func(*mail.QueueItem, *mail.Envelope) (bool, error)) error
}

// Writer changes items that are there. Several items are written all or none.
type Writer interface {
	// Update is durable within a second.
	Update(items ...*mail.QueueItem) error
	// UpdateSync is durable when it returns.
	UpdateSync(items ...*mail.QueueItem) error
	// Done removes an item, and the message with its last one.
	Done(id mail.QueueID) error
}

// Settings keeps small values; PutSetting is durable when it returns. The
// setting of an unknown key is empty, or an error for which Config.Gone holds.
type Settings interface {
	PutSetting(key string, value []byte) error
	Setting(key string) ([]byte, error)
}

// Entry is what the scheduler needs to know of an item when it starts.
type Entry struct {
	ID          mail.QueueID
	State       mail.QueueState
	Dest        mail.Destination
	Created     time.Time
	NextAttempt time.Time
}
