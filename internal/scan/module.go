package scan

import (
	"context"
	"time"

	"gatepost/internal/mail"
)

// Module looks at messages. It is used by many goroutines at once, honours the
// end of ctx, and never changes what it is given.
type Module interface {
	// Scan returns what it found, and nothing where everything is as it should
	// be. An error means that the module cannot say: Run makes it a finding with
	// the result Unknown, whose symbol is "error", or "timeout" when ctx ended.
	// Findings that came before the error still count.
	Scan(ctx context.Context, in *Input) ([]mail.Finding, error)
}

// Block is a module in a flow, with the time that it may take.
type Block struct {
	// Key tells blocks apart that use the same module with other parameters; it
	// is the same for equal blocks of different flows, so that they run once.
	Key string
	// Use is the name of the module, as in the configuration: "clamav"; Label what
	// the administrator calls this block, "" for nothing of its own.
	Use    string
	Label  string
	Module Module
	// Timeout is how long the module may take; 0: the whole budget.
	Timeout time.Duration
	// After says that the module looks at what others found (Input.Reports) and
	// so runs when they have ended, in order. The others run at the same time.
	After bool
	// Waits says that the module mostly waits for others (network): it gets a
	// goroutine of its own. The rest run one after the other.
	Waits bool
}

// Report is what one block said about a message.
type Report struct {
	Key      string         `json:"-"`
	Use      string         `json:"use"`
	Label    string         `json:"label,omitempty"`
	Findings []mail.Finding `json:"findings"`
	Took     time.Duration  `json:"took"`
}

// Worst is the result that matters most: match before unknown before clean.
func (r *Report) Worst() mail.Result {
	worst := mail.Clean
	for i := range r.Findings {
		switch r.Findings[i].Result {
		case mail.Match:
			return mail.Match
		case mail.Unknown:
			worst = mail.Unknown
		}
	}
	return worst
}

// Properties by which a block that decides itself, a script, says what it wants. The
// flow believes them of such blocks only.
const (
	PropertyThen      = "then"      // an action of a filter: "redirect:user@example.com"
	PropertyText      = "text"      // what stands behind the codes of a reject or defer
	PropertyTransport = "transport" // another way for the message
	PropertyRemove    = "remove"    // the name of a field of which every instance goes
)

// Observer is told how long modules take and when they could not say; nil is nobody.
type Observer interface {
	Scanned(use string, worst mail.Result, took time.Duration)
}
