package gateway

import (
	"bytes"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"net/mail"
	"strings"
	"time"

	nouns "gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/message/notice"
)

// noticeOf is the message that a reader gets in the place of another one: what, why,
// and how to get it. Nothing of the original's body is in it, and of its header only
// what is made safe.
func (g *Gateway) noticeOf(env *nouns.Envelope, header *message.Header, j *nouns.Judged) []byte {
	from := g.cfg.Mailboxes.From.String()
	if g.cfg.Mailboxes.From.IsNull() {
		from = "postmaster@" + g.cfg.Hostname
	}
	date := env.Received
	if d, err := mail.ParseDate(header.Get("Date")); err == nil {
		date = d
	}
	t := notice.Text{
		What: wordsFor(j.Verdict.Threat), Reason: message.SafeText(j.Verdict.Reason, 300), Rule: message.SafeText(j.Verdict.Rule, 100), ID: j.Message,
		// Encoded words are decoded once.
		From: message.SafeText(header.Get("From"), 200), Subject: message.SafeText(header.Get("Subject"), 200), Date: date.Format(time.RFC1123Z), Size: j.Size,
		User: message.SafeText(env.Session.User, 100), Server: env.Session.Server, Postmaster: from, Hostname: g.cfg.Hostname,
	}
	text, err := g.cfg.Mailboxes.Text.Make(t)
	if err != nil {
		// It worked with an example; the reader must hear something all the same.
		g.cfg.Log.Error("notice not made from its template", "id", j.Message.String(), "error", err)
		text = fmt.Sprintf("A message to you was held back: %s. Its number is %s.\n", t.What, t.ID)
	}
	var b bytes.Buffer
	for _, field := range [][2]string{
		{"From", "<" + from + ">"},
		{"To", toReader(env.Recipients[0].Address)},
		{"Date", date.Format(time.RFC1123Z)},
		// What looks like an encoded word after decoding must not be decoded again.
		{"Subject", mime.QEncoding.Encode("utf-8", "[held back] "+strings.ReplaceAll(t.Subject, "=?", "= ?"))},
		{"Message-ID", "<" + j.Message.String() + ".held@" + g.cfg.Hostname + ">"},
		{"Auto-Submitted", "auto-generated"},
		{"X-Gatepost-ID", j.Message.String()},
		{"MIME-Version", "1.0"},
		{"Content-Type", "text/plain; charset=utf-8"},
		{"Content-Transfer-Encoding", "quoted-printable"},
	} {
		b.WriteString(foldField(field[0] + ": " + field[1]))
	}
	b.WriteString("\r\n")
	w := quotedprintable.NewWriter(&b)
	// A buffer takes everything.
	_, _ = w.Write([]byte(strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\n", "\r\n")))
	_ = w.Close()
	return b.Bytes()
}

// toReader is the reader as a field names him. One whose address only fits into mail that
// is in UTF-8 (RFC 6532) is not named: who knows what his client takes.
func toReader(a nouns.Address) string {
	if a.NeedsUTF8() || a.IsNull() {
		return "undisclosed-recipients:;"
	}
	return "<" + a.String() + ">"
}

// wordsFor says what a threat is to somebody who does not know our words.
func wordsFor(t nouns.Threat) string {
	switch t {
	case nouns.ThreatVirus:
		return "it carries a virus or other harmful software"
	case nouns.ThreatSpam:
		return "it looks like spam"
	case nouns.ThreatUnscanned:
		return "it could not be examined"
	}
	return "the rules of your organisation do not let it through"
}

// foldField breaks a field at blanks where lines would be long (RFC 5322 §2.1.1).
func foldField(field string) string {
	var b strings.Builder
	line := 0
	for i, word := range strings.Split(field, " ") {
		switch {
		case i == 0:
		case line+1+len(word) > 76 && line > 0 && i > 1:
			b.WriteString("\r\n ")
			line = 1
		default:
			b.WriteByte(' ')
			line++
		}
		b.WriteString(word)
		line += len(word)
	}
	return b.String() + "\r\n"
}
