package mimetree

import (
	"slices"
	"strings"
	"testing"
)

func TestEveryReadingOfANameIsAKey(t *testing.T) {
	tests := []struct {
		name   string
		fields string
		want   string // a key
	}{
		{"a plain name", `Content-Disposition: attachment; filename=evil.exe`, "evil.exe"},
		{"a name in quotes", `Content-Disposition: attachment; filename="evil file.exe"`, "evil file.exe"},
		{"a name in Content-Type", `Content-Type: application/x; name="evil.exe"`, "evil.exe"},
		{"the second of two names", `Content-Disposition: attachment; filename=a.txt; filename=evil.exe`, "evil.exe"},
		{"the first of two names", `Content-Disposition: attachment; filename=evil.exe; filename=a.txt`, "evil.exe"},
		{"the name in the second of two fields", "Content-Disposition: inline; filename=a.txt\nContent-Disposition: attachment; filename=evil.exe", "evil.exe"},
		{"different names in both fields", "Content-Disposition: attachment; filename=a.txt\nContent-Type: application/x; name=evil.exe", "evil.exe"},
		{"filename in Content-Type", `Content-Type: application/x; filename=evil.exe`, "evil.exe"},
		{"name in Content-Disposition", `Content-Disposition: attachment; name=evil.exe`, "evil.exe"},
		{"capitals", `CONTENT-DISPOSITION: ATTACHMENT; FILENAME="EVIL.EXE"`, "evil.exe"},
		{"an extended name", `Content-Disposition: attachment; filename*=utf-8'en'evil%2Eexe`, "evil.exe"},
		{"an extended name without a charset", `Content-Disposition: attachment; filename*=evil%2Eexe`, "evil.exe"},
		{"an extended name in quotes", `Content-Disposition: attachment; filename*="utf-8''evil%2Eexe"`, "evil.exe"},
		{"an extended name in windows-1252", `Content-Disposition: attachment; filename*=windows-1252''%F6vil.exe`, "övil.exe"},
		{"an extended name in an unknown charset", `Content-Disposition: attachment; filename*=x-x''evil%2Eexe`, "evil.exe"},
		{"an extended name in UTF-16, big endian", `Content-Disposition: attachment; filename*=utf-16''%00e%00.%00e%00x%00e`, "e.exe"},
		{"an extended name in UTF-16, little endian", `Content-Disposition: attachment; filename*=utf-16''e%00.%00e%00x%00e%00`, "e.exe"},
		{"pieces", `Content-Disposition: attachment; filename*0="evil"; filename*1=".e"; filename*2="xe"`, "evil.exe"},
		{"pieces in disorder", `Content-Disposition: attachment; filename*1=.exe; filename*0=evil`, "evil.exe"},
		{"pieces in disorder, read in their order", `Content-Disposition: attachment; filename*1=evil; filename*0=.exe`, "evil.exe"},
		{"pieces with a gap", `Content-Disposition: attachment; filename*0=evil; filename*7=.exe`, "evil.exe"},
		{"pieces that do not begin at zero", `Content-Disposition: attachment; filename*1=evil; filename*2=.exe`, "evil.exe"},
		{"pieces of which one stands twice, first", `Content-Disposition: attachment; filename*0=evil; filename*1=.exe; filename*1=.txt`, "evil.exe"},
		{"pieces of which one stands twice, last", `Content-Disposition: attachment; filename*0=evil; filename*1=.txt; filename*1=.exe`, "evil.exe"},
		{"extended pieces", `Content-Disposition: attachment; filename*0*=utf-8''ev%69l; filename*1*=%2eex; filename*2=e`, "evil.exe"},
		{"pieces of two fields", "Content-Disposition: attachment; filename*0=evil\nContent-Type: application/x; filename*1=.exe", "evil.exe"},
		{"pieces beside a plain name", `Content-Disposition: attachment; filename=a.txt; filename*0=evil; filename*1=.exe`, "evil.exe"},
		{"an encoded word", `Content-Disposition: attachment; filename==?utf-8?q?evil=2Eexe?=`, "evil.exe"},
		{"an encoded word in quotes", `Content-Disposition: attachment; filename="=?utf-8?b?ZXZpbC5leGU=?="`, "evil.exe"},
		{"an encoded word without end", `Content-Disposition: attachment; filename="=?utf-8?q?evil=2Eexe"`, "evil.exe"},
		{"an encoded word in UTF-16", `Content-Disposition: attachment; filename="=?utf-16?B?ZQAuAGUAeABlAA==?="`, "e.exe"},
		{"an encoded word in UTF-7", `Content-Disposition: attachment; filename="=?utf-7?q?evil+AC4-exe?="`, "evil.exe"},
		{"an encoded word in an unknown charset", `Content-Disposition: attachment; filename="=?x-x?q?evil=2Eexe?="`, "evil.exe"},
		{"encoded words over lines", "Content-Disposition: attachment; filename=\"=?utf-8?q?evil=2E?=\n =?utf-8?q?exe?=\"", "evil.exe"},
		{"encoded words cut inside of a group of base64", `Content-Disposition: attachment; filename="=?utf-8?b?ZXZpbC?= =?utf-8?b?5leGU=?="`, "evil.exe"},
		{"encoded words cut inside of a character", `Content-Disposition: attachment; filename="=?utf-8?q?=C3?= =?utf-8?q?=B6.exe?="`, "ö.exe"},
		{"a word with a language", `Content-Disposition: attachment; filename="=?utf-8*en?q?evil=2Eexe?="`, "evil.exe"},
		{"a raw byte above 0x7f", "Content-Disposition: attachment; filename=\"\xe4.exe\"", "ä.exe"},
		{"raw UTF-8", `Content-Disposition: attachment; filename="ä.exe"`, "ä.exe"},
		{"a comment in the key", `Content-Disposition: attachment; file(x)name=evil.exe`, "evil.exe"},
		{"a comment in the value", `Content-Disposition: attachment; filename=evil(x).exe`, "evil.exe"},
		{"a comment behind the value", `Content-Disposition: attachment; filename=evil.exe (.txt)`, "evil.exe"},
		{"junk behind the quotes", `Content-Disposition: attachment; filename="evil".exe`, "evil.exe"},
		{"quotes inside", `Content-Disposition: attachment; filename=evil.e"x"e`, "evil.exe"},
		{"single quotes", `Content-Disposition: attachment; filename='evil.exe'`, "evil.exe"},
		{"no closing quote", `Content-Disposition: attachment; filename="evil.exe`, "evil.exe"},
		{"no opening quote", `Content-Disposition: attachment; filename=evil.exe"`, "evil.exe"},
		{"escaped quotes", `Content-Disposition: attachment; filename="\"evil.exe\""`, "evil.exe"},
		{"a backslash in the value", `Content-Disposition: attachment; filename=evil.e\xe`, "evil.exe"},
		{"a semicolon in the value", `Content-Disposition: attachment; filename=evil;.exe`, "evil;.exe"},
		{"white space around the equal sign", "Content-Disposition: attachment; filename\t= evil.exe", "evil.exe"},
		{"a fold behind the equal sign", "Content-Disposition: attachment; filename=\n evil.exe", "evil.exe"},
		{"a fold before the equal sign", "Content-Disposition: attachment; filename\n =evil.exe", "evil.exe"},
		{"a name without quotes and with spaces", `Content-Disposition: attachment; filename=an evil.exe`, "an evil.exe"},
		{"a comma for a semicolon", `Content-Disposition: attachment, filename=evil.exe`, "evil.exe"},
		{"no semicolon", `Content-Disposition: attachment filename=evil.exe`, "evil.exe"},
		{"a key in quotes", `Content-Disposition: attachment; "filename"=evil.exe`, "evil.exe"},
		{"a hidden field", " Content-Disposition: attachment; filename=evil.exe", "evil.exe"},
		{"a trailing dot", `Content-Disposition: attachment; filename="evil.exe."`, "evil.exe"},
		{"trailing dots and spaces", `Content-Disposition: attachment; filename="evil.exe . . "`, "evil.exe"},
		{"an NTFS stream", `Content-Disposition: attachment; filename="evil.exe::$DATA"`, "evil.exe"},
		{"another NTFS stream", `Content-Disposition: attachment; filename="a.txt:evil.exe"`, "evil.exe"},
		{"text turned around", "Content-Disposition: attachment; filename=\"a\u202efdp.exe\"", "afdp.exe"},
		{"marks that are not seen", "Content-Disposition: attachment; filename=\"evil.\u200be\u2060x\u00ade\"", "evil.exe"},
		{"full width characters", `Content-Disposition: attachment; filename="evil．ｅｘｅ"`, "evil.exe"},
		{"an ideographic full stop", `Content-Disposition: attachment; filename="evil。exe"`, "evil.exe"},
		{"a path of Windows", `Content-Disposition: attachment; filename="..\\..\\evil.exe"`, "evil.exe"},
		{"a path of Unix", `Content-Disposition: attachment; filename="../../evil.exe"`, "evil.exe"},
		{"a percent sign", `Content-Disposition: attachment; filename="evil%2eexe%20"`, "evil.exe"},
		{"an encoded NUL, cut behind it", `Content-Disposition: attachment; filename*=utf-8''evil.exe%00.txt`, "evil.exe"},
		{"an encoded NUL, cut in front of it", `Content-Disposition: attachment; filename*=utf-8''a.txt%00evil.exe`, "evil.exe"},
		{"300 characters", `Content-Disposition: attachment; filename="` + strings.Repeat("n", 300) + `.exe"`, strings.Repeat("n", 300) + ".exe"},
		{"a name that is cut at 255 characters", `Content-Disposition: attachment; filename="` + strings.Repeat("n", 251) + `.exe.txt"`, strings.Repeat("n", 251) + ".exe"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			msg := "From: a@b.example\nContent-Type: multipart/mixed; boundary=b\n\n--b\nX-First: x\n" + tt.fields + "\n\ntext\n--b--\n"
			tree := read(t, strings.ReplaceAll(msg, "\n", "\r\n"))
			if !hasKey(tree, tt.want) {
				t.Errorf("no key %q", tt.want)
				logTree(t, tree)
			}
		})
	}
}

