package source_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gatepost/internal/scan/bayes/source"
)

// write makes files below a fresh directory.
func write(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// collect returns all messages as "path:n text".
func collect(t testing.TB, dir string, o source.Options) []string {
	t.Helper()
	var got []string
	err := source.EachMessage(context.Background(), dir, o, func(m source.Message) error {
		text, err := io.ReadAll(io.NewSectionReader(m.Body, 0, m.Body.Size()))
		name, _ := filepath.Rel(dir, m.Path)
		got = append(got, fmt.Sprintf("%s:%d %s", name, m.N, text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestEachMessage(t *testing.T) {
	cases := []struct {
		name  string
		files map[string]string
		want  []string
	}{
		{"a message with LF", map[string]string{"a": "S: x\n\nbody\n"}, []string{"a:1 S: x\r\n\r\nbody\r\n"}},
		{"a message with CRLF and no end", map[string]string{"a": "S: x\r\n\r\nbody"}, []string{"a:1 S: x\r\n\r\nbody"}},
		{"an mbox", map[string]string{"m": "From a@b Mon Jan  1 10:11:12 2024\nS: 1\n\none\n\nFrom c Tue Jan  2 10:11:12 2024\nS: 2\n\n>From two\n>>From three\n> From\n"},
			[]string{"m:1 S: 1\r\n\r\none\r\n\r\n", "m:2 S: 2\r\n\r\nFrom two\r\n>From three\r\n> From\r\n"}},
		{"a sentence in an mbox", map[string]string{"m": "From a\nS: 1\n\nFrom here on it is text.\nFrom x 10:11:12\n"},
			[]string{"m:1 S: 1\r\n\r\nFrom here on it is text.\r\nFrom x 10:11:12\r\n"}},
		{"a Maildir", map[string]string{"cur/1:2,S": "A: b\n", "new/2": "C: d\n", "tmp/3": "half", ".hidden": "x", "dovecot/.x": "y"},
			[]string{"cur/1:2,S:1 A: b\r\n", "new/2:1 C: d\r\n"}},
		{"folders of a Maildir", map[string]string{".Spam/cur/1": "A: b\n", ".Spam/new/2": "C: d\n"},
			[]string{".Spam/cur/1:1 A: b\r\n", ".Spam/new/2:1 C: d\r\n"}},
		{"an empty file", map[string]string{"a": "", "b": "X: y\n"}, []string{"b:1 X: y\r\n"}},
	}
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			if got := collect(t, write(t, tt.files), source.Options{}); !slices.Equal(got, tt.want) {
				t.Errorf("got\n%q, want\n%q", got, tt.want)
			}
		})
	}
}

func TestLongMessagesAreSkipped(t *testing.T) {
	long := "From a 10:11:12\nS: long\n\n" + strings.Repeat("x", 200_000) + "\n\n"
	dir := write(t, map[string]string{"m": long + "From a 10:11:12\nS: short\n\n" + "y\n"})
	var last source.Progress
	got := collect(t, dir, source.Options{MaxSize: 1000, Progress: func(p source.Progress) { last = p }})
	if want := []string{"m:2 S: short\r\n\r\ny\r\n"}; !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	if last.Messages != 1 || last.Skipped != 1 || last.Done != last.Total || last.Total == 0 {
		t.Errorf("progress %+v", last)
	}
}

func TestErrorsEndIt(t *testing.T) {
	dir := write(t, map[string]string{"a": "A: b\n", "b": "A: b\n"})
	stop, calls := errors.New("stop"), 0
	err := source.EachMessage(t.Context(), dir, source.Options{}, func(source.Message) error { calls++; return stop })
	if !errors.Is(err, stop) || calls != 1 || !strings.Contains(err.Error(), "a:1") {
		t.Errorf("%v after %d calls", err, calls)
	}
	if err := source.EachMessage(t.Context(), filepath.Join(dir, "none"), source.Options{}, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a path that is not there: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := source.EachMessage(ctx, dir, source.Options{}, func(source.Message) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("an ended context: %v", err)
	}
}

func FuzzEachMessage(f *testing.F) {
	f.Add("From a 10:11:12\nS: 1\n\nx\n\nFrom b 10:11:12\n\n")
	f.Add("S: 1\r\n\r\nFrom \n\nFrom 1 00:00:00")
	f.Add("From ")
	f.Fuzz(func(t *testing.T, text string) {
		var last source.Progress
		got := collect(t, write(t, map[string]string{"m": text}), source.Options{Progress: func(p source.Progress) { last = p }})
		if last.Done != last.Total && text != "" {
			t.Errorf("%d of %d bytes were read", last.Done, last.Total)
		}
		for _, m := range got {
			if strings.Contains(strings.ReplaceAll(m, "\r\n", ""), "\n") {
				t.Errorf("a bare LF in %q", m)
			}
		}
	})
}
