package message

import (
	"net/netip"
	"time"

	"gatepost/internal/mail"
)

// ReceivedInfo is what a Received field tells.
type ReceivedInfo struct {
	Session *mail.Session
	By      string // our host name
	ID      mail.ID
	// For is the recipient as RCPT named it; set it only where there is exactly
	// one, so that nobody learns of blind copies (RFC 5321 §7.2).
	For string
	// UTF8 says that the transaction used SMTPUTF8.
	UTF8 bool
	Time time.Time
}

// Bounds on what a remote peer can make us write, in bytes.
const (
	maxTraceName = 255
	maxTracePath = 256
)

// FormatReceived returns the trace field of RFC 5321 §4.4, with its line end. It
// is ASCII whatever the client said, so that it never makes a message need
// SMTPUTF8, and no line of it is longer than 300 bytes.
func FormatReceived(in ReceivedInfo) []byte {
	s := in.Session
	b := make([]byte, 0, 384)
	b = append(b, "Received: from "...)
	b = appendName(b, s.Helo)
	b = appendTCPInfo(b, s)
	if s.TLS.Active() {
		b = append(b, "\r\n\t(using "...)
		b = appendName(b, s.TLS.Version)
		if s.TLS.Cipher != "" {
			b = append(b, " with cipher "...)
			b = appendName(b, s.TLS.Cipher)
		}
		b = append(b, ')')
	}
	b = append(b, "\r\n\tby "...)
	b = appendName(b, in.By)
	b = append(b, " with "...)
	b = append(b, protocol(s, in.UTF8)...)
	b = append(b, " id "...)
	b = append(b, in.ID.String()...)
	if isTracePath(in.For) {
		b = append(b, "\r\n\tfor <"...)
		b = append(b, in.For...)
		b = append(b, '>')
	}
	b = append(b, ";\r\n\t"...)
	b = in.Time.AppendFormat(b, dateLayout)
	return append(b, crlf...)
}

// dateLayout is the date-time of RFC 5322 §3.3.
const dateLayout = "Mon, 2 Jan 2006 15:04:05 -0700"

// FormatDate returns the value of a Date field.
func FormatDate(t time.Time) string { return t.Format(dateLayout) }

// appendTCPInfo writes " (name [192.0.2.1])": what we know, beside what the
// client claims (RFC 5321 §4.4, TCP-info).
func appendTCPInfo(b []byte, s *mail.Session) []byte {
	addr := s.Client.Addr().Unmap().WithZone("")
	if !addr.IsValid() {
		return b
	}
	b = append(b, " ("...)
	if s.Name != "" {
		b = appendName(b, s.Name)
		b = append(b, ' ')
	}
	b = appendLiteral(b, addr)
	return append(b, ')')
}

// appendLiteral writes the address literal of RFC 5321 §4.1.3.
func appendLiteral(b []byte, addr netip.Addr) []byte {
	b = append(b, '[')
	if addr.Is6() {
		b = append(b, "IPv6:"...)
	}
	b = addr.AppendTo(b)
	return append(b, ']')
}

// appendName writes a host name or literal. A byte that could end a comment or a
// line, or begin a header field, becomes "?".
func appendName(b []byte, s string) []byte {
	if s == "" {
		return append(b, "unknown"...)
	}
	for i := range min(len(s), maxTraceName) {
		c := s[i]
		if !isNameByte(c) {
			c = '?'
		}
		b = append(b, c)
	}
	return b
}

func isNameByte(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	switch c {
	case '.', '-', '_', '[', ']', ':', '+':
		return true
	}
	return false
}

// isTracePath reports whether a recipient can stand in the field: printable
// ASCII within the length of a path. Every other is left out, not altered.
func isTracePath(s string) bool {
	if s == "" || len(s) > maxTracePath {
		return false
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// protocol is the "with" value of RFC 3848 and RFC 6531 §4.3. There is none for
// HELO with TLS or AUTH, so that stays SMTP.
func protocol(s *mail.Session, utf8 bool) string {
	switch {
	case s.Protocol == mail.POP3:
		return "POP3"
	case !s.ESMTP:
		return "SMTP"
	}
	name := "ESMTP"
	if utf8 {
		name = "UTF8SMTP"
	}
	if s.TLS.Active() {
		name += "S"
	}
	if s.User != "" {
		name += "A"
	}
	return name
}
