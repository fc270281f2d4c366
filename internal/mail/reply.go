package mail

import (
	"strconv"
	"strings"
)

// Reply is an SMTP reply: ours, or a remote's as it was received.
type Reply struct {
	Code int `json:"code,omitempty"` // 200 to 599; 0 means no reply
	// Enhanced is the status code of RFC 3463, "5.7.1"; "" where there is none
	// (greetings, EHLO, 3xx, and remotes that do not speak it).
	Enhanced string `json:"enhanced,omitempty"`
	// Lines is the text, a string per line, without codes.
	Lines []string `json:"lines,omitempty"`
}

// IsZero reports whether the reply was never set.
func (r Reply) IsZero() bool { return r.Code == 0 }

// Positive reports a 2xx reply, Temporary a 4xx, Permanent a 5xx.
func (r Reply) Positive() bool  { return r.Code/100 == 2 }
func (r Reply) Temporary() bool { return r.Code/100 == 4 }
func (r Reply) Permanent() bool { return r.Code/100 == 5 }

// Text is the reply's text on one line.
func (r Reply) Text() string { return strings.Join(r.Lines, " / ") }

// String is the reply on one line, for logs and reports: "550 5.7.1 no / never".
func (r Reply) String() string {
	if r.Code == 0 {
		return ""
	}
	s := strconv.Itoa(r.Code)
	if r.Enhanced != "" {
		s += " " + r.Enhanced
	}
	if t := r.Text(); t != "" {
		s += " " + t
	}
	return s
}

// WithText returns the reply with other text and the same codes.
func (r Reply) WithText(lines ...string) Reply {
	r.Lines = lines
	return r
}

// WithID returns the reply with "(id)" after its last line, so that a sender can
// quote what the administrator can search for.
func (r Reply) WithID(id ID) Reply {
	if len(r.Lines) == 0 {
		return r.WithText("(" + id.String() + ")")
	}
	lines := append([]string(nil), r.Lines...)
	lines[len(lines)-1] += " (" + id.String() + ")"
	return r.WithText(lines...)
}

// Append writes the reply in wire form, each line with code and enhanced code
// (RFC 2034 §4: on every line of a multi-line reply), ended by CRLF. Bytes that
// must not stand in a reply line are replaced by "?".
func (r Reply) Append(b []byte) []byte {
	lines := r.Lines
	if len(lines) == 0 {
		lines = []string{""}
	}
	for i, line := range lines {
		b = strconv.AppendInt(b, int64(r.Code), 10)
		if i < len(lines)-1 {
			b = append(b, '-')
		} else {
			b = append(b, ' ')
		}
		if r.Enhanced != "" {
			b = append(b, r.Enhanced...)
			b = append(b, ' ')
		}
		for j := range len(line) {
			c := line[j]
			if c < ' ' && c != '\t' || c == 0x7f {
				c = '?'
			}
			b = append(b, c)
		}
		b = append(b, '\r', '\n')
	}
	return b
}
