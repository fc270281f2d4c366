package clamav

import (
	"bytes"
	"testing"

	"gatepost/test/clamd"
)

// What a message costs beside its scan by clamd, whose database is nearly empty
// here, and clamd's own overhead.
func BenchmarkScan(b *testing.B) {
	s, _ := realScanner(b, clamd.Config{}, Config{})
	for name, msg := range map[string]string{
		"text 20 kB":       plain + string(bytes.Repeat([]byte("Some line of a text, of ordinary length.\r\n"), 500)),
		"attachment 1 MiB": attachment("a.bin", bytes.Repeat([]byte("MZ\x90\x00 and more\x01"), 1<<20/14)),
	} {
		in := input(b, msg)
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(msg)))
			b.ReportAllocs()
			for b.Loop() {
				if found, err := s.Scan(b.Context(), in); err != nil || len(found) > 0 {
					b.Fatal(found, err)
				}
			}
		})
	}
}
