package filter

import (
	"strings"
	"testing"
)

// locked is a zip whose members claim to need a password: bit 0 of the flags in
// both headers.
func locked(t *testing.T, names ...string) string {
	t.Helper()
	b := []byte(zipOf(t, names...))
	for signature, flags := range map[string]int{"PK\x03\x04": 6, "PK\x01\x02": 8} {
		for at := 0; ; {
			i := strings.Index(string(b[at:]), signature)
			if i < 0 {
				break
			}
			at += i + flags
			b[at] |= 1
		}
	}
	return string(b)
}

func TestFileConditions(t *testing.T) {
	lockedZip := [3]string{"l.zip", "application/zip", locked(t, "secret.exe")}
	openZip := [3]string{"o.zip", "application/zip", zipOf(t, "open.exe")}
	workbook := [3]string{"w.xlsm", "application/x", zipOf(t, "[Content_Types].xml", "xl/workbook.xml", "xl/macrosheets/sheet1.xml")}
	leaflet := [3]string{"p.pdf", "application/pdf", "%PDF-1.4\n1 0 obj\n<</Type/Annot/A<</S/URI/URI(https://user@www.Pills.example:8443/buy)>>>>\nendobj\ntrailer<</Root 1 0 R>>\n"}
	tests := []struct {
		name  string
		when  when
		files [][3]string
		want  []string // reasons
	}{
		{"an archive with a password", when{"encrypted": true}, [][3]string{openZip, lockedZip}, []string{`encrypted: "l.zip > secret.exe"`}},
		{"no archive with a password", when{"encrypted": false}, [][3]string{openZip, lockedZip}, nil},
		{"a name in an archive with a password", when{"attachment_name": `\.exe$`, "encrypted": true}, [][3]string{openZip, lockedZip}, []string{`attachment_name matched "secret.exe" in "l.zip > secret.exe" and encrypted: "l.zip > secret.exe"`}},
		{"a name in one and a password of another", when{"attachment_name": `^open`, "encrypted": true}, [][3]string{openZip, lockedZip}, nil},
		{"macros", when{"macro": true}, [][3]string{openZip, workbook}, []string{`macro: "w.xlsm"`}},
		{"no macros", when{"macro": false}, [][3]string{openZip, workbook}, nil},
		{"macros and a password", when{"macro": true, "encrypted": true}, [][3]string{lockedZip, workbook}, nil},
		{"a link in a document", when{"url": "/buy$"}, [][3]string{leaflet}, []string{`url matched "/buy" in "https://user@www.Pills.example:8443/buy"`}},
		{"no such link in a document", when{"url": "/sell$"}, [][3]string{leaflet}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := run(t, letter(t, attached(tt.files...)), compile(t, tt.when))
			if len(got) != len(tt.want) {
				t.Fatalf("findings %+v, want %q", got, tt.want)
			}
			for i, f := range got {
				if f.Reason != tt.want[i] {
					t.Errorf("reason %q, want %q", f.Reason, tt.want[i])
				}
			}
		})
	}
}

func TestHostOf(t *testing.T) {
	for link, want := range map[string]string{
		"https://user@www.Pills.example:8443/buy": "www.pills.example",
		"http://pills.example\\@bank.example/":    "pills.example",
		"https://a@b@pills.example?x":             "pills.example",
		"https://pills.example.#x":                "pills.example",
		"mailto:x@pills.example":                  "",
		"https://":                                "",
		"https://[::1]/":                          "",
	} {
		if got := hostOf(link); got != want {
			t.Errorf("hostOf(%q) = %q, want %q", link, got, want)
		}
	}
}
