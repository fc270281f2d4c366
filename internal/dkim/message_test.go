package dkim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/message"
)

// AUT-03.
func TestVerifyTheExampleOfRFC6376(t *testing.T) {
	msg, err := os.ReadFile("testdata/rfc6376/message.txt")
	if err != nil {
		t.Fatal(err)
	}
	// RFC 6376, appendix C.
	z := zone{"brisbane._domainkey.example.com": {"v=DKIM1; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQ" +
		"KBgQDwIRP/UC3SBsEmGqZ9ZJW3/DkMoGeLnQg1fWn7/zYt" +
		"IxN2SnFCjxOCKG9v3b4jYfcTNh5ijSsq631uBItLa7od+v" +
		"/RtdC2UzJ1lWT947qR+Rcac2gbto/NMqJ0fzfVjH4OuKhi" +
		"tdY9tf6mcwGjaNBcWToIMmPSPDdQPNUYckcQ2QIDAQAB"}}
	r := one(t, verify(t, z, crlfs(string(msg))))
	if r.Status != Pass || r.Domain != "example.com" || r.Identity != "joe@football.example.com" || r.KeyBits != 1024 || r.Prefix != "AuUoFEfD" {
		t.Errorf("%+v", r)
	}
	changed := strings.Replace(string(msg), "Are you", "Are  you", 1)
	if r := one(t, verify(t, z, crlfs(changed))); r.Status != Fail || r.Reason != "the body was changed" {
		t.Errorf("a space more: %+v", r)
	}
}

// AUT-06: what may change on the way, and what may not.
func TestChangesOnTheWay(t *testing.T) {
	relaxed, simple := base, strings.Replace(base, "relaxed/relaxed", "simple/simple", 1)
	tests := []struct {
		name, tags, old, replacement string
		want                         Status
	}{
		{"nothing, relaxed", relaxed, "", "", Pass},
		{"nothing, simple", simple, "", "", Pass},
		{"white space in the body, relaxed", relaxed, "Hello,  world \r\n", "Hello, \tworld\r\n", Pass},
		{"white space in the body, simple", simple, "Hello,  world \r\n", "Hello,  world\r\n", Fail},
		{"empty lines at the end, relaxed", relaxed, "world \r\n\r\n", "world \r\n\r\n\r\n\r\n", Pass},
		{"empty lines at the end, simple", simple, "world \r\n\r\n", "world \r\n\r\n\r\n\r\n", Pass},
		{"an empty line in front", relaxed, "Hello", "\r\nHello", Fail},
		{"a byte of the body", relaxed, "Hello", "Hallo", Fail},
		{"a byte of a signed field", relaxed, "Subject: x", "Subject: y", Fail},
		{"the case of a name, relaxed", relaxed, "Subject:", "SUBJECT:", Pass},
		{"the case of a name, simple", simple, "Subject:", "SUBJECT:", Fail},
		{"a fold, relaxed", relaxed, "Subject: x", "Subject:\r\n x", Pass},
		{"a fold, simple", simple, "Subject: x", "Subject:\r\n x", Fail},
		{"white space before a colon", relaxed, "Subject: x", "Subject : x", Pass},
		{"a field that is not signed", relaxed, "To:", "X-New: y\r\nTo:", Pass},
		{"a second Subject above", relaxed, "From:", "Subject: free\r\nFrom:", Pass},
		{"a second Subject below", relaxed, "Date:", "Subject: free\r\nDate:", Fail},
		{"the order of fields", relaxed, "To: b@example.net\r\nSubject: x\r\n", "Subject: x\r\nTo: b@example.net\r\n", Pass},
		{"the signature field folded anew, relaxed", relaxed, "; d=", ";\r\n\t d=", Pass},
		{"the signature field folded anew, simple", simple, "; d=", ";\r\n d=", Fail},
		{"d= in another case", relaxed, "d=example.org", "d=Example.org", Fail},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			msg := craft(t, "rsa.pem", tt.tags, plainMail)
			changed := strings.Replace(msg, tt.old, tt.replacement, 1)
			if tt.old != "" && changed == msg {
				t.Fatal("nothing was changed")
			}
			if r := one(t, verify(t, testZone(t), changed)); r.Status != tt.want {
				t.Errorf("got %s (%s), want %s", r.Status, r.Reason, tt.want)
			}
		})
	}
}

