package gateway

import (
	"bytes"
	"cmp"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"net/mail"
	"strings"
	"text/template"
	"time"

	nouns "gatepost/internal/mail"
	"gatepost/internal/message"
)

// Notice is the text that a reader gets in the place of a message.
type Notice struct{ template *template.Template }

// noticeText is what a template can say. Texts of strangers are one printable line
// each.
type noticeText struct {
	// What is wrong with the message, in words; Reason and Rule are what the flow says.
	What, Reason, Rule string
	ID                 nouns.ID
	From, Subject      string
	Date               string
	Size               int64
	User, Server       string
	Postmaster         string
	Hostname           string
}

// defaultNotice is used where none is configured.
const defaultNotice = `A message to you was held back by the mail gateway {{.Hostname}}.

  From:    {{.From}}
  Subject: {{.Subject}}
  Date:    {{.Date}}
  Size:    {{.Size}} bytes

Why: {{.What}}{{if .Reason}} ({{.Reason}}){{end}}.

The original is in the quarantine of the gateway. If you need it, write to
{{.Postmaster}} and give this number:

  {{.ID}}

This notice stands in its place until the message is deleted from the mailbox.
`

// maxNotice bounds a template, and the text of a notice, in bytes.
const maxNotice = 64 << 10

// ParseNotice understands a template for notices (text/template). "" is the one that
// comes with Gatepost. A template that fails on an example is an error.
func ParseNotice(text string) (*Notice, error) {
	if len(text) > maxNotice {
		return nil, fmt.Errorf("parse notice: larger than %d bytes", maxNotice)
	}
	t, err := template.New("notice").Option("missingkey=error").Parse(cmp.Or(text, defaultNotice))
	if err != nil {
		return nil, fmt.Errorf("parse notice: %w", err)
	}
	n := &Notice{t}
	if _, err := n.text(noticeText{What: "example"}); err != nil {
		return nil, fmt.Errorf("parse notice: %w", err)
	}
	return n, nil
}

func (n *Notice) text(t noticeText) (string, error) {
	var b strings.Builder
	if err := n.template.Execute(&limited{&b}, t); err != nil {
		return "", err
	}
	return b.String(), nil
}

// limited ends a template that writes without end.
type limited struct{ *strings.Builder }

func (l *limited) Write(p []byte) (int, error) {
	if l.Len()+len(p) > maxNotice {
		return 0, fmt.Errorf("the notice is larger than %d bytes", maxNotice)
	}
	return l.Builder.Write(p)
}

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
	t := noticeText{
		What: wordsFor(j.Verdict.Threat), Reason: message.SafeText(j.Verdict.Reason, 300), Rule: message.SafeText(j.Verdict.Rule, 100), ID: j.Message,
		From: decoded(header.Get("From")), Subject: decoded(header.Get("Subject")), Date: date.Format(time.RFC1123Z), Size: j.Size,
		User: message.SafeText(env.Session.User, 100), Server: env.Session.Server, Postmaster: from, Hostname: g.cfg.Hostname,
	}
	text, err := g.notice().text(t)
	if err != nil {
		// It worked with an example; the reader must hear something all the same.
		g.cfg.Log.Error("notice not made from its template", "id", j.Message.String(), "error", err)
		text = fmt.Sprintf("A message to you was held back: %s. Its number is %s.\n", t.What, t.ID)
	}
	var b bytes.Buffer
	for _, field := range [][2]string{
		{"From", "<" + from + ">"},
		{"To", "<" + env.Recipients[0].Address.String() + ">"},
		{"Date", date.Format(time.RFC1123Z)},
		{"Subject", mime.QEncoding.Encode("utf-8", "[held back] "+t.Subject)},
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

func (g *Gateway) notice() *Notice {
	if g.cfg.Mailboxes.Text != nil {
		return g.cfg.Mailboxes.Text
	}
	return &Notice{template.Must(template.New("notice").Parse(defaultNotice))}
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

// decoded is a header field for people: encoded words decoded, one printable line.
func decoded(value string) string {
	if text, err := new(mime.WordDecoder).DecodeHeader(value); err == nil {
		value = text
	}
	return message.SafeText(value, 200)
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
