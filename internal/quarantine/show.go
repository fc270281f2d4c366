package quarantine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/message/mimetree"
	"gatepost/internal/message/textview"
)

// Detail is everything about one message. All texts from the message are made
// safe: printable, and one line each but for Text.
type Detail struct {
	Row
	User string `json:"user,omitempty"`
	// Server is the POP3 server that the message was fetched from, "" for mail that came
	// by SMTP.
	Server   string         `json:"server,omitempty"`
	Findings []mail.Finding `json:"findings"`
	// Headers are the fields of the header section, the first 100.
	Headers []Field `json:"headers"`
	// Structure is what the message consists of, in every reading.
	Structure []Part `json:"structure"`
	// StructureFindings is what is wrong with it as it is read now.
	StructureFindings []mail.Finding `json:"structure_findings,omitempty"`
	// Text is the beginning of what a reader would see; TextCut says that there
	// is more.
	Text    string `json:"text,omitempty"`
	TextCut bool   `json:"text_cut,omitempty"`
	// Links are where its links lead, the first 100, without duplicates.
	Links []Target `json:"links,omitempty"`
	// HTMLPart is the path of the part that HTML shows, "" for none.
	HTMLPart string `json:"html_part,omitempty"`
	// Problem says why headers, structure or text are not there.
	Problem string `json:"problem,omitempty"`
}

// Field is a header field.
type Field struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Target is a link in a message.
type Target struct {
	// Text is what stands in its place, "" for a bare address.
	Text    string `json:"text,omitempty"`
	Address string `json:"address"`
	Host    string `json:"host,omitempty"`
	// From says what it is: "href", "src", "form", "text" and so on.
	From string `json:"from"`
	// Tricks says how it is written to mislead.
	Tricks string `json:"tricks,omitempty"`
}

// Part is one part of a message.
type Part struct {
	Path        string   `json:"path"`
	Reading     string   `json:"reading"`
	Types       []string `json:"types"`
	Disposition string   `json:"disposition,omitempty"`
	Charset     string   `json:"charset,omitempty"`
	Names       []string `json:"names,omitempty"`
	// Contents are the types that the decoded bytes look like.
	Contents []string `json:"contents,omitempty"`
	// Size is how many bytes of the message it takes, encoded.
	Size int64 `json:"size"`
}

// The bounds of what Show shows.
const (
	maxFields    = 100
	maxValue     = 500 // bytes of one value
	maxParts     = 500
	maxTextLines = 100
	maxTextLine  = 400 // bytes
	maxTargets   = 100
	maxHTML      = 512 << 10 // bytes of a document
)

// Show returns everything about one message. Where the bytes cannot be read, the
// rest is there and Problem says why.
func (q *Quarantine) Show(ctx context.Context, id mail.ID) (*Detail, error) {
	rec, err := q.record(ctx, id)
	if err != nil {
		return nil, err
	}
	d := &Detail{Row: rec.Row, User: safe(rec.envelope.Session.User), Server: safe(rec.envelope.Session.Server), Findings: safeFindings(rec.envelope.Findings)}
	for i := range d.Entries {
		d.Entries[i].Verdict = rec.verdictOf(d.Entries[i].Key)
	}
	if err := q.read(ctx, d); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		d.Problem = safe(err.Error())
	}
	return d, nil
}

// verdictOf is what the flow decided for a recipient, made safe: a signature may
// have any name.
func (rec *record) verdictOf(key string) *mail.Verdict {
	for i := range rec.envelope.Recipients {
		if r := &rec.envelope.Recipients[i]; r.Address.Key() == key && r.Verdict != nil {
			v := *r.Verdict
			v.Block, v.Rule, v.Reason, v.Flow = safe(v.Block), safe(v.Rule), safe(v.Reason), safe(v.Flow)
			v.Fields, v.SubjectTag = safeAll(v.Fields), safe(v.SubjectTag)
			return &v
		}
	}
	return nil
}

