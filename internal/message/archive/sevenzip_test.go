package archive

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"testing"
)

func TestSevenZipInEveryMethod(t *testing.T) {
	for _, test := range []struct {
		file    string
		members []string
	}{
		{"lzma2.7z", []string{"words.txt", "calls.bin", "folder/deep.txt", "empty.txt"}},
		{"lzma.7z", []string{"words.txt", "folder/deep.txt"}},
		{"separate.7z", []string{"words.txt", "calls.bin"}},
		{"bcj2.7z", []string{"calls.bin"}},
		{"ppmd.7z", []string{"words.txt"}},
		{"bzip2.7z", []string{"words.txt"}},
		{"deflate.7z", []string{"words.txt"}},
		{"copy.7z", []string{"words.txt"}},
	} {
		t.Run(test.file, func(t *testing.T) {
			w := open(t, test.file, testdata(t, test.file), Limits{})
			w.expect(t)
			want := map[string]string{"words.txt": words, "calls.bin": calls(), "folder/deep.txt": "deep\n", "empty.txt": ""}
			for _, name := range test.members {
				w.wantMember(t, name, want[name])
			}
		})
	}
}

// calls is the content of calls.bin: what a filter for x86 programs changes.
func calls() string {
	var b []byte
	for i := range 200 {
		b = append(b, 0x55, 0x89, 0xe5, 0xe8)
		b = binary.LittleEndian.AppendUint32(b, uint32(1000-len(b)-4))
		b = append(b, 0xc3, byte(i))
	}
	return string(b)
}

func TestSevenZipThatCannotBeRead(t *testing.T) {
	damaged := testdata(t, "lzma2.7z")
	damaged[60] ^= 0xff
	for _, test := range []struct {
		name    string
		content []byte
		symbol  string
		members int
	}{
		{"encrypted content", testdata(t, "encrypted.7z"), "archive encrypted", 1},
		{"encrypted header", testdata(t, "hidden.7z"), "archive encrypted", 0},
		{"unknown method", testdata(t, "deflate64.7z"), "archive method", 1},
		{"damaged content", damaged, "archive damaged", 5},
		{"cut off", testdata(t, "lzma2.7z")[:300], "archive damaged", 0},
		{"a header that asks for 4 billion streams", sevenZipWith([]byte("\x01\x04\x06\x00\xf0\xff\xff\xff\xff\x0a\x01")), "archive memory", 0},
		{"a header that asks for 4 GB of properties", sevenZipWith([]byte("\x01\x04\x06\x00\x01\x09\x01\x00\x07\x0b\x01\x00\x01\x21\x21\xf0\xff\xff\xff\xff")), "archive memory", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := open(t, "a.7z", test.content, Limits{})
			w.expect(t, test.symbol)
			if len(w.members) != test.members {
				t.Errorf("%d members, want %d: %q", len(w.members), test.members, w.contents())
			}
		})
	}
}

// sevenZipWith makes an archive of nothing but a header.
func sevenZipWith(header []byte) []byte {
	le := binary.LittleEndian
	start := le.AppendUint64(nil, 0)
	start = le.AppendUint64(start, uint64(len(header)))
	start = le.AppendUint32(start, crc32.ChecksumIEEE(header))
	b := append([]byte("7z\xbc\xaf\x27\x1c\x00\x04"), le.AppendUint32(nil, crc32.ChecksumIEEE(start))...)
	return append(append(b, start...), header...)
}

func TestArchivesBehindAProgramAreOpened(t *testing.T) {
	program := append([]byte("MZ a program"), bytes.Repeat([]byte("7z\xbc\xaf\x27\x1c\x00 no archive, Rar!\x1a\x07 neither, MSCF\x00\x00\x00\x00 nor this"), 20)...)
	for name, archive := range map[string][]byte{
		"7z": testdata(t, "lzma.7z"), "RAR": rar5(rarFile{"words.txt", words}), "RAR 4": rar4(rarFile{"words.txt", words}),
		"cab": cabinet(false, file{name: "words.txt", content: words}),
	} {
		w := open(t, "setup.exe", append(bytes.Clone(program), archive...), Limits{})
		w.expect(t, "archive prefixed")
		if m := w.find("words.txt"); m == nil || string(m.content) != words {
			t.Errorf("%s: members %q", name, w.contents())
		}
	}
	w := open(t, "setup.exe", program, Limits{})
	w.expect(t)
	if len(w.members) != 0 {
		t.Errorf("members in a program: %q", w.contents())
	}
}
