package mimetree

import (
	"bytes"
	"hash/maphash"
	"io"
	"slices"
	"strings"

	"gatepost/internal/mail"
)

// bodyPlan is how the body of an entity is to be read.
type bodyPlan struct {
	entity
	split bool // parts were found in it
}

// bodies adds what is in the body of a part: the message that it is, or its
// contents in every way to decode them, from each place where it may begin.
func (b *builder) bodies(s *source, p *Part, blk block, plan bodyPlan) error {
	enc := readEncodings(blk.fields)
	b.noteEncodings(s, p, blk, enc, plan)
	message := slices.ContainsFunc(p.Types, isMessage)
	if message {
		b.noteMessage(p, blk)
		if slices.Contains(enc.list, Identity) || len(enc.list) == 0 {
			e := entity{start: p.Body.Start, end: p.Body.End, parent: p, depth: plan.depth + 1}
			if _, err := b.entity(s, e); err != nil {
				return err
			}
		}
	}
	for _, span := range b.bodySpans(p, blk) {
		if err := b.contents(s, p, span, contentPlan{enc: enc, container: plan.split || message && span == p.Body, depth: plan.depth}); err != nil {
			return err
		}
	}
	return nil
}

// bodySpans returns the stretches that some program takes for the body.
func (b *builder) bodySpans(p *Part, blk block) []mail.Span {
	spans := []mail.Span{p.Body}
	for _, o := range blk.others {
		span := mail.Span{Start: p.Header.Start + int64(o[0]), End: p.Body.End}
		if o[1] > 0 {
			span.End = p.Header.Start + int64(o[1])
		}
		if span.Start < span.End && span.End <= p.Body.End && !slices.Contains(spans, span) {
			spans = append(spans, span)
		}
	}
	if len(spans) > 1 && p.Parent != nil && len(blk.fields) > 0 {
		b.note(symHeaderEnd, p, "the header section has lines that are no fields")
	}
	return spans
}

// contentPlan is how the contents of one stretch are to be read.
type contentPlan struct {
	enc encodings
	// container: the stretch was split or is a message, so that only what is
	// encoded in spite of that is a content of its own.
	container bool
	// guessed: nobody said so, and damage means nothing.
	guessed bool
	depth   int
}

