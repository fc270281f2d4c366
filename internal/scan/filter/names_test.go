package filter

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// MIM-17: whatever a name is dressed as, a filter sees it.
func TestNamesInDisguise(t *testing.T) {
	cases, err := txtar.ParseFile("testdata/names.txtar")
	if err != nil || len(cases.Files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	f := compile(t, when{"attachment_name": `\.zip$`})
	for _, c := range cases.Files {
		t.Run(c.Name, func(t *testing.T) {
			if got := run(t, letter(t, strings.TrimSuffix(string(c.Data), "\n")), f); len(got) == 0 {
				t.Error("not seen")
			}
		})
	}
	if got := run(t, letter(t, "Content-Disposition: attachment; filename=zip.txt\n\nnot a .zip\n"), f); len(got) != 0 {
		t.Errorf("seen where there is none: %+v", got)
	}
}

// MIM-19: the type of a file is what it is, not what it says.
func TestTypesByContent(t *testing.T) {
	iso := strings.Repeat("\x00", 32769) + "CD001\x01"
	tests := []struct{ name, file, declared, content, pattern string }{
		{"a program as a picture", "x.jpg", "image/jpeg", program, "application/vnd.microsoft.portable-executable"},
		{"HTML as text", "x.txt", "text/plain", "<html><script>alert(1)</script></html>", "text/html"},
		{"a disk image", "x.txt", "text/plain", iso, "application/x-iso9660-image"},
		{"a virtual disk", "x.txt", "text/plain", "conectix\x00\x00\x00\x02", "application/x-vhd"},
		{"a shortcut", "x.txt", "text/plain", "L\x00\x00\x00\x01\x14\x02\x00\x00\x00\x00\x00\xc0\x00\x00\x00\x00\x00\x00F", "application/x-ms-shortcut"},
		{"a OneNote file", "x.txt", "text/plain", "\xe4\x52\x5c\x7b\x8c\xd8\xa7\x4d\xae\xb1\x53\x78\xd0\x29\x96\xd3", "application/onenote"},
		{"compiled help", "x.txt", "text/plain", "ITSF\x03\x00\x00\x00\x60\x00\x00\x00", "application/vnd.ms-htmlhelp"},
		{"an HTML application", "x.txt", "text/plain", "<html><hta:application id=x></html>", "application/hta"},
		{"a script file of Windows", "x.txt", "text/plain", "<job id=\"x\"><script language=\"JScript\">", "text/x-wsf"},
		{"rich text", "x.txt", "text/plain", `{\rtf1\ansi{\object\objocx}}`, "*/rtf"},
		{"what the header says counts too", "x.dat", "application/x-msdownload", "hello", "application/x-msdownload"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := letter(t, attached([3]string{tt.file, tt.declared, tt.content}))
			if got := run(t, in, compile(t, when{"attachment_type": tt.pattern})); len(got) != 1 || got[0].Name != tt.file {
				t.Errorf("findings %+v", got)
			}
		})
	}
}

// MIM-02: the corpus of messages that hide the name of a zip.
func TestHiddenFileNamesOfTheCorpus(t *testing.T) {
	dir := os.Getenv("GATEPOST_CORPORA")
	if dir == "" {
		t.Skip("GATEPOST_CORPORA does not name a folder with corpora")
	}
	paths, err := filepath.Glob(filepath.Join(dir, "noxxi/hide-filename/*"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no messages: %v", err)
	}
	f := compile(t, when{"attachment_name": `\.zip$`})
	blocked := 0
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if len(run(t, letter(t, string(b)), f)) > 0 {
			blocked++
			continue
		}
		id, _, _ := strings.Cut(string(b), "\n")
		t.Logf("not blocked: %s (%s)", id, filepath.Base(path))
	}
	t.Logf("%d of %d blocked", blocked, len(paths))
	if blocked < 170 {
		t.Errorf("%d of %d blocked, want 170", blocked, len(paths))
	}
}