// read fills in what the bytes say.
func (q *Quarantine) read(ctx context.Context, d *Detail) error {
	body, err := q.Body(ctx, d.ID)
	if err != nil {
		return err
	}
	header, err := message.ReadHeader(body, q.cfg.MaxHeader)
	if errors.Is(err, message.ErrHeaderTooBig) {
		// Its beginning says more than nothing.
		header, err = headOf(body, q.cfg.MaxHeader)
	}
	if err != nil {
		return err
	}
	for _, f := range header.Fields()[:min(len(header.Fields()), maxFields)] {
		d.Headers = append(d.Headers, Field{Name: safe(f.Name), Value: message.SafeText(f.Value(), maxValue)})
	}
	tree, err := mimetree.Read(ctx, body, q.cfg.Tree)
	if err != nil {
		return err
	}
	for _, p := range tree.Parts[:min(len(tree.Parts), maxParts)] {
		d.Structure = append(d.Structure, partOf(p))
	}
	d.StructureFindings = safeFindings(tree.Findings)
	view, err := textview.Read(ctx, tree, header, q.cfg.Text)
	if err != nil {
		return err
	}
	d.Text, d.TextCut = preview(view)
	d.Links, d.HTMLPart = targets(view), textview.HTMLPart(tree)
	return nil
}

func targets(view *textview.View) []Target {
	var list []Target
	for _, u := range view.URLs[:min(len(view.URLs), maxTargets)] {
		list = append(list, Target{Text: safe(u.Text), Address: safe(u.Clean), Host: safe(u.Host), From: u.From, Tricks: u.Tricks.String()})
	}
	return list
}

// HTML returns the source of the HTML text that programs show first, in UTF-8 and
// not made harmless in any way; "" where there is none. cut says that it is longer.
func (q *Quarantine) HTML(ctx context.Context, id mail.ID) (html string, cut bool, err error) {
	body, err := q.Body(ctx, id)
	if err != nil {
		return "", false, err
	}
	tree, err := mimetree.Read(ctx, body, q.cfg.Tree)
	if err != nil {
		return "", false, fmt.Errorf("read %s: %w", id, err)
	}
	s, err := textview.HTML(tree, maxHTML)
	if err != nil || s == nil {
		return "", false, err
	}
	return s.HTML, s.Cut, nil
}

func headOf(body mail.Body, limit int64) (*message.Header, error) {
	b := make([]byte, min(limit, body.Size()))
	n, err := body.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return message.ParseHeader(b[:n]), nil
}

func partOf(p *mimetree.Part) Part {
	part := Part{
		Path: p.Path, Reading: string(p.Reading), Types: safeAll(p.Types), Disposition: safe(p.Disposition),
		Charset: safe(p.Charset), Size: p.Raw.End - p.Raw.Start,
	}
	for _, n := range p.Names {
		part.Names = append(part.Names, safe(n.Text))
	}
	for _, c := range p.Contents {
		if c.Main || len(part.Contents) == 0 {
			part.Contents = safeAll(c.Types)
		}
	}
	return part
}

// preview is the text that most programs show first.
func preview(view *textview.View) (text string, cut bool) {
	var best *textview.Text
	rank := func(t *textview.Text) int {
		switch {
		case strings.TrimSpace(t.Shown) == "":
			return 0
		case t.Main && t.Type == "text/plain":
			return 3
		case t.Main:
			return 2
		}
		return 1
	}
	for i := range view.Texts {
		if t := &view.Texts[i]; rank(t) > 0 && (best == nil || rank(t) > rank(best)) {
			best = t
		}
	}
	if best == nil {
		return "", false
	}
	text, cut = safeLines(best.Shown)
	return text, cut || best.Cut
}

// safeLines keeps the lines of a text and nothing else that is not printable.
func safeLines(s string) (text string, cut bool) {
	var b strings.Builder
	n := 0
	for line := range strings.Lines(strings.TrimSpace(s)) {
		if n++; n > maxTextLines {
			return b.String(), true
		}
		line = strings.TrimRight(line, "\r\n\t ")
		cut = cut || len(line) > maxTextLine
		b.WriteString(message.SafeText(line, maxTextLine))
		b.WriteByte('\n')
	}
	return b.String(), cut
}

// safe makes one printable line of what may come from outside.
func safe(s string) string { return message.SafeText(s, maxValue) }

func safeAll(list []string) []string {
	var out []string
	for _, s := range list {
		out = append(out, safe(s))
	}
	return out
}

func safeFindings(list []mail.Finding) []mail.Finding {
	out := make([]mail.Finding, 0, len(list))
	for _, f := range list {
		f.Module, f.Symbol, f.Reason = safe(f.Module), safe(f.Symbol), safe(f.Reason)
		f.Part, f.Name, f.Recipients = safe(f.Part), safe(f.Name), safeAll(f.Recipients)
		out = append(out, f)
	}
	return out
}
