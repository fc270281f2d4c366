package rewrite

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// BenchmarkReadMillion reads a table of a million lines.
func BenchmarkReadMillion(b *testing.B) {
	var text strings.Builder
	for i := range 1_000_000 {
		fmt.Fprintf(&text, "user%d@example.com box%d@store.example\n", i, i)
	}
	var before, after runtime.MemStats
	for b.Loop() {
		runtime.GC()
		runtime.ReadMemStats(&before)
		r, bad := readLines(Virtual, text.String(), nil)
		runtime.GC()
		runtime.ReadMemStats(&after)
		if r.entries != 1_000_000 || len(bad) > 0 {
			b.Fatal(r.entries, bad)
		}
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1e6, "MB")
	}
}
