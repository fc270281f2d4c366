package archive

import (
	"archive/tar"
	"bytes"
	"slices"
	"strings"
	"testing"
)

func TestTarGivesEveryKindOfMember(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []tar.Header{
		{Name: "dir/", Typeflag: tar.TypeDir},
		{Name: "link", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"},
		{Name: "hard", Typeflag: tar.TypeLink, Linkname: "../../x"},
		{Name: "fifo", Typeflag: tar.TypeFifo},
		{Name: strings.Repeat("long/", 60) + "name.txt", Typeflag: tar.TypeReg, Size: 3},
	} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := w.Write([]byte("abc")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	got := open(t, "a.tar", b.Bytes(), Limits{})
	got.expect(t)
	var kinds []Kind
	for _, m := range got.members {
		kinds = append(kinds, m.Kind)
	}
	if want := []Kind{Directory, Symlink, Hardlink, Device, File}; !slices.Equal(kinds, want) {
		t.Errorf("kinds %v, want %v", kinds, want)
	}
	if m := got.find("link"); m == nil || m.Link != "/etc/passwd" {
		t.Errorf("link %+v", m)
	}
	got.wantMember(t, strings.Repeat("long/", 60)+"name.txt", "abc")
}

func TestTarGoesOnBehindADamagedHeader(t *testing.T) {
	content := makeTar(t, file{name: "a.txt", content: "one"}, file{name: "b.txt", content: "two"}, file{name: "c.txt", content: eicar})
	content[1024] ^= 0xff // the header of b.txt
	w := open(t, "a.tar", content, Limits{})
	w.expect(t, "archive damaged")
	w.wantMember(t, "a.txt", "one")
	w.wantMember(t, "c.txt", eicar)
}

func TestTarThatIsCutGivesWhatIsThere(t *testing.T) {
	content := makeTar(t, file{name: "a.txt", content: strings.Repeat("x", 5000)})
	w := open(t, "a.tar", content[:2000], Limits{})
	w.expect(t, "archive damaged")
	if m := w.find("a.txt"); m == nil || len(m.content) != 2000-512 {
		t.Errorf("members %+v", w.members)
	}
}
