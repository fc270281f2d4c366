package archive

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"
)

// oleEntry is a stream, or a storage with what is in it.
type oleEntry struct {
	name    string
	content string
	clsid   string
	inside  []oleEntry
}

const (
	freeSector = 0xffffffff
	endSector  = 0xfffffffe
	fatSector  = 0xfffffffd
)

// oleBuilder writes compound files of version 3. Streams are never small, so that
// there is no table of small sectors: the limit is set to 0.
type oleBuilder struct {
	sectors [][]byte
	fat     []uint32
	dir     []byte
}

// add stores content and returns its first sector.
func (o *oleBuilder) add(content []byte) uint32 {
	if len(content) == 0 {
		return endSector
	}
	first := uint32(len(o.fat))
	for len(content) > 0 {
		s := make([]byte, 512)
		content = content[copy(s, content):]
		o.sectors = append(o.sectors, s)
		o.fat = append(o.fat, uint32(len(o.fat)+1))
	}
	o.fat[len(o.fat)-1] = endSector
	return first
}

// entry adds a directory entry and returns its number.
func (o *oleBuilder) entry(name string, kind byte, clsid string, start uint32, size int) int {
	b := make([]byte, 128)
	units := utf16.Encode([]rune(name))
	for i, u := range units {
		binary.LittleEndian.PutUint16(b[2*i:], u)
	}
	binary.LittleEndian.PutUint16(b[64:], uint16(2*len(units)+2))
	b[66] = kind
	for _, at := range []int{68, 72, 76} {
		binary.LittleEndian.PutUint32(b[at:], freeSector)
	}
	copy(b[80:96], clsid)
	binary.LittleEndian.PutUint32(b[116:], start)
	binary.LittleEndian.PutUint32(b[120:], uint32(size))
	o.dir = append(o.dir, b...)
	return len(o.dir)/128 - 1
}

// tree adds entries as a chain of right siblings and returns the first.
func (o *oleBuilder) tree(entries []oleEntry) uint32 {
	first, last := uint32(freeSector), -1
	for _, e := range entries {
		var n int
		if e.inside != nil {
			n = o.entry(e.name, 1, e.clsid, 0, 0)
			child := o.tree(e.inside)
			binary.LittleEndian.PutUint32(o.dir[n*128+76:], child)
		} else {
			n = o.entry(e.name, 2, e.clsid, o.add([]byte(e.content)), len(e.content))
		}
		if last < 0 {
			first = uint32(n)
		} else {
			binary.LittleEndian.PutUint32(o.dir[last*128+72:], uint32(n))
		}
		last = n
	}
	return first
}

func makeOLE(entries ...oleEntry) []byte {
	o := &oleBuilder{}
	o.entry("Root Entry", 5, "", endSector, 0)
	child := o.tree(entries)
	binary.LittleEndian.PutUint32(o.dir[76:], child)
	dir := o.add(o.dir)
	// The table has to describe its own sectors too.
	count := 1
	for (len(o.fat)+count)*4 > count*512 {
		count++
	}
	start := len(o.fat)
	for range count {
		o.fat = append(o.fat, fatSector)
	}
	table := make([]byte, 0, count*512)
	for _, n := range o.fat {
		table = binary.LittleEndian.AppendUint32(table, n)
	}
	for len(table) < count*512 {
		table = append(table, 0xff)
	}
	h := make([]byte, 512)
	copy(h, "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")
	le := binary.LittleEndian
	le.PutUint16(h[24:], 0x3e)
	le.PutUint16(h[26:], 3)
	le.PutUint16(h[28:], 0xfffe)
	le.PutUint16(h[30:], 9)
	le.PutUint16(h[32:], 6)
	le.PutUint32(h[44:], uint32(count))
	le.PutUint32(h[48:], dir)
	le.PutUint32(h[60:], endSector)
	le.PutUint32(h[68:], endSector)
	for i := range 109 {
		n := uint32(freeSector)
		if i < count {
			n = uint32(start + i)
		}
		le.PutUint32(h[76+4*i:], n)
	}
	for _, s := range o.sectors {
		h = append(h, s...)
	}
	return append(h, table...)
}

