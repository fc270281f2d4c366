package smtp

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestReadLine(t *testing.T) {
	long := strings.Repeat("x", 62)
	tests := []struct {
		name, in string
		want     []string // a line, or the error's text in brackets
	}{
		{"lines", "NOOP\r\n\r\nQUIT\r\n", []string{"NOOP", "", "QUIT", "[EOF]"}},
		{"no line end", "NOOP", []string{"[EOF]"}},
		{"bare LF", "NOOP\nQUIT\r\n", []string{"[bare CR or LF in line]"}},
		{"only LF", "\nQUIT\r\n", []string{"[bare CR or LF in line]"}},
		{"bare CR", "NOOP\rQUIT\r\n", []string{"[bare CR or LF in line]"}},
		{"CR CR LF", "NOOP\r\r\n", []string{"[bare CR or LF in line]"}},
		{"longest line", long + "\r\nNOOP\r\n", []string{long, "NOOP", "[EOF]"}},
		{"one byte too long", long + "x\r\nNOOP\r\n", []string{"[line too long]", "NOOP", "[EOF]"}},
		{"much too long", strings.Repeat(long, 100) + "\r\nNOOP\r\n", []string{"[line too long]", "NOOP", "[EOF]"}},
		{"too long with bare LF", strings.Repeat(long, 3) + "\nNOOP\r\n", []string{"[bare CR or LF in line]"}},
		{"too long with bare CR", strings.Repeat(long, 3) + "\rx\r\nNOOP\r\n", []string{"[bare CR or LF in line]"}},
		{"endless", strings.Repeat(long, 2000), []string{"[line too long to skip]"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, wrap := range []func(io.Reader) io.Reader{iotest.OneByteReader, iotest.DataErrReader} {
				l := NewLineReader(wrap(strings.NewReader(tt.in)), 64, 64)
				for i, want := range tt.want {
					line, err := l.ReadLine()
					got := string(line)
					if err != nil {
						got = "[" + err.Error() + "]"
					}
					if got != want {
						t.Fatalf("line %d is %q, want %q", i+1, got, want)
					}
				}
			}
		})
	}
}

func TestTheBufferGrowsForALongerLineAndShrinksAgain(t *testing.T) {
	long := strings.Repeat("x", 900)
	l := NewLineReader(strings.NewReader(long+"\r\nNOOP\r\n"), 64, 64)
	l.SetLimit(1024)
	line, err := l.ReadLine()
	if err != nil || string(line) != long {
		t.Fatalf("%d bytes, %v", len(line), err)
	}
	if line, err = l.ReadLine(); err != nil || string(line) != "NOOP" {
		t.Fatalf("%q, %v", line, err)
	}
	if _, err = l.ReadLine(); err != io.EOF || len(l.buf) != 64 {
		t.Errorf("%v, and the buffer has %d bytes", err, len(l.buf))
	}
}

func TestABorrowedBufferIsGivenBackWhenTheRestFits(t *testing.T) {
	l := NewLineReader(strings.NewReader("DATA\r\n"+strings.Repeat("x", 200)+strings.Repeat("NOOP\r\n", 20)), 64, 64)
	if _, err := l.ReadLine(); err != nil {
		t.Fatal(err)
	}
	big := make([]byte, 4096)
	l.Borrow(big)
	if _, err := l.Fill(); err != nil || !l.Borrowed() {
		t.Fatal(err)
	}
	l.Discard(200 - (len("DATA\r\n") - 6))
	if got := l.Release(); got != nil {
		t.Fatalf("gave back a buffer that holds %d bytes", len(l.Buffered()))
	}
	n := 0
	for l.HasLine() {
		if line, err := l.ReadLine(); err != nil || string(line) != "NOOP" {
			t.Fatalf("%q, %v", line, err)
		}
		n++
	}
	if got := l.Release(); n != 20 || &got[0] != &big[0] || l.Borrowed() {
		t.Errorf("%d lines; gave back %d bytes", n, len(got))
	}
}

func TestHasLineAndBuffered(t *testing.T) {
	l := NewLineReader(strings.NewReader("NOOP\r\nQU"), 64, 64)
	if l.HasLine() {
		t.Error("a line before anything was read")
	}
	if _, err := l.ReadLine(); err != nil {
		t.Fatal(err)
	}
	if l.HasLine() || string(l.Buffered()) != "QU" {
		t.Errorf("HasLine %v, buffered %q", l.HasLine(), l.Buffered())
	}
}

func FuzzLineReader(f *testing.F) {
	f.Add("NOOP\r\nQUIT\r\n", byte(3))
	f.Add(strings.Repeat("x", 300)+"\r\nNOOP\r\n", byte(1))
	f.Add("a\rb\r\n", byte(9))
	f.Fuzz(func(t *testing.T, in string, step byte) {
		read := func(r io.Reader) (lines []string, err error) {
			l := NewLineReader(r, 32, 48)
			for {
				line, err := l.ReadLine()
				if err != nil && !errors.Is(err, ErrLineTooLong) {
					return lines, err
				}
				if strings.ContainsAny(string(line), "\r\n") || len(line) > 46 {
					t.Fatalf("line %q", line)
				}
				lines = append(lines, string(line))
			}
		}
		want, wantErr := read(strings.NewReader(in))
		got, gotErr := read(&steps{in: in, n: int(step%7) + 1})
		if strings.Join(got, "\n") != strings.Join(want, "\n") || gotErr != wantErr {
			t.Fatalf("in pieces: %q, %v; at once: %q, %v", got, gotErr, want, wantErr)
		}
	})
}

// steps reads n bytes at a time.
type steps struct {
	in string
	n  int
}

func (s *steps) Read(p []byte) (int, error) {
	if s.in == "" {
		return 0, io.EOF
	}
	n := copy(p, s.in[:min(len(s.in), s.n)])
	s.in = s.in[n:]
	return n, nil
}
