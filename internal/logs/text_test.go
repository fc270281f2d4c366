package logs

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"
	"unicode"
)

func FuzzAValueIsOneWordOfPrintableText(f *testing.F) {
	f.Add("plain", 4096)
	f.Add("a\nb \x1b[31m \u2028 \u202e \xff", 5)
	f.Fuzz(func(t *testing.T, s string, limit int) {
		limit = 1 + max(limit, 0)%5000
		h := textHandler{component: "C", maxValue: limit}
		r := slog.NewRecord(time.Unix(0, 0), slog.LevelInfo, s, 0)
		r.AddAttrs(slog.String("s", s), slog.Any("e", errors.New(s)))
		line := string(h.appendRecord(nil, r))
		body, ok := strings.CutSuffix(line, "\n")
		if !ok || strings.ContainsFunc(body, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%q became %q", s, line)
		}
		if len(line) > 15*limit+400 {
			t.Errorf("%d bytes became %d", len(s), len(line))
		}
	})
}

func BenchmarkInfo(b *testing.B) {
	for _, format := range []Format{FormatText, FormatJSON} {
		b.Run(string(format), func(b *testing.B) {
			l, err := Open(Config{Dir: b.TempDir(), Format: format, MaxSize: 10 << 20, Backups: 1, Buffer: 64 << 20})
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			log := l.Logger("Queue").With("id", "01hzy3v7q2r8m5n6k4j3h2g1f0")
			b.ReportAllocs()
			for b.Loop() {
				log.Info("delivered", "host", "mx1.example.org [192.0.2.1]:25", "attempt", 3, "reply", "250 2.0.0 OK")
			}
		})
	}
}
