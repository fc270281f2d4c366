package mimetree

import (
	"slices"

	"gatepost/internal/mail"
)

// found reads the parts that no header leads to. A line that looks like a
// delimiter and has a Content- field behind it is one, whatever its text is and
// whoever declared it. First the source is cut at all delimiters of all
// boundaries; then, because a program that knows only one of them reads over the
// others, at those of each boundary alone.
func (b *builder) found(s *source, owner *Part) error {
	bounds := s.boundaries()
	if len(bounds) == 0 {
		return nil
	}
	var all []mark
	var order []uint64 // of the first use of each boundary
	alone := map[uint64][]mark{}
	for _, m := range s.facts.marks {
		if m.flags&(odd|followed) == odd || !bounds[m.text] && !bounds[m.core] {
			continue
		}
		if m.flags&odd != 0 && s.top != nil && m.start < s.top.Body.Start {
			continue // a folded field
		}
		all = append(all, m)
		for _, h := range [...]uint64{m.text, m.core} {
			if !bounds[h] || h == m.core && m.core == m.text && len(alone[h]) > 0 && alone[h][len(alone[h])-1].start == m.start {
				continue
			}
			if len(alone[h]) == 0 {
				order = append(order, h)
			}
			alone[h] = append(alone[h], m)
		}
	}
	if err := b.foundParts(s, owner, all, func(m mark) bool { return bounds[m.text] }); err != nil {
		return err
	}
	for _, h := range order {
		if len(alone[h]) == len(all) {
			continue
		}
		if err := b.foundParts(s, owner, alone[h], func(m mark) bool { return m.text == h }); err != nil {
			return err
		}
	}
	return nil
}

// boundaries returns the texts of all delimiters, declared or found, hashed.
func (s *source) boundaries() map[uint64]bool {
	set := map[uint64]bool{}
	for h := range s.declared {
		set[h] = true
	}
	for _, m := range s.facts.marks {
		if m.flags&followed != 0 {
			set[m.text], set[m.core] = true, true
		}
	}
	return set
}

// foundParts reads what lies behind each line that opens a part, up to the next
// line, where that is no part yet.
func (b *builder) foundParts(s *source, owner *Part, lines []mark, opens func(mark) bool) error {
	for i, m := range lines {
		if !opens(m) && m.flags&followed == 0 {
			continue
		}
		end := s.body.Size()
		last := i+1 == len(lines)
		if !last {
			end = max(m.next, lines[i+1].before)
		}
		if m.next > end || s.covered(m.next, end) {
			continue
		}
		if !b.room(entity{parent: owner, depth: s.depth + 1}) {
			return nil
		}
		if err := b.foundPart(s, owner, m, foundEnd{end, last}); err != nil {
			return err
		}
	}
	return nil
}

// covered reports whether a stretch was read before, or was cut further.
func (s *source) covered(start, end int64) bool {
	return slices.ContainsFunc(s.parts[start], func(p *Part) bool {
		return p.Body.End == end || len(p.Children) > 0
	})
}

// foundEnd is where a found part ends.
type foundEnd struct {
	at   int64
	last bool // only because nothing follows
}

func (b *builder) foundPart(s *source, owner *Part, m mark, end foundEnd) error {
	if !b.spend(owner, 1) {
		return nil
	}
	data, err := b.headerBytes(s, m.next, end.at)
	if err != nil {
		return err
	}
	blk := parseBlock(data, b.limits.Field)
	if len(blk.fields) == 0 && m.flags&followed == 0 {
		return nil
	}
	holder := s.holder(owner, m.start)
	e := entity{start: m.next, end: end.at, parent: owner, reading: Found, depth: s.depth + 1}
	if b.quotes(s, holder, m) {
		e.reading, e.parent = Quoted, holder
		b.note(symQuotation, holder, "parts quoted in a text")
	} else {
		b.noteFound(s, holder, m, end)
	}
	before := len(s.parts[m.next])
	p, err := b.entity(s, e)
	if err != nil || p == nil {
		return err
	}
	b.several = b.several || before > 0
	return nil
}

// noteFound reports why there is a part that was not declared.
func (b *builder) noteFound(s *source, holder *Part, m mark, end foundEnd) {
	switch others := s.parts[m.next]; {
	case len(others) > 0 && end.last:
		b.note(symUnclosed, holder, "no closing delimiter")
	case len(others) > 0:
		b.note(symInterleaved, others[0], "delimiters of another multipart in it")
	case holder.Leaf() && !holder.mime && len(holder.Children) == 0:
		b.note(symType, holder, "parts, but no Content-Type that makes sense")
	case m.flags&odd != 0:
		b.note(symBareCR, holder, "a delimiter that not every program sees as a line")
	default:
		b.note(symBoundary, holder, "parts between delimiters that are not declared")
	}
}

// quotes reports whether a delimiter stands in a text that merely shows it, as a
// bounce shows the message that it is about.
func (b *builder) quotes(s *source, holder *Part, m mark) bool {
	if !holder.Leaf() || len(holder.Contents) == 0 {
		return false
	}
	if slices.ContainsFunc(holder.Types, isMultipart) {
		return false
	}
	if holder.source != s {
		// The part whose content was decoded to this source.
		return isTextPart(holder) && s.textBefore(mail.Span{Start: 0, End: m.start})
	}
	return (isTextPart(holder) || isReport(holder.Types[0])) && s.textBefore(mail.Span{Start: holder.Body.Start, End: m.start})
}

func isReport(media string) bool {
	return media == "text/rfc822-headers" || media == "message/delivery-status" || media == "message/disposition-notification"
}

// textBefore reports whether there is anything but white space in a stretch.
func (s *source) textBefore(span mail.Span) bool {
	data, err := s.win.most(span.Start, min(span.End, span.Start+200))
	if err != nil {
		return false
	}
	for _, c := range data {
		if c > ' ' {
			return true
		}
	}
	return false
}
