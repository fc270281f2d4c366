package archive

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"gatepost/internal/mail"

	"github.com/klauspost/compress/zstd"
)

// seen is a member as the visitor saw it.
type seen struct {
	Member
	content []byte
}

// walked is a walk with everything that it gave.
type walked struct {
	*Result
	members []seen
	budget  *Budget
}

// open walks content and fails the test on an error.
func open(t testing.TB, name string, content []byte, l Limits) *walked {
	t.Helper()
	w, err := try(t, name, content, l)
	if err != nil {
		t.Fatalf("walk %s: %v", name, err)
	}
	return w
}

func try(t testing.TB, name string, content []byte, l Limits) (*walked, error) {
	t.Helper()
	u := New(Config{Temp: DirTemp(t.TempDir()), Spill: 64 << 10})
	return walkWith(t, u, NewBudget(l), Input{Name: name, Body: bytes.NewReader(content)})
}

// maxShown is how much of a member the tests keep.
const maxShown = 1 << 20

func walkWith(t testing.TB, u *Unpacker, b *Budget, in Input) (*walked, error) {
	t.Helper()
	w := &walked{budget: b}
	var err error
	w.Result, err = u.Walk(t.Context(), b, in, func(m *Member) error {
		content, err := io.ReadAll(io.LimitReader(io.NewSectionReader(m.Content, 0, m.Content.Size()), maxShown))
		if err != nil {
			t.Errorf("read %s: %v", showPath(m.Path), err)
		}
		if int64(len(content)) != min(maxShown, m.Content.Size()) {
			t.Errorf("%s has %d bytes, %d could be read", showPath(m.Path), m.Content.Size(), len(content))
		}
		w.members = append(w.members, seen{*m, content})
		return nil
	})
	return w, err
}

// find returns the member whose path, joined by " › " and without the input's
// name, is given; nil if there is none.
func (w *walked) find(path string) *seen {
	for i := range w.members {
		if strings.Join(w.members[i].Path[1:], " › ") == path {
			return &w.members[i]
		}
	}
	return nil
}

// contents returns "path=content" of every file, in the order of the visits.
func (w *walked) contents() []string {
	var list []string
	for _, m := range w.members {
		list = append(list, fmt.Sprintf("%s=%s", strings.Join(m.Path[1:], " › "), m.content))
	}
	return list
}

// symbols returns "module symbol" of every finding, sorted, each once.
func (w *walked) symbols() []string {
	list := []string{}
	for _, f := range w.Findings {
		list = append(list, f.Module+" "+f.Symbol)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func (w *walked) has(symbol string) bool { return slices.Contains(w.symbols(), symbol) }

// expect compares the symbols of the findings.
func (w *walked) expect(t testing.TB, symbols ...string) {
	t.Helper()
	slices.Sort(symbols)
	if got := w.symbols(); !slices.Equal(got, append([]string{}, symbols...)) {
		t.Errorf("findings %q, want %q\n%s", got, symbols, w.reasons())
	}
}

func (w *walked) reasons() string {
	var b strings.Builder
	for _, f := range w.Findings {
		fmt.Fprintf(&b, "  %s %s (%s): %s\n", f.Module, f.Symbol, f.Result, f.Reason)
	}
	return b.String()
}

// wantMember fails unless the member is there with the content.
func (w *walked) wantMember(t testing.TB, path, content string) {
	t.Helper()
	m := w.find(path)
	switch {
	case m == nil:
		t.Errorf("no member %q among %q", path, w.contents())
	case string(m.content) != content:
		t.Errorf("%q is %q, want %q", path, clip(m.content), clip([]byte(content)))
	}
}

func clip(b []byte) []byte { return b[:min(len(b), 200)] }

// file is a name with content, for building archives.
type file struct {
	name, content string
	method        uint16
}

func makeZip(t testing.TB, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, f := range files {
		w, err := z.CreateHeader(&zip.FileHeader{Name: f.name, Method: f.method})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, f.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func makeTar(t testing.TB, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Size: int64(len(f.content)), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, f.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func makeGzip(t testing.TB, name string, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Name = name
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func makeZstd(t testing.TB, content []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(content, nil)
}

// body is a mail.Body that counts and can fail.
type body struct {
	*bytes.Reader
	fail error
}

func (b *body) ReadAt(p []byte, off int64) (int, error) {
	if b.fail != nil {
		return 0, b.fail
	}
	return b.Reader.ReadAt(p, off)
}

func (b *body) Size() int64 { return b.Reader.Size() }

var _ mail.Body = (*body)(nil)

func testdata(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
