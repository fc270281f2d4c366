package mimetree

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf16"
)

func TestTypesAreKnownByContent(t *testing.T) {
	wide := []byte{0xff, 0xfe}
	for _, u := range utf16.Encode([]rune("Set x = CreateObject(\"WScript.Shell\")\r\nDim y\r\n")) {
		wide = append(wide, byte(u), byte(u>>8))
	}
	iso := strings.Repeat("\x00", isoOffset) + "CD001\x01\x00"
	tests := []struct {
		name, data, want string
		first            bool // want is the likeliest
	}{
		{"a program for Windows", "MZ\x90\x00\x03\x00\x00\x00", "application/vnd.microsoft.portable-executable", true},
		{"a program for Linux", "\x7fELF\x02\x01\x01\x00" + strings.Repeat("\x00", 56), "application/x-elf", false},
		{"a zip", "PK\x03\x04\x14\x00\x00\x00\x08\x00", "application/zip", true},
		{"an empty zip", "PK\x05\x06" + strings.Repeat("\x00", 18), "application/zip", true},
		{"a zip behind something else", "junk in front PK\x03\x04\x14\x00\x00\x00\x08\x00", "application/zip", false},
		{"a rar", "Rar!\x1a\x07\x01\x00", "application/x-rar-compressed", true},
		{"a rar behind a program", "MZ\x90\x00" + strings.Repeat("\x00", 100) + "Rar!\x1a\x07\x00", "application/x-rar-compressed", false},
		{"an ACE archive", "\x00\x00\x00\x00\x00\x00\x00**ACE**\x14\x14", "application/x-ace-compressed", true},
		{"an LZH archive", "\x20\x00-lh5-\x00", "application/x-lzh-compressed", true},
		{"an ARJ archive", "\x60\xea\x27\x00\x1e", "application/x-arj", true},
		{"a disk image", iso, "application/x-iso9660-image", true},
		{"a virtual disk", "conectix\x00\x00\x00\x02", "application/x-vhd", true},
		{"a shortcut", "L\x00\x00\x00\x01\x14\x02\x00\x00\x00\x00\x00\xc0\x00\x00\x00\x00\x00\x00F", "application/x-ms-shortcut", true},
		{"a OneNote file", "\xe4\x52\x5c\x7b\x8c\xd8\xa7\x4d\xae\xb1\x53\x78\xd0\x29\x96\xd3", "application/onenote", false},
		{"compiled help", "ITSF\x03\x00\x00\x00\x60\x00\x00\x00", "application/vnd.ms-htmlhelp", true},
		{"a winmail.dat", "\x78\x9f\x3e\x22\x01\x00\x01", typeTNEF, true},
		{"rich text", `{\rtf1\ansi hello}`, "text/rtf", true},
		{"rich text that is cut short", `{\rt0 \object`, "text/rtf", true},
		{"a PDF", "%PDF-1.7\n", "application/pdf", true},
		{"a PDF behind junk", "junk\n%PDF-1.7\n", "application/pdf", false},
		{"HTML", "<!DOCTYPE html><html><body>x</body></html>", typeHTML, true},
		{"HTML that begins as text", "Dear customer\n<script>alert(1)</script>", typeHTML, false},
		{"an HTML application", "<html><HTA:APPLICATION id=x><script language=vbscript>", "application/hta", true},
		{"JScript", "var s = new ActiveXObject('WScript.Shell'); s.Run('x');", "text/javascript", true},
		{"VBScript", "Dim s\r\nSet s = CreateObject(\"WScript.Shell\")\r\ns.Run \"x\"", "text/vbscript", true},
		{"VBScript in UTF-16", string(wide), "text/vbscript", true},
		{"PowerShell", "$c = New-Object Net.WebClient\r\nInvoke-Expression $c.DownloadString('x')", "text/x-powershell", true},
		{"a batch file", "@echo off\r\ndel x\r\n", "text/x-msdos-batch", true},
		{"a script file of Windows", "<job id=\"x\"><script language=\"JScript\">", "text/x-wsf", true},
		{"an internet shortcut", "[InternetShortcut]\r\nURL=file://evil.example/x\r\n", "application/x-mswinurl", true},
		{"registry entries", "REGEDIT4\r\n\r\n[HKEY_CURRENT_USER]\r\n", "text/x-ms-regedit", true},
		{"a message", "Received: from a by b\r\nFrom: a@b.example\r\nSubject: x\r\n\r\ntext", typeMessage, true},
		{"a text", "Hello, this is a text.\r\n", "text/plain", true},
		{"a text about From: and To:", "From: here\r\nto there it is far.\r\n", "text/plain", true},
		{"nothing known", "\x00\x01\x02\x03\xff\xfe\xfd", octetStream, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := Sniff([]byte(tt.data))
			if !slices.Contains(got, tt.want) || tt.first && got[0] != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestATypeIsFoundWhateverTheNameSays(t *testing.T) {
	iso := []byte(strings.Repeat("\x00", isoOffset) + "CD001\x01\x00" + strings.Repeat("\x00", 2000))
	tree := read(t, "Content-Type: image/jpeg; name=x.jpg\r\nContent-Transfer-Encoding: base64\r\n\r\n"+b64(iso))
	if got := tree.Root.Contents[0].Types; got[0] != "application/x-iso9660-image" {
		t.Errorf("got %q", got)
	}
}

func FuzzSniff(f *testing.F) {
	for _, s := range []string{"MZ", "PK\x03\x04", "<html><script>", "\xff\xfea\x00", "From: x\r\nTo: y\r\nSubject: z\r\n", "%PDF-", `{\rt`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got := Sniff(data)
		if len(got) == 0 {
			t.Fatal("no type")
		}
		for i, s := range got {
			if !isMediaType(s) || slices.Contains(got[:i], s) {
				t.Errorf("type %q in %q", s, got)
			}
		}
	})
}
