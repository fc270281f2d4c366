package archive

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"unicode/utf16"

	"gatepost/internal/mail"
	"gatepost/internal/message/archive/oledoc"
	"gatepost/internal/message/archive/rtf"
)

// unpackRTF gives the objects of an RTF document and reports what it fetches.
func unpackRTF(s *scope) error {
	d := &rtfDocument{scope: s}
	defer d.drop()
	err := rtf.Read(io.NewSectionReader(s.body, 0, s.body.Size()), rtf.Events{
		Object: d.begin, End: d.end, Field: s.field,
		Template: func(path string) {
			s.link("template", path)
			if isRemote(path) {
				s.note(symTemplate, "a template from %q", shorten(path, 120))
			}
		},
	})
	return s.orEnded(err)
}

// field reports what the instruction of a field does.
func (s *scope) field(instruction string) {
	word, rest, _ := strings.Cut(strings.TrimSpace(instruction), " ")
	target := strings.Trim(strings.TrimSpace(rest), `"`)
	if i := strings.IndexByte(target, '"'); i >= 0 {
		target = target[:i]
	}
	target = strings.ReplaceAll(target, `\\`, `\`)
	switch strings.ToUpper(word) {
	case "HYPERLINK":
		s.link("uri", target)
	case "INCLUDEPICTURE", "IMPORT":
		s.link("image", target)
	case "INCLUDETEXT", "INCLUDE", "LINK", "RD":
		s.link("object", target)
		if isRemote(target) {
			s.note(symLink, "%s from %q", word, shorten(target, 120))
		}
	default:
		if isDDE(instruction) {
			s.note(symDDE, "a DDE field")
		}
	}
}

// rtfDocument collects the data of one object after the other.
type rtfDocument struct {
	*scope
	data *keeper
}

func (d *rtfDocument) begin() (io.Writer, error) {
	d.drop()
	d.data = d.w.newKeeper()
	return d, nil
}

// Write keeps data of the present object. It is half as long as its digits at
// most, so the document's own size bounds it.
func (d *rtfDocument) Write(p []byte) (int, error) {
	if err := d.data.write(p); err != nil && !errors.Is(err, errNoTemp) {
		return 0, err
	}
	return len(p), nil
}

func (d *rtfDocument) drop() {
	if d.data != nil {
		d.data.close()
		d.data = nil
	}
}

// end gives the object whose data has come.
func (d *rtfDocument) end(class string) error {
	defer d.drop()
	content := d.data.body()
	if content.Size() == 0 {
		return nil
	}
	if class == "" {
		class = "object"
	}
	if isEquation(class) {
		d.note(symEquation, "an object of the Equation Editor")
	}
	o, err := oledoc.OLE1(io.NewSectionReader(content, 0, content.Size()), content.Size())
	if errors.Is(err, oledoc.ErrCorrupt) {
		return d.raw(class, content)
	}
	if err != nil {
		return d.orEnded(err)
	}
	if isEquation(o.Class) {
		d.note(symEquation, "an object of the Equation Editor")
	}
	if o.Linked {
		for _, n := range o.Names {
			d.link("object", n)
			if isRemote(n) {
				d.note(symLink, "an object from %q", shorten(n, 120))
			}
		}
		return nil
	}
	native := io.NewSectionReader(content, o.Start, o.Size)
	if strings.EqualFold(o.Class, "package") {
		p, err := oledoc.Native(io.NewSectionReader(native, 0, native.Size()), native.Size(), false)
		if err != nil {
			return d.orEnded(err)
		}
		return d.object(p, native, o.Class)
	}
	d.note(symObject, "an object of class %q", shorten(CleanName(o.Class), 60))
	return d.section(entry{raws: []string{class}, claimed: o.Size, packed: o.Size}, native)
}

func isEquation(class string) bool {
	return strings.HasPrefix(strings.ToLower(class), "equation")
}

// raw gives data without a header, from where a compound file begins in it: that
// is what Word looks for. A digit too many shifts all that follows by half a
// byte, so both halves are tried.
func (d *rtfDocument) raw(class string, content mail.Body) error {
	const most = 1 << 20
	b := make([]byte, min(content.Size(), most))
	if _, err := io.ReadFull(io.NewSectionReader(content, 0, content.Size()), b); err != nil {
		return d.orEnded(err)
	}
	d.note(symObject, "an object without a header")
	magic := []byte("\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")
	start := max(0, int64(bytes.Index(b, magic)))
	size := content.Size() - start
	if start == 0 && !bytes.HasPrefix(b, magic) {
		if shifted := shiftHalf(b); bytes.Contains(shifted, magic) {
			shifted = shifted[bytes.Index(shifted, magic):]
			return d.section(entry{raws: []string{class}, claimed: int64(len(shifted)), packed: int64(len(shifted))},
				io.NewSectionReader(bytes.NewReader(shifted), 0, int64(len(shifted))))
		}
	}
	return d.section(entry{raws: []string{class}, claimed: size, packed: size}, io.NewSectionReader(content, start, size))
}

// shiftHalf moves bytes by four bits.
func shiftHalf(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for i := 1; i < len(b); i++ {
		out = append(out, b[i-1]<<4|b[i]>>4)
	}
	return out
}

// decodeUTF16 makes a string of UTF-16, without its mark.
func decodeUTF16(b []byte, order binary.ByteOrder) string {
	units := make([]uint16, 0, len(b)/2)
	for i := 0; i+1 < len(b); i += 2 {
		units = append(units, order.Uint16(b[i:]))
	}
	return strings.TrimPrefix(string(utf16.Decode(units)), "\ufeff")
}
