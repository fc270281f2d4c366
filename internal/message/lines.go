package message

import (
	"bufio"
	"bytes"
	"io"
	"strings"
)

// traits is what was seen of a stretch of a body.
type traits struct {
	eightBit  bool
	bareEnds  bool // CR or LF alone
	nul       bool
	longLines bool
}

// needsEncoding reports bytes that must not be sent as 7 bit, RFC 2045 §2.7.
func (t traits) needsEncoding() bool { return t.eightBit || t.bareEnds || t.nul }

// lineReader reads a message line by line and finds the delimiter lines of the
// multiparts that are open. A line of any length costs no more than its buffer.
type lineReader struct {
	r          *bufio.Reader
	at         int64 // offset of the next byte
	boundaries []string
	// A delimiter line that was read and not yet taken.
	pending   bool
	level     int
	closing   bool
	start     int64 // offset of the delimiter line
	lineStart bool  // the next byte begins a line
	lastCR    bool
	lineLen   int
}

func newLineReader(c *Content) *lineReader {
	return &lineReader{r: bufio.NewReaderSize(c.Reader(), chunkSize), lineStart: true}
}

// push opens a multipart and returns its level.
func (l *lineReader) push(boundary string) int {
	l.boundaries = append(l.boundaries, boundary)
	return len(l.boundaries) - 1
}

// pop closes the multipart of that level.
func (l *lineReader) pop(level int) { l.boundaries = l.boundaries[:level] }

// takeDelimiter consumes the pending delimiter line if it begins a part at level.
func (l *lineReader) takeDelimiter(level int) bool { return l.take(level, false) }

// takeClose consumes the pending delimiter line if it ends the multipart at level.
func (l *lineReader) takeClose(level int) bool { return l.take(level, true) }

func (l *lineReader) take(level int, closing bool) bool {
	if !l.pending || l.level != level || l.closing != closing {
		return false
	}
	l.pending = false
	return true
}

// chunk returns the next line, or as much of it as the buffer holds, and whether
// it begins a line. io.EOF is the end of the message or of this part: then a
// delimiter line may be pending.
func (l *lineReader) chunk() (b []byte, begins bool, err error) {
	if l.pending {
		return nil, false, io.EOF
	}
	b, err = l.r.ReadSlice('\n')
	if len(b) == 0 {
		return nil, false, err
	}
	if err != nil && err != io.EOF && err != bufio.ErrBufferFull {
		return nil, false, err
	}
	begins = l.lineStart
	start := l.at
	l.at += int64(len(b))
	ended := b[len(b)-1] == '\n' && (len(b) > 1 && b[len(b)-2] == '\r' || len(b) == 1 && l.lastCR)
	l.lineStart = ended
	if !begins || !bytes.HasPrefix(b, []byte("--")) {
		return b, begins, nil
	}
	if err := l.delimiter(b, start, ended || err == io.EOF); err != nil {
		return nil, false, err
	}
	if l.pending {
		l.lastCR = false
		return nil, false, io.EOF
	}
	return b, begins, nil
}

// delimiter sets pending if b is the delimiter line of an open multipart (RFC
// 2046 §5.1.1: the boundary, "--" at the end, white space, nothing else). A line
// that merely begins like one is ErrCannotConvert: some readers take it for one.
func (l *lineReader) delimiter(b []byte, start int64, complete bool) error {
	text := strings.TrimRight(string(b[2:min(len(b), 256)]), " \t\r\n")
	ambiguous := false
	for level := len(l.boundaries) - 1; level >= 0; level-- {
		rest, ok := strings.CutPrefix(text, l.boundaries[level])
		if !ok {
			continue
		}
		if complete && len(b) <= 256 && (rest == "" || rest == "--") {
			l.pending, l.level, l.closing, l.start = true, level, rest == "--", start
			return nil
		}
		ambiguous = true
	}
	if ambiguous {
		return ErrCannotConvert
	}
	return nil
}

// header reads a header section up to and including its empty line; complete
// is false where a delimiter or the end of the message came first.
func (l *lineReader) header(limit int) (section []byte, start int64, complete bool, err error) {
	start = l.at
	for {
		b, begins, err := l.chunk()
		if err == io.EOF {
			return section, start, false, nil
		}
		if err != nil {
			return nil, 0, false, err
		}
		l.lastCR = b[len(b)-1] == '\r'
		if len(section)+len(b) > limit {
			return nil, 0, false, ErrCannotConvert
		}
		section = append(section, b...)
		if begins && string(b) == crlf {
			l.lastCR = false
			return section, start, true, nil
		}
	}
}

// body reads up to the next delimiter or the end of the message, and returns
// where the body ends: the line end in front of a delimiter belongs to that.
func (l *lineReader) body(seen *traits) (end int64, err error) {
	start := l.at
	l.lastCR, l.lineLen = false, 0
	for {
		b, _, err := l.chunk()
		if err == io.EOF {
			break
		}
		if err != nil {
			return 0, err
		}
		l.look(b, seen)
	}
	if !l.pending {
		seen.bareEnds = seen.bareEnds || l.lastCR
		return l.at, nil
	}
	return max(start, l.start-int64(len(crlf))), nil
}

// look adds what a chunk shows.
func (l *lineReader) look(b []byte, seen *traits) {
	seen.eightBit = seen.eightBit || has8Bit(b)
	seen.nul = seen.nul || bytes.IndexByte(b, 0) >= 0
	last := len(b) - 1
	endsInLF := b[last] == '\n'
	crBefore := l.lastCR
	if last > 0 {
		crBefore = b[last-1] == '\r'
	}
	if endsInLF && !crBefore || l.lastCR && b[0] != '\n' {
		seen.bareEnds = true
	}
	// Every CR inside must be the one in front of the final LF, or the last byte,
	// which the next chunk decides about.
	if i := bytes.IndexByte(b, '\r'); i >= 0 && i != last && !(endsInLF && i == last-1) {
		seen.bareEnds = true
	}
	l.lastCR = b[last] == '\r'
	l.lineLen += len(b)
	if l.lineStart {
		seen.longLines = seen.longLines || l.lineLen > maxLine+len(crlf)
		l.lineLen = 0
	}
}
