package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
)

// long is longer than what wireForm looks at.
var long = strings.Repeat("0123456789", 7000)

func TestMessageFilesAreReadAsTheWireHasThem(t *testing.T) {
	for _, tt := range []struct{ name, file, want string }{
		{"nothing", "", ""},
		{"one byte", "x", "x"},
		{"one LF", "\n", "\r\n"},
		{"one CR", "\r", "\r"},
		{"one CRLF", "\r\n", "\r\n"},
		{"the line ends of Unix", "A: b\n\nbody\n", "A: b\r\n\r\nbody\r\n"},
		{"the line ends of mail", "A: b\r\n\r\nbody\r\n", "A: b\r\n\r\nbody\r\n"},
		{"the line ends of mail with bare ones among them", "A: b\r\nC: d\ne\rf\r\n", "A: b\r\nC: d\ne\rf\r\n"},
		{"bare ones in front", "A: b\nC: d\r\n", "A: b\nC: d\r\n"},
		{"no last line end", "A: b\n\nbody", "A: b\r\n\r\nbody"},
		{"a CR in a line of Unix", "A: b\rc\n", "A: b\rc\r\n"},
		{"a first line of 70 kB", long + "\nA: b\n", long + "\r\nA: b\r\n"},
		{"a first line of 70 kB with the line end of mail", long + "\r\nA: b\r\n", long + "\r\nA: b\r\n"},
		{"70 kB and no line end", long, long},
		{"one LF far behind", "A: b\n" + long + "\nC: d\n", "A: b\r\n" + long + "\r\nC: d\r\n"},
		{"an mbox line", "From a@b.example Mon Jan  1 00:00:00 2026\nA: b\n\nbody\n", "A: b\r\n\r\nbody\r\n"},
		{"an mbox line before the line ends of mail", "From a@b.example Mon\r\nA: b\r\n", "A: b\r\n"},
		{"a Unix mbox line before the line ends of mail", "From a@b.example Mon\nA: b\r\n\r\nbody\r\n", "A: b\r\n\r\nbody\r\n"},
		{"nothing but an mbox line", "From a@b.example Mon\n", ""},
		{"an mbox line without its end", "From a@b.example Mon", "From a@b.example Mon"},
		{"a first line of 70 kB that begins like one of mbox", "From " + long + "\nA: b\n", "From " + long + "\r\nA: b\r\n"},
		{"a first line of 70 kB and bare ones behind the line ends of mail", long + "\r\nA: b\nC: d\r\n", long + "\r\nA: b\nC: d\r\n"},
		{"line ends of mail far behind those of Unix", "A: b\n" + long + "\n" + long + "\r\nC: d\n", "A: b\r\n" + long + "\r\n" + long + "\r\nC: d\r\n"},
		{"a field that begins alike", "From: a@b.example\n\n", "From: a@b.example\r\n\r\n"},
		{"From at the start of the body", "A: b\n\nFrom here on\n", "A: b\r\n\r\nFrom here on\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := io.ReadAll(wireForm(strings.NewReader(tt.file)))
			if err != nil || string(got) != tt.want {
				t.Errorf("%d bytes %.80q, %v", len(got), got, err)
			}
			slow, err := io.ReadAll(iotest.OneByteReader(wireForm(iotest.OneByteReader(strings.NewReader(tt.file)))))
			if err != nil || string(slow) != tt.want {
				t.Errorf("byte by byte %d bytes %.80q, %v", len(slow), slow, err)
			}
		})
	}
}

func TestFileThatCannotBeReadToItsEndIsAnError(t *testing.T) {
	for _, start := range []string{"", "A: b\n", "A: b\r\n", "From x", "From x\nA: b\n", long} {
		_, err := io.ReadAll(wireForm(io.MultiReader(strings.NewReader(start), iotest.ErrReader(os.ErrPermission))))
		if err == nil {
			t.Errorf("%.10q and then an error: none came", start)
		}
	}
}

func TestOpenMessage(t *testing.T) {
	name := filepath.Join(t.TempDir(), "message")
	if err := os.WriteFile(name, []byte("A: b\n\nbody\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := openMessage(name)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(f)
	if err != nil || string(got) != "A: b\r\n\r\nbody\r\n" {
		t.Errorf("%q, %v", got, err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if _, err := openMessage(name + "-that-is-not-there"); !os.IsNotExist(err) {
		t.Errorf("%v", err)
	}
}

// FuzzWireForm checks that line ends are all that changes, and that what has them
// already stays as it is.
func FuzzWireForm(f *testing.F) {
	for _, seed := range []string{"", "x", "\n", "A: b\n\nbody\n", "A: b\r\n\r\nbody\r\n", "From a\nA: b\r\nC: d\n", "From a", "\r", "a\rb\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		got, err := io.ReadAll(wireForm(bytes.NewReader(file)))
		if err != nil {
			t.Fatal(err)
		}
		want := file
		if line, rest, ok := bytes.Cut(file, []byte("\n")); ok && bytes.HasPrefix(line, []byte("From ")) {
			want = rest
		}
		noEnds := func(b []byte) string { return strings.NewReplacer("\r", "", "\n", "").Replace(string(b)) }
		if noEnds(got) != noEnds(want) || bytes.Count(got, []byte("\n")) != bytes.Count(want, []byte("\n")) {
			t.Errorf("%q became %q", file, got)
		}
		if !bytes.HasPrefix(got, []byte("From ")) {
			again, err := io.ReadAll(wireForm(bytes.NewReader(got)))
			if err != nil || !bytes.Equal(again, got) {
				t.Errorf("%q became %q, and that %q, %v", file, got, again, err)
			}
		}
	})
}
