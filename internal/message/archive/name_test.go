package archive

import (
	"slices"
	"strings"
	"testing"
)

// TestCleanName covers the names of MIM-17 and MIM-23.
func TestCleanName(t *testing.T) {
	for _, test := range []struct{ raw, want string }{
		{"a.txt", "a.txt"},
		{"dir/a.txt", "dir/a.txt"},
		{`..\..\a.exe`, "a.exe"},
		{"/etc/passwd", "etc/passwd"},
		{"../../x", "x"},
		{`C:\Windows\a.exe`, "Windows/a.exe"},
		{"a.exe.", "a.exe"},
		{"a.exe . .", "a.exe"},
		{"a.exe::$DATA", "a.exe"},
		{"photo\u202egpj.exe", "photogpj.exe"},
		{"a\u200b.e\u00adxe", "a.exe"},
		{"ａ．ｅｘｅ", "a.exe"},
		{"a.exe\u00a0", "a.exe"},
		{"a\x01\n.exe", "a.exe"},
		{"a\xff.exe", "a\ufffd.exe"},
		{"...", ""},
		{"", ""},
		{"a//b/./c/../d", "a/b/c/d"},
		{"'; touch x #.txt", "'; touch x #.txt"},
	} {
		if got := CleanName(test.raw); got != test.want {
			t.Errorf("CleanName(%q) = %q, want %q", test.raw, got, test.want)
		}
	}
}

func TestLongNamesKeepTheirEnds(t *testing.T) {
	for _, long := range []string{strings.Repeat("x", 4096) + ".exe", strings.Repeat("ü", 100_000) + ".exe"} {
		got := CleanName(long)
		if len(got) > maxName || !strings.HasSuffix(got, ".exe") || strings.ContainsRune(got, '\ufffd') && !strings.Contains(long, "ü") {
			t.Errorf("%d bytes, ends in %q", len(got), got[len(got)-10:])
		}
	}
}

func TestEveryReadingOfANameIsGiven(t *testing.T) {
	for _, test := range []struct {
		raws []string
		want []string
	}{
		{[]string{"a.txt"}, []string{"a.txt"}},
		{[]string{"a.exe\x00.txt"}, []string{"a.exe", "a.exe.txt"}},
		{[]string{"a.exe%20"}, []string{"a.exe%20", "a.exe"}},
		{[]string{"b\x81r.exe"}, []string{"bür.exe"}},
		{[]string{"b\xc3\xbcr.exe"}, []string{"bür.exe", "b├╝r.exe"}},
		{[]string{"a.pdf", "a.exe"}, []string{"a.pdf", "a.exe"}},
		{[]string{"mac:name.exe"}, []string{"mac", "mac:name.exe"}},
	} {
		if got := names(test.raws...); !slices.Equal(got, test.want) {
			t.Errorf("names(%q) = %q, want %q", test.raws, got, test.want)
		}
	}
}

func TestDeceitfulNamesAreReported(t *testing.T) {
	for raw, want := range map[string]bool{
		"a.txt": false, "dir/b.txt": false, "שלום.txt": false, "a..b": false, "a:b": false,
		"../a": true, `a\..\b`: true, "/a": true, `\\host\a`: true, `C:\a`: true, "a\x00.txt": true, "a\u202etxt.exe": true, "a::$DATA": true,
		strings.Repeat("x", 5000): true,
	} {
		if got := deceit(raw) != ""; got != want {
			t.Errorf("%q: %q", clip([]byte(raw)), deceit(raw))
		}
	}
}
