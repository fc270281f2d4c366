package filter

import (
	"strings"
	"testing"
)

// BenchmarkExpressions is DOS-07: expressions that other engines never get done
// with, on a text of 1 MB.
func BenchmarkExpressions(b *testing.B) {
	text := strings.Repeat("a", 1<<20) + "b"
	for _, source := range []string{`(a+)+$`, `(a|aa)+$`, `(a|a?)+$`, `(?i)buy[^.]{0,40}pills`} {
		e, err := compileExpr(source, false)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(source, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				if _, _, err := e.find(b.Context(), text); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkScan is an ordinary message under ordinary filters, of which none
// needs its files or its text.
func BenchmarkScan(b *testing.B) {
	in := letter(b, "Subject: =?utf-8?q?Ihre_Rechnung?=\nFrom: x@shop.example\nX-Mailer: Bulk\n\nhello\n")
	m := New([]*Filter{
		compile(b, when{"sender": []any{"@bank.example", ".evil.example", "/^bounce/"}}),
		compile(b, when{"subject": `(?i)\b(viagra|casino)\b`}),
		compile(b, when{"client": []any{"192.0.2.0/25", "2001:db8::/32"}, "attachment_name": `\.zip$`, "sender": "@bank.example"}),
		compile(b, when{"recipient": "@example.com", "not": when{"helo": ".example"}}),
	})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.Scan(b.Context(), in); err != nil {
			b.Fatal(err)
		}
	}
}
