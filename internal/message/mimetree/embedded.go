package mimetree

import (
	"bytes"
	"strings"
)

// embedStart recognises the line that begins a file inside of text.
func embedStart(line []byte) (embed, bool) {
	switch {
	case bytes.HasPrefix(line, []byte("begin ")), bytes.HasPrefix(line, []byte("begin\t")):
		mode, name := cutField(line[len("begin "):])
		// Outlook takes "begin", two spaces and anything for the start of a file.
		if !isOctal(mode) && !bytes.HasPrefix(line, []byte("begin  ")) {
			return embed{}, false
		}
		if !isOctal(mode) {
			name = bytes.TrimSpace(line[len("begin "):])
		}
		return embed{kind: Uuencode, name: string(name[:min(len(name), maxNameText)])}, true
	case bytes.HasPrefix(line, []byte("begin-base64 ")):
		mode, name := cutField(line[len("begin-base64 "):])
		if !isOctal(mode) {
			return embed{}, false
		}
		return embed{kind: Base64, name: string(name[:min(len(name), maxNameText)])}, true
	case bytes.HasPrefix(line, []byte("=ybegin ")):
		_, name, _ := bytes.Cut(line, []byte(" name="))
		name = bytes.TrimSpace(name)
		return embed{kind: YEnc, name: string(name[:min(len(name), maxNameText)])}, true
	case bytes.HasPrefix(line, []byte("(This file must be converted with BinHex")):
		return embed{kind: BinHex}, true
	}
	return embed{}, false
}

// cutField cuts the first word of a line.
func cutField(b []byte) (first, rest []byte) {
	b = bytes.TrimSpace(b)
	i := bytes.IndexAny(b, " \t")
	if i < 0 {
		return b, nil
	}
	return b[:i], bytes.TrimSpace(b[i:])
}

func isOctal(b []byte) bool {
	return len(b) >= 3 && len(b) <= 6 && len(bytes.Trim(b, "01234567")) == 0
}

// isUuLine reports that a line can be uuencoded: its first character says how
// many bytes it holds. White space at the end may be lost, a check sum added.
func isUuLine(line []byte) bool {
	line = bytes.TrimRight(line, "\r\n")
	if len(line) == 0 || line[0] < ' ' || line[0] > '`' {
		return false
	}
	n := int(line[0]-' ') & 63
	want := (n + 2) / 3 * 4
	have := len(line) - 1
	if n == 0 {
		return have <= 1
	}
	// Trailing spaces stand for zero bytes, so they may be any number.
	shortest := want
	if strings.IndexByte(" `", line[len(line)-1]) >= 0 || have < want {
		shortest = want / 2
	}
	return have >= shortest && have <= want+2
}

// uuCodec decodes uuencoded lines, with or without the line that begins them. A
// line that is none is skipped as long as nothing was decoded, and then ends it.
type uuCodec struct {
	begun bool
	bad   int
}

func (c *uuCodec) clone() codec { d := *c; return &d }

// maxUuLine is the longest line there is: a length, 63 bytes, and some slack.
const maxUuLine = 256

func (c *uuCodec) decode(dst, src []byte, last bool) ([]byte, int, bool) {
	for i := 0; i < len(src); {
		n := bytes.IndexByte(src[i:], '\n') + 1
		if n == 0 {
			if !last && len(src)-i < maxUuLine {
				return dst, i, false
			}
			n = len(src) - i
		}
		line := bytes.TrimRight(src[i:i+n], "\r\n")
		i += n
		switch {
		case isUuLine(line):
			c.bad = 0
			// A line of no bytes ends the file; "end" is for those who forgot it.
			if len(line) == 0 || line[0] == '`' || line[0] == ' ' {
				if c.begun {
					return dst, i, true
				}
				continue
			}
			c.begun = true
			dst = appendUu(dst, line)
		case c.begun && (string(line) == "end" || len(line) > 0 && c.bad > 2):
			return dst, i, true
		default:
			c.bad++
		}
	}
	return dst, len(src), false
}

func appendUu(dst, line []byte) []byte {
	n := int(line[0]-' ') & 63
	at := func(i int) byte {
		if i < len(line) {
			return (line[i] - ' ') & 63
		}
		return 0
	}
	for i := 1; n > 0; i, n = i+4, n-3 {
		a, b, c, d := at(i), at(i+1), at(i+2), at(i+3)
		three := [3]byte{a<<2 | b>>4, b<<4 | c>>2, c<<6 | d}
		dst = append(dst, three[:min(n, 3)]...)
	}
	return dst
}

// yencCodec decodes yEnc: every byte plus 42, but for a few that are escaped.
type yencCodec struct{ begun bool }

func (c *yencCodec) clone() codec { d := *c; return &d }

func (c *yencCodec) decode(dst, src []byte, last bool) ([]byte, int, bool) {
	for i := 0; i < len(src); i++ {
		switch ch := src[i]; {
		case ch == '\r' || ch == '\n':
		case ch == '=' && i+1 == len(src):
			if !last {
				return dst, i, false
			}
		case ch == '=' && src[i+1] == 'y' && (i == 0 || src[i-1] == '\n' || src[i-1] == '\r'):
			// A line of its own: =ybegin, =ypart, =yend.
			n := bytes.IndexByte(src[i:], '\n')
			if n < 0 && !last && len(src)-i < minDecode {
				return dst, i, false
			}
			if bytes.HasPrefix(src[i:], []byte("=yend")) {
				return dst, len(src), true
			}
			if n < 0 {
				return dst, len(src), false
			}
			c.begun = true
			i += n
		case ch == '=':
			i++
			if c.begun {
				dst = append(dst, src[i]-64-42)
			}
		case c.begun:
			dst = append(dst, ch-42)
		}
	}
	return dst, len(src), false
}
