package mimetree

import (
	"context"
	"hash/maphash"
	"io"
	"strconv"

	"gatepost/internal/mail"
)

// Read reads the structure of a message. An error means that the body could not
// be read or that ctx ended; everything that is wrong with the message itself is
// a finding of the tree.
func Read(ctx context.Context, body mail.Body, limits Limits) (*Tree, error) {
	root := newCache(body)
	b := &builder{
		ctx: ctx, limits: limits.orDefaults(), seed: maphash.MakeSeed(), seen: map[string]bool{},
		tree: &Tree{body: root},
	}
	b.budget = int64(b.limits.Work)*root.Size() + freeWork
	s, err := b.open(root, nil)
	if err != nil {
		return nil, err
	}
	defer s.win.close()
	if b.tree.Root, err = b.entity(s, entity{end: root.Size()}); err != nil {
		return nil, err
	}
	if err := b.rest(s, b.tree.Root); err != nil {
		return nil, err
	}
	if err := b.finish(); err != nil {
		return nil, err
	}
	return b.tree, nil
}

// builder builds one tree.
type builder struct {
	ctx    context.Context
	limits Limits
	seed   maphash.Seed
	tree   *Tree
	seen   map[string]bool
	// budget is how many bytes of content may still be looked at.
	budget int64
	// several says that some part has more than one content, so that it is worth
	// to find out which are the same.
	several bool
}

// source is bytes that parts lie in: the message, or a decoded content.
type source struct {
	body  mail.Body
	win   *window
	facts *lineFacts
	// outer is the content that was decoded, nil for the message.
	outer *Content
	depth int
	// top is the part that covers the source.
	top *Part
	// parts are those of this source, by the place where their header begins.
	parts map[int64][]*Part
	// declared are the boundaries that some header gave, hashed.
	declared map[uint64]bool
}

// open makes the first pass over a body.
func (b *builder) open(body mail.Body, outer *Content) (*source, error) {
	s := &source{body: body, win: openWindow(body), outer: outer, parts: map[int64][]*Part{}, declared: map[uint64]bool{}}
	var err error
	if s.facts, err = scanLines(s.win, b.seed, b.limits.Lines); err != nil {
		s.win.close()
		return nil, err
	}
	if s.facts.lost {
		b.note(symLimitLines, nil, "more than %d lines that look like delimiters", b.limits.Lines)
	}
	if s.facts.embedsLost {
		b.note(symLimitParts, nil, "more than %d files inside of text", maxEmbeds)
	}
	return s, nil
}

// raw returns the stretch of the message that a stretch of the source is made of.
func (s *source) raw(span mail.Span) mail.Span {
	if s.outer != nil {
		return s.outer.Raw
	}
	return span
}

// spend takes n bytes from the budget. It reports whether there were enough.
func (b *builder) spend(p *Part, n int64) bool {
	if n > b.budget {
		b.note(symLimitWork, p, "the readings cover the message more than %d times", b.limits.Work)
		return false
	}
	b.budget -= n
	return true
}

// entity is a stretch of a source with a header and a body.
type entity struct {
	start, end int64
	parent     *Part
	reading    Reading // "" stands for that of the parent
	digest     bool    // a message where the header says nothing (RFC 2046 §5.1.5)
	depth      int
}

// entity reads one part and those in it. It returns nil where a limit or the
// same part elsewhere keeps it from being a part of the tree.
func (b *builder) entity(s *source, e entity) (*Part, error) {
	if err := b.ctx.Err(); err != nil {
		return nil, err
	}
	for _, p := range s.parts[e.start] {
		if p.Body.End == e.end && e.parent != p {
			return nil, nil
		}
	}
	if !b.room(e) {
		return nil, nil
	}
	blk, start, err := b.header(s, e)
	if err != nil {
		return nil, err
	}
	p := b.newPart(s, e, mail.Span{Start: start, End: e.end})
	bounds := b.describe(p, blk, e)
	b.noteHeader(p, blk)
	split, err := b.split(s, p, bounds, e.depth)
	if err != nil {
		return nil, err
	}
	return p, b.bodies(s, p, blk, bodyPlan{entity: e, split: split})
}

// room checks the limits on parts.
func (b *builder) room(e entity) bool {
	if e.depth > b.limits.Depth {
		b.note(symLimitDepth, e.parent, "parts in parts more than %d deep", b.limits.Depth)
		return false
	}
	if len(b.tree.Parts) >= b.limits.Parts {
		b.note(symLimitParts, e.parent, "more than %d parts", b.limits.Parts)
		return false
	}
	return true
}

