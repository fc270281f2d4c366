package gateway

import (
	"strings"

	"gatepost/internal/mail"
	"gatepost/internal/message"
)

// ownHeaderPrefix starts the names of the fields that only Gatepost may write.
const ownHeaderPrefix = "x-gatepost-"

// trace decides the header edits of a message that came in: our Received field
// in front, forged fields cut. It also keeps what lists and logs show.
func (g *Gateway) trace(m mail.Message, header *message.Header) {
	env := m.Envelope
	env.Subject = message.SafeText(header.Get("Subject"), 200)
	env.MessageID = message.SafeText(header.Get("Message-ID"), 200)
	env.Edits.Cut = g.forged(header)
	env.Edits.Prepend = message.FormatReceived(message.ReceivedInfo{
		Session: &env.Session,
		By:      g.cfg.Hostname,
		ID:      env.ID,
		For:     soleRecipient(env),
		UTF8:    env.SMTPUTF8,
		Time:    env.Received,
	})
	env.Edits.Prepend = append(env.Edits.Prepend, g.submissionFields(env, header)...)
}

// forged returns the fields that claim to be ours: a client must not be able to
// say that we checked something.
func (g *Gateway) forged(header *message.Header) []mail.Span {
	var spans []mail.Span
	for i, f := range header.Fields() {
		name := strings.ToLower(f.Name)
		switch {
		case i == 0 && f.IsOrphan():
			// It would continue our Received field, which goes in front of it.
			spans = append(spans, f.Span)
		case strings.HasPrefix(name, ownHeaderPrefix):
			spans = append(spans, f.Span)
		case name == "authentication-results" && g.isOurAuthservID(f.Value()):
			spans = append(spans, f.Span)
		}
	}
	return spans
}

// isOurAuthservID reports whether the value of an Authentication-Results field
// names us. RFC 8601 §5: such a field from outside must go.
func (g *Gateway) isOurAuthservID(value string) bool {
	id, _, _ := strings.Cut(stripComments(value), ";")
	fields := strings.Fields(id) // "id version"
	return len(fields) > 0 && strings.EqualFold(strings.Trim(fields[0], `"`), g.cfg.Hostname)
}

// stripComments removes RFC 5322 comments and backslashes, so that
// "(x) gw.example" is seen for what it is. An unclosed comment hides the rest, as it does for every reader.
func stripComments(s string) string {
	var b strings.Builder
	depth, quoted := 0, false
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '\\' && i+1 < len(s):
			if depth == 0 {
				b.WriteByte(s[i+1]) // "gw\.example" means gw.example
			}
			i++
			continue
		case c == '"' && depth == 0:
			quoted = !quoted
		case c == '(' && !quoted:
			depth++
			continue
		case c == ')' && !quoted && depth > 0:
			depth--
			continue
		}
		if depth == 0 {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// submissionFields adds what a message from our own side may lack (RFC 6409
// §8.1, §8.3). Mail from outside is left as it is: repairing it would change
// what its signatures and our checks see.
func (g *Gateway) submissionFields(env *mail.Envelope, header *message.Header) []byte {
	if !env.Session.MayRelay() {
		return nil
	}
	var b []byte
	if header.Count("Date") == 0 {
		b = append(b, "Date: "+message.FormatDate(env.Received)+"\r\n"...)
	}
	if header.Count("Message-ID") == 0 {
		id := "<" + env.ID.String() + "@" + g.cfg.Hostname + ">"
		b = append(b, "Message-ID: "+id+"\r\n"...)
		env.MessageID = id
	}
	return b
}

// soleRecipient is the recipient for the Received field: only when there is
// exactly one, so that nobody learns of blind copies (RFC 5321 §7.2).
func soleRecipient(env *mail.Envelope) string {
	if len(env.Recipients) != 1 {
		return ""
	}
	return env.Recipients[0].Original.String()
}
