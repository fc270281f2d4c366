package quarantine

import (
	"bytes"
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"io"
	"mime/quotedprintable"
	"strings"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/message"
)

// digestMail is one digest before it is written.
type digestMail struct {
	From     mail.Address
	To       mail.Address
	Hostname string
	Date     time.Time
	// Day is the date that the digest is of, "2006-01-02".
	Day   string
	Items []digestItem
	// More says that there are messages beyond those in Items.
	More bool
	// Days is how many days messages are kept.
	Days int
	// Settings is the link by which the recipient changes when digests come.
	Settings string
}

// digestItem is one message in a digest. Its texts are safe for one line.
type digestItem struct {
	Received string
	Sender   string
	Subject  string
	Kind     string
	// Release and Delete are links; Release is "" where only an administrator may.
	Release string
	// Ask is a link to ask an administrator, where Release is "".
	Ask    string
	Delete string
}

// Count tells how many messages there are: "One message is", "More than 100
// messages are".
func (d *digestMail) Count() string {
	switch n := len(d.Items); {
	case d.More:
		return fmt.Sprintf("More than %d messages are", n)
	case n == 1:
		return "One message is"
	default:
		return fmt.Sprintf("%d messages are", n)
	}
}

// Limits of the texts in a digest, in bytes.
const (
	maxDigestSubject = 200
	maxDigestSender  = 320
)

// threatWords are threats as recipients read them.
var threatWords = map[mail.Threat]string{
	mail.ThreatVirus:     "virus",
	mail.ThreatSpam:      "spam",
	mail.ThreatFilter:    "not allowed",
	mail.ThreatUnscanned: "could not be checked",
	mail.ThreatPolicy:    "sender not authentic",
}

func kindText(t mail.Threat) string {
	if w, ok := threatWords[t]; ok {
		return w
	}
	return "held back"
}

// subject is the Subject field. Nothing from the messages stands in it.
func (d *digestMail) subject() string { return d.Count() + " held in quarantine" }

// messageID is the same for the same recipient and day, so that mail systems
// which drop duplicates drop the one that a crash at the wrong moment may cause.
func (d *digestMail) messageID() string {
	sum := sha256.Sum256([]byte(d.Day + "\x00" + d.To.Key()))
	name := strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:15]))
	return "<digest." + strings.ReplaceAll(d.Day, "-", "") + "." + name + "@" + d.Hostname + ">"
}

// write returns the digest as a message with CRLF line ends, all ASCII but for
// an address of the recipient that is not.
func (d *digestMail) write() ([]byte, error) {
	var b bytes.Buffer
	boundary := "=_gatepost_" + mail.NewID().String()
	field := func(name, value string) { b.WriteString(name + ": " + value + "\r\n") }
	field("From", `"Mail quarantine" <`+d.From.Raw+">")
	field("To", "<"+d.To.Raw+">")
	field("Subject", d.subject())
	field("Date", message.FormatDate(d.Date))
	field("Message-ID", d.messageID())
	// RFC 3834 §5, so that nobody's vacation answers; RFC 2919 for filing rules.
	field("Auto-Submitted", "auto-generated")
	field("X-Auto-Response-Suppress", "All")
	field("List-Id", "Mail quarantine <quarantine-digest."+d.Hostname+">")
	if d.Settings != "" {
		// RFC 2369 §3.2. Not RFC 8058: without a form nothing changes.
		field("List-Unsubscribe", "<"+d.Settings+">")
	}
	field("MIME-Version", "1.0")
	field("Content-Type", `multipart/alternative; boundary="`+boundary+`"`)
	b.WriteString("\r\n")
	for _, part := range []struct {
		kind   string
		render func(io.Writer) error
	}{
		{"text/plain", func(w io.Writer) error { return digestText.Execute(w, d) }},
		{"text/html", func(w io.Writer) error { return digestHTML.Execute(w, d) }},
	} {
		b.WriteString("--" + boundary + "\r\n")
		field("Content-Type", part.kind+"; charset=utf-8")
		field("Content-Transfer-Encoding", "quoted-printable")
		b.WriteString("\r\n")
		// Quoted-printable writes CRLF and keeps every line within 76 characters.
		w := quotedprintable.NewWriter(&b)
		if err := part.render(w); err != nil {
			return nil, fmt.Errorf("write digest: %w", err)
		}
		if err := w.Close(); err != nil {
			return nil, fmt.Errorf("write digest: %w", err)
		}
		b.WriteString("\r\n")
	}
	b.WriteString("--" + boundary + "--\r\n")
	return b.Bytes(), nil
}
