package archive

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/mail"
)

func TestLimitsEndAWalkWithAFinding(t *testing.T) {
	content := makeZip(t,
		file{name: "a.txt", content: strings.Repeat("a", 3000), method: 8},
		file{name: "b.txt", content: strings.Repeat("b", 3000)},
		file{name: "c.zip", content: string(makeZip(t, file{name: "d.txt", content: "deep"}))})
	for _, test := range []struct {
		name    string
		limits  Limits
		members []string
		symbols []string
	}{
		{"none", Limits{}, []string{"a.txt", "b.txt", "c.zip", "c.zip › d.txt"}, nil},
		{"depth", Limits{Depth: 1}, []string{"a.txt", "b.txt", "c.zip"}, []string{"archive depth"}},
		{"files", Limits{Files: 2}, []string{"a.txt", "b.txt"}, []string{"archive files"}},
		{"as many files as there are", Limits{Files: 4}, []string{"a.txt", "b.txt", "c.zip", "c.zip › d.txt"}, nil},
		{"bytes in a packed member", Limits{Bytes: 1000}, []string{"a.txt"}, []string{"archive bytes"}},
		{"bytes in a stored member", Limits{Bytes: 4000}, []string{"a.txt", "b.txt"}, []string{"archive bytes"}},
		{"ratio of one member", Limits{Ratio: 50, RatioFloor: 100}, []string{"a.txt", "b.txt", "c.zip", "c.zip › d.txt"}, []string{"archive ratio"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := open(t, "mail.zip", content, test.limits)
			w.expect(t, test.symbols...)
			var paths []string
			for _, m := range w.members {
				paths = append(paths, strings.Join(m.Path[1:], " › "))
			}
			if !slices.Equal(paths, test.members) {
				t.Errorf("members %q, want %q", paths, test.members)
			}
			if last := w.members[len(w.members)-1]; test.limits.Bytes > 0 && (!last.Cut || int64(len(last.content)) >= last.Claimed) {
				t.Errorf("the last member is not cut: %+v", last.Member)
			}
			for _, f := range w.Findings {
				if f.Module != "archive" || f.Result != mail.Unknown || f.Reason == "" || len(f.Path) == 0 {
					t.Errorf("finding %+v", f)
				}
			}
		})
	}
}

func TestWalksOfOneMessageShareABudget(t *testing.T) {
	u := New(Config{})
	b := NewBudget(Limits{Files: 3})
	for i, want := range []int{2, 1, 0} {
		w, err := walkWith(t, u, b, Input{Name: "a.zip", Body: bytes.NewReader(makeZip(t, file{name: "a"}, file{name: "b"}))})
		if err != nil || len(w.members) != want {
			t.Errorf("walk %d: %d members, want %d; error %v", i, len(w.members), want, err)
		}
		if got := w.has("archive files"); got != (i > 0) {
			t.Errorf("walk %d: over the limit %v", i, got)
		}
	}
}

func TestTimeEndsAWalk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := New(Config{})
		content := makeZip(t, file{name: "a", content: "1"}, file{name: "b", content: "2"}, file{name: "c", content: "3"})
		visits := 0
		result, err := u.Walk(t.Context(), NewBudget(Limits{Time: time.Second}), Input{Name: "a.zip", Body: bytes.NewReader(content)}, func(m *Member) error {
			visits++
			time.Sleep(600 * time.Millisecond)
			// The visitor may still read when the time is over.
			_, err := io.ReadAll(io.NewSectionReader(m.Content, 0, 1))
			return err
		})
		if err != nil || visits != 2 || len(result.Findings) != 1 || result.Findings[0].Symbol != "time" {
			t.Errorf("%d visits, error %v, findings %v", visits, err, result.Findings)
		}
	})
}

func TestErrorsAreForTheCaller(t *testing.T) {
	content := makeZip(t, file{name: "a", content: "1", method: 8}, file{name: "b", content: "2"})
	visit := errors.New("visitor had enough")
	storage := errors.New("disk on fire")
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, test := range []struct {
		name string
		ctx  context.Context
		body mail.Body
		temp Temp
		err  error
	}{
		{"of the visitor", t.Context(), bytes.NewReader(content), nil, visit},
		{"of the context", cancelled, bytes.NewReader(content), nil, context.Canceled},
		{"of the message's storage", t.Context(), &body{bytes.NewReader(content), storage}, nil, storage},
		{"of the temporary storage", t.Context(), bytes.NewReader(makeGzip(t, "", bytes.Repeat([]byte("long"), 1000))), brokenTemp{storage}, storage},
	} {
		t.Run(test.name, func(t *testing.T) {
			u := New(Config{Temp: test.temp, Spill: 100})
			result, err := u.Walk(test.ctx, u.NewBudget(), Input{Name: "a.zip", Body: test.body}, func(*Member) error { return visit })
			if !errors.Is(err, test.err) {
				t.Errorf("error %v, want %v", err, test.err)
			}
			if result == nil {
				t.Error("no result")
			}
		})
	}
}

