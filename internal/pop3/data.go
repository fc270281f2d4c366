package pop3

import (
	"bytes"
	"io"
)

// Unstuffer takes the data of a multi-line reply apart, in pieces of any size. Its zero
// value stands at the start of the data.
//
// RFC 1939 §3 ends the data with a dot between two CRLF, and lines with CRLF. There are
// servers that pass the bare LF of a stored message on, and clients take every LF for the
// end of a line; so does an Unstuffer. Where such a server does not stuff the dot behind
// a bare LF, the single dot there is text: a line of it does not end the data, unless
// the server ends its own lines so (LFOnly).
type Unstuffer struct {
	// LFOnly says that the reply's first line ended in a bare LF: so does the dot.
	LFOnly bool

	state lineState
	// cr says that the last byte was a CR, bare that the present line began behind a
	// bare LF.
	cr, bare bool
}

type lineState uint8

const (
	atStart lineState = iota
	atDot             // behind a dot at the start
	atDotCR
	inLine
)

// Next takes the next bytes of src, which must not be empty: n were used up, text is what they
// stand for, valid as long as src. After the end, which is true once, nothing more
// belongs to the data.
func (u *Unstuffer) Next(src []byte) (text []byte, n int, end bool) {
	switch u.state {
	case atStart:
		if src[0] == '.' {
			u.state = atDot
			return nil, 1, false
		}
		u.state = inLine
	case atDot:
		return u.behindDot(src)
	case atDotCR:
		return u.behindDotCR(src)
	}
	return u.line(src)
}

func (u *Unstuffer) behindDot(src []byte) (text []byte, n int, end bool) {
	switch {
	case src[0] == '\r':
		u.state = atDotCR
		return nil, 1, false
	case src[0] == '\n' && u.LFOnly:
		return nil, 1, true
	case src[0] == '\n':
		u.state, u.cr, u.bare = atStart, false, true
		return []byte(".\n"), 1, false
	}
	u.state, u.cr = inLine, false
	if u.bare && src[0] != '.' {
		return []byte{'.'}, 0, false // never stuffed
	}
	return u.line(src)
}

func (u *Unstuffer) behindDotCR(src []byte) (text []byte, n int, end bool) {
	if src[0] == '\n' {
		return nil, 1, true
	}
	u.state, u.cr = inLine, true
	if u.bare {
		return []byte(".\r"), 0, false
	}
	return []byte{'\r'}, 0, false
}

// line takes bytes up to the next line that begins with a dot.
func (u *Unstuffer) line(src []byte) (text []byte, n int, end bool) {
	n = len(src)
	if i := bytes.Index(src, []byte("\n.")); i >= 0 {
		n = i + 1
	}
	text = src[:n]
	if text[n-1] != '\n' {
		u.cr = text[n-1] == '\r'
		return text, n, false
	}
	if n > 1 {
		u.cr = text[n-2] == '\r'
	}
	u.state, u.bare, u.cr = atStart, !u.cr, false
	return text, n, false
}

// Stuffer writes the data of a multi-line reply. The zero value of all but W stands at
// the start of the data.
type Stuffer struct {
	W io.Writer

	started, inLine bool
}

// Write stuffs the dots in p and passes it on.
func (s *Stuffer) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		rest := p[done:]
		if !s.inLine && rest[0] == '.' {
			if _, err := s.W.Write([]byte{'.'}); err != nil {
				return done, err
			}
		}
		n := len(rest)
		if i := bytes.Index(rest, []byte("\n.")); i >= 0 {
			n = i + 1
		}
		if _, err := s.W.Write(rest[:n]); err != nil {
			return done, err
		}
		s.started, s.inLine = true, rest[n-1] != '\n'
		done += n
	}
	return done, nil
}

// Close ends the data; W stays open. A last line without an end gets one.
func (s *Stuffer) Close() error {
	end := ".\r\n"
	if s.inLine {
		end = "\r\n.\r\n"
	}
	_, err := io.WriteString(s.W, end)
	return err
}

// Head passes on the header section, the empty line behind it, and so many lines of
// the body: what TOP asks for (RFC 1939 §7).
type Head struct {
	W     io.Writer
	Lines int

	inBody, inLine, cr, done bool
}

// Done reports whether what follows is not wanted.
func (h *Head) Done() bool { return h.done }

// Write passes the wanted part of p on, and swallows the rest.
func (h *Head) Write(p []byte) (int, error) {
	n := 0
	for n < len(p) && !h.done {
		i := bytes.IndexByte(p[n:], '\n')
		if i < 0 {
			h.cr = p[len(p)-1] == '\r' && (!h.inLine && len(p)-n == 1)
			h.inLine = true
			n = len(p)
			break
		}
		empty := i == 0 && (!h.inLine || h.cr) || i == 1 && p[n] == '\r' && !h.inLine
		n += i + 1
		h.endLine(empty)
	}
	if _, err := h.W.Write(p[:n]); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (h *Head) endLine(empty bool) {
	h.inLine, h.cr = false, false
	switch {
	case h.inBody:
		h.Lines--
	case empty:
		h.inBody = true
	}
	h.done = h.inBody && h.Lines <= 0
}
