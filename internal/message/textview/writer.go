package textview

import (
	"unicode"
	"unicode/utf8"
)

// writer collects a text as it is seen: white space as it shows, nothing that is
// invisible.
type writer struct {
	b     []byte
	space bool // white space is due before the next character
	lines int  // line ends that are due
	// after says that an invisible character followed a Latin letter or digit.
	after bool
	// invisible counts invisible characters inside of Latin words, turned the
	// marks that make a text run the other way, mixed the words of letters of
	// several scripts.
	invisible, turned, mixed int
	word                     scripts
}

func newWriter(size int) writer { return writer{b: make([]byte, 0, size)} }

// text adds a piece of text; white space is kept where it is preformatted, and
// otherwise runs of it become one space.
func (w *writer) text(s string, preformatted bool) {
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			w.rune(r)
			i += n
			continue
		}
		i++
		switch {
		case c > ' ' && c < 0x7f:
			w.ascii(c)
		case c == '\n' && preformatted:
			w.newline()
		case c == ' ', c == '\t', c == '\n', c == '\r', c == '\f', c == '\v':
			if c != '\r' {
				w.gap()
			}
		}
		// Other control characters are not seen.
	}
}

// gap says that white space follows.
func (w *writer) gap() { w.space, w.after = true, false; w.endWord() }

// line says that what follows stands on another line.
func (w *writer) line() {
	if len(w.b) > 0 {
		w.lines = max(w.lines, 1)
	}
	w.gap()
}

// newline is a line end that is shown as such.
func (w *writer) newline() {
	if len(w.b) > 0 {
		w.lines++
	}
	w.gap()
}

// flush writes the white space that is due.
func (w *writer) flush() {
	if w.lines > 0 {
		for range min(w.lines, 2) {
			w.b = append(w.b, '\n')
		}
	} else if w.space && len(w.b) > 0 {
		w.b = append(w.b, ' ')
	}
	w.space, w.lines = false, 0
}

func (w *writer) ascii(c byte) {
	if w.space || w.lines > 0 {
		w.flush()
	}
	if c|0x20 >= 'a' && c|0x20 <= 'z' {
		w.word |= latin
		if w.after {
			w.invisible++
		}
	} else {
		w.endWord()
	}
	w.after = false
	w.b = append(w.b, c)
}

func (w *writer) rune(r rune) {
	switch {
	case isInvisible(r):
		if r >= '\u202d' && r <= '\u202e' {
			w.turned++
		}
		// Soft hyphens and joiners stand in honest words too, but then in few.
		w.after = r != '\u00ad' && len(w.b) > 0 && isLatinByte(w.b[len(w.b)-1]) && !w.space && w.lines == 0
		return
	case unicode.Is(unicode.Zs, r), r == '\u0085', r == '\u2028', r == '\u2029':
		w.gap()
		return
	case unicode.IsControl(r):
		return
	}
	if w.space || w.lines > 0 {
		w.flush()
	}
	w.after = false
	if s := scriptOf(r); s != 0 {
		w.word |= s
	} else if !unicode.IsLetter(r) && !unicode.Is(unicode.M, r) {
		w.endWord()
	}
	w.b = utf8.AppendRune(w.b, r)
}

func (w *writer) endWord() {
	if w.word.mixed() {
		w.mixed++
	}
	w.word = 0
}

// done returns the text.
func (w *writer) done() string {
	w.endWord()
	return string(w.b)
}

func isLatinByte(c byte) bool {
	return c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9'
}

// isInvisible reports characters that take no room, for whatever purpose.
func isInvisible(r rune) bool {
	switch {
	case r == 0xad, r == 0x34f, r == 0x61c, r == 0x115f, r == 0x1160, r == 0x17b4, r == 0x17b5, r == 0x3164, r == 0xfeff, r == 0xffa0:
		return true
	case r >= 0x180b && r <= 0x180f, r >= 0x200b && r <= 0x200f, r >= 0x202a && r <= 0x202e, r >= 0x2060 && r <= 0x206f:
		return true
	case r >= 0xfe00 && r <= 0xfe0f, r >= 0xfff0 && r <= 0xfffb, r >= 0xe0000 && r <= 0xe0fff, r >= 0x1d173 && r <= 0x1d17a:
		return true
	}
	return false
}

// scripts is a set of scripts whose letters can be taken for each other.
type scripts uint8

const (
	latin scripts = 1 << iota
	cyrillic
	greek
	armenian
	cherokee
	coptic
)

// mixed reports that letters which look alike but are others stand together.
// Technical words mix Latin and Greek in good faith, but not often in mail.
func (s scripts) mixed() bool { return s&(s-1) != 0 }

func scriptOf(r rune) scripts {
	switch {
	case r < 0x80:
		if r|0x20 >= 'a' && r|0x20 <= 'z' {
			return latin
		}
		return 0
	case r >= 0x400 && r <= 0x52f:
		return cyrillic
	case r == 0xb5: // the micro sign is no letter of a word
		return 0
	case r < 0x250, r >= 0x1e00 && r <= 0x1eff:
		if unicode.IsLetter(r) {
			return latin
		}
	case r >= 0x370 && r <= 0x3ff:
		if unicode.IsLetter(r) {
			return greek
		}
	case r >= 0x531 && r <= 0x587:
		return armenian
	case r >= 0x13a0 && r <= 0x13fd:
		return cherokee
	case r >= 0x2c80 && r <= 0x2cff:
		return coptic
	}
	return 0
}
