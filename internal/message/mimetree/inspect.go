package mimetree

import (
	"bytes"
	"slices"

	"gatepost/internal/mail"
)

// sniffSize is how much of a content its type is taken from.
const sniffSize = 4 << 10

// maxSize is an upper bound for the decoded size.
func (c *Content) maxSize() int64 {
	if c.Encoding == BinHex {
		return maxExpansion
	}
	return c.encodedSize()
}

// inspect looks at what a content is, and reads what it holds where that is a
// message, a winmail.dat or a text with files in it.
func (b *builder) inspect(s *source, p *Part, c *Content, depth int) error {
	start, err := head(c, sniffSize)
	if err != nil || len(start) == 0 {
		return err
	}
	if c.Types = Sniff(start); c.Types[0] == octetStream && c.maxSize() > isoOffset {
		// The mark of a disk image comes late.
		if start, err = head(c, isoOffset+16); err != nil {
			return err
		}
		c.Types = Sniff(start)
	}
	message := slices.Contains(c.Types, typeMessage) || isMessageFile(p)
	switch {
	case c.Types[0] == typeTNEF:
		return b.tnefContent(s, p, c, depth)
	case c.Encoding != Identity && slices.ContainsFunc(p.Types, isMessage):
		return b.nested(p, c, true, depth)
	case c.Encoding != Identity && (message || isPlainish(c.Types[0]) && isText(start)):
		return b.nested(p, c, message && !isTextPart(p), depth)
	case c.Encoding != Identity || !message || isTextPart(p) || slices.ContainsFunc(p.Types, isMessage):
		return nil // a text that begins with a field is a text
	case p.Parent == nil || c.span != p.Body:
		return nil
	}
	_, err = b.entity(s, entity{start: c.span.Start, end: c.span.End, parent: p, depth: depth + 1})
	return err
}

// isMessageFile reports a name that programs open as a message.
func isMessageFile(p *Part) bool {
	found := false
	p.EachName(func(key string) bool {
		ext := extension(key)
		found = ext == "eml" || ext == "mht" || ext == "mhtml" || ext == "nws"
		return !found
	})
	return found
}

// isTextPart reports a text that is shown, not a file that is opened.
func isTextPart(p *Part) bool {
	return (p.Types[0] == "text/plain" || p.Types[0] == "text/html") && len(p.Names) == 0
}

// isText reports that a content could hold lines that mean something.
func isText(start []byte) bool { return bytes.IndexByte(start, 0) < 0 }

// nested reads what a content holds once it is decoded.
func (b *builder) nested(p *Part, c *Content, message bool, depth int) error {
	if depth >= b.limits.Depth {
		b.note(symLimitDepth, p, "parts in parts more than %d deep", b.limits.Depth)
		return nil
	}
	if !b.spend(p, c.encodedSize()) {
		return nil
	}
	v, err := newView(b.ctx, c.stream(), nil)
	if err != nil {
		return err
	}
	return b.inner(v, p, c, innerPlan{message: message, depth: depth + 1})
}

// innerPlan is how the decoded bytes of a content are to be read.
type innerPlan struct {
	message bool
	depth   int
}

// inner reads the parts in the decoded bytes of a content.
func (b *builder) inner(body mail.Body, p *Part, c *Content, plan innerPlan) error {
	s, err := b.open(body, c)
	if err != nil {
		return err
	}
	defer s.win.close()
	s.depth = plan.depth
	if plan.message {
		if _, err := b.entity(s, entity{end: body.Size(), parent: p, depth: plan.depth}); err != nil {
			return err
		}
	}
	return b.rest(s, p)
}

// rest reads what no header leads to: parts between delimiters that nobody
// declared, and files inside of text.
func (b *builder) rest(s *source, owner *Part) error {
	if err := b.found(s, owner); err != nil {
		return err
	}
	return b.embedded(s, owner)
}

// embedded adds the files inside of the text of a source.
func (b *builder) embedded(s *source, owner *Part) error {
	for i, e := range s.facts.embeds {
		p := s.holder(owner, e.start)
		end := s.body.Size()
		if p.source == s {
			end = p.Body.End
		}
		if i+1 < len(s.facts.embeds) {
			end = min(end, s.facts.embeds[i+1].start)
		}
		if err := b.embeddedFile(s, p, e, max(end, e.next)); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) embeddedFile(s *source, parent *Part, e embed, end int64) error {
	at := entity{start: e.start, end: end, parent: parent, reading: Embedded, depth: s.depth + 1}
	span := mail.Span{Start: e.start, End: end}
	if e.kind == Base64 || e.kind == Uuencode {
		span.Start = min(e.next, end)
	}
	c := b.content(s, span, e.kind)
	name, resource := e.name, false
	if e.kind == BinHex {
		info := *c
		info.Variant = binhexHeader
		header, err := head(&info, binhexMaxHeader)
		if err != nil {
			return err
		}
		if len(header) > 0 {
			name, resource = binhexInfo(header)
		}
	}
	if !b.room(at) || !b.spend(parent, c.encodedSize()) {
		return nil
	}
	b.note(symEmbedded, parent, "%s %q", e.kind, name)
	p := b.newPart(s, at, mail.Span{Start: span.Start, End: end})
	p.Types = []string{octetStream}
	p.addName(e.kind, name)
	c.Main = true
	p.Contents = append(p.Contents, c)
	if resource && b.spend(p, c.encodedSize()) {
		fork := *c
		fork.Variant, fork.Main = binhexResource, false
		p.Contents = append(p.Contents, &fork)
	}
	for _, c := range p.Contents {
		if err := b.inspect(s, p, c, at.depth); err != nil {
			return err
		}
	}
	return nil
}

// holder returns the innermost part of the source that holds an offset.
func (s *source) holder(p *Part, off int64) *Part {
	for {
		next := (*Part)(nil)
		for _, c := range p.Children {
			if c.Reading != Embedded && c.Reading != Quoted && c.Header.Start <= off && off < c.Body.End && c.source == s {
				next = c
				break
			}
		}
		if next == nil {
			return p
		}
		p = next
	}
}
