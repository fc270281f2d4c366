package mimetree

import (
	"bytes"
	"strings"
)

// The ways in which programs read an equal sign that RFC 2045 §6.7 does not
// allow. They all agree where there is none. The first way has no name: the sign
// stays as it is.
const (
	// qpDropSign drops the sign.
	qpDropSign = "drop sign"
	// qpDropDigit drops the sign and a digit behind it.
	qpDropDigit = "drop sign and digit"
	// qpDropThree drops the sign and two characters.
	qpDropThree = "drop three"
	// qpUpper drops the sign and two characters, and takes digits in lower case
	// for invalid.
	qpUpper = "capital digits only"
	// qpDropSpace drops the sign and white space behind it.
	qpDropSpace = "drop sign and space"
	// qpPairsFirst first drops each sign with a character behind it that is no
	// digit, lower case being none, and then decodes what is left.
	qpPairsFirst = "drop pairs first"
	// qpHalvesFirst first drops each sign with only one digit behind it.
	qpHalvesFirst = "drop halves first"
)

var qpVariants = []string{qpDropSign, qpDropDigit, qpDropThree, qpUpper, qpDropSpace, qpPairsFirst, qpHalvesFirst}

// withLF is the variant of an encoding, or what follows another variant, in which
// line ends are a single LF, as programs on Unix store what is not encoded. It
// makes a difference to files that are no text.
const withLF = "LF"

// qpCodec decodes quoted-printable in one of the ways.
type qpCodec struct {
	mode string
	lf   bool
}

func newQPCodec(variant string) *qpCodec {
	mode, lf := strings.CutSuffix(variant, withLF)
	return &qpCodec{mode: strings.TrimSuffix(mode, ", "), lf: lf}
}

func (c *qpCodec) clone() codec { return c }

func (c *qpCodec) decode(dst, src []byte, last bool) ([]byte, int, bool) {
	if c.mode != qpPairsFirst && c.mode != qpHalvesFirst {
		return c.plain(dst, src, last)
	}
	// Whole lines, so that nothing has to be kept between calls.
	n := len(src)
	if i := bytes.LastIndexByte(src, '\n'); i >= 0 && !last {
		n = i + 1
	}
	filtered := c.filter(make([]byte, 0, n), src[:n])
	plain := qpCodec{lf: c.lf}
	dst, _, _ = plain.plain(dst, filtered, true)
	return dst, n, false
}

// filter drops what the mode drops before anything is decoded.
func (c *qpCodec) filter(dst, src []byte) []byte {
	for i := 0; i < len(src); i++ {
		if src[i] == '=' && i+1 < len(src) {
			next := src[i+1]
			if c.mode == qpPairsFirst && next > ' ' && next != '=' && !isUpperHex(next) ||
				c.mode == qpHalvesFirst && unhex(next) >= 0 && (i+2 == len(src) || unhex(src[i+2]) < 0) {
				i++
				continue
			}
		}
		dst = append(dst, src[i])
	}
	return dst
}

// qpLook is how far the decoder looks behind an equal sign or at white space for
// the end of the line.
const qpLook = 512

// plain decodes in one pass.
func (c *qpCodec) plain(dst, src []byte, last bool) ([]byte, int, bool) {
	for i := 0; i < len(src); {
		n := bytes.IndexByte(src[i:], '=')
		if n < 0 {
			text := src[i:]
			if !last {
				// White space at the end may turn out to be the end of a line.
				if text = bytes.TrimRight(text, " \t\r"); len(src)-i-len(text) > qpLook {
					text = src[i:]
				}
			}
			return c.lines(dst, text), i + len(text), false
		}
		if !last && len(src)-i-n < qpLook {
			return c.lines(dst, src[i:i+n]), i + n, false
		}
		dst = c.lines(dst, src[i:i+n])
		i += n
		var used int
		dst, used = c.sign(dst, src[i:])
		i += used
	}
	return dst, len(src), false
}

