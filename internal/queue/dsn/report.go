package dsn

import (
	"errors"
	"fmt"
	"io"
	"mime/quotedprintable"
	"strings"
	"time"

	"gatepost/internal/mail"
)

// Action is what a report says of a recipient (RFC 3464 §2.3.3).
type Action string

// The actions, the worst first.
const (
	Failed    Action = "failed"
	Delayed   Action = "delayed"
	Relayed   Action = "relayed"
	Delivered Action = "delivered"
)

// Report is what a report is made of.
type Report struct {
	// Hostname is this system: Reporting-MTA, and the domain of MAILER-DAEMON.
	Hostname string
	// ID names the report; the zero ID stands for a fresh one.
	ID   mail.ID
	Date time.Time
	To   mail.Address
	// Envelope and Body are the message that is reported on.
	Envelope   *mail.Envelope
	Body       mail.Body
	Recipients []Recipient // at least one
	// RetryUntil is when delayed recipients are given up.
	RetryUntil time.Time
	// MaxReturn is the size in bytes up to which a message comes back whole.
	MaxReturn int64
	// DoubleBounce says that the report is for the postmaster, about a message
	// whose sender is null.
	DoubleBounce bool
}

// Recipient is what happened to one recipient.
type Recipient struct {
	Action    Action
	Recipient mail.Recipient
	// Outcome is the last one; its Time is the Last-Attempt-Date.
	Outcome mail.Outcome
	// Expired says that the recipient failed for its age, after refusals that
	// were not final.
	Expired bool
}

// Build writes the report. The reader yields size bytes; it reads a message that
// comes back whole from Body as it goes, everything else is in memory already.
func Build(r Report) (report io.Reader, size int64, err error) {
	if len(r.Recipients) == 0 {
		return nil, 0, errors.New("build report: no recipients")
	}
	if r.Envelope == nil || r.Body == nil {
		return nil, 0, errors.New("build report: no message")
	}
	if r.ID.IsZero() {
		r.ID = mail.NewID()
	}
	b := &builder{Report: r, utf8: r.Envelope.SMTPUTF8 || r.To.NeedsUTF8(), boundary: "=_gatepost_" + r.ID.String()}
	original, status := b.original(), b.status()
	b.header(original.eightBit || !mail.IsASCII(status))
	b.text()
	b.machine(status)
	fmt.Fprintf(&b.out, "--%s\r\nContent-Description: %s\r\nContent-Type: %s\r\nContent-Transfer-Encoding: %s\r\n\r\n",
		b.boundary, original.description, original.mediaType, original.encoding)
	end := "\r\n--" + b.boundary + "--\r\n"
	size = int64(b.out.Len()) + original.size + int64(len(end))
	return io.MultiReader(&b.out, original.content, strings.NewReader(end)), size, nil
}

// builder holds a report while it is written.
type builder struct {
	Report
	out      fields
	utf8     bool // the reader of the report knows RFC 6531
	boundary string
}

// worst is the action that the subject names.
func (b *builder) worst() Action {
	for _, a := range []Action{Failed, Delayed, Relayed} {
		for i := range b.Recipients {
			if b.Recipients[i].Action == a {
				return a
			}
		}
	}
	return Delivered
}

var subjects = map[Action]string{
	Failed:    "Your message could not be delivered",
	Delayed:   "Your message is delayed",
	Relayed:   "Your message was passed on",
	Delivered: "Your message was delivered",
}

// header writes the header section of the report.
func (b *builder) header(eightBit bool) {
	host := cleanASCII(b.Hostname)
	subject := subjects[b.worst()]
	if b.DoubleBounce {
		subject = "Undeliverable mail from the null sender"
	}
	b.out.field("Date", b.Date.Format(time.RFC1123Z))
	b.out.field("From", "Mail Delivery System <MAILER-DAEMON@"+host+">")
	b.out.field("To", "<"+b.address(b.To.String())+">")
	b.out.field("Subject", subject)
	b.out.field("Message-ID", "<"+b.ID.String()+"@"+host+">")
	if id := b.Envelope.MessageID; isMessageID(id) {
		b.out.field("In-Reply-To", id)
		b.out.field("References", id)
	}
	// RFC 3834 §5: so that no vacation program answers.
	b.out.field("Auto-Submitted", "auto-replied")
	b.out.field("MIME-Version", "1.0")
	// The report type is the same for message/global-delivery-status.
	b.out.field("Content-Type", `multipart/report; report-type=delivery-status; boundary="`+b.boundary+`"`)
	if eightBit {
		b.out.field("Content-Transfer-Encoding", "8bit")
	}
	b.out.WriteString("\r\n")
}

// address is an address as it may stand in a header field of the report.
func (b *builder) address(a string) string {
	if b.utf8 {
		return clean(a)
	}
	return cleanASCII(a)
}

// text writes the part for people.
func (b *builder) text() {
	text := b.prose()
	encoding := "7bit"
	if !mail.IsASCII(text) {
		encoding = "quoted-printable"
		var qp strings.Builder
		w := quotedprintable.NewWriter(&qp)
		io.WriteString(w, text) // a strings.Builder takes everything
		w.Close()
		text = qp.String()
	}
	fmt.Fprintf(&b.out, "--%s\r\nContent-Description: Notification\r\nContent-Type: text/plain; charset=utf-8\r\n"+
		"Content-Transfer-Encoding: %s\r\n\r\n%s\r\n", b.boundary, encoding, text)
}

