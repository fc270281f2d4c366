package message

import (
	"io"
	"strings"
	"sync/atomic"
	"testing"

	"gatepost/internal/mail"
)

// text is a spooled body in memory; it counts how often it is read.
type text struct {
	s     string
	reads atomic.Int32
}

func (t *text) Size() int64 { return int64(len(t.s)) }

func (t *text) ReadAt(p []byte, off int64) (int, error) {
	t.reads.Add(1)
	return strings.NewReader(t.s).ReadAt(p, off)
}

// body gives lines their CRLF, so that tests can be written with \n.
func body(s string) *text { return &text{s: lines(s)} }

func lines(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

func content(s string, edits mail.Edits) *Content {
	return NewContent(mail.Message{Envelope: &mail.Envelope{Edits: edits}, Body: &text{s: s}})
}

// all reads a content in both ways and fails if they differ.
func all(t *testing.T, c *Content) string {
	t.Helper()
	var written strings.Builder
	n, err := c.Reader().WriteTo(&written)
	if err != nil {
		t.Fatalf("WriteTo: %v", err)
	}
	if n != int64(written.Len()) {
		t.Errorf("WriteTo says %d bytes, wrote %d", n, written.Len())
	}
	read, err := io.ReadAll(struct{ io.Reader }{c.Reader()})
	if err != nil {
		t.Fatalf("Read: %v", err)
	}
	if string(read) != written.String() {
		t.Errorf("Read gives %q, WriteTo %q", read, written.String())
	}
	if size := c.Size(); size >= 0 && size != n {
		t.Errorf("Size says %d, there are %d bytes", size, n)
	}
	return written.String()
}
