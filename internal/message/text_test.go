package message

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestSafeText(t *testing.T) {
	tests := []struct {
		name  string
		in    string
		limit int
		want  string
	}{
		{"keeps plain text", "Hello, world", 200, "Hello, world"},
		{"keeps UTF-8", "Grüße aus Köln 👋", 200, "Grüße aus Köln 👋"},
		{"decodes quoted words", "=?utf-8?q?Gr=C3=BC=C3=9Fe?=", 200, "Grüße"},
		{"decodes base64 words and joins them", "=?UTF-8?B?R3LDvA==?= =?UTF-8?B?w59l?=", 200, "Grüße"},
		{"decodes old charsets", "=?windows-1252?q?=80_50?= =?iso-2022-jp?b?GyRCRnxLXBsoQg==?=", 200, "€ 50日本"},
		{"keeps words in an unknown charset", "=?x-nothing?q?abc?=", 200, "=?x-nothing?q?abc?="},
		{"keeps what only looks like a word", "a =? b ?= c", 200, "a =? b ?= c"},
		{"shows control characters as ?", "a\r\nb\x00c\x1b[31md\x7f\u0085", 200, "a??b?c?[31md??"},
		{"shows control characters that were encoded", "=?utf-8?q?a=0D=0AX:_y?=", 200, "a??X: y"},
		{"shows broken UTF-8 as ?", "a\xff\xc3b\xe2\x82", 200, "a??b??"},
		{"makes tabs and odd spaces spaces", "a\tb\u00a0c\u3000d", 200, "a b c d"},
		{"shows what turns text around", "fdp.exe\u202egnp.\u2066x", 200, `fdp.exe\u202egnp.\u2066x`},
		{"shows what is invisible", "a\u200bb\ufeffc\u2028d\U000e0041", 200, `a\u200bb\ufeffc\u2028d\ue0041`},
		{"keeps joined emoji", "👨\u200d👩", 200, "👨\u200d👩"},
		{"keeps what fits exactly", "1234567890", 10, "1234567890"},
		{"cuts with a mark", "12345678901", 10, "1234567…"},
		{"cuts between characters", "äääää", 8, "ää…"},
		{"cuts to almost nothing", "ääää", 2, ""},
		{"keeps the empty text", "", 10, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := SafeText(tt.in, tt.limit); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func FuzzSafeText(f *testing.F) {
	f.Add("=?utf-8?q?Gr=C3=BC?= =?utf-7?q?x?=", 20)
	f.Add("a\r\nb\x00\u202e\xff", 3)
	f.Add("=?iso-2022-kr?b?GyQ=?=", 100)
	f.Add(strings.Repeat("=?utf-8?b?", 50), 1000)
	f.Fuzz(func(t *testing.T, in string, limit int) {
		limit = max(0, min(limit, 1<<16))
		got := SafeText(in, limit)
		if len(got) > limit {
			t.Errorf("%d bytes, limit %d", len(got), limit)
		}
		if !utf8.ValidString(got) {
			t.Errorf("not UTF-8: %q", got)
		}
		for _, r := range got {
			if !unicode.IsPrint(r) && !isJoiner(r) {
				t.Errorf("%q is not printable in %q", r, got)
			}
		}
	})
}
