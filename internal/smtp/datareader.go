package smtp

import (
	"bytes"
	"encoding/binary"
)

// maxTextLine is RFC 5322 §2.1.1's limit for a line, without its CRLF.
const maxTextLine = 998

// DataFacts is what a DataDecoder learned of a message on its way through.
type DataFacts struct {
	// Size is the number of bytes of the message as it is kept. HeaderSize is
	// the part up to and including the empty line after the header section;
	// equals Size where there is none.
	Size, HeaderSize int64
	// Has8Bit says that a byte above 0x7f stands in the body, HeaderUTF8 in the
	// header section; LongLines that a line exceeds 998 bytes.
	Has8Bit, HeaderUTF8, LongLines bool
	// Normalized says that bare CR, bare LF or NUL were found.
	Normalized bool
}

// DataMode says what kind of octets a DataDecoder reads.
type DataMode uint8

// The data modes.
const (
	DataDots   DataMode = iota // DATA: dot-stuffed, ended by CRLF.CRLF
	DataChunks                 // BDAT: as it comes, ended by DataDecoder.Finish
	DataBinary                 // BDAT after BODY=BINARYMIME: nothing is normalised
)

// DataDecoder turns the octets after DATA or BDAT into the message as it is kept.
// However the octets are cut into pieces, the result is the same.
//
// Only the five octets CRLF.CRLF end DATA, where the CRLF of the DATA line itself
// counts as the first. A dot is removed from the start of a line only after a real
// CRLF. What comes out of the modes DataDots and DataChunks never holds a bare CR,
// a bare LF or a NUL:
//   - CR CR LF is one line end: it is what a program leaves that turned CRLF into
//     CR CRLF, and Postfix and others read it so;
//   - every other CR without LF and every LF without CR is a line end by itself;
//   - NUL is dropped, after it has kept apart the CR and LF around it.
//
// Facts.Normalized tells that this was needed, for those who would rather refuse.
// The zero DataDecoder is ready for DATA.
type DataDecoder struct {
	facts DataFacts
	mode  DataMode
	// line is the state of the raw octets, pending the number of CR that came
	// last and are not yet written (at most 2).
	line    lineState
	pending uint8
	// The facts in the making: how long the present line of the output is, and
	// whether the header section has ended.
	lineLen int64
	inBody  bool
}

type lineState uint8

const (
	lineStart  lineState = iota // after CRLF, or at the very start
	lineDot                     // after CRLF and a dot that is not written
	lineDotCR                   // after CRLF, dot, CR
	lineMiddle                  // anywhere else
)

// Reset makes the decoder ready for another message.
func (d *DataDecoder) Reset(mode DataMode) { *d = DataDecoder{mode: mode} }

// Facts is what is known of the message so far.
func (d *DataDecoder) Facts() DataFacts {
	f := d.facts
	if !d.inBody {
		f.HeaderSize = f.Size
	}
	return f
}

// InHeader reports whether the empty line after the header section has not come.
func (d *DataDecoder) InHeader() bool { return !d.inBody }

// MaxExpansion bounds the output of Decode and Finish: it is at most twice the
// input plus this.
const MaxExpansion = 4

// Decode appends to dst what src adds to the message and returns how many bytes of
// src it took: all of them, unless the end of DATA was reached within.
func (d *DataDecoder) Decode(dst, src []byte) (out []byte, n int, end bool) {
	if d.mode == DataBinary {
		d.note(src)
		return append(dst, src...), len(src), false
	}
	for n < len(src) {
		if d.line == lineStart {
			skip := d.stuffing(src[n:])
			if run := d.cleanRun(src[n+skip:], skip > 0); run > 0 {
				n += skip
				dst = append(dst, src[n:n+run]...)
				n += run
				continue
			}
		}
		var took int
		dst, took, end = d.decodeLine(dst, src[n:])
		n += took
		if end {
			return dst, n, true
		}
	}
	return dst, n, false
}

// Finish appends what a BDAT message still owes at its last octet: the line ends
// that pending CRs stand for.
func (d *DataDecoder) Finish(dst []byte) []byte { return d.flushCR(dst) }

// stuffing returns 1 if the line at the start of src certainly has a dot too many
// (RFC 5321 §4.5.2), and 0 if it has none or that remains to be seen.
func (d *DataDecoder) stuffing(src []byte) int {
	if d.mode == DataDots && src[0] == '.' && len(src) > 1 && src[1] != '\r' {
		return 1
	}
	return 0
}

// cleanRun returns the length of the lines at the start of src that pass as they
// are, and takes them into the facts. It is the fast path: nearly all mail is only
// looked at with the vector code of package bytes. unstuffed says that the first
// line has lost its dot already.
func (d *DataDecoder) cleanRun(src []byte, unstuffed bool) int {
	saved := *d
	run, lines := 0, 0
	for run < len(src) && !(d.mode == DataDots && src[run] == '.' && (run > 0 || !unstuffed)) {
		i := bytes.IndexByte(src[run:], '\n')
		if i < 1 || src[run+i-1] != '\r' {
			break
		}
		if i-1 > maxTextLine {
			d.facts.LongLines = true
		}
		run += i + 1
		lines++
		if i == 1 && !d.inBody {
			// The header's 8-bit bytes are another fact than the body's: stop here.
			d.noteBytes(src[:run])
			d.endHeader()
			break
		}
	}
	if run == 0 {
		return 0
	}
	if bytes.Count(src[:run], []byte{'\r'}) != lines || bytes.IndexByte(src[:run], 0) >= 0 {
		*d = saved
		return 0
	}
	if d.facts.Size == saved.facts.Size {
		d.noteBytes(src[:run])
	}
	return run
}

