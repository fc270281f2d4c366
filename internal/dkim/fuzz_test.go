package dkim

import (
	"strings"
	"testing"

	"gatepost/internal/message"
)

func FuzzTagList(f *testing.F) {
	for _, s := range []string{base, "", ";", "a=b;", "a=b;;c=d", "a", "a=b; a=c", " a = b c\t; d=", "a=\x00", "a=ä", "=", "a==;b=="} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		tags, wrong := parseTags(s)
		if (tags == nil) == (wrong == nil) {
			t.Fatalf("%q: %v, %v", s, tags, wrong)
		}
		var again strings.Builder
		for name, value := range tags {
			if !isTagName(name) || strings.ContainsAny(value, ";\r\n\x00") || trimSpace(value) != value {
				t.Fatalf("%q: %q=%q", s, name, value)
			}
			again.WriteString(name + "=" + value + ";")
		}
		if second, wrong := parseTags(again.String()); tags != nil && (wrong != nil || len(second) != len(tags)) {
			t.Fatalf("%q is not read again: %v", again.String(), wrong)
		}
	})
}

func FuzzKeyRecord(f *testing.F) {
	for _, selector := range []string{"rsa", "ed25519"} {
		f.Add(testRecord(f, selector))
	}
	for _, s := range []string{"", "v=DKIM1; p=", "p=AAAA", "k=ed25519; p=AAAA", "v=DKIM1; t=y:s; h=sha1; s=*; p=MAA="} {
		f.Add(s)
	}
	sum := make([]byte, 32)
	f.Fuzz(func(t *testing.T, s string) {
		k, wrong := parseKeyRecord(s)
		if wrong != nil {
			return
		}
		if k.bits > maxRSABits || k.bits < minRSABits && k.algorithm == "rsa-sha256" && k.fault == nil {
			t.Fatalf("%q: a key of %d bits", s, k.bits)
		}
		for _, value := range [][]byte{nil, {0}, make([]byte, 64), make([]byte, (k.bits+7)/8)} {
			if k.fault == nil && k.verifies(sum, value) {
				t.Fatalf("%q: a signature of zeros passes", s)
			}
		}
	})
}

// FuzzVerify checks that no message makes the verifier fail, and that nothing but
// the two signatures that it knows ever passes.
func FuzzVerify(f *testing.F) {
	z := testZone(f)
	signed := craft(f, "rsa.pem", base, plainMail)
	set, err := newSigner(f, "ed25519.pem", Options{}).Seal(f.Context(), content(signed), None, "mx.example.org; none")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(signed)
	f.Add(string(set) + signed)
	f.Add(crlfs(rfcFile(f, "message.txt")))
	for _, s := range []string{
		"", "\r\n\r\n", "DKIM-Signature:", "DKIM-Signature: b=", "DKIM-Signature: v=1; a=rsa-sha256; d=example.org; s=rsa; h=from; l=9; bh=AA; b=AA\r\n\r\nx",
		"ARC-Seal: i=1; a=rsa-sha256; cv=none; d=a.b; s=c; b=AA\r\n", "ARC-Authentication-Results: (c) i = 1 (c) ; x\r\n",
		strings.Repeat("DKIM-Signature: v=1;a=rsa-sha256;d=example.org;s=rsa;h=from;bh=AA;b=AA\r\n", 20),
	} {
		f.Add(s)
	}
	v := NewVerifier(VerifierConfig{Resolver: z})
	f.Fuzz(func(t *testing.T, msg string) {
		found, err := v.Verify(t.Context(), Input{Body: body{strings.NewReader(msg)}})
		if err != nil {
			t.Fatal(err)
		}
		header, err := message.ReadHeader(body{strings.NewReader(msg)}, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if n := header.Count("DKIM-Signature"); len(found.Signatures) != min(n, maxResults) {
			t.Fatalf("%d results for %d fields", len(found.Signatures), n)
		}
		for _, r := range found.Signatures {
			if (r.Status == Pass) != (r.Reason == "") || !isPrintable(r.Domain+r.Selector+r.Identity+r.Algorithm+r.Prefix) {
				t.Fatalf("%+v", r)
			}
			if r.Status == Pass && (r.Domain != "example.org" || header.Count("From") == 0 && !strings.Contains(msg, signed[:60])) {
				t.Fatalf("passes: %+v", r)
			}
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	z := testZone(b)
	text := strings.Repeat("A line of text as it is found in mail.\r\n", 500)
	small := "From: a@example.org\r\nTo: b@example.net\r\nSubject: x\r\nDate: Mon, 2 Jan 2006 15:04:05 +0000\r\n\r\n" + text
	two := sign(b, Group{newSigner(b, "rsa.pem", Options{}), newSigner(b, "ed25519.pem", Options{})}, small) + small
	large := manySignatures(b, 9<<20)
	hostile := strings.Repeat("DKIM-Signature: v=1; a=rsa-sha256; d=example.org; s=rsa; bh=AAAA; b=AAAA; h=from:"+
		strings.Repeat("a:b:c:d:e:f:g:h:", 4<<10)+"to\r\n", 100) + small
	for name, msg := range map[string]string{"20kB, 2 signatures": two, "9MB, 8 signatures and ARC": large, "100 signatures over 64kB of names": hostile} {
		b.Run(name, func(b *testing.B) {
			v := NewVerifier(VerifierConfig{Resolver: z, MaxHeader: 16 << 20})
			in := Input{Body: body{strings.NewReader(msg)}}
			b.SetBytes(int64(len(msg)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Verify(b.Context(), in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