// contents adds the ways to decode one stretch.
func (b *builder) contents(s *source, p *Part, span mail.Span, plan contentPlan) error {
	list := plan.enc.list
	guessed, err := b.guess(s, span, plan)
	if err != nil {
		return err
	}
	for _, name := range guessed {
		list = addString(slices.Clip(list), name)
	}
	for _, name := range list {
		if name == Identity && plan.container {
			continue
		}
		c := b.content(s, span, name)
		c.Main = len(p.Contents) == 0 && name == list[0]
		plan.guessed = !slices.Contains(plan.enc.list, name)
		if err := b.addContent(s, p, c, plan); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) content(s *source, span mail.Span, encoding string) *Content {
	return &Content{Encoding: encoding, Raw: s.raw(span), body: s.body, span: span}
}

// guess returns the encodings that a stretch seems to have although its header
// does not say so.
func (b *builder) guess(s *source, span mail.Span, plan contentPlan) ([]string, error) {
	if plan.container || plan.enc.list[0] != Identity && !plan.enc.unclear {
		return nil, nil
	}
	start, err := s.win.most(span.Start, min(span.End, span.Start+1024))
	if err != nil {
		return nil, err
	}
	var list []string
	if isBase64Text(bytes.TrimLeft(start, " \t\r\n")) {
		list = append(list, Base64)
	}
	if plan.enc.unknown || plan.enc.unclear {
		if bytes.Count(start, []byte("=")) > len(start)/40 && bytes.Contains(start, []byte("=\r\n")) {
			list = append(list, QuotedPrintable)
		}
		line, _, _ := bytes.Cut(bytes.TrimLeft(start, "\r\n"), []byte("\n"))
		if len(line) > 40 && line[0] == 'M' && isUuLine(line) {
			list = append(list, Uuencode)
		}
	}
	return list, nil
}

// addContent adds a content, and further readings of it where it is damaged.
func (b *builder) addContent(s *source, p *Part, c *Content, plan contentPlan) error {
	if !b.spend(p, c.encodedSize()) {
		return nil
	}
	var variants []string
	if !plan.container && !plan.guessed {
		var err error
		if variants, err = b.check(s, p, c); err != nil {
			return err
		}
	}
	damaged := len(variants) > 0
	variants = append([]string{""}, variants...)
	for i := 0; i < len(variants); i++ {
		d := *c
		d.Variant = variants[i]
		d.Main = c.Main && i == 0
		if i > 0 && !b.spend(p, d.encodedSize()) {
			return nil
		}
		p.Contents = append(p.Contents, &d)
		if err := b.inspect(s, p, &d, plan.depth); err != nil {
			return err
		}
		if i == 0 && needsLF(p, &d, damaged) {
			variants = append(variants, lfVariants(variants)...)
		}
	}
	b.several = b.several || len(p.Contents) > 1
	return nil
}

// needsLF reports that it makes a difference how line ends are stored: in what is
// not text.
func needsLF(p *Part, c *Content, damaged bool) bool {
	switch {
	case c.Encoding != QuotedPrintable && c.Encoding != Identity || len(c.Types) == 0:
		return false
	case damaged:
		return len(p.Names) > 0 || !strings.HasPrefix(p.Types[0], "text/")
	}
	return !isPlainish(c.Types[0]) && c.Types[0] != typeMessage
}

// lfVariants are variants with LF line ends.
func lfVariants(variants []string) []string {
	var list []string
	for _, v := range variants {
		if v == "" {
			list = append(list, withLF)
		} else {
			list = append(list, v+", "+withLF)
		}
	}
	return list
}

// check reads what is encoded and returns the variants that could differ.
func (b *builder) check(s *source, p *Part, c *Content) ([]string, error) {
	switch c.Encoding {
	case Base64:
		var k base64Check
		if err := b.each(s, c.span, k.feed); err != nil {
			return nil, err
		}
		return b.base64Variants(p, &k), nil
	case QuotedPrintable:
		var k qpCheck
		if err := b.each(s, c.span, k.feed); err != nil {
			return nil, err
		}
		return b.qpVariants(p, &k), nil
	}
	return nil, nil
}

func (b *builder) base64Variants(p *Part, k *base64Check) []string {
	if k.plain() {
		if k.lines {
			return []string{base64Line}
		}
		return nil
	}
	b.note(symBase64, p, "%s", k.damaged())
	return base64Variants
}

func (b *builder) qpVariants(p *Part, k *qpCheck) []string {
	if k.invalid == 0 && !(k.lower && k.upper) {
		return nil
	}
	if k.invalid > 0 {
		b.note(symQuoted, p, "%d of %d escapes are invalid", k.invalid, k.signs)
	}
	return qpVariants
}

// each shows a stretch of a source piece by piece.
func (b *builder) each(s *source, span mail.Span, fn func([]byte)) error {
	for off := span.Start; off < span.End; {
		data, err := s.win.most(off, span.End)
		if err != nil {
			return err
		}
		fn(data)
		off += int64(len(data))
	}
	return b.ctx.Err()
}

// noteEncodings reports what is odd about the transfer encoding.
func (b *builder) noteEncodings(s *source, p *Part, blk block, enc encodings, plan bodyPlan) {
	switch {
	case enc.unclear:
		b.note(symEncoding, p, "%q", enc.said)
	case enc.unknown:
		b.note(symOddCode, p, "transfer encoding %q", enc.said)
	}
	coded := len(enc.list) > 0 && enc.list[0] != Identity
	if coded && (plan.split || slices.ContainsFunc(p.Types, func(t string) bool { return isMultipart(t) || isMessage(t) })) {
		b.note(symEncoded, p, "%s in %s", p.Types[0], enc.list[0])
	}
	for _, f := range blk.fields {
		if f.name == fieldType && !p.mime && strings.TrimSpace(f.value) != "" {
			b.note(symOddField, p, "Content-Type %q", f.value)
		}
	}
}

// noteMessage reports messages that are not all there.
func (b *builder) noteMessage(p *Part, blk block) {
	for _, t := range p.Types {
		switch t {
		case "message/partial":
			b.note(symPartial, p, "a fragment of a message")
		case "message/external-body":
			b.note(symExternal, p, "content that is elsewhere")
		}
	}
}

// finish finds out which contents are the same and drops all but one.
func (b *builder) finish() error {
	for _, p := range b.tree.Parts {
		p.source = nil
	}
	if !b.several {
		return nil
	}
	type key struct {
		sum  uint64
		size int64
	}
	known := map[key]bool{}
	for _, p := range b.tree.Parts {
		kept := p.Contents[:0]
		for _, c := range p.Contents {
			if err := b.sum(c); err != nil {
				return err
			}
			k := key{c.sum, c.size}
			if !known[k] || c.Main {
				kept = append(kept, c)
			}
			known[k] = true
		}
		clear(p.Contents[len(kept):])
		p.Contents = kept
	}
	return nil
}

func (b *builder) sum(c *Content) error {
	if err := b.ctx.Err(); err != nil {
		return err
	}
	var h maphash.Hash
	h.SetSeed(b.seed)
	n, err := io.Copy(&h, c.Open())
	c.sum, c.size = h.Sum64(), n
	return err
}