func (b *builder) newPart(s *source, e entity, body mail.Span) *Part {
	p := &Part{
		Path: "1", Reading: e.reading, Parent: e.parent, Nested: s.outer != nil,
		Header: mail.Span{Start: e.start, End: body.Start}, Body: body,
		Raw: s.raw(mail.Span{Start: e.start, End: e.end}), source: s,
	}
	if e.parent != nil {
		e.parent.Children = append(e.parent.Children, p)
		p.Path = e.parent.Path + "." + strconv.Itoa(len(e.parent.Children))
		if p.Reading == "" {
			p.Reading = e.parent.Reading
		}
	} else if p.Reading == "" {
		p.Reading = Main
	}
	if s.top == nil {
		s.top = p
	}
	b.tree.Parts = append(b.tree.Parts, p)
	s.parts[e.start] = append(s.parts[e.start], p)
	return p
}

// header reads the header section of an entity and returns it with the place
// where the body begins.
func (b *builder) header(s *source, e entity) (block, int64, error) {
	data, err := b.headerBytes(s, e.start, e.end)
	if err != nil {
		return block{}, 0, err
	}
	blk := parseBlock(data, b.limits.Field)
	if !blk.ended && int64(len(data)) >= b.limits.Header && e.start+int64(len(data)) < e.end {
		b.note(symLimitHeader, e.parent, "header section above %d bytes", b.limits.Header)
	}
	body := e.start + int64(blk.size)
	if blk.ended && !blk.known && !blk.junk {
		// An empty line in front of the header section is one that some programs
		// skip.
		if err := b.late(s, e, &blk); err != nil {
			return block{}, 0, err
		}
	}
	return blk, body, nil
}

// late adds the fields of a header section that begins with empty lines.
func (b *builder) late(s *source, e entity, blk *block) error {
	start := e.start + int64(blk.size)
	head, err := s.win.most(start, min(e.end, start+200))
	if err != nil {
		return err
	}
	skip := 0
	for skip < len(head) && (head[skip] == '\r' || head[skip] == '\n' || head[skip] == ' ') {
		skip++
	}
	if contentField(head[skip:]) == "" {
		return nil
	}
	start += int64(skip)
	data, err := b.headerBytes(s, start, e.end)
	if err != nil {
		return err
	}
	inner := parseBlock(data, b.limits.Field)
	for _, f := range inner.fields {
		f.clean = false
		blk.fields = append(blk.fields, f)
	}
	blk.others = append(blk.others, [2]int{int(start-e.start) + inner.size, 0})
	return nil
}

// headerBytes returns the bytes up to and including the first empty line, or as
// many as the limit allows. They are a copy.
func (b *builder) headerBytes(s *source, start, end int64) ([]byte, error) {
	var data []byte
	end = min(end, start+b.limits.Header)
	for off := start; off < end; {
		chunk, err := s.win.most(off, min(end, off+(4<<10)))
		if err != nil {
			return nil, err
		}
		data = append(data, chunk...)
		off += int64(len(chunk))
		if n := emptyLine(data, max(0, len(data)-len(chunk)-3)); n >= 0 {
			data = data[:n]
			break
		}
	}
	b.budget -= int64(len(data)) // never refused: each header section is read a few times at most
	return data, nil
}

// emptyLine returns the place behind the first empty line, -1 for none. The
// bytes before from were searched before.
func emptyLine(data []byte, from int) int {
	if len(data) > 0 && data[0] == '\n' {
		return 1
	}
	if len(data) > 1 && data[0] == '\r' && data[1] == '\n' {
		return 2
	}
	for i := from; i+1 < len(data); i++ {
		if data[i] != '\n' {
			continue
		}
		if data[i+1] == '\n' {
			return i + 2
		}
		if i+2 < len(data) && data[i+1] == '\r' && data[i+2] == '\n' {
			return i + 3
		}
	}
	return -1
}

// head returns up to n decoded bytes of a content.
func head(c *Content, n int) ([]byte, error) {
	buf := make([]byte, min(int64(n), c.maxSize()))
	got, err := io.ReadFull(c.Open(), buf)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		// A view or section that ends early has given an error of its own.
		err = nil
	}
	return buf[:got], err
}
