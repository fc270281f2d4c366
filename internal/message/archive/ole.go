package archive

import (
	"bytes"
	"encoding/binary"
	"io"
	"slices"
	"strings"

	"gatepost/internal/message/archive/cfb"
	"gatepost/internal/message/archive/oledoc"
)

// Limits of one compound file.
const (
	maxOLEEntries = 20_000
	maxVBA        = 4 << 20 // bytes of a module, packed and unpacked
	minSniff      = 64      // bytes; smaller streams are no files
)

// equation is the class of the Equation Editor, whose objects are attacks.
const equation = "\x02\xce\x02\x00\x00\x00\x00\x00\xc0\x00\x00\x00\x00\x00\x00\x46"

// oleFile is a compound file that is taken apart.
type oleFile struct {
	*scope
	file *cfb.File
	// named are the attachment names of an Outlook message by their storage.
	named map[int][]string
}

// unpackOLE reports what an old Office document can do, and gives what is
// embedded in it: packages, the attachments of Outlook messages, the source of
// macros, and every stream that is a file of a known type.
func unpackOLE(s *scope) error {
	f, err := cfb.Open(s.body, s.body.Size(), maxOLEEntries)
	if err != nil {
		return s.orEnded(err)
	}
	if f.Damaged {
		s.note(symOfficeDamaged, "the directory does not hold together")
	}
	o := &oleFile{scope: s, file: f, named: map[int][]string{}}
	o.nameAttachments()
	for i := range f.Entries {
		e := &f.Entries[i]
		if string(e.CLSID[:]) == equation {
			s.note(symEquation, "an object of the Equation Editor")
		}
		if e.Type == cfb.Stream {
			if err := o.stream(e); err != nil {
				return err
			}
		}
	}
	return nil
}

// stream looks at one stream by its name, then by its content.
func (o *oleFile) stream(e *cfb.Entry) error {
	content := o.file.Open(e)
	switch name := strings.ToLower(strings.TrimSpace(e.Name())); {
	case name == "encryptedpackage":
		o.note(symOfficeEncrypted, "needs a password")
		return nil
	case name == "\x01ole10native":
		return o.native(e, content)
	case name == "package", name == "contents":
		return o.piece(e, []string{e.Name()}, content)
	case name == "workbook", name == "book":
		o.workbook(content)
	case name == "worddocument":
		o.word(content)
	case name == "current user":
		o.powerPoint(content)
	case name == "equation native":
		o.note(symEquation, "an object of the Equation Editor")
	case name == "dir" && strings.EqualFold(o.parentName(e), "vba"):
		return o.project(e, content)
	case name == "__substg1.0_37010102":
		return o.piece(e, append(o.named[e.Parent], "attachment"), content)
	}
	return o.sniff(e, content)
}

func (o *oleFile) parentName(e *cfb.Entry) string {
	if e.Parent < 0 {
		return ""
	}
	return o.file.Entries[e.Parent].Name()
}

// piece gives a stream as a member.
func (o *oleFile) piece(e *cfb.Entry, names []string, content *io.SectionReader) error {
	return o.section(entry{raws: names, claimed: e.Size, packed: e.Size, cut: content.Size() < e.Size}, content)
}

// sniff gives a stream that is a file of its own.
func (o *oleFile) sniff(e *cfb.Entry, content *io.SectionReader) error {
	if content.Size() < minSniff {
		return nil
	}
	var head [8]byte
	if _, err := content.ReadAt(head[:], 0); err != nil {
		return o.orEnded(err)
	}
	program := string(head[:2]) == "MZ" || string(head[:4]) == "\x7fELF"
	if !program && len(o.w.detect(&node{body: content})) == 0 {
		return nil
	}
	return o.piece(e, []string{printableName(e.Name())}, content)
}