func TestHonestNamesHaveOneReading(t *testing.T) {
	for name, want := range map[string]string{
		`Content-Disposition: attachment; filename="Report (final).pdf"`:                         "report (final).pdf",
		`Content-Disposition: attachment; filename*=UTF-8''Gr%C3%BC%C3%9Fe.pdf`:                  "grüße.pdf",
		`Content-Disposition: attachment; filename="=?UTF-8?Q?Gr=C3=BC=C3=9Fe.pdf?="`:            "grüße.pdf",
		"Content-Type: application/pdf; name=a.pdf\nContent-Disposition: inline; filename=a.pdf": "a.pdf",
		`Content-Disposition: attachment; filename="Mr. Smith: 100% true.docx"`:                  "mr. smith: 100% true.docx",
	} {
		msg := "From: a@b.example\nContent-Type: multipart/mixed; boundary=b\n\n--b\n" + name + "\n\ntext\n--b--\n"
		tree := read(t, strings.ReplaceAll(msg, "\n", "\r\n"))
		if f, ok := tree.Ambiguous(); ok {
			t.Errorf("%s is ambiguous: %v", name, f)
		}
		if !hasKey(tree, want) {
			t.Errorf("%s has no key %q", name, want)
		}
	}
}

func TestNamesWithDifferentExtensionsAreAmbiguous(t *testing.T) {
	msg := "Content-Type: application/x; name=a.png\r\nContent-Disposition: attachment; filename=a.exe\r\n\r\nx"
	tree := read(t, msg)
	if f, ok := tree.Ambiguous(); !ok || f.Symbol != symNames {
		t.Errorf("got %v, want %s", f, symNames)
	}
}

