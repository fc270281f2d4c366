package footer

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"mime"
	"mime/quotedprintable"
	"slices"
	"strings"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/ianaindex"

	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/message/mimetree"
)

// text is a part that holds text.
type text struct {
	part *mimetree.Part
	html bool
	span mail.Span // its body in the message
	raw  []byte    // as it is encoded
	// decoded is raw without the transfer encoding; at says where in raw the unit begins
	// that each byte of decoded comes from.
	decoded []byte
	at      []int
	utf8    string
	// charset encodes; nil is ASCII, and UTF-8 is itself.
	charset encoding.Encoding
	is8bit  bool // raw holds 8-bit bytes already
	flowed  bool // RFC 3676
	header  *message.Header
}

// readText reads a part.
func readText(p *mimetree.Part, body mail.Body) (*text, string) {
	c := p.Contents[0]
	if c.Raw.End-c.Raw.Start > maxText {
		return nil, WhyTooLong
	}
	t := &text{part: p, html: p.Types[0] == "text/html", span: c.Raw}
	var err error
	if t.raw, err = readAll(body, c.Raw); err != nil {
		return nil, WhyNoText
	}
	fields, err := readAll(body, p.Header)
	if err != nil {
		return nil, WhyNoText
	}
	t.header = message.ParseHeader(fields)
	_, params, _ := mime.ParseMediaType(t.header.Get("Content-Type"))
	t.flowed = !t.html && strings.EqualFold(params["format"], "flowed")
	t.is8bit = !isASCII(t.raw)
	switch c.Encoding {
	case mimetree.Identity:
		t.decoded = t.raw
	case mimetree.QuotedPrintable:
		t.decoded, t.at = decodeQP(t.raw)
	case mimetree.Base64:
		var ok bool
		if t.decoded, t.at, ok = decodeBase64(t.raw); !ok {
			return nil, WhyAmbiguous
		}
	default:
		return nil, WhyNoText
	}
	return t, t.decode(p.Charset)
}

// decode finds out what the text says.
func (t *text) decode(charset string) string {
	if charset == "" || charset == "us-ascii" || charset == "ascii" {
		if !isASCII(t.decoded) {
			return WhyCharset
		}
		t.utf8 = string(t.decoded)
		return ""
	}
	e, err := ianaindex.MIME.Encoding(charset)
	if err != nil || e == nil {
		return WhyCharset
	}
	ascii, err := e.NewEncoder().String("<a>\r\n")
	s, failed := e.NewDecoder().Bytes(t.decoded)
	if err != nil || failed != nil || ascii != "<a>\r\n" {
		// UTF-16 and the like: no mail program writes text so.
		return WhyCharset
	}
	t.charset, t.utf8 = e, string(s)
	return ""
}

// add makes the edits for one text.
func (f *Footer) add(t *text, header *message.Header) ([]mail.Replacement, string) {
	if t.html {
		at := htmlEnd(t.decoded)
		return t.insert(at, []byte("\r\n"+strings.ReplaceAll(f.rich, "\n", "\r\n")+"\r\n"))
	}
	lines := "\r\n\r\n" + strings.ReplaceAll(t.lines(f.plain), "\n", "\r\n") + "\r\n"
	if bytes.HasSuffix(t.decoded, []byte("\n")) || len(t.decoded) == 0 {
		lines = lines[2:]
	}
	said, ok := t.encode(lines)
	if ok && (isASCII(said) || t.is8bit || t.at != nil) {
		return t.insert(len(t.decoded), said)
	}
	if len(t.utf8) > maxRewritten {
		return nil, WhyTooLong
	}
	return t.rewrite(t.utf8+lines, header), ""
}

// lines are those of the footer as they stand in a text of its kind. In a flowed one a
// line must not end with a blank, which would join it with the next, and what could be
// taken for a quotation begins with one (RFC 3676 §4.2, §4.4).
func (t *text) lines(s string) string {
	if !t.flowed {
		return s
	}
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		if line != "-- " {
			line = strings.TrimRight(line, " ")
		}
		if strings.HasPrefix(line, " ") || strings.HasPrefix(line, ">") || strings.HasPrefix(line, "From ") {
			line = " " + line
		}
		lines[i] = line
	}
	return strings.Join(lines, "\n")
}

// encode says s in the character set of the text.
func (t *text) encode(s string) ([]byte, bool) {
	if isASCII([]byte(s)) {
		return []byte(s), true
	}
	if t.charset == nil {
		return nil, false
	}
	b, err := t.charset.NewEncoder().String(s)
	return []byte(b), err == nil
}

