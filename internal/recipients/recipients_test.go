package recipients

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

func TestEntriesAreReadAsTheyAreCompared(t *testing.T) {
	list, bad, err := Read(strings.NewReader("\xef\xbb\xbf# our people\r\n" +
		"Alice@Example.COM\r\n" +
		"bob   # in every domain\n" +
		"\t@Example.Org.\n\n" +
		"a#b@example.com\n" +
		"\"quoted user\"@example.com\n" +
		"jürgen@bücher.example\n" +
		"alice@example.com\n" +
		"last@example.com"))
	if err != nil || len(bad) > 0 {
		t.Fatal(err, bad)
	}
	for _, entry := range []string{"alice@example.com", "bob", "@example.org", "a#b@example.com", "quoted user@example.com", "jürgen@xn--bcher-kva.example", "last@example.com"} {
		if !list.Has(entry) {
			t.Errorf("%q is not in the list", entry)
		}
	}
	for _, entry := range []string{"", "alice", "ALICE@example.com", "bob@example.com", "@example.com", "our", "last@example.co", "last@example.comm"} {
		if list.Has(entry) {
			t.Errorf("%q is in the list", entry)
		}
	}
	if list.Len() != 7 {
		t.Errorf("%d entries, want 7: a repetition counts once", list.Len())
	}
}

func TestBadLinesAreNamedAndTheOthersKept(t *testing.T) {
	list, bad, err := Read(strings.NewReader("good@example.com\ntwo words\na@b@c\n@\n" + strings.Repeat("x", 5000) + "\nuser@[192.0.2.1\nlast\n"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, b := range bad {
		got = append(got, fmt.Sprintf("%d %s", b.Number, b.Message))
	}
	want := []string{`2 "two words" is no entry`, `3 "a@b@c" is no entry`, `4 "@" is no entry`, `5 the line is too long for an address`, `6 "user@[192.0.2.1" is no entry`}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
	if !list.Has("good@example.com") || !list.Has("last") {
		t.Error("a good line beside bad ones is missing")
	}
}

// endless is a file of empty lines.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '\n'
	}
	return len(p), nil
}

func TestAnEndlessFileIsRefused(t *testing.T) {
	if _, _, err := read(endless{}, 1<<20); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v", err)
	}
}

func TestADirectoryIsNoList(t *testing.T) {
	if _, _, err := ReadFile(t.TempDir()); !errors.Is(err, ErrNotFile) {
		t.Errorf("got %v", err)
	}
}

func TestAReadErrorIsNotTheEndOfTheList(t *testing.T) {
	if _, _, err := Read(io.MultiReader(strings.NewReader("a\n"), broken{})); err == nil {
		t.Error("half a file passed for a list")
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("disk gone") }

func FuzzRead(f *testing.F) {
	f.Add("a@b.example\nuser\n@domain\n# c\n\"q q\"@b.example")
	f.Add("\x00\xff\n@@\n")
	f.Fuzz(func(t *testing.T, text string) {
		list, bad, err := Read(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Count(text, "\n") + 1
		if list.Len()+len(bad) > lines {
			t.Fatalf("%d entries and %d bad lines out of %d lines", list.Len(), len(bad), lines)
		}
		for _, start := range list.start {
			if entry := string(list.entry(start)); !list.Has(entry) {
				t.Fatalf("%q is in the list and not found", entry)
			}
		}
	})
}

func BenchmarkHas(b *testing.B) {
	var text strings.Builder
	for i := range 1_000_000 {
		fmt.Fprintf(&text, "user%d@example.com\n", i)
	}
	list, _, err := Read(strings.NewReader(text.String()))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(cap(list.text)+4*cap(list.start))/float64(list.Len()), "B/entry")
	b.ReportAllocs()
	for b.Loop() {
		list.Has("user777777@example.com")
	}
}
