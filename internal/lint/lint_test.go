package lint

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

const root = "../.."

func TestTheTreeKeepsTheRules(t *testing.T) {
	tree := load(t, os.DirFS(root))
	if len(tree.Packages) < 5 {
		t.Fatalf("only %d packages below %s: is this the repository?", len(tree.Packages), root)
	}
	for _, rule := range Rules() {
		t.Run(rule.Name, func(t *testing.T) {
			problems := rule.Check(tree)
			for _, p := range problems {
				t.Error(p)
			}
			if len(problems) > 0 {
				t.Logf("why: %s", rule.Why)
			}
		})
	}
}

// Each case under testdata is a small tree (the files of the archive) and what
// the rules must say about it (the comment of the archive, a line per problem).
func TestRulesReportWhatTheyMust(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	broken := map[string]bool{}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			for line := range strings.Lines(string(archive.Comment)) {
				if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
					want = append(want, line)
				}
			}
			tree := load(t, archiveFS(archive))
			var got []string
			for _, rule := range Rules() {
				for _, p := range rule.Check(tree) {
					got = append(got, p.String())
					broken[p.Rule] = true
				}
			}
			slices.Sort(want)
			slices.Sort(got)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("problems differ (-want +got):\n%s", diff)
			}
		})
	}
	for _, rule := range Rules() {
		if !broken[rule.Name] {
			t.Errorf("no case under testdata breaks the rule %s, so nobody knows that it works", rule.Name)
		}
	}
}

func TestEveryBanAndRoomHasAReason(t *testing.T) {
	for _, r := range rooms {
		if r.why == "" || r.pattern == "" {
			t.Errorf("room %+v lacks a reason", r)
		}
	}
	for _, b := range bans {
		if b.why == "" {
			t.Errorf("ban of %s lacks a reason", b.imported)
		}
	}
	for _, b := range bannedCalls {
		if b.why == "" || importsOf[b.pkg] == "" {
			t.Errorf("ban of %s.%s lacks a reason or an import path", b.pkg, b.name)
		}
	}
	if !slices.IsSortedFunc(standards, func(a, b standard) int { return a.number - b.number }) {
		t.Error("rfcs.go is not in ascending order")
	}
}

func TestStandardsPageIsUpToDate(t *testing.T) {
	want := load(t, os.DirFS(root)).Standards()
	got, err := os.ReadFile(filepath.Join(root, "docs", "standards.md"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(got), want); diff != "" {
		t.Errorf("docs/standards.md is out of date; run go generate ./internal/lint (-page +code):\n%s", diff)
	}
}

func TestCitationsAreCollected(t *testing.T) {
	tree := load(t, fstest.MapFS{"internal/smtp/a.go": {Data: []byte(`package smtp

// RFC 5321 §4.10 and RFC 5321 §4.2.
func a() {
	// RFC 5321
	// §4.5.3.1.8, §4.1 and §2; RFC 3461–3464; RFC 6376 §A.2. See RFC 2920.
}
`)}})
	var got []string
	for _, c := range tree.Cited() {
		got = append(got, c.String())
	}
	want := []string{"RFC 2920", "RFC 3461", "RFC 5321 §2", "RFC 5321 §4.1", "RFC 5321 §4.2", "RFC 5321 §4.5.3.1.8", "RFC 5321 §4.10", "RFC 6376 §A.2"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("citations differ (-want +got):\n%s", diff)
	}
}

func load(t *testing.T, fsys fs.FS) *Tree {
	t.Helper()
	tree, err := Load(fsys)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func archiveFS(a *txtar.Archive) fs.FS {
	fsys := fstest.MapFS{}
	for _, f := range a.Files {
		fsys[f.Name] = &fstest.MapFile{Data: f.Data}
	}
	return fsys
}
