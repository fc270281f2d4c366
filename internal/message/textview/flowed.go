package textview

import (
	"fmt"
	"io"
	"strings"

	"gatepost/internal/message"
	"gatepost/internal/message/mimetree"
)

// flow is how a plain text was broken into lines, RFC 3676.
type flow struct{ flowed, delSp bool }

// flowOf reads the parameters of a part. Parts inside of decoded parts keep
// their line ends, which costs no more than an address that is broken by them.
func flowOf(tree *mimetree.Tree, p *mimetree.Part) (flow, error) {
	size := p.Header.End - p.Header.Start
	if p.Nested || size <= 0 || size > maxField {
		return flow{}, nil
	}
	section := make([]byte, size)
	r := tree.Raw().Open()
	at, ok := r.(io.ReaderAt)
	if !ok {
		return flow{}, nil
	}
	if _, err := at.ReadAt(section, p.Header.Start); err != nil && err != io.EOF {
		return flow{}, fmt.Errorf("read header: %w", err)
	}
	value := strings.ToLower(message.ParseHeader(section).Get("Content-Type"))
	if !strings.Contains(value, ";") {
		return flow{}, nil
	}
	value = strings.Map(func(r rune) rune {
		if r == ' ' || r == '\t' || r == '"' {
			return -1
		}
		return r
	}, value)
	return flow{
		flowed: strings.Contains(value, ";format=flowed"),
		delSp:  strings.Contains(value, ";delsp=yes"),
	}, nil
}

// join undoes the soft line ends (RFC 3676 §4.2): a line that ends with a space
// goes on with the next, but for the mark of a signature.
func (f flow) join(s string) string {
	if !f.flowed {
		return s
	}
	var out strings.Builder
	out.Grow(len(s))
	quote := 0
	soft := false
	for line := range strings.Lines(s) {
		text := strings.TrimRight(line, "\r\n")
		stuffed := strings.TrimLeft(text, ">")
		depth := len(text) - len(stuffed)
		if soft && depth != quote {
			out.WriteByte('\n')
			soft = false
		}
		if depth > 0 && !soft {
			out.WriteString(text[:depth])
			out.WriteByte(' ')
		}
		stuffed = strings.TrimPrefix(stuffed, " ")
		quote, soft = depth, strings.HasSuffix(stuffed, " ") && stuffed != "-- "
		if soft && f.delSp {
			stuffed = stuffed[:len(stuffed)-1]
		}
		out.WriteString(stuffed)
		if !soft {
			out.WriteByte('\n')
		}
	}
	return out.String()
}