type brokenTemp struct{ err error }

func (b brokenTemp) Create() (TempFile, error) { return nil, b.err }

func TestLongMembersAreKeptInTheTemp(t *testing.T) {
	dir := t.TempDir()
	long := strings.Repeat("0123456789", 50_000)
	content := makeGzip(t, "outer.tar", makeTar(t, file{name: "inner.gz", content: string(makeGzip(t, "inner.txt", []byte(long)))}))
	u := New(Config{Temp: DirTemp(dir), Spill: 1000})
	w, err := walkWith(t, u, u.NewBudget(), Input{Name: "a.gz", Body: bytes.NewReader(content)})
	if err != nil {
		t.Fatal(err)
	}
	w.expect(t)
	w.wantMember(t, "outer.tar › inner.gz › inner.txt", long)
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}

	u = New(Config{Spill: 1000})
	if w, err = walkWith(t, u, u.NewBudget(), Input{Name: "a.gz", Body: bytes.NewReader(content)}); err != nil {
		t.Fatal(err)
	}
	w.expect(t, "archive damaged", "archive memory")
}

// TestNothingIsWrittenUnderNamesOfArchives covers MIM-23.
func TestNothingIsWrittenUnderNamesOfArchives(t *testing.T) {
	dir := t.TempDir()
	temp := filepath.Join(dir, "a", "b", "temp")
	if err := os.MkdirAll(temp, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Chdir(temp)
	long := strings.Repeat("x", 10_000)
	var files []file
	for _, name := range []string{"../../x", "/tmp/absolute", `..\..\y`, "'; touch p #.txt", strings.Repeat("n", 4096)} {
		files = append(files, file{name: name, content: long, method: 8})
	}
	u := New(Config{Temp: DirTemp(temp), Spill: 100})
	for _, content := range [][]byte{makeZip(t, files...), makeTar(t, files...)} {
		w, err := walkWith(t, u, u.NewBudget(), Input{Name: "../evil.zip", Body: bytes.NewReader(content)})
		if err != nil || len(w.members) != len(files) {
			t.Errorf("%d members, error %v", len(w.members), err)
		}
		w.expect(t, "archive name")
	}
	var found []string
	_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			found = append(found, path)
		}
		return nil
	})
	if len(found) != 0 {
		t.Errorf("written: %q", found)
	}
}

func TestPanicsOfDecodersAreErrors(t *testing.T) {
	g, err := guard(func() (io.Reader, error) { return panicky{}, nil })
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := g.Read(make([]byte, 1)); !errors.Is(err, errPanic) {
			t.Errorf("error %v", err)
		}
	}
	if _, err := guard(func() (io.Reader, error) { panic("open") }); !errors.Is(err, errPanic) {
		t.Errorf("error %v", err)
	}
}

type panicky struct{}

func (panicky) Read([]byte) (int, error) { panic("read") }

func TestFindingsAreBounded(t *testing.T) {
	var files []file
	for i := range 500 {
		files = append(files, file{name: "../" + strings.Repeat("x", i+1)})
	}
	inner := makeZip(t, files...)
	w := open(t, "a.zip", makeZip(t, file{name: "1.zip", content: string(inner)}, file{name: "2.bin", content: "\x60\xea" + strings.Repeat("\x28\x22\x02", 40)}), Limits{Findings: 10})
	if len(w.Findings) > 25 || !w.has("archive name") {
		t.Errorf("%d findings:\n%s", len(w.Findings), w.reasons())
	}
}

func TestEmptyAndUnknownContentIsNothing(t *testing.T) {
	for _, content := range []string{"", "x", "plain text", strings.Repeat("PK", 10_000), "MZ" + strings.Repeat("\x00", 5000), "%!PS", "{\\r"} {
		w := open(t, "a", []byte(content), Limits{})
		w.expect(t)
		if len(w.members) != 0 || len(w.Formats) != 0 {
			t.Errorf("%q: formats %q, members %q", clip([]byte(content)), w.Formats, w.contents())
		}
	}
}
