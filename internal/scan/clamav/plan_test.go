package clamav

import (
	"archive/zip"
	"bytes"
	"slices"
	"strings"
	"testing"
)

// attachment is a message with a text in two forms and one file.
func attachment(name string, file []byte) string {
	return lines("From: a@b.example", "MIME-Version: 1.0", "Content-Type: multipart/mixed; boundary=m", "",
		"--m", "Content-Type: multipart/alternative; boundary=a", "",
		"--a", "Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: quoted-printable", "", "Gr=C3=BC=C3=9Fe",
		"--a", "Content-Type: text/html; charset=utf-8", "Content-Transfer-Encoding: base64", "", b64([]byte("<p>Hello, this is a text in two forms, and this is the second.</p>")),
		"--a--", "",
		"--m", "Content-Type: application/octet-stream; name="+name, "Content-Disposition: attachment; filename="+name, "Content-Transfer-Encoding: base64", "",
		b64(file), "--m--")
}

// textAndHTML is what most mail is.
var textAndHTML = lines("From: a@b.example", "MIME-Version: 1.0", "Content-Type: multipart/alternative; boundary=a", "",
	"--a", "Content-Type: text/plain; charset=utf-8", "", "Hello",
	"--a", "Content-Type: text/html;", "\tcharset=\"utf-8\"", "Content-Transfer-Encoding: base64", "", b64([]byte("<p>Hello, this is a text in two forms, and this is the second.</p>")),
	"--a--")

// prefixed is an archive behind something that looks like a program.
func prefixed(archive []byte) []byte {
	return slices.Concat([]byte("MZ\x90\x00"), bytes.Repeat([]byte{0x90, 0xcd, 0x21, 0}, 1000), archive)
}

func zipped(t testing.TB, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for name, text := range files {
		f, err := w.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestWhatIsStreamedBesideTheMessage(t *testing.T) {
	honest := zipped(t, map[string]string{"a.txt": "some text"})
	for name, c := range map[string]struct {
		msg  string
		want []string
	}{
		"plain text":                    {msg: plain},
		"text and HTML":                 {msg: textAndHTML},
		"text, HTML and an attachment":  {msg: attachment("a.exe", payload()), want: []string{"part 1.2 (a.exe) read as base64"}},
		"a zip":                         {msg: attachment("a.zip", honest), want: []string{"part 1.2 (a.zip) read as base64"}},
		"a zip in a zip":                {msg: attachment("a.zip", zipped(t, map[string]string{"b.zip": string(honest)})), want: []string{"part 1.2 (a.zip) read as base64"}},
		"a picture":                     {msg: attachment("a.png", []byte("\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01"))},
		"an HTML file":                  {msg: attachment("a.html", []byte("<html><body>x</body></html>")), want: []string{"part 1.2 (a.html) read as base64"}},
		"a boundary in quotes":          {msg: strings.Replace(textAndHTML, "boundary=a", `boundary="a"`, 1)},
		"a boundary with an escape":     {msg: strings.Replace(textAndHTML, "boundary=a", `boundary="\\a"`, 1), want: []string{"part 1", "part 1.1", "part 1.2 read as base64"}},
		"a boundary in the new way":     {msg: strings.Replace(textAndHTML, "boundary=a", `boundary*=''a`, 1), want: []string{"part 1.1", "part 1.2 read as base64"}},
		"an encoding with a comment":    {msg: strings.Replace(textAndHTML, ": base64", ": base64 (x)", 1), want: []string{"part 1.1", "part 1.2 read as base64", "part 1.2"}},
		"a zip behind something else":   {msg: attachment("a.zip", prefixed(honest)), want: []string{"part 1.2 (a.zip) read as base64", "part 1.2 (a.zip > a.txt)"}},
		"a large file in a zip":         {msg: attachment("a.zip", zipped(t, map[string]string{"b.bin": strings.Repeat("01234567", 1<<16)})), want: []string{"part 1.2 (a.zip) read as base64", "part 1.2 (a.zip > b.bin)"}},
		"a file in a text":              {msg: uuencoded, want: []string{"part 1.1 (a.txt) read as uuencode"}},
		"the name of a file is hostile": {msg: attachment("\"a\x1bb\"", honest), want: []string{"part 1.2 (a?b) read as base64"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := streamsOf(t, c.msg); !slices.Equal(got, c.want) {
				t.Errorf("streams %q, want %q", got, c.want)
			}
		})
	}
}

// A zip whose local header names another file than its directory.
func TestAZipThatContradictsItselfIsStreamedFileByFile(t *testing.T) {
	file := zipped(t, map[string]string{"good.txt": "some text"})
	copy(file[30:], "evil.exe")
	got := streamsOf(t, attachment("a.zip", file))
	if len(got) == 0 || !strings.Contains(strings.Join(got, " "), "part 1.2 (a.zip > ") {
		t.Errorf("streams %q", got)
	}
}

func TestEveryReadingOfAnOddMessageIsStreamed(t *testing.T) {
	for _, h := range hiddenMessages(t) {
		in := input(t, h.msg)
		if _, ambiguous := in.Tree.Ambiguous(); !ambiguous {
			continue
		}
		n := 0
		for _, p := range in.Tree.Parts {
			for _, c := range p.Contents {
				if len(c.Types) > 0 {
					n++
				}
			}
		}
		if got := len(contents(in)); got == 0 || got > n {
			t.Errorf("%s: %d streams of %d contents", h.name, got, n)
		}
	}
}

func TestRareMethodsAreSeenInAnyHeader(t *testing.T) {
	local := func(method byte) []byte { return []byte{'P', 'K', 3, 4, 20, 0, 0, 0, method, 0, 0, 0} }
	central := func(method byte) []byte { return []byte{'P', 'K', 1, 2, 20, 0, 20, 0, 0, 0, method, 0} }
	pad := func(n int, b []byte) []byte { return append(bytes.Repeat([]byte("P"), n), b...) }
	for name, c := range map[string]struct {
		file []byte
		want bool
	}{
		"nothing":                        {nil, false},
		"no zip":                         {[]byte("PKPKPKPKPKPKPKPK"), false},
		"deflated":                       {slices.Concat(local(8), central(8)), false},
		"LZMA":                           {slices.Concat(local(14), central(14)), true},
		"zstd in the local header":       {slices.Concat(local(93), central(8)), true},
		"PPMd in the directory":          {slices.Concat(local(8), central(98)), true},
		"cut off":                        {local(14)[:11], false},
		"right before a border":          {pad(64<<10-12, local(14)), true},
		"across a border":                {pad(64<<10-6, local(14)), true},
		"right behind a border":          {pad(64<<10, local(14)), true},
		"across the second border":       {pad(2*(64<<10)-12-3, local(14)), true},
		"the beginning across a border":  {pad(64<<10-1, local(14)), true},
		"a common one across the border": {pad(64<<10-6, local(8)), false},
	} {
		if got, err := rareMethod(bytes.NewReader(c.file)); err != nil || got != c.want {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if _, err := rareMethod(failing{}); err == nil {
		t.Error("no error")
	}
}
