package archive

import (
	"bytes"
	"io"
	"testing"
	"time"
)

// fuzzLimits are small, so that what exceeds them shows.
var fuzzLimits = Limits{Depth: 4, Files: 100, Bytes: 4 << 20, Time: 5 * time.Second, Memory: 32 << 20, RatioFloor: 1 << 20}

// fuzzWalk walks content, which must not fail, and must keep the budget.
func fuzzWalk(t *testing.T, content []byte) {
	u := New(Config{Spill: 8 << 20})
	b := NewBudget(fuzzLimits)
	total := int64(0)
	members := 0
	result, err := u.Walk(t.Context(), b, Input{Name: "fuzz", Body: bytes.NewReader(content)}, func(m *Member) error {
		members++
		total += m.Content.Size()
		if m.Name == "" || len(m.Path) < 2 || len(m.Path) > fuzzLimits.Depth+1 || m.Names[0] != m.Name {
			t.Errorf("member %+v", m)
		}
		n, err := io.Copy(io.Discard, io.NewSectionReader(m.Content, 0, m.Content.Size()))
		if err == nil && n != m.Content.Size() {
			t.Errorf("%q has %d bytes, %d could be read", m.Path, m.Content.Size(), n)
		}
		return err
	})
	if err != nil {
		t.Errorf("walk: %v", err)
	}
	if used := b.Usage(); used.Files > fuzzLimits.Files || used.Bytes > fuzzLimits.Bytes || total > used.Bytes || members != result.Members {
		t.Errorf("used %+v, gave %d members with %d bytes", used, members, total)
	}
	if b.memory != 0 {
		t.Errorf("%d bytes of decoder memory were not given back", b.memory)
	}
	for _, f := range result.Findings {
		if f.Symbol == "time" {
			t.Errorf("took too long: %s", f.Reason)
		}
	}
}

func fuzz(f *testing.F, seeds ...[]byte) {
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(fuzzWalk)
}

func FuzzZip(f *testing.F) {
	z := &zipBuilder{}
	z.member("a.txt", "content")
	z.local("hidden", 8, []byte{3, 0}, 0, 0)
	fuzz(f, z.finish(), makeZip(f, file{name: "a", content: "x", method: 8}, file{name: "b/"}), testdata(f, "lzma.zip"), testdata(f, "xz.zip"), testdata(f, "aes.zip"))
}

func FuzzStreams(f *testing.F) {
	fuzz(f, makeGzip(f, "a", []byte(words)), makeZstd(f, []byte(words)), testdata(f, "words.bz2"), testdata(f, "words.xz"), testdata(f, "blocks.xz"), testdata(f, "words.lzma"))
}

func FuzzTar(f *testing.F) {
	fuzz(f, makeTar(f, file{name: "a.txt", content: "content"}, file{name: "b.txt", content: "more"}))
}

func FuzzSevenZip(f *testing.F) {
	fuzz(f, testdata(f, "lzma2.7z"), testdata(f, "copy.7z"), testdata(f, "bcj2.7z"), testdata(f, "ppmd.7z"), testdata(f, "encrypted.7z"), testdata(f, "hidden.7z"),
		sevenZipWith([]byte("\x01\x04\x06\x00\xf0\xff\xff\xff\xff\x0a\x01")))
}

func FuzzRAR(f *testing.F) {
	fuzz(f, rar5(rarFile{"a.txt", "one"}, rarFile{"b.txt", "two"}), rar4(rarFile{"a.txt", "one"}, rarFile{"b.txt", "two"}))
}

func FuzzCabinet(f *testing.F) {
	fuzz(f, cabinet(false, file{name: "a.txt", content: words}), cabinet(true, file{name: "a.txt", content: words}, file{name: "b.txt", content: words}))
}

func FuzzISO(f *testing.F) {
	fuzz(f, isoImage([]isoFile{{plain: "A.TXT;1", joliet: "a.txt", rock: "a", sector: 30, size: 3}, {plain: "D", sector: 20, size: isoSector, dir: true}}, "abc"))
}

func FuzzOLE(f *testing.F) {
	fuzz(f, makeOLE(oleEntry{name: "Macros", inside: vbaProject("M", macro)}, oleEntry{name: "\x01Ole10Native", content: nativePackage("a.js", "x")},
		oleEntry{name: "Workbook", content: biff(0x85, "\x00\x00\x00\x00\x00\x01")}))
}

func FuzzRTF(f *testing.F) {
	fuzz(f, []byte(`{\rtf1{\object{\*\objclass Package}{\*\objdata 01050000020000000800}\bin3 abc}{\*\template \u104?x}{\field{\*\fldinst DDE}}}`))
}

func FuzzPDF(f *testing.F) {
	fuzz(f, makePDF("<</S/JavaScript/JS(a)>>", pdfStream("/Type/EmbeddedFile", []byte("x")), pdfStream("/Type/ObjStm/N 1/First 4", []byte("9 0 <</S/Launch>>"))))
}

func FuzzOffice(f *testing.F) {
	types := file{name: "[Content_Types].xml", content: "<T/>"}
	fuzz(f, makeZip(f, types, file{name: "_rels/.rels", content: rels([3]string{"attachedTemplate", "http://x/", "External"})}),
		makeZip(f, types, file{name: "word/document.xml", content: `<w:fldSimple w:instr="DDE"/>`}))
}

func FuzzCleanName(f *testing.F) {
	for _, s := range []string{`..\..\a.exe`, "a.exe::$DATA", "ａ．ｅｘｅ\u202e", "C:/x", "\xff\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		name := CleanName(raw)
		if len(name) > maxName {
			t.Errorf("%d bytes", len(name))
		}
		for _, part := range bytes.Split([]byte(name), []byte("/")) {
			if s := string(part); s == ".." || s == "." || s == "" && name != "" {
				t.Errorf("%q of %q", name, raw)
			}
		}
		if deceit(name) != "" {
			t.Errorf("%q of %q: %s", name, raw, deceit(name))
		}
		names(raw)
	})
}
