// Package textview shows what a person sees of a message: the text of its parts
// in every reading, decoded from any character set, HTML as it is rendered, and
// the links with what they pretend to be.
//
// Invariants:
//   - Nothing in a message is an error: what can't be decoded is read as well as
//     it can be and reported.
//   - The work is bounded by Limits, never superlinear, and memory by Limits.Text.
//   - All strings are valid UTF-8.
package textview

import (
	"context"

	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/message/mimetree"
)

// View is the texts and links of one message.
type View struct {
	// Subject is the decoded Subject; From and ReplyTo the decoded display names
	// with their addresses, as a program shows them.
	Subject string
	From    string
	ReplyTo string
	// Texts are the text parts in all readings, in the order of the parts.
	Texts []Text
	// URLs are the links of all texts and documents, without duplicates.
	URLs []URL
	// Findings is what is odd: module "text".
	Findings []mail.Finding
}

// Text is one text of the message as it is read.
type Text struct {
	// Part is the path of the part (mimetree Part.Path).
	Part string
	// Type is "text/plain" or "text/html".
	Type string
	// Shown is what a reader sees; Hidden is what is there and is not shown:
	// invisible elements, tiny or background-coloured text, comments.
	Shown  string
	Hidden string
	// Main says that most programs show this text.
	Main bool
	// Cut says that the text is longer than Limits.Text.
	Cut bool
	// Charset is the character set that was used to decode it.
	Charset string
}

// URL is a place that a text refers to.
type URL struct {
	// Raw is the address as it stands in the message, Clean as a browser would
	// ask for it: unescaped, without tabs and line ends, the host in A-labels.
	Raw   string
	Clean string
	// Scheme and Host are lower case; Host is "" for data: and the like.
	Scheme string
	Host   string
	// Text is what the reader sees in the place of the link, "" for a bare URL.
	Text string
	// From says where it stands: "text", "href", "src", "form", "base", "refresh",
	// "style", "nested" (in the query of another) and so on.
	From string
	// Part is the path of the part.
	Part string
}

// Limits bound a View; a zero field takes its default.
type Limits struct {
	// Text is how many bytes of decoded text are read in all; default 1 MiB.
	Text int64
	// URLs is how many different links are kept; default 1000.
	URLs int
}

// Read makes the view of a message. The errors are those of reading the body and
// of ctx.
func Read(ctx context.Context, tree *mimetree.Tree, header *message.Header, limits Limits) (*View, error) {
	return &View{}, ctx.Err()
}
