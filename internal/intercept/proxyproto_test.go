package intercept

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func v2(verCmd, family byte, length string, rest string) string {
	return v2Signature + string([]byte{verCmd, family}) + length + rest
}

const (
	v4Block = "\xc0\x00\x02\x01\xc0\x00\x02\x02\x10\x00\x00\x19"
	v6Block = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" +
		"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x10\x00\x00\x19"
	mapped = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc0\x00\x02\x01" +
		"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x10\x00\x00\x19"
)

func TestReadHeader(t *testing.T) {
	tests := []struct{ name, in, source, original string }{
		{"version 1, IPv4", "PROXY TCP4 192.0.2.1 192.0.2.2 4096 25\r\n", "192.0.2.1:4096", "192.0.2.2:25"},
		{"version 1, IPv6", "PROXY TCP6 2001:db8::1 2001:db8::2 4096 25\r\n", "[2001:db8::1]:4096", "[2001:db8::2]:25"},
		{"version 1, a mapped address is the IPv4 address", "PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 1 25\r\n", "192.0.2.1:1", "[2001:db8::2]:25"},
		{"version 1, unknown", "PROXY UNKNOWN\r\n", "", ""},
		{"version 1, unknown with junk", "PROXY UNKNOWN ffff::1 x y z\r\n", "", ""},
		{"version 2, IPv4", v2(0x21, 0x11, "\x00\x0c", v4Block), "192.0.2.1:4096", "192.0.2.2:25"},
		{"version 2, IPv6", v2(0x21, 0x21, "\x00\x24", v6Block), "[2001:db8::1]:4096", "[2001:db8::2]:25"},
		{"version 2, mapped", v2(0x21, 0x21, "\x00\x24", mapped), "192.0.2.1:4096", "[2001:db8::2]:25"},
		{"version 2, TLVs are skipped", v2(0x21, 0x11, "\x00\x11", v4Block+"\x01\x00\x02h2"), "192.0.2.1:4096", "192.0.2.2:25"},
		{"version 2, local", v2(0x20, 0x11, "\x00\x0c", v4Block), "", ""},
		{"version 2, local without addresses", v2(0x20, 0x00, "\x00\x00", ""), "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			// One byte at a time, and whole: what follows must stay unread.
			for _, wrap := range []func(io.Reader) io.Reader{iotest.OneByteReader, func(r io.Reader) io.Reader { return r }} {
				in := strings.NewReader(tt.in + "EHLO x\r\n")
				h, err := ReadHeader(wrap(in))
				if err != nil {
					t.Fatal(err)
				}
				if rest, _ := io.ReadAll(in); string(rest) != "EHLO x\r\n" {
					t.Errorf("left unread: %q", rest)
				}
				if h.Known != (tt.source != "") {
					t.Fatalf("Known = %v", h.Known)
				}
				if h.Known && (h.Source.String() != tt.source || h.Original.String() != tt.original) {
					t.Errorf("got %v to %v", h.Source, h.Original)
				}
			}
		})
	}
}

func TestBadHeadersAreRefused(t *testing.T) {
	bad := []string{
		"EHLO mail.example.org\r\n",
		"PROXY\r\nEHLO some.example.org\r\n",
		"proxy TCP4 192.0.2.1 192.0.2.2 1 25\r\n",
		"PROXY TCP4 192.0.2.1 192.0.2.2 1 25\n",
		"PROXY TCP4 192.0.2.1 192.0.2.2 1\n25\r\n",
		"PROXY TCP4 192.0.2.1 192.0.2.2 1 25 \r\n",
		"PROXY  TCP4 192.0.2.1 192.0.2.2 1 25\r\n",
		"PROXY TCP4 192.0.2.1 192.0.2.2 01 25\r\n",
		"PROXY TCP4 192.0.2.1 192.0.2.2 +1 25\r\n",
		"PROXY TCP4 192.0.2.1 192.0.2.2 65536 25\r\n",
		"PROXY TCP4 192.0.2.01 192.0.2.2 1 25\r\n",
		"PROXY TCP4 2001:db8::1 2001:db8::2 1 25\r\n",
		"PROXY TCP6 192.0.2.1 192.0.2.2 1 25\r\n",
		"PROXY TCP6 fe80::1%eth0 2001:db8::2 1 25\r\n",
		"PROXY TCP4 192.0.2.1\r192.0.2.2 1 25\r\n",
		"PROXY UDP4 192.0.2.1 192.0.2.2 1 25\r\n",
		"PROXY UNKNOWN" + strings.Repeat("x", 200) + "\r\n",
		v2(0x11, 0x11, "\x00\x0c", v4Block),
		v2(0x22, 0x11, "\x00\x0c", v4Block),
		v2(0x21, 0x12, "\x00\x0c", v4Block),
		v2(0x21, 0x11, "\x00\x0b", v4Block),
		v2(0x21, 0x21, "\x00\x0c", v4Block),
		v2(0x21, 0x11, "\x00\x0e", v4Block+"\x01\x00"),
		v2(0x21, 0x11, "\x00\x10", v4Block+"\x01\x00\x02h"),
		v2(0x21, 0x11, "\xff\xff", v4Block+strings.Repeat("x", 65535)),
	}
	for _, in := range bad {
		if h, err := ReadHeader(strings.NewReader(in)); !errors.Is(err, ErrProxyHeader) {
			t.Errorf("ReadHeader(%q) = %+v, %v", in, h, err)
		}
	}
	for _, in := range []string{"", "PROXY TCP4", "PROXY TCP4 192.0.2.1 192", v2Signature, v2(0x21, 0x11, "\x00\x0c", "abc")} {
		if _, err := ReadHeader(strings.NewReader(in)); !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut short at %q: %v", in, err)
		}
	}
}

func FuzzReadHeader(f *testing.F) {
	f.Add([]byte("PROXY TCP4 192.0.2.1 192.0.2.2 4096 25\r\nEHLO"))
	f.Add([]byte("PROXY UNKNOWN\r\n"))
	f.Add([]byte(v2(0x21, 0x11, "\x00\x11", v4Block+"\x01\x00\x02h2") + "EHLO"))
	f.Add([]byte(v2(0x21, 0x21, "\x00\x24", v6Block)))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := strings.NewReader(string(in))
		h, err := ReadHeader(r)
		used := len(in) - r.Len()
		if used > v2Fixed+v2MaxLength {
			t.Fatalf("%d bytes read", used)
		}
		if err != nil {
			return
		}
		if h.Known && (!h.Source.IsValid() || !h.Original.IsValid()) {
			t.Fatalf("known, but %+v", h)
		}
		// The header is complete: not one byte less would have done, and what
		// stands behind it makes no difference.
		if _, err := ReadHeader(strings.NewReader(string(in[:used-1]))); err == nil {
			t.Fatalf("the header of %q ends before byte %d", in, used)
		}
		again, err := ReadHeader(strings.NewReader(string(in[:used])))
		if err != nil || again != h {
			t.Fatalf("read again: %+v, %v; first %+v", again, err, h)
		}
	})
}
