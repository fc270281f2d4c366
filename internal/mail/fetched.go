package mail

import "time"

// Mailed names a message that lies in a mailbox at a POP3 server.
type Mailed struct {
	// Server is "host:port", User whose mailbox it is.
	Server, User string
	// UIDL is what the server calls it; "" where nobody knows.
	UIDL string
}

// RulesClaimed stands in the place of Rules while a message only has its ID, and where
// it was judged without knowing all: such a verdict never counts again.
const RulesClaimed = "claimed"

// Judged is what is remembered of a message that was fetched from a mailbox, so that
// it is not judged again each time that a client fetches it.
type Judged struct {
	// Rules is a digest of all that the verdict follows from; with other rules it does
	// not count any more.
	Rules string `json:"rules"`
	// Hash is the SHA-256 of the message.
	Hash []byte `json:"hash"`
	// Message is the ID under which history and quarantine have it.
	Message ID `json:"message"`
	// Verdict is nil where no flow asked.
	Verdict *Verdict `json:"verdict,omitempty"`
	// Held says that the quarantine has the original.
	Held bool `json:"held,omitempty"`
	// Allowed says that it was released: it passes, whatever the rules say.
	Allowed bool `json:"allowed,omitempty"`
	// Notice is what the client gets in its place; nil where it passes.
	Notice []byte `json:"notice,omitempty"`
	// Edits are for one that passes changed.
	Edits *Edits `json:"edits,omitempty"`
	// Size is the original's in bytes.
	Size int64 `json:"size"`
	// Seen is when it was judged.
	Seen time.Time `json:"seen"`
}
