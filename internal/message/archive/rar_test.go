package archive

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"testing"
	"testing/synctest"
	"time"
)

type rarFile struct{ name, content string }

// rar5 makes a RAR 5 archive of stored files.
func rar5(files ...rarFile) []byte {
	b := []byte("Rar!\x1a\x07\x01\x00")
	b = append(b, rar5Header([]byte{1, 0, 0}, nil)...) // archive
	for _, f := range files {
		b = append(b, rar5Member(f, 0, nil)...)
	}
	return append(b, rar5Header([]byte{5, 0, 0}, nil)...) // end
}

// rar5Member makes the header and the data of a stored file. Extra is the record
// of extra fields, compression the field for method and dictionary.
func rar5Member(f rarFile, compression uint64, extra []byte) []byte {
	flags := byte(2)
	if extra != nil {
		flags |= 1
	}
	h := []byte{2, flags}
	if extra != nil {
		h = binary.AppendUvarint(h, uint64(len(extra)))
	}
	h = binary.AppendUvarint(h, uint64(len(f.content)))
	h = append(h, 4) // the header has a sum
	h = binary.AppendUvarint(h, uint64(len(f.content)))
	h = append(h, 0)
	h = binary.LittleEndian.AppendUint32(h, crc32.ChecksumIEEE([]byte(f.content)))
	h = binary.AppendUvarint(h, compression)
	h = append(h, 1)
	h = binary.AppendUvarint(h, uint64(len(f.name)))
	h = append(append(h, f.name...), extra...)
	return append(rar5Header(h, nil), f.content...)
}

func rar5Header(fields, data []byte) []byte {
	h := append(binary.AppendUvarint(nil, uint64(len(fields))), fields...)
	b := binary.LittleEndian.AppendUint32(nil, crc32.ChecksumIEEE(h))
	return append(append(b, h...), data...)
}

// rar4 makes a RAR 4 archive of stored files.
func rar4(files ...rarFile) []byte {
	b := append([]byte("Rar!\x1a\x07\x00"), rar4Header(0x73, 0, make([]byte, 6))...)
	for _, f := range files {
		b = append(b, rar4Member(f, 0, 0x30)...)
	}
	return append(b, rar4Header(0x7b, 0x4000, nil)...)
}

func rar4Member(f rarFile, flags uint16, method byte) []byte {
	le := binary.LittleEndian
	h := le.AppendUint32(nil, uint32(len(f.content)))
	h = le.AppendUint32(h, uint32(len(f.content)))
	h = append(h, 3) // Unix
	h = le.AppendUint32(h, crc32.ChecksumIEEE([]byte(f.content)))
	h = le.AppendUint32(h, 0)
	h = append(h, 29, method)
	h = le.AppendUint16(h, uint16(len(f.name)))
	h = le.AppendUint32(h, 0o100644)
	return append(rar4Header(0x74, 0x8000|flags, append(h, f.name...)), f.content...)
}

func rar4Header(kind byte, flags uint16, fields []byte) []byte {
	le := binary.LittleEndian
	h := le.AppendUint16([]byte{kind}, flags)
	h = append(le.AppendUint16(h, uint16(7+len(fields))), fields...)
	return append(le.AppendUint16(nil, uint16(crc32.ChecksumIEEE(h))), h...)
}

func TestRARsAreOpened(t *testing.T) {
	for name, content := range map[string][]byte{
		"RAR 5": rar5(rarFile{"a.txt", "one"}, rarFile{`..\b.exe`, eicar}),
		"RAR 4": rar4(rarFile{"a.txt", "one"}, rarFile{`..\b.exe`, eicar}),
	} {
		w := open(t, "a.rar", content, Limits{})
		w.expect(t, "archive name")
		if len(w.members) != 2 {
			t.Fatalf("%s: members %q", name, w.contents())
		}
		w.wantMember(t, "a.txt", "one")
		w.wantMember(t, "b.exe", eicar)
	}
}

func TestRARsThatCannotBeRead(t *testing.T) {
	encrypted := append([]byte{1, 0, 0, 15}, make([]byte, 32)...)
	encrypted = append([]byte{byte(len(encrypted))}, encrypted...)
	volume := append([]byte("Rar!\x1a\x07\x01\x00"), rar5Header([]byte{1, 0, 1}, nil)...)
	damaged := rar5(rarFile{"a.txt", "one"}, rarFile{"b.txt", "two"})
	damaged[bytes.Index(damaged, []byte("one"))] = 'x'
	for _, test := range []struct {
		name    string
		content []byte
		symbol  string
		members int
	}{
		{"encrypted headers", append([]byte("Rar!\x1a\x07\x01\x00"), rar5Header(append([]byte{4, 0, 0, 0, 15}, make([]byte, 16)...), nil)...), "archive encrypted", 0},
		{"encrypted headers of RAR 4", append([]byte("Rar!\x1a\x07\x00"), rar4Header(0x73, 0x80, make([]byte, 32))...), "archive encrypted", 0},
		{"an encrypted member", append(append([]byte("Rar!\x1a\x07\x01\x00"), rar5Header([]byte{1, 0, 0}, nil)...),
			append(rar5Member(rarFile{"a.txt", "secret"}, 0, encrypted), rar5Header([]byte{5, 0, 0}, nil)...)...), "archive encrypted", 1},
		{"an encrypted member of RAR 4", append(append([]byte("Rar!\x1a\x07\x00"), rar4Header(0x73, 0, make([]byte, 6))...),
			rar4Member(rarFile{"a.txt", "secret"}, 4, 0x30)...), "archive encrypted", 1},
		{"the first of several volumes", append(volume, rar5Header([]byte{5, 0, 1}, nil)...), "archive volumes", 0},
		{"a wrong sum", damaged, "archive damaged", 2},
		{"a dictionary of 64 GB", append(append([]byte("Rar!\x1a\x07\x01\x00"), rar5Header([]byte{1, 0, 0}, nil)...),
			rar5Member(rarFile{"a.txt", "packed"}, 1<<6|1<<7|19<<10, nil)...), "archive memory", 0},
		{"cut off", rar5(rarFile{"a.txt", "some content"})[:40], "archive damaged", 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := open(t, "a.rar", test.content, Limits{})
			if !w.has(test.symbol) {
				t.Errorf("no %q:\n%s", test.symbol, w.reasons())
			}
			if len(w.members) != test.members {
				t.Errorf("members %q, want %d", w.contents(), test.members)
			}
		})
	}
}

func TestOldRARsWaitForEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := New(Config{OldRAR: 1})
		u.oldRAR <- struct{}{} // as if one was being decoded
		start := time.Now()
		w, err := walkWith(t, u, u.NewBudget(), Input{Name: "a.rar", Body: bytes.NewReader(rar4(rarFile{"a.txt", "one"}))})
		if err != nil {
			t.Fatal(err)
		}
		w.expect(t, "archive time")
		if waited := time.Since(start); waited != u.config.Limits.Time {
			t.Errorf("waited %v, want %v", waited, u.config.Limits.Time)
		}
		<-u.oldRAR
		if w, err = walkWith(t, u, u.NewBudget(), Input{Name: "a.rar", Body: bytes.NewReader(rar4(rarFile{"a.txt", "one"}))}); err != nil {
			t.Fatal(err)
		}
		w.expect(t)
		w.wantMember(t, "a.txt", "one")
	})
}
