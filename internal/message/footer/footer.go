// Package footer puts a text at the end of messages: a disclaimer. It makes edits for
// the places of a message where its text is, and changes nothing by itself.
//
//	edits, why := f.Edits(tree, header)
//
// Invariants:
//   - Every alternative of the text gets the footer in its own form, and files get none.
//   - What is signed or encrypted (S/MIME, OpenPGP), what programs read differently, and
//     what cannot be changed without guessing is left as it is; why says so.
//   - A text that shows the footer already, in a quotation of it, gets none.
//   - No part becomes 8 bit that was not, and each keeps its encoding and character set,
//     but a plain text whose set cannot say the footer: that becomes UTF-8.
package footer

import (
	"html"
	"io"
	"slices"
	"strings"
	"unicode"

	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/message/mimetree"
)

// Footer is what is put at the end.
type Footer struct {
	// plain has lines that end with LF; rich is HTML in ASCII, what is not is written as
	// references.
	plain, rich string
	// signed says that mail which somebody has signed with DKIM gets it, too; repeat that
	// one which shows it does.
	signed, repeat bool
	// shown is what is looked for in texts.
	shown []string
}

// Options say what a footer is.
type Options struct {
	// Text is the footer for plain text, HTML the one for HTML, a fragment. The one that
	// is missing is made of the other.
	Text, HTML string
	// Signed puts it also into mail that has a DKIM signature, which breaks; Repeat also
	// into mail that quotes it.
	Signed, Repeat bool
}

// minShown is how many letters and digits a footer must have to be found again.
const minShown = 12

// New makes a footer. It returns nil where there is no text in it.
func New(o Options) *Footer {
	o.Text, o.HTML = unix(o.Text), unix(o.HTML)
	if o.Text == "" {
		o.Text = strings.TrimSpace(html.UnescapeString(withoutTags(lineBreaks.Replace(o.HTML))))
	}
	if o.HTML == "" {
		o.HTML = "<p>" + strings.ReplaceAll(html.EscapeString(o.Text), "\n", "<br>\n") + "</p>"
	}
	if strings.TrimSpace(o.Text) == "" {
		return nil
	}
	f := &Footer{plain: o.Text, rich: references(o.HTML), signed: o.Signed, repeat: o.Repeat}
	for _, s := range []string{squeeze(o.Text), squeeze(html.UnescapeString(withoutTags(o.HTML)))} {
		if len(s) >= minShown && !slices.Contains(f.shown, s) {
			f.shown = append(f.shown, s)
		}
	}
	return f
}

var lineBreaks = strings.NewReplacer("<br>", "\n", "<br/>", "\n", "<br />", "\n", "</p>", "</p>\n", "</div>", "</div>\n")

// unix has LF for line ends, and none at the end.
func unix(s string) string {
	return strings.TrimRight(strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\r", "\n"), "\n")
}

// references writes what is not ASCII as character references: they mean the same in
// every character set that HTML mail comes in.
func references(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r < 0x80 {
			b.WriteRune(r)
		} else {
			b.WriteString("&#" + itoa(int(r)) + ";")
		}
	}
	return b.String()
}

func itoa(n int) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return itoa(n/10) + string(rune('0'+n%10))
}

// squeeze keeps letters and digits: marks of quotations, line breaks and blanks are not
// what makes a text another one.
func squeeze(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return unicode.ToLower(r)
		}
		return -1
	}, s)
}

// withoutTags takes out what stands between < and >.
func withoutTags(s string) string {
	var b strings.Builder
	for {
		i := strings.IndexByte(s, '<')
		if i < 0 {
			return b.String() + s
		}
		b.WriteString(s[:i])
		j := strings.IndexByte(s[i:], '>')
		if j < 0 {
			return b.String()
		}
		s = s[i+j+1:]
	}
}

// Why a message is left as it is.
const (
	WhySigned    = "the message is signed or encrypted"
	WhyDKIM      = "the message has a DKIM signature"
	WhyShown     = "the message shows it already"
	WhyAmbiguous = "programs read the message differently"
	WhyNoText    = "the message has no text that could be added to"
	WhyTooLong   = "the text is too long"
	WhyCharset   = "the character set of the text is not known"
)

// maxText bounds the text of a part that is looked at, in bytes as it is encoded.
const maxText = 4 << 20

// Edits are what puts the footer into a message, in ascending order; none where it is
// left alone, and why. header is that of the message.
func (f *Footer) Edits(tree *mimetree.Tree, header *message.Header, body mail.Body) (edits []mail.Replacement, why string) {
	if _, ambiguous := tree.Ambiguous(); ambiguous {
		return nil, WhyAmbiguous
	}
	if !f.signed && (header.Count("DKIM-Signature") > 0 || header.Count("ARC-Seal") > 0) {
		return nil, WhyDKIM
	}
	var parts []*mimetree.Part
	if !texts(tree.Root, &parts) {
		return nil, WhySigned
	}
	if len(parts) == 0 {
		return nil, WhyNoText
	}
	var found []*text
	for _, p := range parts {
		t, why := readText(p, body)
		if why != "" {
			return nil, why
		}
		found = append(found, t)
	}
	for _, t := range found {
		switch {
		case strings.Contains(t.utf8, "-----BEGIN PGP "):
			return nil, WhySigned
		case !f.repeat && f.isIn(t):
			return nil, WhyShown
		}
	}
	for _, t := range found {
		more, why := f.add(t, header)
		if why != "" {
			return nil, why
		}
		edits = append(edits, more...)
	}
	slices.SortFunc(edits, func(a, b mail.Replacement) int { return int(a.Start - b.Start) })
	return edits, ""
}

// isIn reports whether a text shows the footer.
func (f *Footer) isIn(t *text) bool {
	s := t.utf8
	if t.html {
		s = html.UnescapeString(withoutTags(s))
	}
	s = squeeze(s)
	return slices.ContainsFunc(f.shown, func(want string) bool { return strings.Contains(s, want) })
}

// texts collects the parts that hold the text of the message: all alternatives, the
// root of what is related, the first of what is mixed. It returns false where that
// text is signed or encrypted.
func texts(p *mimetree.Part, found *[]*mimetree.Part) bool {
	switch kind := p.Types[0]; {
	case kind == "multipart/signed", kind == "multipart/encrypted", strings.HasPrefix(kind, "application/pkcs7-"),
		strings.HasPrefix(kind, "application/x-pkcs7-"), strings.HasPrefix(kind, "application/pgp-"):
		return false
	case len(p.Children) > 0 && strings.HasPrefix(kind, "multipart/"):
		children := slices.DeleteFunc(slices.Clone(p.Children), func(c *mimetree.Part) bool { return c.Reading != mimetree.Main })
		if kind != "multipart/alternative" {
			children = children[:min(len(children), 1)]
		}
		for _, c := range children {
			if !texts(c, found) {
				return false
			}
		}
	case (kind == "text/plain" || kind == "text/html") && p.Disposition != "attachment" && len(p.Names) == 0 && len(p.Contents) > 0 && !p.Nested:
		*found = append(*found, p)
	}
	return true
}

// readAll reads a stretch of the message.
func readAll(body mail.Body, s mail.Span) ([]byte, error) {
	return io.ReadAll(io.NewSectionReader(body, s.Start, s.End-s.Start))
}
