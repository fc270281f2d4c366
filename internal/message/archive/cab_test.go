package archive

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"strings"
	"testing"
)

// cabinet makes a cabinet of one folder, with MSZIP if packed.
func cabinet(packed bool, files ...file) []byte {
	var content []byte
	var entries []byte
	le := binary.LittleEndian
	for _, f := range files {
		entries = le.AppendUint32(le.AppendUint32(entries, uint32(len(f.content))), uint32(len(content)))
		entries = append(append(entries, make([]byte, 8)...), f.name+"\x00"...)
		content = append(content, f.content...)
	}
	method := uint16(0)
	if packed {
		method = 1
	}
	var blocks []byte
	count := 0
	for at := 0; at < len(content); at += 32 << 10 {
		end := min(at+32<<10, len(content))
		raw := content[at:end]
		if packed {
			var b bytes.Buffer
			w, _ := flate.NewWriterDict(&b, 9, content[max(0, at-32<<10):at])
			_, _ = w.Write(raw)
			_ = w.Close()
			raw = append([]byte("CK"), b.Bytes()...)
		}
		blocks = le.AppendUint16(le.AppendUint16(le.AppendUint32(blocks, 0), uint16(len(raw))), uint16(end-at))
		blocks = append(blocks, raw...)
		count++
	}
	const header, folder = 36, 8
	b := le.AppendUint32([]byte("MSCF\x00\x00\x00\x00"), uint32(header+folder+len(entries)+len(blocks)))
	b = le.AppendUint32(le.AppendUint32(append(b, 0, 0, 0, 0), header+folder), 0)
	b = append(b, 3, 1)
	b = le.AppendUint16(le.AppendUint16(b, 1), uint16(len(files)))
	b = append(b, make([]byte, 6)...)
	b = le.AppendUint32(b, uint32(header+folder+len(entries)))
	b = le.AppendUint16(le.AppendUint16(b, uint16(count)), method)
	return append(append(b, entries...), blocks...)
}

func TestCabinetsAreOpened(t *testing.T) {
	long := strings.Repeat("abcdefghijklmnopqrstuvwxyz", 4000)
	for _, packed := range []bool{false, true} {
		w := open(t, "a.cab", cabinet(packed, file{name: "a.txt", content: long}, file{name: `dir\b.exe`, content: eicar}), Limits{})
		w.expect(t)
		w.wantMember(t, "a.txt", long)
		w.wantMember(t, "dir/b.exe", eicar)
	}
}

func TestCabinetsThatCannotBeRead(t *testing.T) {
	lzx := cabinet(false, file{name: "a.txt", content: words})
	lzx[42] = 3
	set := cabinet(false, file{name: "a.txt", content: words})
	set[56-4] = 0xfe // its folder goes on in the next cabinet
	set[56-3] = 0xff
	damaged := cabinet(true, file{name: "a.txt", content: words})
	damaged[len(damaged)-30] ^= 0xff
	for _, test := range []struct {
		name    string
		content []byte
		symbol  string
	}{
		{"compressed with LZX", lzx, "archive method"},
		{"one of a set", set, "archive volumes"},
		{"cut off", cabinet(false, file{name: "a.txt", content: words})[:1000], "archive damaged"},
		{"damaged", damaged, "archive damaged"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := open(t, "a.cab", test.content, Limits{})
			if !w.has(test.symbol) || w.find("a.txt") == nil {
				t.Errorf("members %q, findings:\n%s", w.contents(), w.reasons())
			}
		})
	}
}
