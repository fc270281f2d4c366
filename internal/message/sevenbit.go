package message

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"strings"

	"gatepost/internal/mail"
)

// Errors of To7Bit: the message can't be sent to a host without 8BITMIME.
var (
	// ErrSigned says that the conversion would break a signature.
	ErrSigned = errors.New("message is signed: it cannot be converted to 7 bit")
	// ErrHeaderUTF8 says that a header section, of the message or within it,
	// holds 8-bit bytes, which no transfer encoding covers.
	ErrHeaderUTF8 = errors.New("8-bit header: it cannot be converted to 7 bit")
	// ErrCannotConvert says that the structure is broken or ambiguous, so that a
	// conversion could change what a reader sees.
	ErrCannotConvert = errors.New("malformed structure: it cannot be converted to 7 bit")
)

// Bounds on the structure that To7Bit follows; above them it refuses.
const (
	max7BitDepth  = 30
	max7BitParts  = 10_000
	max7BitHeader = 1 << 20 // bytes of one header section
)

// To7Bit returns c in a form that is all 7 bit (RFC 6152 §3). Each part with
// 8-bit bytes gets a transfer encoding: text quoted-printable, anything else
// base64; what a part decodes to stays the same. c is read through once now and
// is encoded when the result is read, so neither takes more memory than a header
// section and a list of parts. The errors are ErrSigned, ErrHeaderUTF8,
// ErrCannotConvert, or come from reading c. c must have a known size.
func To7Bit(c *Content) (*Content, error) {
	w := &walker{lines: newLineReader(c), src: c, out: &Content{}}
	if err := w.entity(entityContext{}); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("convert to 7 bit: %w", err)
	}
	w.copyTo(c.Size())
	return w.out, nil
}

// walker goes through the structure of src and writes out.
type walker struct {
	lines  *lineReader
	src    *Content
	out    *Content
	copied int64 // src up to here is in out
	parts  int
}

// entityContext is what an entity inherits from those around it.
type entityContext struct {
	depth  int
	digest bool // a child of multipart/digest: message/rfc822 by default
	signed bool
}

// entity handles a header section and the body that belongs to it.
func (w *walker) entity(ctx entityContext) error {
	if w.parts++; w.parts > max7BitParts || ctx.depth > max7BitDepth {
		return ErrCannotConvert
	}
	p, err := w.readPart(ctx)
	if err != nil {
		return err
	}
	ctx.depth++
	ctx.signed = p.signed
	switch {
	case p.boundary != "":
		w.relabel(p)
		ctx.digest = p.mediaType == "multipart/digest"
		return w.multipart(p, ctx)
	case p.mediaType == "message/rfc822" && p.isIdentity():
		w.relabel(p)
		ctx.digest = false
		return w.entity(ctx)
	}
	return w.leaf(p)
}

// multipart handles everything from the preamble to the epilogue.
func (w *walker) multipart(p *part, ctx entityContext) error {
	level := w.lines.push(p.boundary)
	if err := w.skip(); err != nil {
		return err
	}
	for w.lines.takeDelimiter(level) {
		if err := w.entity(ctx); err != nil {
			return err
		}
	}
	closed := w.lines.takeClose(level)
	w.lines.pop(level)
	if !closed {
		// The message ended or an outer boundary came first: RFC 2046 §5.1.2 lets
		// that end the inner parts too.
		return nil
	}
	return w.skip()
}

// skip passes over a preamble or epilogue, which no transfer encoding covers.
func (w *walker) skip() error {
	var seen traits
	if _, err := w.lines.body(&seen); err != nil {
		return err
	}
	if seen.needsEncoding() {
		return ErrCannotConvert
	}
	return nil
}

// leaf handles a body that is not looked into.
func (w *walker) leaf(p *part) error {
	var seen traits
	end, err := w.lines.body(&seen)
	if err != nil {
		return err
	}
	if !seen.needsEncoding() && !(p.encoding == "binary" && seen.longLines) {
		w.relabel(p)
		return nil
	}
	switch {
	case p.signed:
		return ErrSigned
	case p.odd, !p.isIdentity(), !p.hasBody, mustStay7Bit(p.mediaType):
		return ErrCannotConvert
	}
	quoted := strings.HasPrefix(p.mediaType, "text/") && !seen.bareEnds
	encoding := "base64"
	if quoted {
		encoding = "quoted-printable"
	}
	w.setEncoding(p, encoding)
	w.copyTo(p.span.End)
	source := &Content{}
	source.addRange(w.src, p.span.End, end)
	w.out.addEncoded(&encodedPart{source: source, quoted: quoted, last: end == w.src.Size()})
	w.copied = end
	return nil
}

