// Package ooxml reads the parts of Office Open XML and OpenDocument packages that
// say what a document fetches or starts: relationships (ECMA-376 part 2 §9.3),
// field instructions, links to other programs, and the manifest.
//
// Invariants:
//   - Parts are read as a stream of tokens; entities are not expanded, and what is
//     no XML ends a part without an error.
//   - Text in UTF-16 is read as well as UTF-8.
package ooxml

import (
	"encoding/xml"
	"io"
	"strings"

	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
)

// Relationship is where a part refers to.
type Relationship struct {
	// Type is the last part of the type: "attachedTemplate", "oleObject".
	Type   string
	Target string
	// External says that the target is no part of the package.
	External bool
}

// maxRelationships bounds what is read of one part.
const maxRelationships = 10_000

// decoder reads tokens of hostile XML.
func decoder(r io.Reader) *xml.Decoder {
	d := xml.NewDecoder(transform.NewReader(r, unicode.BOMOverride(unicode.UTF8.NewDecoder())))
	d.Strict = false
	// The text is UTF-8 by now, whatever the declaration says.
	d.CharsetReader = func(_ string, in io.Reader) (io.Reader, error) { return in, nil }
	return d
}

// Relationships reads a .rels part.
func Relationships(r io.Reader) []Relationship {
	var list []Relationship
	d := decoder(r)
	for len(list) < maxRelationships {
		t, err := d.RawToken()
		if err != nil {
			break
		}
		e, ok := t.(xml.StartElement)
		if !ok || e.Name.Local != "Relationship" {
			continue
		}
		kind := attribute(e, "Type")
		list = append(list, Relationship{
			Type:     kind[strings.LastIndexByte(kind, '/')+1:],
			Target:   strings.TrimSpace(attribute(e, "Target")),
			External: strings.EqualFold(attribute(e, "TargetMode"), "External"),
		})
	}
	return list
}

func attribute(e xml.StartElement, name string) string {
	for _, a := range e.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

// maxInstruction bounds the instruction of a field that is put together, in bytes.
const maxInstruction = 4 << 10

// Fields calls fn with the instruction of every field of a WordprocessingML part.
// An instruction may be cut into any number of runs.
func Fields(r io.Reader, fn func(instruction string)) {
	d := decoder(r)
	var text strings.Builder
	inside := false
	flush := func() {
		if text.Len() > 0 {
			fn(text.String())
			text.Reset()
		}
	}
	defer flush()
	for {
		t, err := d.RawToken()
		if err != nil {
			return
		}
		switch t := t.(type) {
		case xml.StartElement:
			switch t.Name.Local {
			case "instrText":
				inside = true
			case "fldSimple":
				fn(attribute(t, "instr"))
			case "fldChar":
				// Begin, separate and end each end what was before.
				flush()
			}
		case xml.EndElement:
			inside = inside && t.Name.Local != "instrText"
		case xml.CharData:
			if inside && text.Len() < maxInstruction {
				text.Write(t)
			}
		}
	}
}

// Has reports an element with one of the local names.
func Has(r io.Reader, names ...string) bool {
	d := decoder(r)
	for {
		t, err := d.RawToken()
		if err != nil {
			return false
		}
		if e, ok := t.(xml.StartElement); ok {
			for _, n := range names {
				if e.Name.Local == n {
					return true
				}
			}
		}
	}
}
