// Package route decides whose mail is ours and where it goes: listeners,
// domains with their aliases, relay control, sources of recipients, and the
// rewriting of addresses (package rewrite). resolve.go is the way of one RCPT.
//
// Invariants:
//   - A client that may not relay (mail.Session.MayRelay) reaches only domains
//     that are configured by name, and from there what the administrator's tables
//     name, whatever it writes into the address. The answer for anything else is
//     the same 550 5.7.1.
//   - A Table does not change but for the contents of recipient files; a new
//     configuration makes a new Table.
//   - A recipient file that can't be read any more, or has a bad line, never
//     changes who is known: the last good state stays and the log says so.
//   - A source of recipients that can't answer makes neither a yes nor a no: the
//     client is told to try again, unless another source says yes.
//   - No DNS, no lock held across I/O. Only what takes a context asks sources and
//     tables over a network.
package route

import (
	"errors"
	"log/slog"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/recipients"
	"gatepost/internal/rewrite"
	"gatepost/internal/rewrite/srs"
)

// AnyDomain and AnyListener are the "*" of the configuration.
const (
	AnyDomain   = "*"
	AnyListener = "*"
)

// BuiltinInternet is the transport of Gatepost's own mail to domains for which
// no entry exists: kind mx with every default. Its name can't be configured.
const BuiltinInternet = "internet (built-in)"

// ErrLoop says that mail would come back to this host.
var ErrLoop = errors.New("mail for this host's own name, which is no configured domain, would loop")

// Config is what a Table is made of.
type Config struct {
	// Hostname is this host's name, canonical: mail to it is never relayed.
	Hostname string
	// Postmaster gets mail for <postmaster>; the zero Address stands for
	// postmaster at the first domain.
	Postmaster mail.Address
	Domains    []Domain
	// ContentFlows are the content flows of listeners, by name. Nothing is scanned
	// for a recipient where neither domain nor listener has one.
	ContentFlows map[string]string
	// CheckInterval is how often a recipient file is looked at; default 10 s.
	CheckInterval time.Duration
	// Log gets a line when a recipient file was read again, or can't be; nil: none.
	Log *slog.Logger

	// Rewrite changes the addresses of recipients; nil: they stay.
	Rewrite *rewrite.Engine
	// SRS unwraps the senders that it wrote when they come back as recipients; nil:
	// there are none.
	SRS *srs.Rewriter
	// AsksMX tells, by name, the transports that look up the MX of the recipient's
	// domain. It is needed for those that the transport map names.
	AsksMX map[string]bool
	// LookupTimeout is how long one RCPT may wait for sources and tables together;
	// default 30 s.
	LookupTimeout time.Duration
}

// Domain is one entry for one listener.
type Domain struct {
	// Name and Aliases are canonical domains; Name may be AnyDomain.
	Name    string
	Aliases []string
	// Listener is a listener's name or AnyListener; "" is AnyListener.
	Listener string
	// Transport takes the mail; AsksMX says that it looks up the MX of the
	// recipient's domain, so that each domain is a destination of its own.
	Transport string
	AsksMX    bool
	// Proxy says that mail is passed through while its client waits. That goes for
	// those whom RCPT alone leads to: members of aliases, copies and those whom the
	// transport map sends elsewhere are relayed.
	Proxy bool
	// RecipientFiles list the known recipients, and Sources know of more; without
	// any of them all are known. Files are asked first, and what one knows needs no
	// other.
	RecipientFiles []string
	Sources        []recipients.Named
	// CatchAll gets the mail for unknown recipients; the zero Address stands for
	// nobody: they are refused.
	CatchAll mail.Address
	// Delimiter separates a user from an extension ("+"); "" for none.
	Delimiter string
	// ContentFlow decides about mail for the domain; "" leaves it to the listener.
	ContentFlow string
}
