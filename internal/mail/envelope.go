package mail

import (
	"io"
	"net/netip"
	"time"
)

// Protocol is what a session speaks.
type Protocol string

// The protocols. The empty Protocol is SMTP.
const (
	SMTP Protocol = "smtp"
	POP3 Protocol = "pop3"
)

// Session is what is known of one client connection. It grows as the session
// goes on; the smtpserver owns it and hooks read it. A snapshot of it is kept
// in each message's envelope.
type Session struct {
	ID       ID             `json:"id"`
	Listener string         `json:"listener"`
	Protocol Protocol       `json:"protocol,omitempty"`
	Client   netip.AddrPort `json:"client"`
	Local    netip.AddrPort `json:"local,omitzero"`
	// Original is where a connection wanted to go that the firewall diverted to us;
	// zero for one that was made to us.
	Original netip.AddrPort `json:"original,omitzero"`
	// Server is the POP3 server behind the session, "host:port"; "" for SMTP.
	Server  string    `json:"server,omitempty"`
	Started time.Time `json:"started,omitzero"`
	// Helo is the name that the client gave, made safe for a header; ESMTP tells
	// EHLO from HELO.
	Helo  string `json:"helo,omitempty"`
	ESMTP bool   `json:"esmtp,omitempty"`
	TLS   TLS    `json:"tls,omitzero"`
	// User is the authenticated user, "" for none.
	User string `json:"user,omitempty"`
	// Senders are the addresses ("user@example.org") and domains ("@example.org")
	// that the user may send as; none where that is not known.
	Senders []string `json:"senders,omitempty"`
	// Trusted says that the client's address is in the listener's trusted_networks.
	Trusted bool `json:"trusted,omitempty"`
	// Name is the client's host name as a believed XCLIENT gave it, "" if unknown.
	Name string `json:"name,omitempty"`
	// Findings is what checks saw so far.
	Findings []Finding `json:"findings,omitempty"`
}

// MayRelay reports whether this client may send to any destination.
func (s *Session) MayRelay() bool { return s.Trusted || s.User != "" }

// TLS describes the encryption of a connection; the zero value means none.
type TLS struct {
	Version string `json:"version,omitempty"` // "TLSv1.3"
	Cipher  string `json:"cipher,omitempty"`  // "TLS_AES_128_GCM_SHA256"
	// Verified says that the peer's certificate was checked against the policy.
	Verified bool `json:"verified,omitempty"`
}

// Active reports whether the connection is encrypted.
func (t TLS) Active() bool { return t.Version != "" }

// BodyKind is the BODY parameter of MAIL (RFC 6152, RFC 3030).
type BodyKind string

// The values of BODY; the empty BodyKind means that the client gave none.
const (
	Body7Bit   BodyKind = "7BIT"
	Body8Bit   BodyKind = "8BITMIME"
	BodyBinary BodyKind = "BINARYMIME"
)

// Ret is the RET parameter of MAIL (RFC 3461 §4.3): how much of the message a
// failure DSN returns.
type Ret string

// The values of RET; the empty Ret means that the client gave none.
const (
	RetFull Ret = "FULL"
	RetHdrs Ret = "HDRS"
)

// Notify is the NOTIFY parameter of RCPT (RFC 3461 §4.1), as a set.
type Notify uint8

// The members of Notify; zero means that the client gave none.
const (
	NotifyNever Notify = 1 << iota
	NotifySuccess
	NotifyFailure
	NotifyDelay
)

