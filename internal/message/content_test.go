package message

import (
	"errors"
	"io"
	"strings"
	"sync"
	"testing"

	"gatepost/internal/mail"
)

func TestContentAppliesTheEdits(t *testing.T) {
	const spooled = "0123456789"
	tests := []struct {
		name  string
		edits mail.Edits
		want  string
	}{
		{"no edits", mail.Edits{}, spooled},
		{"prepends", mail.Edits{Prepend: []byte("abc")}, "abc" + spooled},
		{"cuts", mail.Edits{Cut: []mail.Span{{Start: 2, End: 4}}}, "01456789"},
		{"cuts several", mail.Edits{Cut: []mail.Span{{Start: 0, End: 1}, {Start: 2, End: 3}, {Start: 8, End: 10}}}, "134567"},
		{"cuts neighbours", mail.Edits{Cut: []mail.Span{{Start: 1, End: 3}, {Start: 3, End: 5}}}, "056789"},
		{"cuts all", mail.Edits{Cut: []mail.Span{{Start: 0, End: 10}}}, ""},
		{"cuts nothing", mail.Edits{Cut: []mail.Span{{Start: 5, End: 5}}}, spooled},
		{"does both", mail.Edits{Prepend: []byte("abc"), Cut: []mail.Span{{Start: 0, End: 5}}}, "abc56789"},
		{"replaces", mail.Edits{Replace: []mail.Replacement{{Span: mail.Span{Start: 2, End: 4}, Text: []byte("xyz")}}}, "01xyz456789"},
		{"inserts", mail.Edits{Replace: []mail.Replacement{{Span: mail.Span{Start: 10, End: 10}, Text: []byte("!")}}}, "0123456789!"},
		{"cuts before and behind what it replaces", mail.Edits{
			Cut:     []mail.Span{{Start: 0, End: 2}, {Start: 6, End: 7}},
			Replace: []mail.Replacement{{Span: mail.Span{Start: 3, End: 5}, Text: []byte("x")}, {Span: mail.Span{Start: 8, End: 10}}},
		}, "2x57"},
		{"clips a span behind the end", mail.Edits{Cut: []mail.Span{{Start: 8, End: 100}, {Start: 200, End: 300}}}, "01234567"},
		{"gives no byte twice for overlapping spans", mail.Edits{Cut: []mail.Span{{Start: 2, End: 8}, {Start: 4, End: 5}}}, "0189"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := all(t, content(spooled, tt.edits)); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestPrependLeavesTheOriginalAlone(t *testing.T) {
	c := content("body", mail.Edits{Prepend: []byte("first ")})
	p := c.Prepend([]byte("zeroth "))
	q := c.Prepend([]byte("other "))
	for want, c := range map[string]*Content{"first body": c, "zeroth first body": p, "other first body": q} {
		if got := all(t, c); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestContentIsReadByManyAtOnce(t *testing.T) {
	want := "head " + strings.Repeat("0123456789abcdef", 20_000)
	c := content(want[5:], mail.Edits{Prepend: []byte("head ")})
	var readers sync.WaitGroup
	for range 8 {
		readers.Go(func() {
			var b strings.Builder
			if _, err := c.Reader().WriteTo(&b); err != nil || b.String() != want {
				t.Errorf("read %d bytes, want %d, err %v", b.Len(), len(want), err)
			}
		})
	}
	readers.Wait()
}

// writes records the sizes of writes.
type writes struct{ sizes []int }

func (w *writes) Write(p []byte) (int, error) {
	w.sizes = append(w.sizes, len(p))
	return len(p), nil
}

func TestOrdinaryMailIsOneWrite(t *testing.T) {
	c := content(strings.Repeat("x", 4000), mail.Edits{Prepend: make([]byte, 300), Cut: []mail.Span{{Start: 100, End: 200}}})
	var w writes
	if _, err := c.Reader().WriteTo(&w); err != nil || len(w.sizes) != 1 {
		t.Errorf("writes of %v bytes, err %v; want one write", w.sizes, err)
	}
	w = writes{}
	c = content(strings.Repeat("x", 10*bigChunkSize), mail.Edits{Prepend: make([]byte, 300)})
	if _, err := c.Reader().WriteTo(&w); err != nil || len(w.sizes) != 11 {
		t.Errorf("%d writes of a big message, err %v; want 11", len(w.sizes), err)
	}
}

func TestWriteToStopsAtTheFirstError(t *testing.T) {
	want := errors.New("connection lost")
	c := content(strings.Repeat("x", 3*chunkSize), mail.Edits{})
	n, err := c.Reader().WriteTo(failingWriter{want})
	if n != 7 || !errors.Is(err, want) {
		t.Errorf("got %d, %v; want 7, %v", n, err, want)
	}
}

type failingWriter struct{ err error }

func (f failingWriter) Write([]byte) (int, error) { return 7, f.err }

func TestABodyThatEndsEarlyIsAnError(t *testing.T) {
	short := struct {
		io.ReaderAt
		sizer
	}{strings.NewReader("only this"), sizer(100)}
	c := NewContent(mail.Message{Body: short})
	if n, err := c.Reader().WriteTo(io.Discard); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("WriteTo gives %d, %v", n, err)
	}
	if _, err := io.ReadAll(c.Reader()); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("Read gives %v", err)
	}
}

func BenchmarkContentOf4kB(b *testing.B) {
	m := mail.Message{
		Envelope: &mail.Envelope{Edits: mail.Edits{Prepend: make([]byte, 300)}},
		Body:     &text{s: strings.Repeat("x", 4096)},
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := NewContent(m).Reader().WriteTo(io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}
