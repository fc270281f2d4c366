package archive

import (
	"slices"
	"testing"
)

func TestNestedArchivesAreOpened(t *testing.T) {
	inner := makeZip(t, file{name: "deep.txt", content: "hello", method: 8})
	tarball := makeTar(t, file{name: "a/inner.zip", content: string(inner)}, file{name: "b.txt", content: "plain"})
	w := open(t, "mail.tgz", makeGzip(t, "", tarball), Limits{})
	w.expect(t)
	w.wantMember(t, "mail.tar › a/inner.zip › deep.txt", "hello")
	w.wantMember(t, "mail.tar › b.txt", "plain")
	if !slices.Equal(w.Formats, []Format{Gzip}) {
		t.Errorf("formats %q", w.Formats)
	}
	if m := w.find("mail.tar › a/inner.zip"); m == nil || m.In != Tar || !slices.Equal(m.Formats, []Format{Zip}) {
		t.Errorf("inner.zip: %+v", m)
	}
}