// Envelope is everything about one message that is not its content.
type Envelope struct {
	ID       ID        `json:"id"`
	Received time.Time `json:"received"`
	Session  Session   `json:"session"`
	Sender   Address   `json:"sender"`
	// OriginalSender is what MAIL said, where Sender is another address.
	OriginalSender Address `json:"original_sender,omitzero"`

	Recipients []Recipient `json:"recipients"`

	Body       BodyKind `json:"body,omitempty"`
	SMTPUTF8   bool     `json:"smtputf8,omitempty"`
	RequireTLS bool     `json:"requiretls,omitempty"` // RFC 8689
	// TLSOptional says that the message goes without TLS rather than not at all: it is
	// our own report about TLS that fails (RFC 8460 §3).
	TLSOptional bool `json:"tls_optional,omitempty"`
	// PRDR says that the client takes an answer for each recipient at the end of
	// data (draft-hall-prdr).
	PRDR bool `json:"prdr,omitempty"`
	Ret  Ret  `json:"ret,omitempty"`
	// EnvID is the decoded ENVID (RFC 3461 §4.4), printable ASCII.
	EnvID string `json:"envid,omitempty"`

	// Size is the number of bytes of the body as spooled, CRLF line ends.
	Size int64 `json:"size"`
	// Edits is what delivery changes in the spooled bytes. The spool itself
	// always holds what the client sent.
	Edits Edits `json:"edits,omitzero"`
	// HeaderSize is the number of bytes up to and including the empty line
	// after the header section; equals Size where there is no body.
	HeaderSize int64 `json:"header_size"`
	// Has8Bit says that a byte above 0x7f stands in the body, HeaderUTF8 in the
	// header section; LongLines that a line exceeds 998 bytes (RFC 5322 §2.1.1).
	Has8Bit    bool `json:"has_8bit,omitempty"`
	HeaderUTF8 bool `json:"header_utf8,omitempty"`
	LongLines  bool `json:"long_lines,omitempty"`
	// Subject and MessageID are for lists and logs: decoded no further than
	// needed to be one printable line, cut at 200 bytes.
	Subject   string `json:"subject,omitempty"`
	MessageID string `json:"message_id,omitempty"`
	// Findings is what the content scan saw; Flow verdicts stand at each recipient.
	Findings []Finding `json:"findings,omitempty"`
	// ReleasedFrom is the quarantined message that this one was released from.
	ReleasedFrom ID `json:"released_from,omitzero"`
}

// GivenSender is the sender that MAIL named: what the client is responsible for.
func (e *Envelope) GivenSender() Address {
	if !e.OriginalSender.IsNull() {
		return e.OriginalSender
	}
	return e.Sender
}

// Recipient is one RCPT of an envelope.
type Recipient struct {
	// Address is where the message goes now, Original what RCPT said.
	Address  Address `json:"address"`
	Original Address `json:"original,omitzero"`
	Notify   Notify  `json:"notify,omitempty"`
	// ORcpt is the ORCPT parameter, decoded, with its type: "rfc822;a@b.example".
	ORcpt string `json:"orcpt,omitempty"`
	Route Route  `json:"route"`
	// Copy says that nobody named this recipient in RCPT: an automatic copy.
	Copy bool `json:"copy,omitempty"`
	// Member says that another recipient stands for the RCPT: one of several whom an
	// alias names. Original is the same.
	Member bool `json:"member,omitempty"`
	// Verdict is what the content flow decided for this recipient; nil where
	// nothing was scanned.
	Verdict *Verdict `json:"verdict,omitempty"`
}

// Route is where the routing sends one recipient.
type Route struct {
	// Domain is the configured domain that matched: its name, or "*".
	Domain string `json:"domain,omitempty"`
	// Transport is the name of the transport.
	Transport string `json:"transport"`
	// NextHop is the domain whose MX is asked; "" where the transport itself
	// says where to go.
	NextHop string `json:"next_hop,omitempty"`
	// Proxy says that the message is passed through while the client waits, and not
	// queued.
	Proxy bool `json:"proxy,omitempty"`
	// Flow is the content flow that decides about mail for this recipient; "" for
	// none: nothing is scanned.
	Flow string `json:"flow,omitempty"`
}

// Edits describe the delivered message relative to the spooled bytes: Prepend
// comes first, then the spooled bytes without the spans in Cut and with those in
// Replace exchanged. Only Replace ever touches the body, and only where a verdict
// takes an attachment out.
type Edits struct {
	Prepend []byte        `json:"prepend,omitempty"`
	Cut     []Span        `json:"cut,omitempty"`
	Replace []Replacement `json:"replace,omitempty"`
}

// Replacement puts Text in the place of a stretch of the spooled message. The
// replacements of Edits are in ascending order and overlap neither each other
// nor a Cut.
type Replacement struct {
	Span
	Text []byte `json:"text"`
}

// Span is a half-open range of byte offsets into the spooled message. The spans
// of Edits are in ascending order and do not overlap.
type Span struct {
	Start int64 `json:"start"`
	End   int64 `json:"end"`
}

// Body is random access to the spooled bytes of one message.
type Body interface {
	io.ReaderAt
	// Size is the number of bytes.
	Size() int64
}

// Message is an envelope with its content.
type Message struct {
	Envelope *Envelope
	Body     Body
}
