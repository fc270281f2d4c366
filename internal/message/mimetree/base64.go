package mimetree

// The ways in which programs read base64 that is not as RFC 2045 §6.8 wants it.
// They all agree where it is. The first way has no name: what is not of the
// alphabet is left out, padding ends a group, and another group may follow.
const (
	// base64Stop ends at the first padding.
	base64Stop = "stop at padding"
	// base64Ignore takes padding for junk.
	base64Ignore = "ignore padding"
	// base64Zero takes padding for a character of the value zero.
	base64Zero = "padding is zero"
	// base64Group counts padding as one of four characters and leaves it out.
	base64Group = "padding in groups"
	// base64Line begins again with each line and drops what is left over.
	base64Line = "line by line"
	// base64Cut drops what follows junk in a line.
	base64Cut = "cut at junk"
	// base64URL takes - and _ for the last two characters (RFC 4648 §5).
	base64URL = "for URLs"
)

// base64Variants are the ways that may differ from the first.
var base64Variants = []string{base64Stop, base64Ignore, base64Zero, base64Group, base64Line, base64Cut, base64URL}

// base64Values has the value of each character plus one, zero for what is not of
// the alphabet.
var base64Values = [256]byte{
	'A': 1, 'B': 2, 'C': 3, 'D': 4, 'E': 5, 'F': 6, 'G': 7, 'H': 8, 'I': 9, 'J': 10, 'K': 11, 'L': 12, 'M': 13,
	'N': 14, 'O': 15, 'P': 16, 'Q': 17, 'R': 18, 'S': 19, 'T': 20, 'U': 21, 'V': 22, 'W': 23, 'X': 24, 'Y': 25, 'Z': 26,
	'a': 27, 'b': 28, 'c': 29, 'd': 30, 'e': 31, 'f': 32, 'g': 33, 'h': 34, 'i': 35, 'j': 36, 'k': 37, 'l': 38, 'm': 39,
	'n': 40, 'o': 41, 'p': 42, 'q': 43, 'r': 44, 's': 45, 't': 46, 'u': 47, 'v': 48, 'w': 49, 'x': 50, 'y': 51, 'z': 52,
	'0': 53, '1': 54, '2': 55, '3': 56, '4': 57, '5': 58, '6': 59, '7': 60, '8': 61, '9': 62, '+': 63, '/': 64,
}

// base64Codec decodes base64 in one of the ways.
type base64Codec struct {
	mode    string
	acc     uint32
	n       int // characters in acc
	group   int // characters and padding in the present group of four
	skipped bool
}

func (c *base64Codec) clone() codec { d := *c; return &d }

func (c *base64Codec) decode(dst, src []byte, last bool) ([]byte, int, bool) {
	for i := 0; i < len(src); i++ {
		if c.n == 0 && c.group == 0 && !c.skipped {
			// Most of what there is comes in fours.
			for i+4 <= len(src) {
				a, b, e, f := base64Values[src[i]], base64Values[src[i+1]], base64Values[src[i+2]], base64Values[src[i+3]]
				if a == 0 || b == 0 || e == 0 || f == 0 {
					break
				}
				v := uint32(a-1)<<18 | uint32(b-1)<<12 | uint32(e-1)<<6 | uint32(f-1)
				dst = append(dst, byte(v>>16), byte(v>>8), byte(v))
				i += 4
			}
			if i == len(src) {
				break
			}
		}
		ch := src[i]
		if v := base64Values[ch]; v != 0 {
			if !c.skipped {
				dst = c.put(dst, uint32(v-1))
			}
			continue
		}
		var done bool
		if dst, done = c.other(dst, ch); done {
			return dst, i + 1, true
		}
	}
	if last {
		dst = c.flush(dst)
	}
	return dst, len(src), false
}

