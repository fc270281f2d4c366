package oledoc

import (
	"bytes"
	"strings"
	"testing"
)

func TestVBASourceIsDecompressed(t *testing.T) {
	// The example of MS-OVBA §3.2.2, "#aaabcdefaaaaghijaaaaaklaaamnopqaaaaaaaaaaaarstuvwxyzaaa".
	in := []byte("\x01\x2f\xb0\x00\x23\x61\x61\x61\x62\x63\x64\x65\x82\x66\x00\x70\x61\x67\x68\x69\x6a\x01\x38\x08\x61\x6b\x6c\x00\x30\x6d\x6e\x6f\x70\x06\x71\x02\x70\x04\x10\x72\x73\x74\x75\x76\x10\x77\x78\x79\x7a\x00\x3c")
	got, err := VBA(in, 1000)
	if err != nil || string(got) != "#aaabcdefaaaaghijaaaaaklaaamnopqaaaaaaaaaaaarstuvwxyzaaa" {
		t.Errorf("%q, error %v", got, err)
	}
	// All the same byte, §3.2.3.
	got, err = VBA([]byte("\x01\x03\xb0\x02\x61\x45\x00"), 1000)
	if err != nil || string(got) != strings.Repeat("a", 73) {
		t.Errorf("%q, error %v", got, err)
	}
	if got, _ := VBA(in, 10); len(got) != 10 {
		t.Errorf("limit of 10 gave %d bytes", len(got))
	}
	if _, err := VBA([]byte("\x02rest"), 10); err == nil {
		t.Error("no error for something else")
	}
}

func TestPackagesTellTheirName(t *testing.T) {
	native := "\x02\x00report.js\x00C:\\Temp\\report.js\x00\x00\x00\x03\x00\x05\x00\x00\x00C:\\x\x00\x04\x00\x00\x00codeand more"
	o, err := Native(strings.NewReader("\x99\x00\x00\x00"+native), int64(4+len(native)), true)
	if err != nil || len(o.Names) != 3 || o.Names[0] != "report.js" || o.Size != 4 {
		t.Fatalf("%+v, error %v", o, err)
	}
	if got := ("\x99\x00\x00\x00" + native)[o.Start : o.Start+o.Size]; got != "code" {
		t.Errorf("content %q", got)
	}
	o, err = Native(strings.NewReader("raw content"), 11, false)
	if err != nil || o.Start != 0 || o.Size != 11 || len(o.Names) != 0 {
		t.Errorf("raw: %+v, error %v", o, err)
	}
}

func FuzzVBA(f *testing.F) {
	f.Add([]byte("\x01\x03\xb0\x02\x61\x45\x00"))
	f.Add([]byte("\x01\x19\xb0\x00abcdefgh\x00ijklmnop\x00qrstuv."))
	f.Fuzz(func(t *testing.T, b []byte) {
		const limit = 1 << 16
		if got, _ := VBA(b, limit); len(got) > limit {
			t.Errorf("%d bytes", len(got))
		}
		Source(b, 0, limit)
		Modules(b)
		ReadWorkbook(bytes.NewReader(b))
		for _, withSize := range []bool{false, true} {
			if o, err := Native(bytes.NewReader(b), int64(len(b)), withSize); err == nil && (o.Start < 0 || o.Size < 0) {
				t.Errorf("%+v", o)
			}
		}
		if o, err := OLE1(bytes.NewReader(b), int64(len(b))); err == nil && !o.Linked && (o.Start < 0 || o.Size < 0) {
			t.Errorf("%+v", o)
		}
	})
}
