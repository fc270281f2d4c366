package archive

import (
	"bytes"
	"strings"
	"testing"
)

// words is the content of the fixtures.
var words = strings.Repeat("some words repeated\n", 150)

func TestCompressedFilesAreOpened(t *testing.T) {
	for _, test := range []struct{ file, input, member string }{
		{"words.bz2", "words.txt.bz2", "words.txt"},
		{"words.xz", "words.txt.xz", "words.txt"},
		{"blocks.xz", "words.xz", "words"},
		{"words.lzma", "words.lzma", "words"},
		{"words.xz", "misnamed.jpg", "misnamed.jpg.unpacked"},
		{"words.bz2", "a.tbz2", "a.tar"},
	} {
		w := open(t, test.input, testdata(t, test.file), Limits{})
		w.expect(t)
		w.wantMember(t, test.member, words)
	}
	w := open(t, "a.zst", makeZstd(t, []byte(words)), Limits{})
	w.expect(t)
	w.wantMember(t, "a", words)
}

func TestGzipTellsTheNameInside(t *testing.T) {
	w := open(t, "photo.gz", makeGzip(t, "virus.exe", []byte(eicar)), Limits{})
	w.wantMember(t, "virus.exe", eicar)
	if names := w.members[0].Names; len(names) != 2 || names[1] != "photo" {
		t.Errorf("names %q", names)
	}
}

func TestGzipGoesOnBehindItsFirstMember(t *testing.T) {
	content := append(makeGzip(t, "", []byte("one ")), makeGzip(t, "", []byte("two"))...)
	w := open(t, "a.gz", append(content, "trailing garbage"...), Limits{})
	w.expect(t)
	w.wantMember(t, "a", "one two")
}

func TestDamagedStreamsGiveWhatCameBefore(t *testing.T) {
	big := strings.Repeat("0123456789abcdef", 20_000)
	for name, content := range map[string][]byte{
		"gzip": makeGzip(t, "", []byte(big)), "xz": testdata(t, "blocks.xz"), "zstd": makeZstd(t, []byte(big)),
	} {
		w := open(t, "a", content[:len(content)-20], Limits{})
		w.expect(t, "archive damaged")
		if len(w.members) != 1 || !w.members[0].Cut {
			t.Errorf("%s: members %+v", name, w.members)
		} else if len(w.members[0].content) == 0 {
			t.Errorf("%s: nothing came", name)
		}
	}
}

func TestXZWithWrongSumIsDamaged(t *testing.T) {
	content := testdata(t, "words.xz")
	// The check of the only block stands in front of the index and the footer.
	i := bytes.LastIndex(content, []byte{0, 1}) - 1
	content[i] ^= 1
	w := open(t, "a.xz", content, Limits{})
	w.expect(t, "archive damaged")
	w.wantMember(t, "a", words)
}

func TestXZWithAnotherFilterIsAnUnknownMethod(t *testing.T) {
	w := open(t, "a.xz", testdata(t, "x86.xz"), Limits{})
	w.expect(t, "archive method")
}

func TestDecodersTakeNoMoreMemoryThanAllowed(t *testing.T) {
	xz := testdata(t, "words.xz") // wants 8 MiB and does with much less
	w := open(t, "a.xz", xz, Limits{Memory: 1 << 20})
	w.expect(t)
	w.wantMember(t, "a", words)

	w = open(t, "a.xz", xz, Limits{Memory: 1 << 10})
	w.expect(t, "archive memory")

	w = open(t, "a.zst", makeZstd(t, []byte(words)), Limits{Memory: 1 << 20})
	w.expect(t, "archive memory")

	w = open(t, "a.7z", testdata(t, "lzma2.7z"), Limits{Memory: 4 << 10})
	w.expect(t, "archive memory")

	if _, m := w.budget.Usage(), w.budget.memory; m != 0 {
		t.Errorf("%d bytes were not given back", m)
	}
}

func TestWhatOnlyLooksLikeLZMAIsNone(t *testing.T) {
	content := append([]byte("\x5d\x00\x00\x80\x00\xff\xff\xff\xff\xff\xff\xff\xff\x00"), bytes.Repeat([]byte{0xff}, 500)...)
	w := open(t, "a.bin", content, Limits{})
	w.expect(t)
	if len(w.members) != 0 {
		t.Errorf("members %q", w.contents())
	}
}
