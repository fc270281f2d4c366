package mimetree

import (
	"hash/maphash"
	"slices"
	"sort"
)

// split cuts the body of a part at the delimiters that its header declares, and
// reads what lies between them. It reports whether there was anything to cut.
func (b *builder) split(s *source, p *Part, bounds []string, depth int) (bool, error) {
	found := 0
	for _, text := range bounds {
		h := maphash.Bytes(b.seed, trimRight([]byte(text)))
		if text == "" || s.declared[h] && found > 0 {
			continue
		}
		s.declared[h] = true
		lines := s.delimiters(h, p.Body.Start, p.Body.End)
		if len(lines) == 0 {
			continue
		}
		reading := Reading("")
		if found > 0 {
			reading = Found
			b.note(symBoundary, p, "delimiters of more than one declared boundary")
		}
		found++
		if err := b.cut(s, p, lines, entity{reading: reading, depth: depth + 1, digest: p.Types[0] == "multipart/digest"}); err != nil {
			return true, err
		}
	}
	switch {
	case found > 0 && !slices.ContainsFunc(p.Types, isMultipart):
		b.note(symUndeclared, p, "parts in a body of type %s", p.Types[0])
	case found == 0 && isMultipart(p.Types[0]):
		b.note(symNoParts, p, "%s without a delimiter", p.Types[0])
	}
	return found > 0, nil
}

// delimiter is a mark as the delimiter of one multipart.
type delimiter struct {
	mark
	closes bool
}

// delimiters returns the marks between two offsets that every program takes for
// delimiters of the boundary with that hash.
func (s *source) delimiters(h uint64, start, end int64) []delimiter {
	var list []delimiter
	take := func(indexes []int32, closes bool) {
		i := sort.Search(len(indexes), func(i int) bool { return s.facts.marks[indexes[i]].start >= start })
		for ; i < len(indexes) && s.facts.marks[indexes[i]].start < end; i++ {
			if m := s.facts.marks[indexes[i]]; m.flags&odd == 0 {
				list = append(list, delimiter{m, closes})
			}
		}
	}
	take(s.facts.byText[h], false)
	take(s.facts.byCore[h], true)
	slices.SortFunc(list, func(a, b delimiter) int {
		switch {
		case a.start < b.start:
			return -1
		case a.start > b.start:
			return 1
		}
		return 0
	})
	return list
}

// cut reads the parts between delimiters.
func (b *builder) cut(s *source, p *Part, lines []delimiter, e entity) error {
	ended := false
	e.parent = p
	for i, d := range lines {
		if d.closes {
			ended = true
			continue
		}
		if ended {
			b.note(symAfterEnd, p, "a delimiter behind the closing one")
		}
		e.start, e.end = d.next, p.Body.End
		if i+1 < len(lines) {
			e.end = max(d.next, lines[i+1].before)
		}
		if e.start > e.end {
			e.start = e.end
		}
		if _, err := b.entity(s, e); err != nil {
			return err
		}
	}
	if !ended {
		b.note(symUnclosed, p, "no closing delimiter")
	}
	return nil
}
