package message

import (
	"bytes"
	"fmt"

	"gatepost/internal/mail"
)

// Facts is what the bytes of a message say about how it can be sent.
type Facts struct {
	// HeaderSize is the number of bytes up to and including the empty line; all
	// there is where no empty line follows.
	HeaderSize int64
	// Has8Bit says that a byte above 0x7f stands in the body, HeaderUTF8 in the
	// header section.
	Has8Bit, HeaderUTF8 bool
	// LongLines says that a line is longer than 998 bytes (RFC 5322 §2.1.1).
	LongLines bool
}

// maxLine is RFC 5322 §2.1.1, without the line end.
const maxLine = 998

// ScanBytes reads all of b, for messages that did not come through the SMTP
// server, which gathers the same facts as it reads.
func ScanBytes(b mail.Body) (Facts, error) {
	chunk := getChunk()
	defer putChunk(chunk)
	s := scanner{}
	for off := int64(0); off < b.Size(); {
		p := (*chunk)[:min(int64(chunkSize), b.Size()-off)]
		if err := readFullAt(b, p, off); err != nil {
			return Facts{}, fmt.Errorf("scan message: %w", err)
		}
		s.scan(p)
		off += int64(len(p))
	}
	return s.finish(), nil
}

// scanner finds the facts in chunks of any size.
type scanner struct {
	facts  Facts
	inBody bool
	line   int64 // bytes of the present line so far, a CR at its end included
	lastCR bool
	total  int64
}

func (s *scanner) scan(p []byte) {
	for len(p) > 0 {
		// Up to and including the next LF; only after a CR is it a line end.
		end := bytes.IndexByte(p, '\n') + 1
		complete := end > 0
		if !complete {
			end = len(p)
		}
		s.part(p[:end], complete)
		p = p[end:]
	}
}

func (s *scanner) part(p []byte, endsInLF bool) {
	s.total += int64(len(p))
	if has8Bit(p) {
		if s.inBody {
			s.facts.Has8Bit = true
		} else {
			s.facts.HeaderUTF8 = true
		}
	}
	s.line += int64(len(p))
	before := s.lastCR
	if len(p) > 1 {
		before = p[len(p)-2] == '\r'
	}
	s.lastCR = p[len(p)-1] == '\r'
	if !endsInLF || !before {
		return
	}
	s.endLine(s.line - int64(len(crlf)))
}

func (s *scanner) endLine(length int64) {
	if length > maxLine {
		s.facts.LongLines = true
	}
	if length == 0 && !s.inBody {
		s.inBody, s.facts.HeaderSize = true, s.total
	}
	s.line = 0
}

func (s *scanner) finish() Facts {
	if s.line > maxLine {
		s.facts.LongLines = true
	}
	if !s.inBody {
		s.facts.HeaderSize = s.total
	}
	return s.facts
}

func has8Bit(p []byte) bool {
	for _, c := range p {
		if c >= 0x80 {
			return true
		}
	}
	return false
}
