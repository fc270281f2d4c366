package bayes_test

import (
	"fmt"
	"strings"
	"testing"
)

// BenchmarkClassify is one message from its bytes to its result: the tree, the
// texts, the tokens, the counts and the explanation.
func BenchmarkClassify(b *testing.B) {
	c, _ := fresh(b)
	teach(b, c, "", 100)
	var long strings.Builder
	for i := range 50_000 {
		fmt.Fprintf(&long, "word%d ", i)
	}
	for _, bench := range []struct{ name, text string }{
		{"short", spamText(1000)},
		{"20kB", hamText(1000) + strings.Repeat("The quick brown fox jumps over the lazy dog, again and again.\n", 320)},
		{"50000 words", "Subject: x\n\n" + long.String()},
		{"a word of 1 MB", "Subject: x\n\n" + strings.Repeat("x", 1<<20)},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				classify(b, c, bench.text, "")
			}
		})
	}
}

// BenchmarkTrain learns messages in batches on SQLite.
func BenchmarkTrain(b *testing.B) {
	c, _ := fresh(b)
	batch := c.NewBatch()
	n := 0
	for b.Loop() {
		n++
		if err := batch.Train(b.Context(), "", input(b, spamText(n)), true); err != nil {
			b.Fatal(err)
		}
	}
	if err := batch.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
}