// printableName shows the names that installers hide in private characters, and
// those that begin with a control character.
func printableName(name string) string {
	if strings.IndexFunc(name, func(r rune) bool { return r < ' ' || r >= 0x3800 && r < 0x4841 }) < 0 {
		return name
	}
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz._"
	var b strings.Builder
	for _, r := range name {
		switch {
		case r < ' ', r == 0x4840:
		case r >= 0x3800 && r < 0x4800:
			b.WriteByte(digits[(r-0x3800)&0x3f])
			b.WriteByte(digits[(r-0x3800)>>6])
		case r >= 0x4800 && r < 0x4840:
			b.WriteByte(digits[r-0x4800])
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// native gives an embedded file.
func (o *oleFile) native(e *cfb.Entry, content *io.SectionReader) error {
	object, err := oledoc.Native(io.NewSectionReader(content, 0, content.Size()), content.Size(), true)
	if err != nil {
		return o.orEnded(err)
	}
	return o.object(object, content, e.Name())
}

// object gives the content of an embedded object.
func (s *scope) object(object *oledoc.Object, content *io.SectionReader, name string) error {
	if len(object.Names) > 0 {
		s.note(symObject, "the file %q", shorten(CleanName(object.Names[0]), 100))
	} else {
		s.note(symObject, "an embedded file")
	}
	e := entry{claimed: object.Size, packed: object.Size}
	for _, n := range append(object.Names, name) {
		// Where the file was on the author's computer is no attempt to leave anything.
		if n = n[strings.LastIndexAny(n, `/\`)+1:]; n != "" && !slices.Contains(e.raws, n) {
			e.raws = append(e.raws, n)
		}
	}
	return s.section(e, io.NewSectionReader(content, object.Start, object.Size))
}

// workbook reports what runs in a workbook of Excel 5 to 2003.
func (o *oleFile) workbook(content io.Reader) {
	w := oledoc.ReadWorkbook(content)
	if w.MacroSheets > 0 {
		o.note(symXLM, "%d Excel 4.0 macro sheets", w.MacroSheets)
	}
	if w.Encrypted {
		o.note(symOfficeEncrypted, "needs a password")
	}
	if w.DDE {
		o.note(symDDE, "a link to another program")
	}
}

// word reports what stands in the main stream of a Word document ([MS-DOC] §2.5.2).
func (o *oleFile) word(content *io.SectionReader) {
	const magic, flags, encrypted = 0xa5ec, 10, 0x0100
	var fib [12]byte
	if _, err := content.ReadAt(fib[:], 0); err != nil {
		return
	}
	if binary.LittleEndian.Uint16(fib[:]) == magic && binary.LittleEndian.Uint16(fib[flags:])&encrypted != 0 {
		o.note(symOfficeEncrypted, "needs a password")
		return
	}
	if hasDDEField(io.LimitReader(io.NewSectionReader(content, 0, content.Size()), searchLimit)) {
		o.note(symDDE, "a DDE field")
	}
}

// hasDDEField looks for the beginning of a field whose instruction is DDE or
// DDEAUTO, in 8 or 16 bits.
func hasDDEField(r io.Reader) bool {
	const overlap = 64
	buf := make([]byte, chunkSize)
	kept := 0
	for {
		n, err := io.ReadFull(r, buf[kept:])
		b := buf[:kept+n]
		for at := 0; ; {
			i := bytes.IndexByte(b[at:], 0x13)
			if i < 0 {
				break
			}
			at += i + 1
			text := bytes.ReplaceAll(b[at:min(len(b), at+overlap)], []byte{0}, nil)
			if isDDE(string(text)) {
				return true
			}
		}
		if err != nil {
			return false
		}
		kept = copy(buf, b[len(b)-overlap:])
	}
}

// isDDE reports the instruction of a field that starts another program.
func isDDE(instruction string) bool {
	instruction = strings.ToUpper(strings.TrimLeft(instruction, " \t\r\n\u00a0\""))
	word := instruction
	if i := strings.IndexFunc(instruction, func(r rune) bool { return r < 'A' || r > 'Z' }); i >= 0 {
		word = instruction[:i]
	}
	return word == "DDE" || word == "DDEAUTO"
}

// powerPoint reads the token that says whether a presentation is encrypted
// ([MS-PPT] §2.3.2).
func (o *oleFile) powerPoint(content *io.SectionReader) {
	const token = "\xdf\xc4\xd1\xf3"
	var b [16]byte
	if _, err := content.ReadAt(b[:], 0); err == nil && string(b[12:]) == token {
		o.note(symOfficeEncrypted, "needs a password")
	}
}

// project gives the source of every module of a VBA project. Where the source was
// taken out, the compiled form runs all the same, so the finding does not depend on it.
func (o *oleFile) project(dir *cfb.Entry, content io.Reader) error {
	packed, err := io.ReadAll(io.LimitReader(content, maxVBA))
	if err != nil {
		return o.orEnded(err)
	}
	offsets := map[string]int64{}
	plain, _ := oledoc.VBA(packed, maxVBA) // what could be read
	for _, m := range oledoc.Modules(plain) {
		offsets[strings.ToLower(m.Stream)] = m.Offset
	}
	o.note(symMacro, "VBA macros")
	for i := range o.file.Entries {
		e := &o.file.Entries[i]
		name := strings.ToLower(e.Name())
		if e.Type != cfb.Stream || e.Parent != dir.Parent || name == "dir" || name == "_vba_project" || strings.HasPrefix(name, "__srp_") {
			continue
		}
		offset, ok := offsets[name]
		if !ok {
			offset = -1
		}
		if err := o.module(e, offset); err != nil {
			return err
		}
	}
	return nil
}

// module gives the source of a module.
func (o *oleFile) module(e *cfb.Entry, offset int64) error {
	b, err := io.ReadAll(io.LimitReader(o.file.Open(e), maxVBA))
	if err != nil {
		return o.orEnded(err)
	}
	source := oledoc.Source(b, offset, maxVBA)
	if len(source) == 0 {
		return nil
	}
	if oledoc.RunsByItself(source) {
		o.note(symAutorun, "macros that run by themselves")
	}
	return o.text(e.Name()+".bas", source)
}

// text gives a text that was taken out of a document as a member.
func (s *scope) text(name string, text []byte) error {
	size := int64(len(text))
	e := entry{raws: []string{name}, claimed: size, packed: size, derived: true}
	return s.section(e, io.NewSectionReader(bytes.NewReader(text), 0, size))
}

// nameAttachments collects the names that an Outlook message gives to its
// attachments, long and short, in 16 and 8 bits.
func (o *oleFile) nameAttachments() {
	const maxAttachmentName = 1024
	for i := range o.file.Entries {
		e := &o.file.Entries[i]
		kind, ok := strings.CutPrefix(strings.ToLower(e.Name()), "__substg1.0_")
		if !ok || e.Size > maxAttachmentName {
			continue
		}
		switch kind {
		case "3707001f", "3704001f", "3707001e", "3704001e":
		default:
			continue
		}
		b := make([]byte, o.file.Open(e).Size())
		if _, err := io.ReadFull(o.file.Open(e), b); err != nil {
			continue
		}
		name := string(b)
		if strings.HasSuffix(kind, "f") {
			name = decodeUTF16(b, binary.LittleEndian)
		}
		o.named[e.Parent] = append(o.named[e.Parent], strings.TrimRight(name, "\x00"))
	}
}
