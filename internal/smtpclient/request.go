package smtpclient

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"gatepost/internal/mail"
	"gatepost/internal/smtp"
)

// Content is a message as it goes out: CRLF line ends, header edits applied.
// WriteTo may be called several times and starts at the beginning each time.
type Content interface {
	// Size is the number of bytes, -1 where it is not known.
	Size() int64
	io.WriterTo
}

// Request is one message for one or more recipients. What the remote cannot do
// is left out of the commands silently; who calls has looked at Extensions and
// decided that it may be.
type Request struct {
	Sender     mail.Address
	Recipients []mail.Recipient
	Content    Content
	// Body is announced where the remote knows 8BITMIME (or BINARYMIME).
	Body       mail.BodyKind
	SMTPUTF8   bool
	RequireTLS bool
	Ret        mail.Ret
	EnvID      string
}

// Bounds of RFC 3461 §5.4 on the encoded values.
const (
	maxEnvID = 100
	maxORcpt = 500
)

// legalPath reports whether an address may stand between < and > in a command.
func legalPath(raw string) bool {
	for i := range len(raw) {
		if c := raw[i]; c < ' ' || c == 0x7f {
			return false
		}
	}
	return true
}

// appendMail appends the MAIL command.
func (c *Conn) appendMail(b []byte, req *Request) []byte {
	b = append(b, "MAIL FROM:<"...)
	b = append(b, req.Sender.Raw...)
	b = append(b, '>')
	if size := req.Content.Size(); c.ext.Size && size >= 0 {
		b = append(b, " SIZE="...)
		b = strconv.AppendInt(b, size, 10)
	}
	if req.Body == mail.Body8Bit && c.ext.EightBit || req.Body == mail.BodyBinary && c.ext.Binary {
		b = append(b, " BODY="...)
		b = append(b, req.Body...)
	}
	if req.SMTPUTF8 && c.ext.SMTPUTF8 {
		b = append(b, " SMTPUTF8"...)
	}
	if req.RequireTLS && c.ext.RequireTLS {
		b = append(b, " REQUIRETLS"...)
	}
	if c.ext.DSN {
		b = appendReturn(b, req)
	}
	return append(b, '\r', '\n')
}

// appendReturn appends RET and ENVID (RFC 3461 §4.3, §4.4).
func appendReturn(b []byte, req *Request) []byte {
	if req.Ret == mail.RetFull || req.Ret == mail.RetHdrs {
		b = append(b, " RET="...)
		b = append(b, req.Ret...)
	}
	if id := smtp.EncodeXText(req.EnvID); id != "" && len(id) <= maxEnvID && printable(req.EnvID) {
		b = append(b, " ENVID="...)
		b = append(b, id...)
	}
	return b
}

// appendRcpt appends the RCPT command.
func (c *Conn) appendRcpt(b []byte, req *Request, r *mail.Recipient) []byte {
	b = append(b, "RCPT TO:<"...)
	b = append(b, r.Address.Raw...)
	b = append(b, '>')
	if c.ext.DSN {
		b = appendNotify(b, r.Notify)
		if orcpt := encodeORcpt(r, req.SMTPUTF8 && c.ext.SMTPUTF8); orcpt != "" {
			b = append(b, " ORCPT="...)
			b = append(b, orcpt...)
		}
	}
	return append(b, '\r', '\n')
}

// appendNotify appends NOTIFY (RFC 3461 §4.1); NEVER stands alone.
func appendNotify(b []byte, n mail.Notify) []byte {
	if n == 0 {
		return b
	}
	b = append(b, " NOTIFY="...)
	if n&mail.NotifyNever != 0 {
		return append(b, "NEVER"...)
	}
	for _, word := range []struct {
		bit  mail.Notify
		name string
	}{{mail.NotifySuccess, "SUCCESS,"}, {mail.NotifyFailure, "FAILURE,"}, {mail.NotifyDelay, "DELAY,"}} {
		if n&word.bit != 0 {
			b = append(b, word.name...)
		}
	}
	return b[:len(b)-1]
}

// encodeORcpt is the value of ORCPT, "" for none. A recipient whose address was
// rewritten here and that came without one gets the address that RCPT named
// (RFC 3461 §5.2.1).
func encodeORcpt(r *mail.Recipient, utf8OK bool) string {
	orcpt := r.ORcpt
	if orcpt == "" && r.Original.Raw != "" && r.Original.Raw != r.Address.Raw {
		orcpt = "rfc822;" + r.Original.Raw
		if r.Original.NeedsUTF8() {
			orcpt = "utf-8;" + r.Original.Raw
		}
	}
	kind, address, ok := strings.Cut(orcpt, ";")
	if !ok || kind == "" || address == "" || strings.Trim(strings.ToLower(kind), "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return ""
	}
	var encoded string
	switch {
	case strings.EqualFold(kind, "utf-8"):
		encoded = encodeUTF8Addr(address, utf8OK)
	case printable(address):
		encoded = smtp.EncodeXText(address)
	}
	if encoded == "" || len(kind)+1+len(encoded) > maxORcpt {
		return ""
	}
	return kind + ";" + encoded
}

// encodeUTF8Addr is utf-8-addr-xtext, or utf-8-addr-unitext where the message
// goes out under SMTPUTF8 (RFC 6533 §3); "" where the address cannot be sent.
func encodeUTF8Addr(address string, utf8OK bool) string {
	if !utf8.ValidString(address) || strings.ContainsFunc(address, func(r rune) bool { return r < ' ' || 0x7f <= r && r <= 0x9f }) {
		return ""
	}
	var b strings.Builder
	for _, r := range address {
		switch {
		case r == ' ', r == '\\', r == '+', r == '=', r >= 0x80 && !utf8OK:
			fmt.Fprintf(&b, `\x{%02X}`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// printable reports that s is printable ASCII: what hides a line end in an
// encoded parameter is not passed on, for who knows who decodes it.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