// machine writes the part for machines.
func (b *builder) machine(status string) {
	mediaType, encoding := "message/delivery-status", "7bit"
	if !mail.IsASCII(status) {
		mediaType, encoding = "message/global-delivery-status", "8bit" // RFC 6533
	}
	fmt.Fprintf(&b.out, "--%s\r\nContent-Description: Delivery report\r\nContent-Type: %s\r\nContent-Transfer-Encoding: %s\r\n\r\n%s\r\n",
		b.boundary, mediaType, encoding, status)
}

// status returns the fields of the message and of each recipient; they are
// ASCII unless the reader of the report knows more.
func (b *builder) status() string {
	var f fields
	f.field("Reporting-MTA", "dns; "+cleanASCII(b.Hostname))
	if id := cleanASCII(b.Envelope.EnvID); id != "" {
		// RFC 3464 §2.2.1: as the sender meant it, with xtext undone.
		f.field("Original-Envelope-Id", id)
	}
	if !b.Envelope.Received.IsZero() {
		f.field("Arrival-Date", b.Envelope.Received.Format(time.RFC1123Z))
	}
	f.field("X-Gatepost-Message-ID", b.Envelope.ID.String())
	for i := range b.Recipients {
		f.WriteString("\r\n")
		b.recipient(&f, &b.Recipients[i])
	}
	return f.String()
}

// recipient writes the fields of one recipient, RFC 3464 §2.3.
func (b *builder) recipient(f *fields, r *Recipient) {
	if orig := b.originalRecipient(&r.Recipient); orig != "" {
		f.field("Original-Recipient", orig)
	}
	f.field("Final-Recipient", b.typedAddress(r.Recipient.Address.String()))
	f.field("Action", string(r.Action))
	f.field("Status", r.status())
	if host := remoteHost(r.Outcome.Host); host != "" {
		f.field("Remote-MTA", "dns; "+host)
	}
	if r.Outcome.Remote {
		f.field("Diagnostic-Code", "smtp; "+b.diagnostic(r.Outcome.Reply.String()))
	} else if !r.Outcome.Reply.IsZero() && r.Action != Delivered && r.Action != Relayed {
		// RFC 3464 §2.3.6: the type smtp is for what a server said.
		f.field("Diagnostic-Code", "x-gatepost; "+b.diagnostic(r.Outcome.Reply.String()))
	}
	if !r.Outcome.Time.IsZero() {
		f.field("Last-Attempt-Date", r.Outcome.Time.Format(time.RFC1123Z))
	}
	if r.Action == Delayed && !b.RetryUntil.IsZero() {
		f.field("Will-Retry-Until", b.RetryUntil.Format(time.RFC1123Z))
	}
}

// originalRecipient is the ORCPT parameter, or the address before rewriting
// where none was given (RFC 3461 §5.2: that is what a relay may add as ORCPT).
func (b *builder) originalRecipient(r *mail.Recipient) string {
	kind, addr, ok := strings.Cut(r.ORcpt, ";")
	kind = strings.TrimSpace(kind)
	if ok && isAtom(kind) && strings.TrimSpace(addr) != "" {
		if strings.EqualFold(kind, "utf-8") || !mail.IsASCII(addr) {
			return b.utf8Address(addr)
		}
		return kind + "; " + cleanASCII(strings.TrimSpace(addr))
	}
	if !r.Original.IsNull() && r.Original.Key() != r.Address.Key() {
		return b.typedAddress(r.Original.String())
	}
	return ""
}

// typedAddress is an address with its type, RFC 3464 §2.1.2.
func (b *builder) typedAddress(a string) string {
	if mail.IsASCII(a) {
		return "rfc822; " + cleanASCII(a)
	}
	return b.utf8Address(a)
}

// utf8Address is RFC 6533 §3: as it is for those who can read it, else with
// every character that is not plain ASCII as \x{HEX}.
func (b *builder) utf8Address(a string) string {
	a = clean(strings.TrimSpace(a))
	if b.utf8 {
		return "utf-8; " + a
	}
	var s strings.Builder
	for _, c := range a {
		// An escape that is there already keeps its backslash.
		if c > ' ' && c < 0x7f && c != '+' && c != '=' {
			s.WriteRune(c)
		} else {
			fmt.Fprintf(&s, `\x{%02X}`, c)
		}
	}
	return "utf-8; " + s.String()
}

// status is the status code of RFC 3463: the one that came with the reply if it
// says what the action says, else the plain one of its class.
func (r *Recipient) status() string {
	class := byte('2')
	switch {
	case r.Action == Delayed:
		class = '4'
	case r.Action == Failed && r.Expired:
		// RFC 3463 §3.5, X.4.7: the problem itself is worth more than "expired".
		class = '4'
	case r.Action == Failed:
		class = '5'
	}
	if e := r.Outcome.Reply.Enhanced; isStatus(e) && e[0] == class {
		return e
	}
	if r.Expired {
		return "4.4.7"
	}
	return string(class) + ".0.0"
}
