// Package notice is the text that the reader of a mailbox gets in the place of a message
// that was held back.
//
// Invariants:
//   - A template that was parsed works: it was tried with an example.
//   - What it makes is bounded, whatever the template does.
package notice

import (
	"cmp"
	"fmt"
	"strings"
	"text/template"

	"gatepost/internal/mail"
)

// Template makes notices.
type Template struct{ template *template.Template }

// Text is what a template can say. Texts of strangers are one printable line
// each.
type Text struct {
	// What is wrong with the message, in words; Reason and Rule are what the flow says.
	What, Reason, Rule string
	ID                 mail.ID
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

// MaxSize bounds a template, and the text of a notice, in bytes.
const MaxSize = 64 << 10

// Parse understands a template for notices (text/template). "" is the one that
// comes with Gatepost. A template that fails on an example is an error.
func Parse(text string) (*Template, error) {
	if len(text) > MaxSize {
		return nil, fmt.Errorf("parse notice: larger than %d bytes", MaxSize)
	}
	t, err := template.New("notice").Option("missingkey=error").Parse(cmp.Or(text, defaultNotice))
	if err != nil {
		return nil, fmt.Errorf("parse notice: %w", err)
	}
	n := &Template{t}
	if _, err := n.Make(Text{What: "example"}); err != nil {
		return nil, fmt.Errorf("parse notice: %w", err)
	}
	return n, nil
}

// Make is a notice's text.
func (n *Template) Make(t Text) (string, error) {
	var b strings.Builder
	if err := n.template.Execute(&limited{&b}, t); err != nil {
		return "", err
	}
	return b.String(), nil
}

// limited ends a template that writes without end.
type limited struct{ *strings.Builder }

func (l *limited) Write(p []byte) (int, error) {
	if l.Len()+len(p) > MaxSize {
		return 0, fmt.Errorf("the notice is larger than %d bytes", MaxSize)
	}
	return l.Builder.Write(p)
}