func TestBOnlyLosesItsValue(t *testing.T) {
	tests := []struct{ name, raw, want string }{
		{"at the end", "A: x=1; b=abc\r\n", "A: x=1; b="},
		{"in the middle", "A: b=abc; x=1\r\n", "A: b=; x=1\r\n"},
		{"with folds around", "A: x=1;\r\n\tb =\r\n abc\r\n def \r\n ; y=2\r\n", "A: x=1;\r\n\tb =; y=2\r\n"},
		{"with bh= before it", "A: bh=abc; b=def\r\n", "A: bh=abc; b="},
		{"with b= within another value", "A: x=b=1; b=def\r\n", "A: x=b=1; b="},
		{"a field whose name has a b=", "A: z=q;\tb=d=e;\r\n", "A: z=q;\tb=;\r\n"},
	}
	for _, tt := range tests {
		if got := unsignedField(tt.raw); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

// AUT-07.
func TestLengthOfTheBody(t *testing.T) {
	const canonical = "Hello, world\r\n" // of plainMail
	msg := craft(t, "rsa.pem", fmt.Sprintf("%s; l=%d", base, len(canonical)), plainMail)
	appended := msg + "<html>Buy!</html>\r\n"
	accepting := VerifierConfig{Resolver: testZone(t), AcceptPartial: true}
	if r := one(t, verify(t, testZone(t), msg)); r.Status != Pass || r.BodyLimited {
		t.Errorf("l= of the whole body: %+v", r)
	}
	if r := one(t, verify(t, testZone(t), appended)); r.Status != Policy || !r.BodyLimited {
		t.Errorf("text behind l=: %+v", r)
	}
	if r := one(t, verifyWith(t, accepting, appended)); r.Status != Pass || !r.BodyLimited {
		t.Errorf("text behind l= where it is accepted: %+v", r)
	}
	for length, limited := range map[int]bool{0: true, 5: true, len(canonical): false} {
		r := one(t, verifyWith(t, accepting, craft(t, "rsa.pem", fmt.Sprintf("%s; l=%d", base, length), plainMail)))
		if r.Status != Pass || r.BodyLimited != limited {
			t.Errorf("l=%d: %+v", length, r)
		}
	}
	for _, length := range []string{"15", strings.Repeat("9", 76)} {
		tags := strings.Replace(base, "{bh}", "AAAA", 1) + "; l=" + length
		r := one(t, verifyWith(t, accepting, craft(t, "rsa.pem", tags, plainMail)))
		if r.Status != Fail || r.Reason != "the body is shorter than l=" {
			t.Errorf("l=%s: %+v", length, r)
		}
	}
	for _, length := range []string{"-1", "1 2", "x", "", strings.Repeat("9", 77)} {
		if r := one(t, verify(t, testZone(t), craft(t, "rsa.pem", base+"; l="+length, plainMail))); r.Status != PermError {
			t.Errorf("l=%q: %+v", length, r)
		}
	}
}

func TestManyLengthsAreOnePass(t *testing.T) {
	msg := plainMail
	for _, length := range []int{0, 3, 3, 14, 7, 1} {
		signed := craft(t, "ed25519.pem", strings.NewReplacer("rsa-", "ed25519-", "s=rsa", "s=ed25519").Replace(base)+fmt.Sprintf("; l=%d", length), plainMail)
		msg = strings.TrimSuffix(signed, plainMail) + msg
	}
	for i, r := range verifyWith(t, VerifierConfig{Resolver: testZone(t), AcceptPartial: true}, msg).Signatures {
		if r.Status != Pass {
			t.Errorf("signature %d: %+v", i, r)
		}
	}
}

func TestEveryFromMustBeSigned(t *testing.T) {
	const two = "From: a@example.org\r\nFrom: b@example.org\r\nTo: c@example.net\r\nSubject: x\r\nDate: y\r\n\r\nx\r\n"
	r := one(t, verify(t, testZone(t), craft(t, "rsa.pem", base, two)))
	if r.Status != Policy || r.Reason != "a From field is not signed" {
		t.Errorf("one of two: %+v", r)
	}
	both := strings.Replace(base, "h=from", "h=from:from", 1)
	if r := one(t, verify(t, testZone(t), craft(t, "rsa.pem", both, two))); r.Status != Pass {
		t.Errorf("both: %+v", r)
	}
	added := strings.Replace(craft(t, "rsa.pem", both, plainMail), "From:", "From: e@evil.example\r\nFrom:", 1)
	if r := one(t, verify(t, testZone(t), added)); r.Status != Fail {
		t.Errorf("one added to an oversigned one: %+v", r)
	}
}

// AUT-12.
func TestAmbiguousHeaderSectionsProveNothing(t *testing.T) {
	for name, change := range map[string]string{
		"a lone LF":                     "X-New: y\n\nEvil text\r\n",
		"a lone CR":                     "X-New: y\r\rEvil text\r\n",
		"LF and CRLF":                   "X-New: y\n\r\n Evil text\r\n",
		"a line that is no field":       "Evil text\r\n",
		"a name with a space":           "Evil text: x\r\n",
		"a LF within a name":            "X\nSubject: y\r\n",
		"a field without name":          ": y\r\n",
		"an mbox line in the middle":    "From evil Mon Jan  1 00:00:00 2024\r\n",
		"a CR in front of the line end": "X-New: y\r\r\n",
	} {
		msg := strings.Replace(craft(t, "rsa.pem", base, plainMail), "To:", change+"To:", 1)
		if r := one(t, verify(t, testZone(t), msg)); r.Status != Policy || r.Reason != "the header section is ambiguous" {
			t.Errorf("%s: %+v", name, r)
		}
	}
	mbox := "From a@example.org Mon Jan  1 00:00:00 2024\r\n" + craft(t, "rsa.pem", base, plainMail)
	if r := one(t, verify(t, testZone(t), mbox)); r.Status != Pass {
		t.Errorf("an mbox line on top: %+v", r)
	}
	// A reader that takes LF for a line end shows another body; the signature is
	// over the CRLF lines, and over all of the rest.
	hidden := strings.Replace(craft(t, "rsa.pem", base, plainMail), "\r\n\r\nHello", "\r\nX: y\n\nHello", 1)
	if r := one(t, verify(t, testZone(t), hidden)); r.Status == Pass {
		t.Errorf("another empty line: %+v", r)
	}
}

// counting resolves and counts.
type counting struct {
	zone
	mu    sync.Mutex
	names []string
}

func (c *counting) TXT(ctx context.Context, name string) ([]string, error) {
	c.mu.Lock()
	c.names = append(c.names, name)
	c.mu.Unlock()
	return c.zone.TXT(ctx, name)
}

// AUT-08.
func TestOnlySomeSignaturesAreChecked(t *testing.T) {
	names := "from:" + strings.Repeat("a:b:c:d:e:f:g:h:", 64<<10/16) + "to"
	resolver := &counting{zone: make(zone)}
	var msg strings.Builder
	for i := range 150 {
		selector := fmt.Sprintf("s%d", i)
		resolver.zone[selector+"._domainkey.example.org"] = []string{testRecord(t, "rsa")}
		tags := strings.NewReplacer("s=rsa", "s="+selector, "from:to:subject:date", names).Replace(base)
		if i > 2 {
			tags = strings.ReplaceAll(tags, "{bh}", "AAAA")
			msg.WriteString("DKIM-Signature: " + tags + "; b=AAAA\r\n")
			continue
		}
		msg.WriteString(strings.TrimSuffix(craft(t, "rsa.pem", tags, plainMail), plainMail))
	}
	v := verifyWith(t, VerifierConfig{Resolver: resolver, MaxHeader: 64 << 20}, msg.String()+plainMail)
	if len(v.Signatures) != maxResults || len(resolver.names) != 8 {
		t.Fatalf("%d results, %d lookups", len(v.Signatures), len(resolver.names))
	}
	for i, r := range v.Signatures {
		want := Pass
		if i > 2 {
			want = Fail
		}
		if i >= 8 {
			want = Policy
		}
		if r.Status != want || r.Domain != "example.org" {
			t.Errorf("%d: %+v", i, r)
		}
	}
	if !v.Passed(func(d string) bool { return d == "example.org" }) || v.Passed(func(string) bool { return false }) {
		t.Error("Passed is wrong")
	}
}

// AUT-08.
func TestLargeKeysAreBounded(t *testing.T) {
	z := zone{"rsa._domainkey.example.org": {rsaRecord(t, oddNumber(maxRSABits))}}
	msg := strings.Repeat("DKIM-Signature: "+strings.ReplaceAll(base, "{bh}", "AAAA")+"; b=AAAA\r\n", 70) + plainMail
	v := verifyWith(t, VerifierConfig{Resolver: z, MaxSignatures: 70}, msg)
	for i, r := range v.Signatures {
		want := Fail
		if i >= 64 {
			want = Policy
		}
		if r.Status != want {
			t.Errorf("signature %d: %s (%s), want %s", i, r.Status, r.Reason, want)
		}
	}
}

func TestSignaturesThatCannotBeUsedDoNotCount(t *testing.T) {
	msg := strings.Repeat("DKIM-Signature: v=1; rubbish\r\n", 20) + craft(t, "rsa.pem", base, plainMail)
	v := verifyWith(t, VerifierConfig{Resolver: testZone(t), MaxSignatures: 1}, msg)
	if n := len(v.Signatures); n != 21 || v.Signatures[20].Status != Pass {
		t.Errorf("%d results, the last one %+v", n, v.Signatures[n-1])
	}
}

// readOnce counts what is read of a message.
type readOnce struct {
	body
	read int64
}

func (r *readOnce) ReadAt(p []byte, off int64) (int, error) {
	n, err := r.body.ReadAt(p, off)
	r.read += int64(n)
	return n, err
}

func TestABodyIsReadOnceForAllSignatures(t *testing.T) {
	msg := manySignatures(t, 9<<20)
	b := &readOnce{body: body{strings.NewReader(msg)}}
	resolver := &counting{zone: testZone(t)}
	v, err := NewVerifier(VerifierConfig{Resolver: resolver}).Verify(t.Context(), Input{Body: b})
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range v.Signatures {
		if r.Status != Pass {
			t.Errorf("%d: %+v", i, r)
		}
	}
	if len(v.Signatures) != 8 || v.ARC.Status != Pass {
		t.Errorf("%d signatures, ARC %+v", len(v.Signatures), v.ARC)
	}
	// The header is read in a chunk of its own.
	if most := int64(len(msg)) + 64<<10; b.read > most {
		t.Errorf("%d bytes of %d were read", b.read, len(msg))
	}
	if len(resolver.names) != 2 {
		t.Errorf("lookups: %q", resolver.names)
	}
}

// manySignatures returns a message with 8 signatures of all canonicalisations and
// an ARC set.
func manySignatures(t testing.TB, size int) string {
	msg := plainMail + strings.Repeat("A line of text  as it is found in mail. \r\n", size/42)
	var all string
	for _, key := range []string{"rsa.pem", "ed25519.pem"} {
		for _, c := range []string{"relaxed/relaxed", "relaxed/simple", "simple/relaxed", "simple/simple"} {
			tags := strings.Replace(base, "relaxed/relaxed", c, 1)
			if key != "rsa.pem" {
				tags = strings.NewReplacer("rsa-", "ed25519-", "s=rsa", "s=ed25519").Replace(tags)
			}
			all += strings.TrimSuffix(craft(t, key, tags, msg), msg)
		}
	}
	set, err := newSigner(t, "rsa.pem", Options{}).Seal(t.Context(), content(all+msg), None, "mx.example.org; none")
	if err != nil {
		t.Fatal(err)
	}
	return string(set) + all + msg
}

func TestABodyThatNothingDependsOnIsNotRead(t *testing.T) {
	msg := strings.Replace(craft(t, "rsa.pem", base, plainMail+strings.Repeat("x\r\n", 1<<20)), "Subject: x", "Subject: y", 1)
	header, err := message.ReadHeader(body{strings.NewReader(msg)}, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	b := &readOnce{body: body{strings.NewReader(msg)}}
	v, err := NewVerifier(VerifierConfig{Resolver: testZone(t)}).Verify(t.Context(), Input{Body: b, Header: header})
	if err != nil || one(t, v).Status != Fail {
		t.Fatalf("%+v, %v", v, err)
	}
	if b.read != 0 {
		t.Errorf("%d bytes were read", b.read)
	}
}

func TestVerifyErrors(t *testing.T) {
	msg := craft(t, "rsa.pem", base, plainMail)
	v := NewVerifier(VerifierConfig{Resolver: testZone(t), MaxHeader: 100})
	if _, err := v.Verify(t.Context(), Input{Body: body{strings.NewReader(msg)}}); !errors.Is(err, message.ErrHeaderTooBig) {
		t.Errorf("a header above the limit: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	v = NewVerifier(VerifierConfig{Resolver: testZone(t)})
	if _, err := v.Verify(ctx, Input{Body: body{strings.NewReader(msg)}}); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled context: %v", err)
	}
	full := errors.New("disk on fire")
	if _, err := v.Verify(t.Context(), Input{Body: broken{body{strings.NewReader(msg)}, full}}); !errors.Is(err, full) {
		t.Errorf("a body that cannot be read: %v", err)
	}
	for _, msg := range []string{"", "\r\n", "x", "DKIM-Signature:", "ARC-Seal:", "DKIM-Signature: \r\n\r\n"} {
		if _, err := v.Verify(t.Context(), Input{Body: body{strings.NewReader(msg)}}); err != nil {
			t.Errorf("%q: %v", msg, err)
		}
	}
}

// broken fails behind the header section.
type broken struct {
	mail.Body
	err error
}

func (b broken) ReadAt(p []byte, off int64) (int, error) {
	if off > 0 {
		return 0, b.err
	}
	return b.Body.ReadAt(p, off)
}

// RFC 8616 §5.
func TestInternationalDomainsAreLookedUpInASCII(t *testing.T) {
	z := zone{"xn--schlssel-95a._domainkey.xn--bcher-kva.example": {testRecord(t, "rsa")}}
	tags := strings.NewReplacer("d=example.org", "d=bücher.example; i=jörg@bücher.example", "s=rsa", "s=schlüssel").Replace(base)
	r := one(t, verify(t, z, craft(t, "rsa.pem", tags, plainMail)))
	if r.Status != Pass || r.Domain != "xn--bcher-kva.example" || r.Selector != "xn--schlssel-95a" || r.Identity != "@xn--bcher-kva.example" {
		t.Errorf("%+v", r)
	}
}

// slow never answers.
type slow struct{}

func (slow) TXT(ctx context.Context, _ string) ([]string, error) {
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

func TestAKeyThatDoesNotComeInTimeIsATemporaryError(t *testing.T) {
	msg := craft(t, "rsa.pem", base, craft(t, "ed25519.pem", base, plainMail))
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		v := verifyWith(t, VerifierConfig{Resolver: slow{}, LookupTimeout: 3 * time.Second}, msg)
		for _, r := range v.Signatures {
			if r.Status != TempError {
				t.Errorf("%+v", r)
			}
		}
		if took := time.Since(begun); took != 3*time.Second || len(v.Signatures) != 2 {
			t.Errorf("%d results after %v", len(v.Signatures), took)
		}
	})
}
