package smtp

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

// writeData sends the pieces through a DataWriter with a small buffer.
func writeData(bufSize int, pieces ...string) (string, error) {
	var wire bytes.Buffer
	w := NewDataWriter(&wire, make([]byte, 0, bufSize))
	for _, p := range pieces {
		if _, err := io.WriteString(w, p); err != nil {
			return wire.String(), err
		}
	}
	err := w.Close()
	return wire.String(), err
}

func TestDataWriter(t *testing.T) {
	for _, tc := range []struct{ name, data, want string }{
		{"a message", "A: b\r\n\r\nbody\r\n", "A: b\r\n\r\nbody\r\n.\r\n"},
		{"nothing", "", ".\r\n"},
		{"a last line without CRLF", "body", "body\r\n.\r\n"},
		{"a single dot", ".\r\n", "..\r\n.\r\n"},
		{"a dot without CRLF", ".", "..\r\n.\r\n"},
		{"two and three dots", "..\r\n...\r\n", "...\r\n....\r\n.\r\n"},
		{"dots at start, middle and end", ".a\r\nb\r\n..c\r\n.\r\n", "..a\r\nb\r\n...c\r\n..\r\n.\r\n"},
		{"a dot within a line", "a.b\r\n", "a.b\r\n.\r\n"},
		{"empty lines", "\r\n\r\n", "\r\n\r\n.\r\n"},
		{"an end of data in the data", "a\r\n.\r\nMAIL FROM:<x>\r\n", "a\r\n..\r\nMAIL FROM:<x>\r\n.\r\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for cut := 0; cut <= len(tc.data); cut++ {
				for _, size := range []int{1, 3, 4096} {
					got, err := writeData(size, tc.data[:cut], tc.data[cut:])
					if err != nil || got != tc.want {
						t.Fatalf("cut at %d, buffer of %d: %q, %v; want %q", cut, size, got, err, tc.want)
					}
				}
			}
		})
	}
}

func TestDataWriterRefusesWhatCouldBeTakenForALineEnd(t *testing.T) {
	for _, tc := range []struct{ name, data string }{
		{"a bare LF", "a\nb\r\n"},
		{"a bare LF at the start", "\nb\r\n"},
		{"two LFs", "a\r\n\nb"},
		{"a bare CR", "a\rb\r\n"},
		{"CR CR LF", "a\r\r\n"},
		{"CR CR", "a\r\r"},
		{"a CR at the end", "a\r\nb\r"},
		{"LF CR", "a\n\r"},
		{"a NUL", "a\x00b\r\n"},
		{"LF dot LF", "a\r\nb\n.\nMAIL FROM:<evil@a.example>\r\n"},
		{"LF dot CR LF", "a\r\nb\n.\r\nMAIL FROM:<evil@a.example>\r\n"},
		{"CR dot CR", "a\r.\rMAIL FROM:<evil@a.example>\r\n"},
		{"CR LF dot CR", "a\r\n.\rMAIL FROM:<evil@a.example>\r\n"},
		{"CR LF dot LF", "a\r\n.\nMAIL FROM:<evil@a.example>\r\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for cut := 0; cut <= len(tc.data); cut++ {
				got, err := writeData(1, tc.data[:cut], tc.data[cut:])
				if !errors.Is(err, ErrIllegalData) {
					t.Fatalf("cut at %d: error %v", cut, err)
				}
				if illegal(got) {
					t.Fatalf("cut at %d: %q is on the wire", cut, got)
				}
			}
		})
	}
}

// illegal reports a bare CR, a bare LF or a NUL.
func illegal(s string) bool {
	return strings.ContainsAny(strings.ReplaceAll(s, "\r\n", ""), "\r\n\x00")
}

func TestChunkWriterSendsTextAsItIs(t *testing.T) {
	var wire bytes.Buffer
	w := NewChunkWriter(&wire, append(make([]byte, 0, 64), "BDAT 12 LAST\r\n"...), false)
	io.WriteString(w, "a\r\n.\r")
	io.WriteString(w, "\nb\r\nc")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got, want := wire.String(), "BDAT 12 LAST\r\na\r\n.\r\nb\r\nc"; got != want {
		t.Errorf("wire %q, want %q", got, want)
	}
	if w.Written() != 10 {
		t.Errorf("Written() = %d", w.Written())
	}
	w = NewChunkWriter(&wire, nil, false)
	if _, err := io.WriteString(w, "a\nb"); !errors.Is(err, ErrIllegalData) {
		t.Errorf("a bare LF in text: %v", err)
	}
}

func TestChunkWriterSendsBinaryAsItIs(t *testing.T) {
	var wire bytes.Buffer
	w := NewChunkWriter(&wire, make([]byte, 0, 4), true)
	io.WriteString(w, "a\nb\x00\r.\rc")
	if err := w.Close(); err != nil || wire.String() != "a\nb\x00\r.\rc" {
		t.Errorf("wire %q, %v", wire.String(), err)
	}
}

func TestDataWriterSendsMessageAndDotInOneWrite(t *testing.T) {
	var counter writeCounter
	w := NewDataWriter(&counter, make([]byte, 0, 8192))
	io.WriteString(w, strings.Repeat("0123456789abcdef0123456789abcd\r\n", 128))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if counter != 1 {
		t.Errorf("%d writes", counter)
	}
}

type writeCounter int

func (c *writeCounter) Write(p []byte) (int, error) { *c++; return len(p), nil }

// unstuff is RFC 5321 §4.5.2 read from the other side.
func unstuff(wire string) (string, bool) {
	var b strings.Builder
	for {
		line, rest, ok := strings.Cut(wire, "\r\n")
		if !ok {
			return "", false
		}
		if line == "." {
			return b.String(), rest == ""
		}
		b.WriteString(strings.TrimPrefix(line, "."))
		b.WriteString("\r\n")
		wire = rest
	}
}

func FuzzDataWriter(f *testing.F) {
	for _, s := range []string{"a\r\n.b\r\n", ".\r\n", "\r\n.\r\n.\r\n", "x", "\r", "\n", "a\r\n.\n", "\x00", "..\r\n..", "a\rb", "\r\n\r"} {
		f.Add(s, uint8(3), uint8(2))
	}
	f.Fuzz(func(t *testing.T, data string, cut, size uint8) {
		at := min(int(cut), len(data))
		wire, err := writeData(int(size), data[:at], data[at:])
		// What was buffered is cut anywhere; behind the cut comes nothing, ever.
		if illegal(strings.TrimSuffix(wire, "\r")) {
			t.Fatalf("%q is on the wire for %q", wire, data)
		}
		if illegal(data) != (err != nil) {
			t.Fatalf("%q: error %v", data, err)
		}
		if err != nil {
			return
		}
		want := data
		if want != "" && !strings.HasSuffix(want, "\r\n") {
			want += "\r\n"
		}
		if got, whole := unstuff(wire); !whole || got != want {
			t.Fatalf("%q went out as %q, which reads as %q", data, wire, got)
		}
	})
}

func BenchmarkDataWriter(b *testing.B) {
	body := []byte(strings.Repeat("The quick brown fox jumps over the lazy dog, and some more, and so on.\r\n", 64))
	buf := make([]byte, 0, 16<<10)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		w := NewDataWriter(io.Discard, buf)
		w.Write(body)
		if err := w.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
