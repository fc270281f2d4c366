package textview

import (
	"fmt"

	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/message/mimetree"
)

// notes collects findings, one of each symbol.
type notes struct {
	list                     []mail.Finding
	invisible, turned, mixed int
}

// add keeps the first finding of a symbol.
func (n *notes) add(symbol, part, format string, args ...any) {
	for _, f := range n.list {
		if f.Symbol == symbol {
			return
		}
	}
	n.list = append(n.list, mail.Finding{
		Module: "text", Symbol: symbol, Result: mail.Match, Part: part,
		Reason: message.SafeText(fmt.Sprintf(format, args...), 300),
	})
}

// Few of these mean nothing: an editor leaves a zero-width space behind, a
// technical word has a Greek letter.
const (
	fewInvisible = 3
	fewMixed     = 3
	fewHidden    = 200 // bytes; teasers for the list of messages are shorter
)

// writer looks at what was left out of a text.
func (n *notes) writer(w *writer, part string) {
	n.invisible += w.invisible
	n.turned += w.turned
	n.mixed += w.mixed
	if n.invisible >= fewInvisible {
		n.add("invisible", part, "invisible characters split words, first in part %s", part)
	}
	if n.turned > 0 {
		n.add("direction", part, "part %s turns the direction of its text around, so that it reads otherwise than it is written", part)
	}
	if n.mixed >= fewMixed {
		n.add("mixed-words", part, "words mix letters of different alphabets that look alike, first in part %s", part)
	}
}

// findings returns what was noted.
func (n *notes) findings() []mail.Finding { return n.list }

// noteDecoded reports charsets that are not what was declared.
func (r *reader) noteDecoded(p *mimetree.Part, d decoded) {
	switch d.trouble {
	case unknownCharset:
		r.notes.add("charset", p.Path, "the charset %q of part %s is unknown; it was read as %s", message.SafeText(d.declared, 60), p.Path, d.charset)
	case wrongCharset:
		r.notes.add("charset", p.Path, "the text of part %s is not in its charset %q; it was read as %s", p.Path, message.SafeText(d.declared, 60), d.charset)
	case hidden16:
		r.notes.add("utf16", p.Path, "the text of part %s is in UTF-16 and does not say so", p.Path)
	}
	if d.charset == "utf-7" {
		r.notes.add("utf7", p.Path, "part %s is in UTF-7, which mail must not use and scanners overlook", p.Path)
	} else if d.other != "" {
		r.notes.add("utf7", p.Path, "part %s holds tags in UTF-7, which it does not declare", p.Path)
	}
}

// noteCut reports a text that was not read to its end. That is for statistics:
// attachments are long, and scanners for viruses read all of them.
func (r *reader) noteCut(s source) {
	if !s.attached {
		r.notes.add("cut", s.part.Path, "the texts are longer than the limit; part %s was not read to its end", s.part.Path)
	}
}
