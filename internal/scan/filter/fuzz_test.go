package filter

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/txtar"

	"gatepost/internal/mail"
	"gatepost/internal/message/mimetree"
)

// FuzzNames looks for expressions and file names that together break a filter:
// what matches a form of a name must be reported, safely.
func FuzzNames(f *testing.F) {
	for _, name := range []string{"a.zip", "a.exe.", "a.exe::$DATA", "a\u202efdp.exe", "..\\a.exe", "a.exe\x00.txt", "．ｅｘｅ", strings.Repeat("a", 300) + ".exe", "=?utf-8?b?YS56aXA=?=", "a\r\nX: y.exe"} {
		f.Add(`\.(exe|zip)$`, name)
		f.Add(`(a+)+$`, name)
	}
	f.Add(`((x{1000}){1000})`, "x")
	f.Add("(?i", "x")
	f.Fuzz(func(t *testing.T, source, name string) {
		filter, err := Compile(Spec{Name: "f", When: map[string]any{"attachment_name": []string{source}}})
		if err != nil {
			if !strings.HasPrefix(err.Error(), "when.attachment_name: ") {
				t.Errorf("error without its key: %v", err)
			}
			return
		}
		tests := &fileTest{}
		c := &compiler{}
		c.file(tests, "when.attachment_name", "attachment_name", source)
		want := false
		keys := mimetree.NameKeys(name)
		for _, key := range keys {
			want = want || tests.names[0].re.MatchString(key)
		}
		in := letter(t, "\nx\n")
		files, err := in.Files(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(files.List) == 0 {
			t.Fatal("no files")
		}
		// What is listed is shared and must not be changed by modules; here the name
		// is put in before anybody looks.
		files.List[0].Keys, files.List[0].Name = keys, name
		checkFindings(t, run(t, in, filter), want)
	})
}

func checkFindings(t *testing.T, findings []mail.Finding, want bool) {
	t.Helper()
	if (len(findings) > 0) != want {
		t.Errorf("findings %+v, want some: %v", findings, want)
	}
	for _, f := range findings {
		if !utf8.ValidString(f.Reason) || len(f.Reason) > maxReason || strings.ContainsAny(f.Reason+f.Name, "\r\n\x00\x1b\u202e") {
			t.Errorf("unsafe finding %+v", f)
		}
	}
}

// FuzzScan looks for messages that break a condition, or make it say two things.
func FuzzScan(f *testing.F) {
	cases, err := txtar.ParseFile("testdata/names.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, c := range cases.Files {
		f.Add(c.Data)
	}
	f.Add([]byte("Subject: =?utf-8?q?=FF?= =?x-unknown?b?YS56?=\nX: \xff\xfe\n\nhttp://a.example/ http://[::1/%zz\n"))
	f.Add([]byte(attached([3]string{"a.zip", "application/zip", zipOf(f, "b.exe", "../c")})))
	conditions := map[string]map[string]any{
		"names": {"attachment_name": `\.zip$`}, "types": {"attachment_type": "*/*"}, "macro": {"macro": true}, "encrypted": {"encrypted": true},
		"ambiguous": {"ambiguous": true}, "subject": {"subject": ".+"}, "any field": {"header": map[string]any{"*": "a.*b"}},
		"body": {"body": "(a|b)+c"}, "url": {"url": `//[^/]+/`}, "attachments": {"attachments_over": int64(1)},
	}
	var filters, opposites []*Filter
	for name, when := range conditions {
		filters = append(filters, compile(f, when, named(name)))
		opposites = append(opposites, compile(f, map[string]any{"not": when}, named(name)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		in := letter(t, string(bytes.ReplaceAll(data, []byte("\r"), nil)))
		said := map[string]bool{}
		findings := run(t, in, filters...)
		checkFindings(t, findings, len(findings) > 0)
		for _, f := range findings {
			said[f.Symbol] = true
		}
		for _, f := range run(t, in, opposites...) {
			if said[f.Symbol] {
				t.Errorf("%s holds and does not hold", f.Symbol)
			}
			said[f.Symbol] = true
		}
		if len(said) != len(filters) {
			t.Errorf("%d of %d conditions said anything", len(said), len(filters))
		}
	})
}