// mustStay7Bit reports the message types that no encoding may be applied to
// (RFC 2046 §5.2, RFC 3464 §2.1); RFC 6532 §3.7 lifts that for message/global.
func mustStay7Bit(mediaType string) bool {
	return strings.HasPrefix(mediaType, "message/") && !strings.HasPrefix(mediaType, "message/global")
}

// relabel makes a label "8bit" or "binary" true where nothing else changes. A
// signature may cover the label, so it stays within signed parts.
func (w *walker) relabel(p *part) {
	if !p.signed && !p.odd && (p.encoding == "8bit" || p.encoding == "binary") {
		w.setEncoding(p, "7bit")
	}
}

// setEncoding replaces the part's Content-Transfer-Encoding or adds one in front
// of its empty line.
func (w *walker) setEncoding(p *part, value string) {
	line := "Content-Transfer-Encoding: " + value + crlf
	if p.encodingSpan.End > 0 {
		w.copyTo(p.encodingSpan.Start)
		w.copied = p.encodingSpan.End
	} else {
		w.copyTo(p.span.End - int64(len(crlf)))
		line = p.missing + line
	}
	w.out.addMemory([]byte(line))
}

// copyTo copies the source up to an offset as it is.
func (w *walker) copyTo(end int64) {
	if end > w.copied {
		w.out.addRange(w.src, w.copied, end)
		w.copied = end
	}
}

// part is what To7Bit needs to know of an entity.
type part struct {
	span      mail.Span // of the header section, with the empty line
	hasBody   bool      // the header section ends with an empty line
	mediaType string
	boundary  string // "" unless the entity is a multipart that can be followed
	encoding  string // in lower case
	// encodingSpan is where Content-Transfer-Encoding stands; zero for nowhere.
	encodingSpan mail.Span
	// missing is what a message that is not MIME lacks to carry an encoding.
	missing string
	// odd says that readers may differ over the header section.
	odd    bool
	signed bool
}

// isIdentity reports an encoding that leaves the bytes as they are.
func (p *part) isIdentity() bool {
	switch p.encoding {
	case "", "7bit", "8bit", "binary":
		return true
	}
	return false
}

// readPart reads a header section.
func (w *walker) readPart(ctx entityContext) (*part, error) {
	p := &part{signed: ctx.signed, mediaType: "text/plain"}
	if ctx.digest {
		p.mediaType = "message/rfc822" // RFC 2046 §5.1.5
	}
	section, start, complete, err := w.lines.header(max7BitHeader)
	if err != nil {
		return nil, err
	}
	if has8Bit(section) {
		return nil, ErrHeaderUTF8
	}
	p.span = mail.Span{Start: start, End: start + int64(len(section))}
	p.hasBody = complete
	p.classify(ParseHeader(section), ctx)
	return p, nil
}

// classify fills in what the fields say.
func (p *part) classify(h *Header, ctx entityContext) {
	types, encodings := 0, 0
	for _, f := range h.Fields() {
		switch {
		case f.Name == "":
			p.odd = true
		case f.Is("Content-Type"):
			types++
			p.readType(f.Value())
		case f.Is("Content-Transfer-Encoding"):
			encodings++
			p.encoding = strings.ToLower(f.Value())
			p.encodingSpan = mail.Span{Start: p.span.Start + f.Span.Start, End: p.span.Start + f.Span.End}
		case ctx.depth == 0 && (f.Is("DKIM-Signature") || f.Is("ARC-Message-Signature")):
			p.signed = true
		}
	}
	if types > 1 || encodings > 1 {
		p.odd = true
	}
	if p.mediaType == "multipart/signed" {
		p.signed = true
	}
	if p.odd || !p.isIdentity() {
		p.boundary = "" // such a thing can only pass as it is
	}
	if ctx.depth == 0 && h.Count("MIME-Version") == 0 {
		p.missing = "MIME-Version: 1.0\r\n"
		if types == 0 {
			// RFC 1428 §3: nobody knows which charset it was.
			p.missing += "Content-Type: text/plain; charset=unknown-8bit\r\n"
		}
	}
}

// readType understands Content-Type strictly: what does not parse is odd.
func (p *part) readType(value string) {
	mediaType, params, err := mime.ParseMediaType(value)
	if err != nil || strings.Contains(strings.ToLower(value), "boundary*") {
		p.odd = true
		return
	}
	p.mediaType = mediaType
	if !strings.HasPrefix(mediaType, "multipart/") {
		return
	}
	p.boundary = params["boundary"]
	// RFC 2046 §5.1.1: 1 to 70 characters, not ending with white space.
	if n := len(p.boundary); n == 0 || n > 70 || strings.HasSuffix(p.boundary, " ") {
		p.odd, p.boundary = true, ""
	}
}