// decodeLine takes src up to the end of the present raw line, octet by octet.
func (d *DataDecoder) decodeLine(dst, src []byte) (out []byte, n int, end bool) {
	for n < len(src) {
		c := src[n]
		switch d.line {
		case lineStart:
			if c == '.' && d.mode == DataDots {
				// RFC 5321 §4.5.2: either the end, or one dot too many.
				d.line = lineDot
				n++
				continue
			}
			d.line = lineMiddle
		case lineDot:
			if c == '\r' {
				d.line, d.pending = lineDotCR, 1
				n++
				continue
			}
			d.line = lineMiddle
		case lineDotCR:
			if c == '\n' {
				d.pending = 0
				return dst, n + 1, true
			}
			d.line = lineMiddle
		}
		switch c {
		case '\r':
			dst = d.carriageReturn(dst)
			n++
		case '\n':
			n++
			if d.pending > 0 {
				d.facts.Normalized = d.facts.Normalized || d.pending > 1
				d.pending = 0
				d.line = lineStart
				return d.lineEnd(dst), n, false
			}
			d.facts.Normalized = true
			dst = d.lineEnd(dst)
		case 0:
			d.facts.Normalized = true
			dst = d.flushCR(dst)
			n++
		default:
			dst = d.flushCR(dst)
			run := ordinary(src[n:])
			d.note(src[n : n+run])
			dst = append(dst, src[n:n+run]...)
			n += run
		}
	}
	return dst, n, false
}

// ordinary returns how many bytes at the start of src are none of CR, LF and NUL.
func ordinary(src []byte) int {
	for i, c := range src {
		if c <= '\r' && (c == '\r' || c == '\n' || c == 0) {
			return i
		}
	}
	return len(src)
}

// carriageReturn takes a CR. Two may wait for an LF; a third proves that the first
// is a line end by itself.
func (d *DataDecoder) carriageReturn(dst []byte) []byte {
	if d.pending < 2 {
		d.pending++
		return dst
	}
	d.facts.Normalized = true
	return d.lineEnd(dst)
}

// flushCR writes the line ends of CRs that no LF followed.
func (d *DataDecoder) flushCR(dst []byte) []byte {
	for ; d.pending > 0; d.pending-- {
		d.facts.Normalized = true
		dst = d.lineEnd(dst)
	}
	return dst
}

// lineEnd writes one CRLF.
func (d *DataDecoder) lineEnd(dst []byte) []byte {
	d.facts.Size += 2
	if d.lineLen == 0 && !d.inBody {
		d.endHeader()
	}
	d.lineLen = 0
	return append(dst, '\r', '\n')
}

// endHeader notes that what was seen so far is the header section.
func (d *DataDecoder) endHeader() {
	d.inBody = true
	d.facts.HeaderSize = d.facts.Size
	d.lineLen = 0
}

// note takes bytes into the facts that hold no line end, or any bytes in binary
// mode (where line ends do not come apart and only whole facts matter).
func (d *DataDecoder) note(b []byte) {
	if d.mode == DataBinary {
		d.noteBinary(b)
		return
	}
	d.lineLen += int64(len(b))
	if d.lineLen > maxTextLine {
		d.facts.LongLines = true
	}
	d.noteBytes(b)
}

// noteBytes adds to the size and looks for 8-bit bytes.
func (d *DataDecoder) noteBytes(b []byte) {
	d.facts.Size += int64(len(b))
	if d.inBody {
		d.facts.Has8Bit = d.facts.Has8Bit || has8Bit(b)
	} else {
		d.facts.HeaderUTF8 = d.facts.HeaderUTF8 || has8Bit(b)
	}
}

// noteBinary keeps the facts of a BINARYMIME message, whose lines end where CRLF
// stands and whose other octets are what they are.
func (d *DataDecoder) noteBinary(b []byte) {
	for len(b) > 0 {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			d.noteBinaryPart(b)
			return
		}
		crlf := i > 0 && b[i-1] == '\r' || i == 0 && d.pending == 1
		empty := crlf && d.lineLen+int64(i) == 1
		d.noteBinaryPart(b[:i+1])
		if crlf {
			d.lineLen, d.pending = 0, 0
			if empty && !d.inBody {
				d.endHeader()
			}
		}
		b = b[i+1:]
	}
}

func (d *DataDecoder) noteBinaryPart(b []byte) {
	d.lineLen += int64(len(b))
	if d.pending = 0; b[len(b)-1] == '\r' {
		d.pending = 1
	}
	if d.lineLen > maxTextLine+2 {
		d.facts.LongLines = true
	}
	d.noteBytes(b)
}

// has8Bit reports whether b holds a byte above 0x7f.
func has8Bit(b []byte) bool {
	const high = 0x8080808080808080
	for len(b) >= 32 {
		w := binary.LittleEndian.Uint64(b) | binary.LittleEndian.Uint64(b[8:]) |
			binary.LittleEndian.Uint64(b[16:]) | binary.LittleEndian.Uint64(b[24:])
		if w&high != 0 {
			return true
		}
		b = b[32:]
	}
	for _, c := range b {
		if c >= 0x80 {
			return true
		}
	}
	return false
}
