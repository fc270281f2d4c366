package archive

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
	"unicode/utf16"
)

const isoSector = 2048

// isoFile is a file of an image: its name in each tree ("" for none), and where
// its content stands.
type isoFile struct {
	plain, joliet, rock string
	sector              int
	size                int
	dir                 bool
}

// isoRecord makes a directory record.
func isoRecord(name []byte, sector, size int, dir bool, system []byte) []byte {
	n := 33 + len(name)
	n += n & 1
	b := make([]byte, n, n+len(system))
	binary.LittleEndian.PutUint32(b[2:], uint32(sector))
	binary.LittleEndian.PutUint32(b[10:], uint32(size))
	if dir {
		b[25] = 2
	}
	b[32] = byte(len(name))
	copy(b[33:], name)
	b = append(b, system...)
	b[0] = byte(len(b))
	return b
}

// isoImage makes an image with a primary and a Joliet tree; content begins at
// sector 30.
func isoImage(files []isoFile, content string) []byte {
	image := make([]byte, 30*isoSector, 30*isoSector+len(content))
	image = append(image, content...)
	image = append(image, make([]byte, isoSector-len(content)%isoSector)...)
	descriptor := func(sector int, kind byte, root int) []byte {
		d := image[sector*isoSector:]
		d[0] = kind
		copy(d[1:], "CD001\x01")
		binary.LittleEndian.PutUint32(d[80:], uint32(len(image)/isoSector))
		binary.LittleEndian.PutUint16(d[128:], isoSector)
		copy(d[156:], isoRecord([]byte{0}, root, isoSector, true, nil))
		return d
	}
	descriptor(16, 1, 20)
	copy(descriptor(17, 2, 21)[88:], "%/E")
	descriptor(18, 255, 0)
	for i, tree := range []int{20, 21} {
		dir := append(isoRecord([]byte{0}, tree, isoSector, true, nil), isoRecord([]byte{1}, tree, isoSector, true, nil)...)
		for _, f := range files {
			name, system := []byte(f.plain), []byte(nil)
			if i == 1 {
				name = nil
				for _, u := range utf16.Encode([]rune(f.joliet)) {
					name = binary.BigEndian.AppendUint16(name, u)
				}
			} else if f.rock != "" {
				system = append([]byte{'N', 'M', byte(5 + len(f.rock)), 1, 0}, f.rock...)
			}
			if len(name) > 0 {
				dir = append(dir, isoRecord(name, f.sector, f.size, f.dir, system)...)
			}
		}
		copy(image[tree*isoSector:], dir)
	}
	return image
}

func TestISOImagesShowTheFilesOfEveryTree(t *testing.T) {
	image := isoImage([]isoFile{
		{plain: "SETUP.EXE;1", joliet: "Setup program.exe", rock: "setup-program.exe", sector: 30, size: len(eicar)},
		{plain: "README.TXT;1", sector: 30, size: 3},
		{joliet: "only in Joliet.txt", sector: 30, size: 5},
		{plain: "LOOP", sector: 20, size: isoSector, dir: true},
	}, eicar)
	w := open(t, "a.iso", image, Limits{})
	w.expect(t)
	w.wantMember(t, "setup-program.exe", eicar)
	w.wantMember(t, "README.TXT", eicar[:3])
	w.wantMember(t, "only in Joliet.txt", eicar[:5])
	if m := w.find("setup-program.exe"); m == nil || !slices.Equal(m.Names, []string{"setup-program.exe", "SETUP.EXE", "Setup program.exe"}) {
		t.Errorf("names %+v", m)
	}
}

func TestISOImagesThatAreDamaged(t *testing.T) {
	image := isoImage([]isoFile{{plain: "A.TXT;1", sector: 30, size: 100_000}, {plain: "B.TXT;1", sector: 9999, size: 5}, {plain: "C.TXT;1", sector: 30, size: 3}}, "content")
	w := open(t, "a.iso", image, Limits{})
	w.expect(t, "archive damaged")
	w.wantMember(t, "C.TXT", "con")
	if m := w.find("A.TXT"); m == nil || !m.Cut || m.Content.Size() != isoSector {
		t.Errorf("A.TXT: %+v", m)
	}
	if m := w.find("B.TXT"); m == nil || !m.Cut {
		t.Errorf("B.TXT: %+v", m)
	}
}

func TestUDFImagesAreReportedAsUnread(t *testing.T) {
	image := isoImage([]isoFile{{plain: "README.TXT;1", sector: 30, size: 4}}, "udf!")
	copy(image[19*isoSector:], "\x00BEA01\x01")
	copy(image[20*isoSector:], "\x00NSR02\x01") // the directory of the primary tree is gone
	copy(image[18*isoSector:], "\x00BEA01\x01")
	copy(image[19*isoSector:], "\x00NSR02\x01")
	w := open(t, "a.iso", image, Limits{})
	if !w.has("archive unsupported") || !slices.Equal(w.Formats, []Format{ISO, UDF}) {
		t.Errorf("formats %q:\n%s", w.Formats, w.reasons())
	}
}

// TestPolyglotsAreOpenedAsEachType covers MIM-26.
func TestPolyglotsAreOpenedAsEachType(t *testing.T) {
	zipped := makeZip(t, file{name: "virus.exe", content: eicar})
	iso := isoImage([]isoFile{{plain: "A.TXT;1", sector: 30, size: 3}}, "abc")
	for _, test := range []struct {
		name    string
		content []byte
		formats []Format
		members []string
		symbols []string
	}{
		{"an image and a zip", append([]byte("GIF89a\x01\x00\x01\x00\x00\x00\x00;"), zipped...), []Format{Zip}, []string{"virus.exe"}, []string{"archive prefixed"}},
		{"a web page and a zip", append([]byte("<html><body>hello</body></html>"), zipped...), []Format{Zip}, []string{"virus.exe"}, []string{"archive prefixed"}},
		{"a PDF and a zip", append([]byte("%PDF-1.4\n1 0 obj <</S/JavaScript/JS(app.alert\\(1\\))>> endobj\n"), zipped...), []Format{PDF, Zip},
			[]string{"script-1.js", "virus.exe"}, []string{"archive prefixed", "pdf javascript"}},
		{"a tar and a zip", append(makeTar(t, file{name: "a.txt", content: "abc"}), zipped...), []Format{Tar, Zip}, []string{"a.txt", "virus.exe"}, nil},
		{"an ISO image with a zip in its system area", append(append(bytes.Clone(zipped), make([]byte, 16*isoSector-len(zipped))...), iso[16*isoSector:]...),
			[]Format{Zip, ISO}, []string{"virus.exe", "A.TXT"}, nil},
		{"a gzip file and a RAR archive", append(makeGzip(t, "a.txt", []byte("abc")), rar5(rarFile{"virus.exe", eicar})...), []Format{Gzip}, []string{"a.txt", "virus.exe"}, []string{"archive prefixed"}},
		{"a zip and a 7z archive", append(bytes.Clone(zipped), testdata(t, "copy.7z")...), []Format{Zip}, []string{"virus.exe", "words.txt"}, []string{"archive prefixed"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := open(t, "a", test.content, Limits{})
			if !slices.Equal(w.Formats, test.formats) {
				t.Errorf("formats %q, want %q", w.Formats, test.formats)
			}
			for _, name := range test.members {
				if w.find(name) == nil {
					t.Errorf("no %q among %q", name, w.contents())
				}
			}
			w.expect(t, test.symbols...)
		})
	}
}
