package smtp

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"gatepost/internal/mail"
)

// Errors of ReplyReader. After either of them nothing that follows on the
// connection can be matched with a command: the session has to end.
var (
	ErrReply      = errors.New("malformed reply")
	ErrReplyLimit = errors.New("reply exceeds a limit")
)

// Bounds on what a remote may answer. RFC 5321 §4.5.3.1.5 allows 512 octets a
// line; real servers send more.
const (
	maxReplyLine  = 2048  // octets, with CRLF
	maxReplyLines = 128   // lines of one reply
	maxReplyTotal = 32768 // octets of one reply
)

// ReplyReader reads the replies of a remote server. It is strict: a line ends
// in CRLF, a code is 200 to 599, all lines of a reply have the same code. Who
// lets a bare LF or a second code pass can be made to match replies with the
// wrong commands.
//
// Once a reply was malformed or too large the reader returns that error for ever.
type ReplyReader struct {
	r          io.Reader
	buf        []byte
	start, end int // buf[start:end] is read and not yet used
	text       []byte
	err        error
}

// NewReplyReader returns a reader of replies from r, which it buffers.
func NewReplyReader(r io.Reader) *ReplyReader {
	return &ReplyReader{r: r, buf: make([]byte, maxReplyLine)}
}

// Reset makes the reader read from r, forgetting what is buffered and any error.
func (r *ReplyReader) Reset(src io.Reader) {
	r.r, r.start, r.end, r.err = src, 0, 0, nil
}

// Buffered is how many bytes were received and not yet used. Above zero when no
// reply is due, the remote has said something that it was not asked.
func (r *ReplyReader) Buffered() int { return r.end - r.start }

// Read returns the next reply. Control characters in the text become "?", so
// that it can go to logs, headers and other peers as it is; the rest is
// verbatim. An enhanced code is split off where its class agrees with the code
// (RFC 2034 §4). The error is ErrReply, ErrReplyLimit, io.EOF before the first
// byte of a reply, io.ErrUnexpectedEOF within one, or the connection's.
func (r *ReplyReader) Read() (mail.Reply, error) {
	if r.err != nil {
		return mail.Reply{}, r.err
	}
	reply, err := r.read()
	if errors.Is(err, ErrReply) || errors.Is(err, ErrReplyLimit) {
		r.err = err
	}
	return reply, err
}

func (r *ReplyReader) read() (mail.Reply, error) {
	var reply mail.Reply
	// The text of all lines is gathered in one buffer, so that a reply costs one
	// string and one slice whatever its number of lines.
	r.text = r.text[:0]
	var stops [maxReplyLines]int
	for n := 0; ; n++ {
		line, err := r.readLine()
		if err != nil {
			if err == io.EOF && n > 0 {
				err = io.ErrUnexpectedEOF
			}
			return mail.Reply{}, err
		}
		code, more, text, err := parseReplyLine(line)
		switch {
		case err != nil:
			return mail.Reply{}, err
		case n > 0 && code != reply.Code:
			return mail.Reply{}, fmt.Errorf("%w: code changes from %d to %d", ErrReply, reply.Code, code)
		case n == maxReplyLines, len(r.text)+len(text) > maxReplyTotal:
			return mail.Reply{}, ErrReplyLimit
		}
		reply.Code = code
		r.appendText(code, text, &reply)
		stops[n] = len(r.text)
		if !more {
			reply.Lines = splitText(string(r.text), stops[:n+1])
			return reply, nil
		}
	}
}

// appendText adds a line to the text, less its enhanced code.
func (r *ReplyReader) appendText(code int, text []byte, reply *mail.Reply) {
	if n := enhancedLen(code, text); n > 0 {
		if reply.Enhanced == "" {
			reply.Enhanced = string(text[:n])
		}
		// Where lines disagree the first one counts and the others stay as they are.
		if string(text[:n]) == reply.Enhanced {
			text = bytes.TrimPrefix(text[n:], []byte{' '})
		}
	}
	from := len(r.text)
	r.text = append(r.text, text...)
	for i := from; i < len(r.text); i++ {
		if c := r.text[i]; c < ' ' && c != '\t' || c == 0x7f {
			r.text[i] = '?'
		}
	}
}

func splitText(text string, stops []int) []string {
	lines := make([]string, len(stops))
	from := 0
	for i, stop := range stops {
		lines[i] = text[from:stop]
		from = stop
	}
	return lines
}

// readLine returns the next line without its CRLF, valid until the next call.
func (r *ReplyReader) readLine() ([]byte, error) {
	seen := r.start
	for {
		if i := bytes.IndexByte(r.buf[seen:r.end], '\n'); i >= 0 {
			line := r.buf[r.start : seen+i]
			r.start = seen + i + 1
			n := len(line) - 1
			if n < 0 || line[n] != '\r' || bytes.IndexByte(line[:n], '\r') >= 0 {
				return nil, fmt.Errorf("%w: line does not end in CRLF", ErrReply)
			}
			return line[:n], nil
		}
		if r.start > 0 {
			r.end = copy(r.buf, r.buf[r.start:r.end])
			r.start = 0
		}
		if seen = r.end; seen == len(r.buf) {
			return nil, ErrReplyLimit
		}
		n, err := r.r.Read(r.buf[r.end:])
		r.end += n
		if n == 0 && err != nil {
			if err == io.EOF && r.end > 0 {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
}

// parseReplyLine takes "250-text", "250 text" or "250" apart (RFC 5321 §4.2).
func parseReplyLine(line []byte) (code int, more bool, text []byte, err error) {
	if len(line) < 3 {
		return 0, false, nil, fmt.Errorf("%w: no code", ErrReply)
	}
	for _, c := range line[:3] {
		if c < '0' || c > '9' {
			return 0, false, nil, fmt.Errorf("%w: no code", ErrReply)
		}
		code = code*10 + int(c-'0')
	}
	if code < 200 || code > 599 {
		return 0, false, nil, fmt.Errorf("%w: code %d", ErrReply, code)
	}
	if len(line) == 3 {
		return code, false, nil, nil
	}
	switch line[3] {
	case ' ':
	case '-':
		more = true
	default:
		return 0, false, nil, fmt.Errorf("%w: %q after the code", ErrReply, line[3])
	}
	return code, more, line[4:], nil
}

// enhancedLen is the length of the enhanced code at the start of text, 0 where
// there is none of the class that the code has (RFC 3463 §2).
func enhancedLen(code int, text []byte) int {
	class := byte('0' + code/100)
	if len(text) < 5 || text[0] != class || class == '3' || text[1] != '.' {
		return 0
	}
	n := 2 + digits(text[2:])
	if n == 2 || n == len(text) || text[n] != '.' {
		return 0
	}
	detail := digits(text[n+1:])
	if detail == 0 {
		return 0
	}
	n += 1 + detail
	if n < len(text) && text[n] != ' ' {
		return 0
	}
	return n
}

// digits counts the digits at the start of b, at most three.
func digits(b []byte) int {
	n := 0
	for n < len(b) && n < 3 && '0' <= b[n] && b[n] <= '9' {
		n++
	}
	return n
}
