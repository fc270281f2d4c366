package archive

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"slices"
	"strings"
	"testing"
)

const eicar = `X5O!P%@AP[4\PZX54(P^)7CC)7}$` + `EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*`

// TestZipsThatProgramsReadDifferently: whatever one of them would show is given.
func TestZipsThatProgramsReadDifferently(t *testing.T) {
	sum := func(s string) uint32 { return crc32.ChecksumIEEE([]byte(s)) }
	for _, test := range []struct {
		name    string
		build   func(z *zipBuilder) []byte
		members []string // path=content, in any order, others may be there
		symbols []string
	}{
		{"an ordinary zip has nothing to say", func(z *zipBuilder) []byte {
			z.member("a.txt", "one")
			z.member("b/c.txt", "two")
			return z.finish()
		}, []string{"a.txt=one", "b/c.txt=two"}, nil},
		{"a member that the directory does not list", func(z *zipBuilder) []byte {
			z.local("hidden.exe", 0, []byte(eicar), sum(eicar), len(eicar))
			z.member("a.txt", "one")
			return z.finish()
		}, []string{"a.txt=one", "hidden.exe=" + eicar}, []string{"archive hidden"}},
		{"two names for one member", func(z *zipBuilder) []byte {
			off := z.local("virus.exe", 0, []byte(eicar), sum(eicar), len(eicar))
			z.central("harmless.txt", 0, off, len(eicar), len(eicar), sum(eicar))
			return z.finish()
		}, []string{"harmless.txt=" + eicar}, []string{"archive mismatch"}},
		{"the directory says that the member is shorter", func(z *zipBuilder) []byte {
			off := z.local("a.txt", 0, []byte(eicar), sum(eicar), len(eicar))
			z.central("a.txt", 0, off, 5, 5, sum(eicar[:5]))
			return z.finish()
		}, []string{"a.txt=" + eicar[:5], "a.txt=" + eicar}, []string{"archive mismatch"}},
		{"stored according to one header, deflated according to the other", func(z *zipBuilder) []byte {
			data, s := deflated(t, []byte(eicar), int64(len(eicar)))
			off := z.local("a.txt", 8, data, s, len(eicar))
			z.central("a.txt", 0, off, len(data), len(data), sum(string(data)))
			return z.finish()
		}, []string{"a.txt=" + eicar}, []string{"archive mismatch"}},
		{"encrypted according to the directory only", func(z *zipBuilder) []byte {
			z.member("a.txt", eicar)
			b := z.finish()
			b[bytes.Index(b, []byte("PK\x01\x02"))+8] |= 1
			return b
		}, []string{"a.txt=" + eicar}, []string{"archive encrypted", "archive mismatch"}},
		{"two members in the same bytes", func(z *zipBuilder) []byte {
			off := z.member("a.txt", eicar)
			z.central("b.txt", 0, off, len(eicar), len(eicar), sum(eicar))
			return z.finish()
		}, []string{"a.txt=" + eicar, "b.txt=" + eicar}, []string{"archive overlap", "archive mismatch"}},
		{"a second end record in the comment of the first", func(z *zipBuilder) []byte {
			z.member("shown.txt", "harmless")
			first := z.finish()
			other := &zipBuilder{}
			other.b.Write(first[:len(first)-22])
			other.count, other.dir = 0, bytes.Buffer{}
			other.member("virus.exe", eicar)
			start := other.b.Len()
			other.b.Write(other.dir.Bytes())
			// The first end record follows the second directory and has the second end record
			// for its comment.
			second := endRecord(1, other.dir.Len(), start, "")
			dirStart := bytes.Index(first, []byte("PK\x01\x02"))
			other.b.Write(endRecord(1, len(first)-22-dirStart, dirStart, string(second)))
			other.b.Write(second)
			return other.b.Bytes()
		}, []string{"shown.txt=harmless", "virus.exe=" + eicar}, []string{"archive ambiguous"}},
		{"a program in front", func(z *zipBuilder) []byte {
			z.b.WriteString("MZ this is not really a program")
			z.member("a.txt", "one")
			return z.finish()
		}, []string{"a.txt=one"}, []string{"archive prefixed"}},
		{"a program in front, offsets not adjusted", func(z *zipBuilder) []byte {
			z.member("a.txt", "one")
			return append([]byte("MZ this is not really a program"), z.finish()...)
		}, []string{"a.txt=one"}, []string{"archive prefixed"}},
		{"no directory at all", func(z *zipBuilder) []byte {
			z.member("a.txt", "one")
			z.member("b.txt", eicar)
			return z.b.Bytes()
		}, []string{"a.txt=one", "b.txt=" + eicar}, []string{"archive damaged"}},
		{"sizes only behind the data, and no directory", func(z *zipBuilder) []byte {
			data, _ := deflated(t, []byte(eicar), int64(len(eicar)))
			off := z.local("a.txt", 8, nil, 0, 0)
			z.b.Bytes()[off+6] |= 8
			z.b.Write(data)
			z.b.WriteString("PK\x07\x08............")
			z.member("b.txt", "two")
			return z.b.Bytes()
		}, []string{"a.txt=" + eicar, "b.txt=two"}, []string{"archive damaged"}},
		{"one zip behind another", func(z *zipBuilder) []byte {
			z.member("first.txt", eicar)
			second := &zipBuilder{}
			second.member("second.txt", "two")
			return append(z.finish(), second.finish()...)
		}, []string{"first.txt=" + eicar, "second.txt=two"}, []string{"archive ambiguous"}},
		{"a zip stored in a zip is one member", func(z *zipBuilder) []byte {
			inner := &zipBuilder{}
			inner.member("b.txt", eicar)
			z.member("inner.zip", string(inner.finish()))
			return z.finish()
		}, []string{"inner.zip › b.txt=" + eicar}, nil},
		{"a directory with content is a file", func(z *zipBuilder) []byte {
			z.member("virus.exe/", eicar)
			return z.finish()
		}, []string{"virus.exe=" + eicar}, nil},
		{"the end record counts wrong", func(z *zipBuilder) []byte {
			z.member("a.txt", "one")
			z.member("b.txt", eicar)
			z.count = 1
			return z.finish()
		}, []string{"a.txt=one", "b.txt=" + eicar}, []string{"archive mismatch"}},
		{"the directory leads outside of the file", func(z *zipBuilder) []byte {
			z.central("a.txt", 0, 1<<30, 5, 5, 0)
			return z.finish()
		}, []string{"a.txt="}, []string{"archive damaged"}},
		{"an unknown method", func(z *zipBuilder) []byte {
			off := z.local("a.txt", 6, []byte(eicar), sum(eicar), len(eicar))
			z.central("a.txt", 6, off, len(eicar), len(eicar), sum(eicar))
			return z.finish()
		}, []string{"a.txt="}, []string{"archive method"}},
		{"a wrong check sum", func(z *zipBuilder) []byte {
			data, _ := deflated(t, []byte(eicar), int64(len(eicar)))
			off := z.local("a.txt", 8, data, 1, len(eicar))
			z.central("a.txt", 8, off, len(data), len(eicar), 1)
			return z.finish()
		}, []string{"a.txt=" + eicar}, []string{"archive damaged"}},
		{"the last of several volumes", func(z *zipBuilder) []byte {
			z.member("a.txt", "one")
			b := z.finish()
			b[len(b)-22+4] = 2
			return b
		}, []string{"a.txt=one"}, []string{"archive volumes"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := open(t, "a.zip", test.build(&zipBuilder{}), Limits{})
			w.expect(t, test.symbols...)
			for _, want := range test.members {
				if !slices.Contains(w.contents(), want) {
					t.Errorf("no %q among %q", want, w.contents())
				}
			}
		})
	}
}

