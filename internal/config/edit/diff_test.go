package edit_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"gatepost/internal/config/edit"
)

func TestADiffShowsWhatChangesWithItsSurroundings(t *testing.T) {
	got := edit.Diff("old", "a\nb\nc\nd\ne\nf\ng\n", "new", "a\nb\nc\nd\nE\nf\ng\nh")
	want := "--- old\n+++ new\n@@ -2,6 +2,7 @@\n b\n c\n d\n-e\n+E\n f\n g\n+h\n\\ No newline at end of file\n"
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if d := edit.Diff("a", "x\n", "b", "x\n"); d != "" {
		t.Errorf("the same text differs: %s", d)
	}
}

// TestDiffsAreWhatPatchReads applies diffs of random texts with the tool that everybody
// has for it.
func TestDiffsAreWhatPatchReads(t *testing.T) {
	if _, err := exec.LookPath("patch"); err != nil {
		t.Skip("there is no patch")
	}
	r := rand.New(rand.NewPCG(1, 2))
	text := func(lines, words int) string {
		var b strings.Builder
		for range r.IntN(lines) {
			fmt.Fprintf(&b, "line %d\n", r.IntN(words))
		}
		return strings.TrimSuffix(b.String(), []string{"\n", ""}[r.IntN(2)])
	}
	for i := range 60 {
		lines, words := 40, 12
		if i%20 == 0 {
			lines, words = 5000, 100000 // so long that only lines that occur once count
		}
		before, after := text(lines, words), text(lines, words)
		if i%3 == 0 {
			after = strings.ReplaceAll(before, "line 3", "other")
		}
		file := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(file, []byte(before), 0o600); err != nil {
			t.Fatal(err)
		}
		d := edit.Diff("f", before, "f", after)
		if d == "" {
			continue
		}
		cmd := exec.Command("patch", "-s", file)
		cmd.Stdin = strings.NewReader(d)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s\n%s", err, out, d)
		}
		got, err := os.ReadFile(file)
		if err != nil && after != "" || string(got) != after {
			t.Fatalf("patched to\n%q\nwant\n%q\nby\n%s", got, after, d)
		}
	}
}
