package dkim

import (
	"bytes"
	"io"
	"strings"
)

// Canon is a canonicalisation algorithm (RFC 6376 §3.4). The zero value is
// Relaxed, which survives what mail servers do to white space.
type Canon uint8

// The canonicalisation algorithms.
const (
	Relaxed Canon = iota
	Simple
)

// String is the name in c=.
func (c Canon) String() string {
	if c == Simple {
		return "simple"
	}
	return "relaxed"
}

const crlf = "\r\n"

// appendField appends the canonical form of a header field, line end included.
// raw is the field as it stands in the message.
func (c Canon) appendField(dst []byte, raw string) []byte {
	if c == Simple {
		// RFC 6376 §3.4.1. A last field without line end gets one, as the message
		// does on its way.
		dst = append(dst, raw...)
		if !strings.HasSuffix(raw, crlf) {
			dst = append(dst, crlf...)
		}
		return dst
	}
	// RFC 6376 §3.4.2.
	name, value, _ := strings.Cut(raw, ":")
	dst = append(dst, strings.ToLower(strings.TrimRight(name, " \t"))...)
	dst = append(dst, ':')
	return append(appendUnfolded(dst, value), crlf...)
}

// appendUnfolded appends value without line ends, with single spaces for runs of
// white space and none at either end.
func appendUnfolded(dst []byte, value string) []byte {
	space, begun := false, false
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case c == ' ' || c == '\t':
			space = true
		case c == '\r' && i+1 < len(value) && value[i+1] == '\n':
			i++
		default:
			if space && begun {
				dst = append(dst, ' ')
			}
			space, begun = false, true
			dst = append(dst, c)
		}
	}
	return dst
}

// bodyBuffer is how many canonical bytes are collected for one write.
const bodyBuffer = 4 << 10

// bodyWriter passes the canonical form of a body on to w, piece by piece. Only
// CRLF ends a line; a lone CR or LF is a byte like any other. Close ends the body.
type bodyWriter struct {
	w     io.Writer
	canon Canon
	out   []byte
	err   error // the first error of w
	some  bool  // something was passed on
	// What is held back, in this order: line ends that are dropped when nothing
	// follows, white space that is dropped at the end of a line, and a CR that may
	// become a line end.
	ends  int
	space bool
	cr    bool
}

func newBodyWriter(c Canon, w io.Writer) *bodyWriter {
	return &bodyWriter{w: w, canon: c, out: make([]byte, 0, bodyBuffer)}
}

// Write implements io.Writer.
func (b *bodyWriter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if b.cr {
			b.cr = false
			if p[0] == '\n' {
				b.space = false
				b.ends++
				p = p[1:]
				continue
			}
			b.release()
			b.short("\r")
		}
		run := b.plain(p)
		if run > 0 {
			b.release()
			b.collect(p[:run])
			p = p[run:]
			continue
		}
		b.cr = p[0] == '\r'
		b.space = b.space || !b.cr
		p = p[1:]
	}
	return n, b.err
}

// plain returns how many bytes from the start of p stay as they are: ordinary
// text with its line ends, as far as nothing has to be known of what follows.
func (b *bodyWriter) plain(p []byte) int {
	if b.canon == Simple {
		return plainSimple(p)
	}
	return plainRelaxed(p)
}

// plainSimple ends in front of line ends that may be the last ones.
func plainSimple(p []byte) int {
	for i := 0; ; {
		n := bytes.IndexByte(p[i:], '\r')
		if n < 0 {
			return len(p)
		}
		if i += n; i == 0 || i+2 >= len(p) || p[i+1] != '\n' || p[i+2] == '\r' {
			return i
		}
		i += 3
	}
}

// plainRelaxed ends in front of white space as well, unless it is one space
// between two characters.
func plainRelaxed(p []byte) int {
	i := 0
	for i < len(p) {
		switch c := p[i]; {
		case c > ' ':
			i++
		case c == ' ' && i > 0 && i+1 < len(p) && p[i+1] > ' ':
			i += 2
		case c == '\r' && i > 0 && i+2 < len(p) && p[i+1] == '\n' && p[i+2] > ' ':
			i += 3
		case c == ' ' || c == '\t' || c == '\r':
			return i
		default:
			i++
		}
	}
	return i
}

// release passes on what was held back, because text follows.
func (b *bodyWriter) release() {
	for ; b.ends > 0; b.ends-- {
		b.short(crlf)
	}
	if b.space {
		b.short(" ")
	}
	b.space, b.some = false, true
}

func (b *bodyWriter) short(s string) {
	if len(b.out)+len(s) > bodyBuffer {
		b.flush()
	}
	b.out = append(b.out, s...)
}

func (b *bodyWriter) collect(p []byte) {
	if len(b.out)+len(p) > bodyBuffer {
		b.flush()
	}
	if len(p) > bodyBuffer {
		b.pass(p)
		return
	}
	b.out = append(b.out, p...)
}

func (b *bodyWriter) flush() {
	b.pass(b.out)
	b.out = b.out[:0]
}

func (b *bodyWriter) pass(p []byte) {
	if b.err == nil && len(p) > 0 {
		_, b.err = b.w.Write(p)
	}
}

// Close ends the body. Empty lines at its end do not count; a last line that
// lacks its line end gets one. Of an empty body nothing is left by Relaxed, one
// line end by Simple (RFC 6376 §3.4.3, §3.4.4).
func (b *bodyWriter) Close() error {
	if b.cr {
		b.cr = false
		b.release()
		b.short("\r")
	}
	if b.some || b.canon == Simple {
		b.short(crlf)
	}
	b.flush()
	return b.err
}
