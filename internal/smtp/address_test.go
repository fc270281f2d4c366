package smtp

import (
	"errors"
	"strings"
	"testing"
)

func TestParsePath(t *testing.T) {
	l64, l65 := strings.Repeat("l", 64), strings.Repeat("l", 65)
	tests := []struct{ name, in, raw, local, domain, rest string }{
		{"plain", "<a@b.example>", "a@b.example", "a", "b.example", ""},
		{"parameters follow", "<a@b.example> SIZE=1", "a@b.example", "a", "b.example", " SIZE=1"},
		{"upper case", "<A@IN.Example>", "A@IN.Example", "A", "in.example", ""},
		{"final dot", "<a@b.example.>", "a@b.example", "a", "b.example", ""},
		{"source route is ignored", "<@x.example,@y.example:a@b.example>", "a@b.example", "a", "b.example", ""},
		{"quoted keeps its form", `<"a b\"c@d"@in.example>`, `"a b\"c@d"@in.example`, `a b"c@d`, "in.example", ""},
		{"quoted with >", `<"a@evil.com>x y"@good.com>`, `"a@evil.com>x y"@good.com`, "a@evil.com>x y", "good.com", ""},
		{"IPv4 literal", "<v@[127.0.0.1]>", "v@[127.0.0.1]", "v", "[127.0.0.1]", ""},
		{"IPv6 literal", "<v@[IPv6:::1]>", "v@[IPv6:::1]", "v", "[IPv6:::1]", ""},
		{"bare postmaster", "<Postmaster>", "Postmaster", "Postmaster", "", ""},
		{"IDN is compared as A-label", "<a@bücher.example>", "a@bücher.example", "a", "xn--bcher-kva.example", ""},
		{"longest local part", "<" + l64 + "@b.example>", l64 + "@b.example", l64, "b.example", ""},
		{"null", "<>", "", "", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, rest, err := ParsePath(tt.in, true)
			if err != nil {
				t.Fatal(err)
			}
			if a.Raw != tt.raw || a.Local != tt.local || a.Domain != tt.domain || rest != tt.rest {
				t.Errorf("got %+v rest %q", a, rest)
			}
		})
	}
	bad := []string{
		"", "a@b.example", "<", "<a", "<a@", "<a@>", "<@b.example>", `<"">`, `<""@in.example>`, `<"@in.example>`,
		"<a..b@in.example>", "<.a@in.example>", "<a.@in.example>", "<a b@in.example>", "<a@b@c.example>",
		"<a@b..example>", "<a@-b.example>", "<a@b.example", "<@x.example:>", "<a@[300.1.1.1]>", "<a@[1.2.3.4>",
		"<user>", "<" + l65 + "@b.example>", "<a@" + strings.Repeat("d.", 128) + "ee>", "<a@b.example\r\nRCPT>", "<a\x00@b.example>",
		"<\"a\r\n\"@b.example>", "<a@b\xff.example>",
	}
	for _, in := range bad {
		if a, _, err := ParsePath(in, true); err == nil {
			t.Errorf("ParsePath(%q) accepted as %+v", in, a)
		}
	}
	if _, _, err := ParsePath("<аdmin@in.example>", false); !errors.Is(err, ErrNeedsUTF8) {
		t.Errorf("non-ASCII without SMTPUTF8: %v", err)
	}
}

func FuzzParsePath(f *testing.F) {
	for _, s := range []string{"<a@b.example>", `<"a b\"c@d"@in.example> X`, "<@x:a@b>", "<ü@ü.example>", "<>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, rest, err := ParsePath(s, true)
		if err != nil {
			return
		}
		if strings.ContainsAny(a.Raw, "\r\n\x00") || strings.ContainsAny(a.Local, "\r\n\x00") {
			t.Fatalf("ParsePath(%q) let a control character through: %q", s, a)
		}
		if !strings.HasSuffix(s, rest) {
			t.Fatalf("rest %q is not the end of %q", rest, s)
		}
		again, _, err := ParsePath("<"+a.Raw+">", true)
		if err != nil || again != a {
			t.Fatalf("%q parsed to %+v, written back and parsed to %+v, %v", s, a, again, err)
		}
	})
}