// lines appends text without the white space at the ends of its lines, which was
// added on the way (RFC 2045 §6.7 (3)).
func (c *qpCodec) lines(dst, text []byte) []byte {
	for {
		i := bytes.IndexByte(text, '\n')
		if i < 0 {
			return append(dst, text...)
		}
		end := i
		if i > 0 && text[i-1] == '\r' {
			end--
		}
		line := text[:end]
		if end > 0 && (text[end-1] == ' ' || text[end-1] == '\t') {
			line = bytes.TrimRight(line, " \t")
		}
		if c.lf {
			end = i
		}
		if len(line) == end {
			dst = append(dst, text[:i+1]...)
		} else {
			dst = append(append(dst, line...), text[end:i+1]...)
		}
		text = text[i+1:]
	}
}

// sign decodes what begins with an equal sign and returns how much that was.
func (c *qpCodec) sign(dst, s []byte) ([]byte, int) {
	if n := softBreak(s); n > 0 {
		return dst, n
	}
	if len(s) > 2 {
		if v, ok := c.octet(s[1], s[2]); ok {
			return append(dst, v), 3
		}
	}
	switch c.mode {
	case qpDropSign:
		return dst, 1
	case qpDropDigit:
		if len(s) > 1 && unhex(s[1]) >= 0 {
			return dst, 2
		}
		return dst, 1
	case qpDropThree, qpUpper:
		return dst, min(3, len(s))
	case qpDropSpace:
		n := 1
		for n < len(s) && (s[n] == ' ' || s[n] == '\t') {
			n++
		}
		return dst, n
	}
	return append(dst, '='), 1
}

func (c *qpCodec) octet(a, b byte) (byte, bool) {
	if unhex(a) < 0 || unhex(b) < 0 || c.mode == qpUpper && (a >= 'a' || b >= 'a') {
		return 0, false
	}
	return byte(unhex(a)<<4 | unhex(b)), true
}

func isUpperHex(c byte) bool { return c >= '0' && c <= '9' || c >= 'A' && c <= 'F' }

// softBreak returns the length of a soft line break: an equal sign, white space
// (RFC 2045 §6.7 (3) allows it), and a line end of any kind, or the end of all.
func softBreak(s []byte) int {
	i := 1
	for i < len(s) && i < qpLook-2 && (s[i] == ' ' || s[i] == '\t') {
		i++
	}
	switch {
	case i == len(s):
		return i
	case s[i] == '\n':
		return i + 1
	case s[i] != '\r':
		return 0
	}
	for i < len(s) && i < qpLook-2 && s[i] == '\r' {
		i++
	}
	if i < len(s) && s[i] == '\n' {
		i++
	}
	return i
}

// qpCheck counts what programs read differently.
type qpCheck struct {
	signs, invalid int
	lower, upper   bool // digits in lower case, capital digits
	state          qpState
}

// qpState is what stands in front of the next byte.
type qpState uint8

const (
	qpText  qpState = iota
	qpSign          // an equal sign
	qpDigit         // and a digit
	qpSpace         // or and white space
)

func (c *qpCheck) feed(b []byte) {
	for len(b) > 0 {
		if c.state == qpText {
			i := bytes.IndexByte(b, '=')
			if i < 0 {
				return
			}
			c.signs++
			c.state, b = qpSign, b[i+1:]
			continue
		}
		if c.byte(b[0]) {
			b = b[1:]
		}
	}
}

// byte takes a byte behind a sign and reports whether it belongs to it.
func (c *qpCheck) byte(ch byte) bool {
	digit := unhex(ch) >= 0
	switch {
	case digit && c.state != qpSpace:
		c.lower = c.lower || ch >= 'a'
		c.upper = c.upper || ch >= 'A' && ch < 'a'
		c.state = (c.state + 1) % qpSpace
		return true
	case (ch == ' ' || ch == '\t') && c.state != qpDigit:
		c.state = qpSpace
		return true
	case (ch == '\r' || ch == '\n') && c.state != qpDigit:
		c.state = qpText
		return true
	}
	c.invalid++
	c.state = qpText
	return false
}

// lfCodec turns CRLF into LF and decodes nothing.
type lfCodec struct{}

func (c lfCodec) clone() codec { return c }

func (c lfCodec) decode(dst, src []byte, last bool) ([]byte, int, bool) {
	n := len(src)
	if n > 0 && src[n-1] == '\r' && !last {
		n--
	}
	text := src[:n]
	for {
		i := bytes.Index(text, []byte("\r\n"))
		if i < 0 {
			return append(dst, text...), n, false
		}
		dst = append(append(dst, text[:i]...), '\n')
		text = text[i+2:]
	}
}
