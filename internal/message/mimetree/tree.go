package mimetree

import (
	"gatepost/internal/mail"
)

// Tree is a message as it was read.
type Tree struct {
	// Root is the message as most programs read it.
	Root *Part `json:"root"`
	// Parts are all parts of all readings: Root first, every part behind the one
	// that contains it.
	Parts []*Part `json:"-"`
	// Findings is what was seen, at most one of each symbol of Symbols.
	Findings []mail.Finding `json:"findings,omitempty"`

	body mail.Body
}

// Raw is the reading that decodes nothing: the whole message as one content.
func (t *Tree) Raw() *Content {
	whole := mail.Span{End: t.body.Size()}
	return &Content{Encoding: Identity, Main: true, Raw: whole, body: t.body, span: whole}
}

// Ambiguous reports that mail programs would disagree about the message in a
// way that honest mail hardly ever shows. It returns the finding that says why.
func (t *Tree) Ambiguous() (mail.Finding, bool) {
	for _, f := range t.Findings {
		if isAmbiguity(f.Symbol) {
			return f, true
		}
	}
	return mail.Finding{}, false
}

// Reading says who sees a part.
type Reading string

// The readings.
const (
	// Main parts are what most programs show.
	Main Reading = "main"
	// Found parts are seen by some programs only, or would be by a program that
	// reads the message more generously than any known.
	Found Reading = "found"
	// Embedded parts are files inside of text (uuencode, yEnc, BinHex) and of
	// winmail.dat, and what is in them.
	Embedded Reading = "embedded"
	// Quoted parts are those of a message that a text shows, as bounces do. No
	// program known takes them for parts.
	Quoted Reading = "quoted"
)

// Part is one part of a message: a message, a multipart, a text or a file.
type Part struct {
	// Path is the place in the tree: "1" is the message, "1.2" its second part.
	Path    string  `json:"path"`
	Reading Reading `json:"reading"`
	// Types are the media types that the header gives, lower case without
	// parameters, the one that most programs believe first. Never empty.
	Types []string `json:"types"`
	// Disposition is "inline" or "attachment" or what the header says, "" for none.
	Disposition string `json:"disposition,omitempty"`
	// Charset is the declared character set, lower case, "" for none.
	Charset string `json:"charset,omitempty"`
	// Names are all file names that some program could show.
	Names []Name `json:"names,omitempty"`
	// Header and Body are the place of the part in the bytes that hold it: the
	// message itself, or, where Nested is set, the decoded content of a part
	// above. Header includes the empty line.
	Header mail.Span `json:"header"`
	Body   mail.Span `json:"body"`
	Nested bool      `json:"nested,omitempty"`
	// Raw is the stretch of the message that the part comes from.
	Raw mail.Span `json:"raw"`
	// Contents are the ways to read the body; the first is what most programs
	// read. A part that was split into Children mostly has none.
	Contents []*Content `json:"contents,omitempty"`
	Children []*Part    `json:"children,omitempty"`
	Parent   *Part      `json:"-"`

	mime   bool    // the header has a Content-Type that makes sense
	source *source // while the tree is built
}

// Leaf reports whether the part holds content of its own.
func (p *Part) Leaf() bool { return len(p.Contents) > 0 }

// Multipart reports whether a header or what was found makes it a multipart.
func (p *Part) Multipart() bool { return len(p.Children) > 0 && !isMessage(p.Types[0]) }

// EachName calls fn with every form under which a name of the part could be
// matched (see Name.Keys), until fn returns false.
func (p *Part) EachName(fn func(key string) bool) {
	for _, n := range p.Names {
		for _, k := range n.Keys {
			if !fn(k) {
				return
			}
		}
	}
}