// htmlEnd is where the visible text of a document ends.
func htmlEnd(doc []byte) int {
	lower := bytes.Clone(doc)
	for i, c := range lower {
		if c >= 'A' && c <= 'Z' {
			lower[i] = c + 'a' - 'A'
		}
	}
	for _, tag := range []string{"</body", "</html"} {
		if i := bytes.LastIndex(lower, []byte(tag)); i >= 0 {
			return i
		}
	}
	return len(doc)
}

// insert puts bytes into the decoded text at a place.
func (t *text) insert(at int, b []byte) ([]mail.Replacement, string) {
	put := func(from, to int, text []byte) []mail.Replacement {
		return []mail.Replacement{{Span: mail.Span{Start: t.span.Start + int64(from), End: t.span.Start + int64(to)}, Text: text}}
	}
	switch t.part.Contents[0].Encoding {
	case mimetree.QuotedPrintable:
		return put(t.rawAt(at), t.rawAt(at), encodeQP(b, at < len(t.decoded), at == len(t.decoded) && bytes.HasSuffix(t.raw, []byte("=")))), ""
	case mimetree.Base64:
		// The group of three bytes that the place is in is written anew; with blanks at the
		// end of b what follows stays as it is.
		start := at - at%3
		end := min(start+3, len(t.decoded))
		if start == at {
			end = at
		}
		for end < len(t.decoded) && len(b)%3 != 0 {
			b = append(b, ' ')
		}
		whole := slices.Concat(t.decoded[start:at], b, t.decoded[at:end])
		text := lineBroken(base64.StdEncoding.EncodeToString(whole))
		if from := t.rawAt(start); from == 0 || t.raw[from-1] == '\n' {
			text = text[2:] // a line begins here
		}
		return put(t.rawAt(start), t.rawAt(end), text), ""
	}
	return put(at, at, b), ""
}

// rawAt is where in the encoded form the unit of a decoded byte begins.
func (t *text) rawAt(i int) int {
	if i >= len(t.decoded) {
		return len(t.raw)
	}
	return t.at[i]
}

// maxRewritten bounds a text that is written anew: the queue keeps it beside the message.
const maxRewritten = 256 << 10

// rewrite writes a plain text anew, as UTF-8 in quoted-printable.
func (t *text) rewrite(s string, header *message.Header) []mail.Replacement {
	var b bytes.Buffer
	w := quotedprintable.NewWriter(&b)
	// A bytes.Buffer takes everything.
	_, _ = w.Write([]byte(s))
	_ = w.Close()
	edits := []mail.Replacement{{Span: t.span, Text: b.Bytes()}}
	kind := "Content-Type: text/plain; charset=utf-8"
	_, params, _ := mime.ParseMediaType(t.header.Get("Content-Type"))
	for _, name := range []string{"format", "delsp"} {
		if v := params[name]; v != "" {
			kind += "; " + name + "=" + v
		}
	}
	edits = append(edits, t.field("Content-Type", kind+"\r\n"), t.field("Content-Transfer-Encoding", "Content-Transfer-Encoding: quoted-printable\r\n"))
	if t.part.Parent == nil && header.Count("MIME-Version") == 0 {
		edits = append(edits, t.field("MIME-Version", "MIME-Version: 1.0\r\n"))
	}
	return joined(edits)
}

// field is the edit that makes a field of the part's header another one, or puts it in
// front.
func (t *text) field(name, value string) mail.Replacement {
	for _, f := range t.header.Fields() {
		if f.Is(name) {
			return mail.Replacement{Span: mail.Span{Start: t.part.Header.Start + f.Span.Start, End: t.part.Header.Start + f.Span.End}, Text: []byte(value)}
		}
	}
	return mail.Replacement{Span: mail.Span{Start: t.part.Header.Start, End: t.part.Header.Start}, Text: []byte(value)}
}

// joined makes one of insertions at the same place.
func joined(edits []mail.Replacement) []mail.Replacement {
	slices.SortStableFunc(edits, func(a, b mail.Replacement) int {
		return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.End, b.End))
	})
	var all []mail.Replacement
	for _, e := range edits {
		if n := len(all); n > 0 && all[n-1].Start == e.Start && all[n-1].End == e.Start {
			all[n-1].Text = slices.Concat(all[n-1].Text, e.Text)
			all[n-1].End = e.End
			continue
		}
		all = append(all, e)
	}
	return all
}

func isASCII(b []byte) bool { return !slices.ContainsFunc(b, func(c byte) bool { return c >= 0x80 }) }
