// Package textview shows what a person sees of a message: the text of its parts
// in every reading, decoded from any character set, HTML as it is rendered, and
// the links with what they pretend to be.
//
// Invariants:
//   - Nothing in a message is an error: what can't be decoded is read as well as
//     it can be and reported.
//   - The work is bounded by Limits, never superlinear, and memory by Limits.Text.
//   - All strings are valid UTF-8.
//
// HTML is rendered from a stream of tokens, without a tree: what matters is which
// words stand together and which are seen, not the layout. Styles count where
// they stand in an element, or in a style sheet under a plain selector.
package textview

import (
	"strings"

	"gatepost/internal/mail"
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
	// Title is the title of an HTML document.
	Title string
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
	// Port is "" for the default port of the scheme.
	Port string
	// Domain is the part of Host that was registered, by the public suffix list;
	// "" for IP addresses and for names that nobody can have registered.
	Domain string
	// Text is what the reader sees in the place of the link, "" for a bare URL.
	Text string
	// From says where it stands: "text", "subject", "href", "src", "form", "base",
	// "refresh", "style", "script", "comment" (one for certain programs) or
	// "nested" (in the query of another).
	From string
	// Via is the host of the URL that holds a nested one.
	Via string
	// Tricks is what is odd about the way it is written.
	Tricks Tricks
	// Part is the path of the part.
	Part string
}

// Tricks is a set of ways to write an address so that it reads otherwise than it
// works.
type Tricks uint16

// The tricks.
const (
	// TrickUser: something stands before an @ in front of the host.
	TrickUser Tricks = 1 << iota
	// TrickNumber: the host is an IP address that is not written as one: in
	// decimal, octal or hexadecimal.
	TrickNumber
	// TrickEscaped: characters of the host are percent-encoded.
	TrickEscaped
	// TrickBackslash: backslashes stand for slashes before or in the host.
	TrickBackslash
	// TrickControl: tabs or line ends stand inside of the scheme or host.
	TrickControl
	// TrickWide: the host is written with characters that stand for others, full
	// width letters or other dots.
	TrickWide
	// TrickMixed: letters of scripts that look alike stand together in a label
	// of the host, or a label looks like Latin letters and has none.
	TrickMixed
	// TrickDefanged: the scheme is hxxp or the like.
	TrickDefanged
)

// trickNames are in the order of the bits.
var trickNames = [...]string{"user", "number", "escaped", "backslash", "control", "wide", "mixed-script", "defanged"}

// Has reports whether t has all of the tricks of u.
func (t Tricks) Has(u Tricks) bool { return t&u == u }

// String lists the tricks: "user,escaped".
func (t Tricks) String() string {
	var names []string
	for i, name := range trickNames {
		if t&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ",")
}

// Limits bound a View; a zero field takes its default.
type Limits struct {
	// Text is how many bytes of decoded text are read in all; default 1 MiB.
	Text int64
	// URLs is how many different links are kept; default 1000.
	URLs int
}