// other takes a character that is not of the alphabet.
func (c *base64Codec) other(dst []byte, ch byte) (out []byte, done bool) {
	switch ch {
	case '=':
		if c.skipped {
			return dst, false
		}
		switch c.mode {
		case base64Ignore:
			return dst, false
		case base64Zero:
			return c.put(dst, 0), false
		case base64Group:
			return c.pad(dst), false
		case base64Stop:
			return c.flush(dst), true
		}
		return c.flush(dst), false
	case '\n':
		c.skipped = false
		if c.mode == base64Line {
			c.n, c.acc = 0, 0
		}
	case '\r', ' ', '\t', '\v', '\f':
	case '-', '_':
		if c.mode == base64URL {
			return c.put(dst, 62+uint32(ch&0x10>>4)), false
		}
		fallthrough
	default:
		c.skipped = c.mode == base64Cut
	}
	return dst, false
}

func (c *base64Codec) put(dst []byte, v uint32) []byte {
	c.acc, c.n = c.acc<<6|v, c.n+1
	if c.mode == base64Group {
		if c.group++; c.group == 4 {
			return c.flush(dst)
		}
		return dst
	}
	if c.n == 4 {
		dst = append(dst, byte(c.acc>>16), byte(c.acc>>8), byte(c.acc))
		c.n, c.acc = 0, 0
	}
	return dst
}

// pad counts padding as a character without a value.
func (c *base64Codec) pad(dst []byte) []byte {
	if c.group++; c.group == 4 {
		return c.flush(dst)
	}
	return dst
}

// flush ends a group that may be incomplete.
func (c *base64Codec) flush(dst []byte) []byte {
	switch c.n {
	case 2:
		dst = append(dst, byte(c.acc>>4))
	case 3:
		dst = append(dst, byte(c.acc>>10), byte(c.acc>>2))
	case 4:
		dst = append(dst, byte(c.acc>>16), byte(c.acc>>8), byte(c.acc))
	}
	c.n, c.acc, c.group = 0, 0, 0
	return dst
}

// base64Check looks for what programs read differently.
type base64Check struct {
	chars, pads, junk int
	// middle: characters follow padding; lines: a line that is not the last has no
	// multiple of four.
	middle, lines bool
	inLine        int
	uneven        bool
	// tail counts junk behind padding: what mailing lists append.
	tail int
}

func (c *base64Check) feed(b []byte) {
	for i := 0; i < len(b); i++ {
		ch := b[i]
		switch {
		case base64Values[ch] != 0:
			// The fast way through a line.
			start := i
			for i < len(b) && base64Values[b[i]] != 0 {
				i++
			}
			n := i - start
			i--
			c.chars += n
			if c.pads > 0 {
				c.middle = true
			}
			if c.inLine == 0 && c.uneven {
				c.lines = true
			}
			c.inLine += n
		case ch == '\n':
			if c.inLine%4 != 0 {
				c.uneven = true
			}
			c.inLine = 0
		case ch == '=':
			c.pads++
			c.inLine++
		case ch == '\r' || ch == ' ' || ch == '\t' || ch == '\v' || ch == '\f':
		default:
			if c.junk++; c.pads > 0 {
				c.tail++
			}
		}
	}
}

// plain reports that all programs read it the same.
func (c *base64Check) plain() bool { return c.junk == 0 && !c.middle }

// damaged says what is wrong, "" for nothing.
func (c *base64Check) damaged() string {
	switch {
	case c.middle && c.junk > 0:
		return "padding and foreign characters inside of base64"
	case c.middle:
		return "padding inside of base64"
	case c.junk > 0:
		return "foreign characters in base64"
	}
	return ""
}

// isBase64Text reports that a text begins like base64: two long lines of its
// characters, or one that is all there is.
func isBase64Text(head []byte) bool {
	chars := 0
	for i, c := range head {
		switch {
		case base64Values[c] != 0:
			chars++
		case c == '=' && chars > 0:
		case c == '\r' || c == '\n':
		default:
			return false
		}
		if i > 160 {
			break
		}
	}
	return chars >= 24
}