// packVBA makes a compressed container of literal tokens only.
func packVBA(source string) string {
	out := "\x01"
	for len(source) > 0 {
		// 8 literals take 9 bytes, and a chunk has 4096 at most.
		n := min(len(source), 3600)
		var chunk []byte
		for i := 0; i < n; i += 8 {
			chunk = append(append(chunk, 0), source[i:min(n, i+8)]...)
		}
		source = source[n:]
		out += string(binary.LittleEndian.AppendUint16(nil, uint16(len(chunk)-1)|0xb000)) + string(chunk)
	}
	return out
}

// vbaProject makes the storages of a project with one module.
func vbaProject(module, source string) []oleEntry {
	le := binary.LittleEndian
	record := func(id uint16, data string) string {
		return string(le.AppendUint32(le.AppendUint16(nil, id), uint32(len(data)))) + data
	}
	dir := record(0x0009, "\x01\x00\x00\x00") + "\x02\x00" + record(0x001a, module) + record(0x0031, "\x05\x00\x00\x00") + record(0x002b, "")
	return []oleEntry{{name: "VBA", inside: []oleEntry{
		{name: "dir", content: packVBA(dir)},
		{name: "_VBA_PROJECT", content: "\xcc\x61"},
		{name: module, content: "pcode" + packVBA(source)},
	}}}
}

// nativePackage makes the stream of an embedded file.
func nativePackage(name, content string) string {
	le := binary.LittleEndian
	body := "\x02\x00" + name + "\x00C:\\tmp\\" + name + "\x00\x00\x00\x03\x00" + string(le.AppendUint32(nil, uint32(len(name)+1))) + name + "\x00" +
		string(le.AppendUint32(nil, uint32(len(content)))) + content
	return string(le.AppendUint32(nil, uint32(len(body)))) + body
}

// biff makes a record of a workbook.
func biff(id uint16, data string) string {
	le := binary.LittleEndian
	return string(le.AppendUint16(le.AppendUint16(nil, id), uint16(len(data)))) + data
}

func utf16Text(s string) string {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return string(b)
}

const macro = "Attribute VB_Name = \"Module1\"\r\nSub AutoOpen()\r\nShell \"calc\"\r\nEnd Sub\r\n"