func TestZipGivesEveryNameOfAMember(t *testing.T) {
	z := &zipBuilder{}
	off := z.local("invoice.exe", 0, nil, 0, 0)
	z.central("invoice.pdf", 0, off, 0, 0, 0)
	b := z.finish()
	w := open(t, "a.zip", b, Limits{})
	if len(w.members) != 1 || !slices.Contains(w.members[0].Names, "invoice.exe") || w.members[0].Name != "invoice.pdf" {
		t.Errorf("names %q", w.contents())
	}
}

func TestZipReadsTheUnicodeName(t *testing.T) {
	z := &zipBuilder{}
	off := z.local("report.txt", 0, []byte("x"), crc32.ChecksumIEEE([]byte("x")), 1)
	z.central("report.txt", 0, off, 1, 1, crc32.ChecksumIEEE([]byte("x")))
	name := "évil.exe"
	extra := append([]byte{1, 0, 0, 0, 0}, name...)
	extra = append(binary.LittleEndian.AppendUint16([]byte{0x75, 0x70}, uint16(len(extra))), extra...)
	dir := z.dir.Bytes()
	binary.LittleEndian.PutUint16(dir[30:], uint16(len(extra)))
	z.dir.Write(extra)
	w := open(t, "a.zip", z.finish(), Limits{})
	if len(w.members) != 1 || !slices.Contains(w.members[0].Names, name) {
		t.Errorf("members %+v", w.members)
	}
}

