package textview

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gatepost/internal/message"
	"gatepost/internal/message/mimetree"
)

// body is a message in memory.
type body string

func (b body) Size() int64 { return int64(len(b)) }

func (b body) ReadAt(p []byte, off int64) (int, error) {
	return strings.NewReader(string(b)).ReadAt(p, off)
}

// view reads a message with line ends as in Go source.
func view(t testing.TB, msg string) *View {
	t.Helper()
	return viewWith(t, msg, Limits{})
}

func viewWith(t testing.TB, msg string, limits Limits) *View {
	t.Helper()
	return viewBody(t, body(strings.ReplaceAll(msg, "\n", "\r\n")), limits)
}

func viewBody(t testing.TB, b body, limits Limits) *View {
	t.Helper()
	tree, err := mimetree.Read(t.Context(), b, mimetree.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	header, err := message.ReadHeader(b, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	v, err := Read(t.Context(), tree, header, limits)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// page returns the view of an HTML text.
func viewHTML(t testing.TB, s string) *View {
	t.Helper()
	return view(t, "Subject: x\nContent-Type: text/html; charset=utf-8\n\n"+s)
}

// first is the first text of a view.
func first(t testing.TB, v *View) Text {
	t.Helper()
	if len(v.Texts) == 0 {
		t.Fatal("no text")
	}
	return v.Texts[0]
}

func cleans(v *View) []string {
	var list []string
	for _, u := range v.URLs {
		list = append(list, u.Clean)
	}
	return list
}

func symbols(v *View) string {
	var list []string
	for _, f := range v.Findings {
		list = append(list, f.Symbol)
	}
	return strings.Join(list, " ")
}

// corpus lists the messages of a label.
func corpus(t testing.TB, dir, label string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*"+label+"*", "*.txt"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no %s in %s: %v", label, dir, err)
	}
	return paths
}

// corpusMail reads a message with the line ends of mail.
func corpusMail(t testing.TB, path string) body {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	msg := string(b)
	if strings.HasPrefix(msg, "From ") {
		_, msg, _ = strings.Cut(msg, "\n")
	}
	return body(strings.ReplaceAll(strings.ReplaceAll(msg, "\r\n", "\n"), "\n", "\r\n"))
}