func TestTheNumberOfReadingsIsBounded(t *testing.T) {
	var b strings.Builder
	b.WriteString("Content-Disposition: attachment")
	for range 3000 {
		b.WriteString("; filename=\"a\\\"(b)'c;d e\"f")
	}
	for i := range 3000 {
		b.WriteString("; filename*" + string(rune('0'+i%10)) + "*=%41%00'")
	}
	tree := read(t, b.String()+"\r\n\r\nx")
	if n := len(tree.Root.Names); n > maxNames {
		t.Errorf("%d names, want at most %d", n, maxNames)
	}
	if !hasSymbol(tree, symLimitField) {
		t.Errorf("no finding %s: %v", symLimitField, tree.Findings)
	}
}

func FuzzNameKeys(f *testing.F) {
	for _, s := range []string{"evil.exe", "a\u202efdp.exe", "evil．ｅｘｅ", "a.exe\x00.txt", `..\a/b:c::$DATA`, "%65%00%2e", strings.Repeat("é", 300), "\xff\xfe"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		for _, k := range NameKeys(name) {
			if k == "" || len(k) > 4*maxNameText {
				t.Errorf("key of %d bytes", len(k))
			}
			if strings.ContainsAny(k, "\x00\r\n\u202e\u200b") {
				t.Errorf("key %q has invisible characters", k)
			}
			// A key is in its final form.
			if again := NameKeys(k); len(k) <= maxNameText && !slices.Contains(again, k) {
				t.Errorf("key %.80q of %.80q turns into %.80q", k, name, again)
			}
		}
	})
}