func TestOldOfficeDocuments(t *testing.T) {
	fib := "\xec\xa5\xc1\x00" + strings.Repeat("\x00", 600)
	locked := []byte(fib)
	locked[11] |= 1
	globals := biff(0x809, strings.Repeat("\x00", 16))
	for _, test := range []struct {
		name    string
		entries []oleEntry
		members []string
		symbols []string
	}{
		{"a document without anything", []oleEntry{{name: "WordDocument", content: fib}}, nil, nil},
		{"macros that run on opening", append([]oleEntry{{name: "WordDocument", content: fib}}, oleEntry{name: "Macros", inside: vbaProject("Module1", macro)}),
			[]string{"Module1.bas=" + macro}, []string{"office autorun", "office macro"}},
		{"macros that wait", []oleEntry{{name: "_VBA_PROJECT_CUR", inside: vbaProject("Sheet1", "Sub Total()\r\nEnd Sub\r\n")}},
			[]string{"Sheet1.bas=Sub Total()\r\nEnd Sub\r\n"}, []string{"office macro"}},
		{"macros without their source", []oleEntry{{name: "Macros", inside: []oleEntry{{name: "VBA", inside: []oleEntry{{name: "dir", content: "junk"}, {name: "M", content: "pcode"}}}}}},
			nil, []string{"office macro"}},
		{"an embedded file", []oleEntry{{name: "ObjectPool", inside: []oleEntry{{name: "_1", inside: []oleEntry{{name: "\x01Ole10Native", content: nativePackage("run.js", eicar)}}}}}},
			[]string{"run.js=" + eicar}, []string{"office object"}},
		{"an equation", []oleEntry{{name: "_1", clsid: equation, inside: []oleEntry{{name: "Equation Native", content: "exploit"}}}}, nil, []string{"office equation"}},
		{"an Excel 4.0 macro sheet", []oleEntry{{name: "Workbook", content: globals + biff(0x85, "\x00\x00\x00\x00\x02\x01\x05\x00Macro") + biff(0x0a, "")}}, nil, []string{"office xlm"}},
		{"an ordinary worksheet", []oleEntry{{name: "Workbook", content: globals + biff(0x85, "\x00\x00\x00\x00\x00\x00\x05\x00Sheet") + biff(0x0a, "")}}, nil, nil},
		{"a workbook with a password", []oleEntry{{name: "Workbook", content: globals + biff(0x2f, strings.Repeat("\x01", 54)) + biff(0x0a, "")}}, nil, []string{"office encrypted"}},
		{"a workbook linked to a program", []oleEntry{{name: "Workbook", content: globals + biff(0x1ae, "\x01\x00\x0a\x00\x00cmd\x03/c calc") + biff(0x0a, "")}}, nil, []string{"office dde"}},
		{"a workbook linked to another", []oleEntry{{name: "Workbook", content: globals + biff(0x1ae, "\x01\x00\x0a\x00\x00\x01\x01Cbook\x03b.xls") + biff(0x0a, "")}}, nil, nil},
		{"a document with a password", []oleEntry{{name: "WordDocument", content: string(locked)}}, nil, []string{"office encrypted"}},
		{"a new document with a password", []oleEntry{{name: "EncryptionInfo", content: "x"}, {name: "EncryptedPackage", content: strings.Repeat("secret", 30)}}, nil, []string{"office encrypted"}},
		{"a presentation with a password", []oleEntry{{name: "Current User", content: "\x00\x00\xf6\x0f\x14\x00\x00\x00\x14\x00\x00\x00\xdf\xc4\xd1\xf3"}}, nil, []string{"office encrypted"}},
		{"a DDE field", []oleEntry{{name: "WordDocument", content: fib + "\x13 DDEAUTO c:\\\\windows\\\\cmd.exe \x14\x15"}}, nil, []string{"office dde"}},
		{"a DDE field in 16 bits", []oleEntry{{name: "WordDocument", content: fib + utf16Text("text \x13DDE excel\x14")}}, nil, []string{"office dde"}},
		{"the attachment of a saved message", []oleEntry{{name: "__attach_version1.0_#00000000", inside: []oleEntry{
			{name: "__substg1.0_3707001F", content: utf16Text("bill.js")}, {name: "__substg1.0_37010102", content: eicar}}}},
			[]string{"bill.js=" + eicar}, nil},
		{"an installer with a cabinet", []oleEntry{{name: "㡣㤷", content: string(cabinet(false, file{name: "a.dll", content: eicar}))}}, []string{" › a.dll=" + eicar}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := open(t, "a.doc", makeOLE(test.entries...), Limits{})
			w.expect(t, test.symbols...)
			for _, want := range test.members {
				if !slices.ContainsFunc(w.contents(), func(s string) bool { return strings.HasSuffix(s, want) }) {
					t.Errorf("no %q among %q", want, w.contents())
				}
			}
			if test.members == nil && len(w.members) != 0 {
				t.Errorf("members %q", w.contents())
			}
		})
	}
}

func TestBrokenCompoundFilesEnd(t *testing.T) {
	whole := makeOLE(oleEntry{name: "Macros", inside: vbaProject("Module1", macro)})
	loop := slices.Clone(whole)
	table := len(loop) - 512
	binary.LittleEndian.PutUint32(loop[table:], 0) // the first sector follows itself
	for name, content := range map[string][]byte{"header only": whole[:512], "cut": whole[:len(whole)-700], "a chain that loops": loop} {
		w := open(t, "a.doc", content, Limits{})
		if len(w.Formats) != 1 || w.Formats[0] != OLE {
			t.Errorf("%s: formats %q", name, w.Formats)
		}
	}
	w := open(t, "a.doc", whole[:512], Limits{})
	w.expect(t, "office damaged")
}