func TestZip64IsRead(t *testing.T) {
	z := &zipBuilder{}
	z.member("a.txt", eicar)
	le := binary.LittleEndian
	start := z.b.Len()
	z.b.Write(z.dir.Bytes())
	record := z.b.Len()
	end := le.AppendUint64([]byte("PK\x06\x06"), 44)
	end = le.AppendUint64(le.AppendUint32(le.AppendUint32(le.AppendUint32(end, 0), 0), 0), 1)
	end = le.AppendUint64(le.AppendUint64(le.AppendUint64(end, 1), uint64(z.dir.Len())), uint64(start))
	loc := le.AppendUint32(le.AppendUint64(le.AppendUint32([]byte("PK\x06\x07"), 0), uint64(record)), 1)
	z.b.Write(append(end, loc...))
	z.b.Write(endRecord(0xffff, -1, -1, ""))
	w := open(t, "a.zip", z.b.Bytes(), Limits{})
	w.expect(t)
	w.wantMember(t, "a.txt", eicar)
}

// TestMembersInEveryMethod uses archives that 7-Zip made.
func TestMembersInEveryMethod(t *testing.T) {
	for _, name := range []string{"lzma.zip", "bzip2.zip", "xz.zip"} {
		t.Run(name, func(t *testing.T) {
			w := open(t, name, testdata(t, name), Limits{})
			w.expect(t)
			if m := w.find("words.txt"); m == nil || strings.Count(string(m.content), "some words repeated\n") != 150 {
				t.Errorf("members %q", w.contents())
			}
		})
	}
}

func TestZipWithZstandard(t *testing.T) {
	data := makeZstd(t, []byte(eicar))
	z := &zipBuilder{}
	sum := crc32.ChecksumIEEE([]byte(eicar))
	z.central("a.txt", 93, z.local("a.txt", 93, data, sum, len(eicar)), len(data), len(eicar), sum)
	w := open(t, "a.zip", z.finish(), Limits{})
	w.expect(t)
	w.wantMember(t, "a.txt", eicar)
}

func TestEncryptedZipsSaySo(t *testing.T) {
	for _, name := range []string{"zipcrypto.zip", "aes.zip"} {
		w := open(t, name, testdata(t, name), Limits{})
		w.expect(t, "archive encrypted")
		if m := w.find("words.txt"); m == nil || !m.Encrypted || m.Content.Size() != 0 {
			t.Errorf("%s: members %+v", name, w.members)
		}
	}
}
