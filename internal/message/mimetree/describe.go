package mimetree

import (
	"strings"
)

// describe fills in what the fields say and returns the boundaries they give,
// the likeliest first.
func (b *builder) describe(p *Part, blk block, e entity) (bounds []string) {
	var v values
	typed, hidden := 0, true
	for _, f := range blk.fields {
		if f.name == fieldDisposition && p.Disposition == "" {
			p.Disposition = parseStructured(f.value).head
		}
		if f.name != fieldType {
			continue
		}
		s := parseStructured(f.value)
		media, clean := mediaType(s.head)
		if media != "" {
			p.Types = addString(p.Types, media)
		}
		if typed == 0 {
			p.mime = clean && f.clean
		}
		typed++
		hidden = hidden && !f.clean
		for _, r := range paramReadings(s.params, "boundary") {
			v.add(r)
			v.add(decodeWords(r))
		}
		for _, r := range paramReadings(s.params, "charset") {
			if p.Charset == "" {
				p.Charset = strings.ToLower(r)
			}
		}
		b.noteParams(p, s)
	}
	if len(p.Types) == 0 {
		p.Types = []string{"text/plain"}
		if e.digest && typed == 0 {
			p.Types[0] = "message/rfc822"
		}
	}
	if typed > 0 && hidden { // some programs see no such field
		p.Types = addString(p.Types, "text/plain")
	}
	if p.nameFields(blk.fields) {
		for _, f := range blk.fields {
			b.budget -= 16 * int64(len(f.value)) // the ways to cut it
		}
	}
	if len(p.Names) >= maxNames {
		b.note(symLimitField, p, "more than %d readings of the file name", maxNames)
	}
	return v.list
}

// mediaType cleans the first piece of a Content-Type: comments, quotes, encoded
// words and backslashes that some programs undo. It reports whether there was
// nothing to clean.
func mediaType(head string) (media string, clean bool) {
	if isMediaType(head) {
		return head, true
	}
	s := strings.ToLower(decodeWords(head))
	s = strings.Map(func(r rune) rune {
		if r <= ' ' || r == '"' || r == '\\' || r == '\'' || r >= 0x7f {
			return ' '
		}
		return r
	}, s)
	s = strings.ReplaceAll(strings.TrimSpace(s), " ", "")
	s, _, _ = strings.Cut(s, ",")
	if i := strings.Index(s, "boundary="); i > 0 {
		s = s[:i]
	}
	if isMediaType(s) {
		return s, false
	}
	if strings.Contains(s, "multipart") {
		return "multipart/mixed", false
	}
	return "", false
}

func isMediaType(s string) bool {
	major, minor, ok := strings.Cut(s, "/")
	return ok && isToken(major) && isToken(minor)
}

func isToken(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f || strings.IndexByte(`()<>@,;:\"/[]?=`, s[i]) >= 0 {
			return false
		}
	}
	return s != ""
}

func isMessage(media string) bool {
	switch media {
	case "message/rfc822", "message/global", "message/news", "message/partial", "message/external-body":
		return true
	}
	return false
}

func isMultipart(media string) bool { return strings.HasPrefix(media, "multipart/") }

// noteParams reports boundaries that contradict each other.
func (b *builder) noteParams(p *Part, s structured) {
	plain, kinds := "", map[string]bool{}
	for _, q := range s.params {
		if q.key == "boundary" {
			if plain != "" && plain != q.value {
				b.note(symDuplicate, p, "boundary is %q and %q", plain, q.value)
			}
			plain = q.value
		}
		if strings.HasPrefix(q.key, "boundary*") {
			if kinds[q.key] {
				b.note(symDuplicate, p, "%s stands twice", q.key)
			}
			kinds[q.key] = true
		}
	}
	if plain != "" && len(kinds) > 0 {
		b.note(symDuplicate, p, "boundary is given plainly and in the way of RFC 2231")
	}
}

// noteHeader reports what is odd about the fields of one header.
func (b *builder) noteHeader(p *Part, blk block) {
	if blk.cut {
		b.note(symLimitField, p, "a Content- field above %d bytes, or more than %d of them", b.limits.Field, maxFields)
	}
	first := map[string]string{}
	for _, f := range blk.fields {
		value := normalField(f)
		if !f.clean {
			b.note(symHidden, p, "%s that only some programs see: %q", f.name, f.value)
		}
		if other, ok := first[f.name]; ok && other != value {
			b.note(symDuplicate, p, "%s is %q and %q", f.name, other, value)
		}
		first[f.name] = value
	}
	if blk.bare {
		b.note(symBareCR, p, "a CR without LF in the header section")
	}
	if blk.nul {
		b.note(symNUL, p, "a NUL in the header section")
	}
	b.noteNames(p)
}

// normalField is the value of a field without what makes no difference.
func normalField(f field) string {
	s := parseStructured(f.value)
	out := s.head
	for _, p := range s.params {
		if f.name == fieldType && p.key == "boundary" || strings.Contains(p.key, "name") {
			out += ";" + p.key + "=" + p.value
		}
	}
	return strings.TrimSpace(out)
}

// noteNames reports names that would be treated differently.
func (b *builder) noteNames(p *Part) {
	if len(p.Names) < 2 {
		return
	}
	firstKey := ""
	for _, n := range p.Names {
		if len(n.Keys) == 0 {
			continue
		}
		key := n.Keys[0]
		if firstKey == "" {
			firstKey = key
		}
		if a, c := extension(firstKey), extension(key); a != c && a != "" && c != "" {
			b.note(symNames, p, "file name is %q and %q", firstKey, key)
		}
	}
}
