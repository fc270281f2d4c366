package structure_test

import (
	"archive/zip"
	"bytes"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gatepost/internal/mail"
	"gatepost/internal/message/archive"
	"gatepost/internal/scan"
	"gatepost/internal/scan/structure"
)

type body struct{ *bytes.Reader }

func (b body) Size() int64 { return b.Reader.Size() }

func symbols(t *testing.T, m *structure.Module, text []byte) map[string]mail.Finding {
	t.Helper()
	in, err := scan.NewInput(t.Context(), mail.Message{Envelope: &mail.Envelope{}, Body: body{bytes.NewReader(text)}}, scan.Inbound,
		scan.Options{Unpacker: archive.New(archive.Config{})})
	if err != nil {
		t.Fatal(err)
	}
	findings, err := m.Scan(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]mail.Finding{}
	for _, f := range findings {
		if f.Module != "structure" {
			t.Errorf("finding of %q: %+v", f.Module, f)
		}
		all[f.Symbol] = f
	}
	return all
}

func crlf(s string) []byte { return []byte(strings.ReplaceAll(s, "\n", "\r\n")) }

// attached is a message with one file.
func attached(name string, data []byte) []byte {
	return crlf("Subject: x\nMIME-Version: 1.0\nContent-Type: application/octet-stream; name=\"" + name +
		"\"\nContent-Transfer-Encoding: base64\n\n" + base64.StdEncoding.EncodeToString(data) + "\n")
}

// encryptedZip is an archive whose one member needs a password: bit 0 of the flags.
func encryptedZip(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	w, err := z.CreateRaw(&zip.FileHeader{Name: "secret.exe", Flags: 1, Method: zip.Store, CompressedSize64: 20, UncompressedSize64: 8, CRC32: 1})
	if err == nil {
		_, err = w.Write(make([]byte, 20))
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestEachObservationHasItsClass(t *testing.T) {
	tests := []struct {
		name string
		text []byte
		want string // "" for nothing that a flow acts on
	}{
		{"ordinary mail", crlf("Subject: x\nMIME-Version: 1.0\nContent-Type: text/plain\n\nhello\n"), ""},
		{"two types", crlf("Subject: x\nContent-Type: text/plain\nContent-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/plain\n\nhello\n--b--\n"), "ambiguous:duplicate-field"},
		{"a fragment", crlf("Subject: x\nContent-Type: message/partial; id=a; number=1; total=2\n\nhello\n"), "damaged:partial-message"},
		{"an archive with a password", attached("a.zip", encryptedZip(t)), "encrypted:archive-encrypted"},
		{"an archive cut short", attached("a.zip", []byte("PK\x03\x04\x14\x00\x00\x00\x08\x00garbage")), "damaged:archive-damaged"},
		{"nesting without end", crlf(nested(80)), "limit:limit-depth"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := symbols(t, structure.New(structure.Config{}), tt.text)
			if _, ok := got[tt.want]; tt.want != "" && !ok {
				t.Errorf("found %v, want %s", got, tt.want)
			}
			for symbol, f := range got {
				class, _, _ := strings.Cut(symbol, ":")
				if tt.want == "" && f.Result != mail.Clean && class != "text" {
					t.Errorf("found %+v in an ordinary mail", f)
				}
			}
		})
	}
}

// nested is multiparts in each other.
func nested(depth int) string {
	var b strings.Builder
	b.WriteString("Subject: x\nMIME-Version: 1.0\n")
	for i := range depth {
		name := strings.Repeat("x", i+1)
		b.WriteString("Content-Type: multipart/mixed; boundary=" + name + "\n\n--" + name + "\n")
	}
	b.WriteString("Content-Type: text/plain\n\nhello\n")
	for i := depth; i > 0; i-- {
		b.WriteString("--" + strings.Repeat("x", i) + "--\n")
	}
	return b.String()
}

func TestMessageAboveTheLimitSaysSo(t *testing.T) {
	m := structure.New(structure.Config{MaxSize: 1000})
	if got := symbols(t, m, crlf("Subject: x\n\n"+strings.Repeat("hello\n", 200))); got["limit:size"].Result != mail.Unknown {
		t.Errorf("found %v", got)
	}
	if got := symbols(t, m, crlf("Subject: x\n\nhello\n")); len(got) != 0 {
		t.Errorf("found %v in a small message", got)
	}
}

// TestOrdinaryMailPasses measures what the default actions of the block would
// hold of ordinary mail: SpamAssassin's public corpus of ham, in the directory
// that GATEPOST_HAM names.
func TestOrdinaryMailPasses(t *testing.T) {
	dir := os.Getenv("GATEPOST_HAM")
	if dir == "" {
		t.Skip("GATEPOST_HAM does not name the ham of a corpus")
	}
	files, err := filepath.Glob(filepath.Join(dir, "*ham*", "*.txt"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no mail in %s: %v", dir, err)
	}
	m := structure.New(structure.Config{})
	held, counts := 0, map[string]int{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if i := bytes.IndexByte(text, '\n'); bytes.HasPrefix(text, []byte("From ")) && i > 0 {
			text = text[i+1:]
		}
		hold := false
		for symbol := range symbols(t, m, bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n"))) {
			counts[symbol]++
			class, _, _ := strings.Cut(symbol, ":")
			if class == structure.Ambiguous || class == structure.Encrypted || class == structure.Damaged || class == structure.Limit {
				hold = true
				t.Logf("%s: %s", filepath.Base(file), symbol)
			}
		}
		if hold {
			held++
		}
	}
	t.Logf("%d of %d would be held; %v", held, len(files), counts)
	if held*100 > len(files) {
		t.Errorf("%d of %d ordinary mails would be held, more than 1 %%", held, len(files))
	}
}
