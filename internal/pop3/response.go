package pop3

import (
	"bytes"
	"strings"
)

// Status is how the first line of a reply begins.
type Status uint8

// The statuses. StatusNone is a line that is no reply at all.
const (
	StatusNone     Status = iota
	StatusOK              // +OK
	StatusErr             // -ERR
	StatusContinue        // "+ ", a challenge of AUTH (RFC 5034 §4)
)

// ParseStatus reads the beginning of a line. RFC 1939 §3 wants capitals; servers that
// write them otherwise are understood, as clients do.
func ParseStatus(line []byte) Status {
	word, _, _ := bytes.Cut(line, []byte{' '})
	switch {
	case bytes.EqualFold(word, []byte("+OK")):
		return StatusOK
	case bytes.EqualFold(word, []byte("-ERR")):
		return StatusErr
	case string(word) == "+":
		return StatusContinue
	}
	return StatusNone
}

// Code is the response code of a line (RFC 2449 §8) in capitals, without its brackets:
// "IN-USE", "SYS/TEMP"; "" for none.
func Code(line []byte) string {
	_, rest, _ := bytes.Cut(line, []byte{' '})
	rest, ok := bytes.CutPrefix(rest, []byte{'['})
	if !ok {
		return ""
	}
	code, _, ok := bytes.Cut(rest, []byte{']'})
	if !ok || len(code) > 64 {
		return ""
	}
	return strings.ToUpper(string(code))
}

// Shape is how much of what a server sends belongs to a reply.
type Shape uint8

// The shapes.
const (
	// Broken is a line that no reply begins with: what follows it means nothing.
	Broken Shape = iota
	// Line is one line.
	Line
	// List is lines up to one with a dot.
	List
	// Message is as List, and what stands in it is (part of) a message.
	Message
	// Challenge is a line that the client answers with another.
	Challenge
)

// ShapeOf tells the shape of a reply by the command and its first line.
func ShapeOf(c Command, line []byte) Shape {
	switch ParseStatus(line) {
	case StatusErr:
		return Line
	case StatusContinue:
		if c.Verb == VerbAUTH {
			return Challenge
		}
		return Broken
	case StatusNone:
		return Broken
	}
	switch c.Verb {
	case VerbRETR, VerbTOP:
		return Message
	case VerbCAPA:
		return List
	case VerbLIST, VerbUIDL, VerbLANG:
		// RFC 1939 §5, §7; RFC 6856 §3: with an argument they are about one.
		if c.Bare() {
			return List
		}
	case VerbUnknown:
		return Broken
	}
	return Line
}

// SafeLine returns a line as it may stand in a reply: what could end it becomes "?".
func SafeLine(line []byte) []byte {
	if bytes.ContainsAny(line, "\r\n\x00") {
		line = bytes.Map(func(r rune) rune {
			if r == '\r' || r == '\n' || r == 0 {
				return '?'
			}
			return r
		}, line)
	}
	return line
}

// Timestamp is the part of a greeting that APOP is made with (RFC 1939 §7), "" for none.
func Timestamp(greeting []byte) string {
	i := bytes.IndexByte(greeting, '<')
	if i < 0 {
		return ""
	}
	j := bytes.IndexByte(greeting[i:], '>')
	if j < 0 {
		return ""
	}
	return string(greeting[i : i+j+1])
}
