package dkim

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// zone answers from memory, as dns.Resolver does.
type zone map[string][]string

type zoneError struct {
	error
	notFound bool
}

func (e zoneError) NotFound() bool { return e.notFound }

func (z zone) TXT(_ context.Context, name string) ([]string, error) {
	texts, ok := z[name]
	switch {
	case !ok:
		return nil, zoneError{context.Canceled, true}
	case texts == nil:
		return nil, zoneError{context.DeadlineExceeded, false}
	}
	return texts, nil
}

func verify(t testing.TB, z zone, msg string) *Verification {
	t.Helper()
	return verifyWith(t, VerifierConfig{Resolver: z}, msg)
}

func verifyWith(t testing.TB, cfg VerifierConfig, msg string) *Verification {
	t.Helper()
	v, err := NewVerifier(cfg).Verify(t.Context(), Input{Body: body{strings.NewReader(msg)}})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// base are the tags of an ordinary signature.
const base = "v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.org; s=rsa; h=from:to:subject:date; bh={bh}"

// AUT-03.
func TestVerifyTheExampleOfRFC8463(t *testing.T) {
	z := make(zone)
	for selector, file := range map[string]string{"brisbane": "ed25519.pem", "test": "rsa.pem"} {
		r, err := DNSRecord(selector, "football.example.com", rfcKey(t, file).Public())
		if err != nil {
			t.Fatal(err)
		}
		z[r.Name] = []string{r.Value()}
	}
	v := verify(t, z, crlfs(rfcFile(t, "message.txt")))
	want := []Result{
		{Status: Pass, Domain: "football.example.com", Selector: "brisbane", Identity: "@football.example.com", Algorithm: "ed25519-sha256", KeyBits: 256, Prefix: "/gCrinpc", Signed: time.Unix(1528637909, 0)},
		{Status: Pass, Domain: "football.example.com", Selector: "test", Identity: "@football.example.com", Algorithm: "rsa-sha256", KeyBits: 1024, Prefix: "F45dVWDf", Signed: time.Unix(1528637909, 0)},
	}
	if diff := cmp.Diff(want, v.Signatures); diff != "" {
		t.Error(diff)
	}
	if v.ARC.Status != None {
		t.Errorf("ARC %+v", v.ARC)
	}
}

// AUT-03: what the tags of a signature say.
func TestSignatureTags(t *testing.T) {
	replace := func(old, replacement string) string {
		changed := strings.Replace(base, old, replacement, 1)
		if changed == base {
			t.Fatalf("%q is not in the tags", old)
		}
		return changed
	}
	tests := []struct {
		name, tags string
		want       Status
		reason     string
	}{
		{"an ordinary signature", base, Pass, ""},
		{"folded and spaced anywhere", "v = 1 ;\r\n a=\trsa-sha256; c=relaxed/relaxed; d=example.org;\r\n\ts=rsa; h=from :\r\n to:subject : date; bh={bh}", Pass, ""},
		{"tags in another order", "bh={bh}; h=from:to:subject:date; s=rsa; d=example.org; c=relaxed/relaxed; a=rsa-sha256; v=1", Pass, ""},
		{"unknown tags", base + "; x9_=y; r=y", Pass, ""},
		{"c= without its second half", replace("relaxed/relaxed", "relaxed"), Pass, ""},
		{"no c=", replace("c=relaxed/relaxed; ", ""), Pass, ""},
		{"another c=", replace("relaxed/relaxed", "relaxed/nowsp"), PermError, "c= is unknown"},
		{"an empty c=", replace("relaxed/relaxed", ""), PermError, "c= is unknown"},
		{"no v=", replace("v=1; ", ""), PermError, "v= is missing"},
		{"another v=", replace("v=1", "v=2"), Neutral, "unknown version"},
		{"a v= that is nearly 1", replace("v=1", "v=1.0"), Neutral, "unknown version"},
		{"no a=", replace("a=rsa-sha256; ", ""), PermError, "a= is missing"},
		{"an unknown a=", replace("rsa-sha256", "rsa-sha512"), Neutral, "unknown algorithm"},
		{"an a= in upper case", replace("rsa-sha256", "RSA-SHA256"), Neutral, "unknown algorithm"},
		{"rsa-sha1", replace("rsa-sha256", "rsa-sha1"), Fail, "rsa-sha1 is not accepted"},
		{"an a= that the key is not for", replace("rsa-sha256", "ed25519-sha256"), PermError, "the key is of another kind than the signature"},
		{"no d=", replace("d=example.org; ", ""), PermError, "d= is no domain"},
		{"a d= of one label", replace("d=example.org", "d=org"), PermError, "d= is no domain"},
		{"a d= that is no name", replace("d=example.org", "d=example..org"), PermError, "d= is no domain"},
		{"a d= in another case", replace("d=example.org", "d=Example.ORG"), Pass, ""},
		{"no s=", replace("s=rsa; ", ""), PermError, "s= is no selector"},
		{"a selector that is not published", replace("s=rsa", "s=other"), PermError, "no key"},
		{"a name that is too long", replace("s=rsa", "s="+strings.Repeat("a.", 120)+"a"), PermError, "d= and s= are too long"},
		{"no h=", replace("h=from:to:subject:date; ", ""), PermError, "h= is missing"},
		{"h= without From", replace("h=from:to:subject", "h=to:subject"), PermError, "From is not signed"},
		{"h= of names that do not occur", replace("h=from", "h=x-none:from:from:cc"), Pass, ""},
		{"h= that names signatures, which are those of others", replace("h=from", "h=dkim-signature:from:dkim-signature"), Pass, ""},
		{"no bh=", replace("; bh={bh}", ""), PermError, "bh= is no base64"},
		{"a bh= that is no base64", replace("{bh}", "_{bh}"), PermError, "bh= is no base64"},
		{"a bh= without padding", replace("{bh}", "ZZZZ"), Fail, "the body was changed"},
		{"i= below d=", base + "; i=a@sub.example.org", Pass, ""},
		{"i= with an encoded local part", base + "; i=a=3Db@example.org", Pass, ""},
		{"i= elsewhere", base + "; i=@example.com", PermError, "i= is not within d="},
		{"i= that only ends alike", base + "; i=@notexample.org", PermError, "i= is not within d="},
		{"i= above d=", base + "; i=@org", PermError, "i= is not within d="},
		{"i= without @", base + "; i=example.org", PermError, "i= has no @"},
		{"q= that is known", base + "; q=http/json : DNS/TXT", Pass, ""},
		{"q= that is not known", base + "; q=http/json", PermError, "q= has no way to get the key"},
		{"a t= that is no time", base + "; t=-1", PermError, "t= is no time"},
		{"a t= of 13 digits", base + "; t=1234567890123", PermError, "t= is no time"},
		{"x= of the past", base + "; t=1; x=2", Fail, "signature expired"},
		{"x= before t=", base + "; t=2; x=1", PermError, "x= is not after t="},
		{"x= of 13 digits", base + "; x=1234567890123", Pass, ""},
		{"x= that is no time", base + "; x=soon", PermError, "x= is no time"},
		{"t= of the future", base + "; t=99999999999", Fail, "signature of the future"},
		{"a tag that stands there twice", base + "; d=example.org", PermError, "a tag stands there twice"},
		{"two semicolons", replace("; d=", ";; d="), PermError, "malformed tag list"},
		{"a tag without value", base + "; y", PermError, "malformed tag list"},
		{"a tag name with a hyphen", base + "; x-y=z", PermError, "malformed tag list"},
		{"an empty tag name", base + "; =z", PermError, "malformed tag list"},
		{"a control character", base + "; y=\x01", PermError, "a character that a tag must not have"},
		{"a lone LF", base + "; y=a\nb", PermError, "a character that a tag must not have"},
		{"bytes that are no UTF-8", base + "; y=\xff", PermError, "a character that a tag must not have"},
		{"UTF-8", base + "; y=ä", Pass, ""},
		{"101 tags", base + strings.Repeat("; y=z", 1) + manyTags(100), PermError, "too many tags"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := one(t, verify(t, testZone(t), craft(t, "rsa.pem", tt.tags, plainMail)))
			if r.Status != tt.want || r.Reason != tt.reason {
				t.Errorf("got %s (%s), want %s (%s)", r.Status, r.Reason, tt.want, tt.reason)
			}
			if r.Expired != (tt.reason == "signature expired") {
				t.Errorf("expired: %v", r.Expired)
			}
		})
	}
}

func manyTags(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "; z%d=", i)
	}
	return b.String()
}

func TestExpiryIsCountedFromWhenTheMessageCame(t *testing.T) {
	msg := craft(t, "rsa.pem", base+"; t=1000000; x=1100000", plainMail)
	v := NewVerifier(VerifierConfig{Resolver: testZone(t)})
	for came, want := range map[int64]Status{
		1000000 - 301: Fail, 1000000 - 299: Pass, 1050000: Pass, 1100000 + 299: Pass, 1100000 + 301: Fail,
	} {
		found, err := v.Verify(t.Context(), Input{Body: body{strings.NewReader(msg)}, Received: time.Unix(came, 0)})
		if err != nil {
			t.Fatal(err)
		}
		if r := one(t, found); r.Status != want {
			t.Errorf("at %d: %s (%s), want %s", came, r.Status, r.Reason, want)
		}
	}
}

// AUT-03, AUT-08: what key records say.
func TestKeyRecords(t *testing.T) {
	good := testRecord(t, "rsa")
	_, p, _ := strings.Cut(good, "p=")
	ed := testRecord(t, "ed25519")
	public := rfcKey(t, "rsa.pem").Public().(*rsa.PublicKey)
	bare := base64.StdEncoding.EncodeToString(x509.MarshalPKCS1PublicKey(public))
	const tooShort = "the key of 768 bits is too short"
	tests := []struct {
		name    string
		records []string
		want    Status
		reason  string
	}{
		{"an ordinary record", []string{good}, Pass, ""},
		{"only the key", []string{"p=" + p}, Pass, ""},
		{"spaces and folds in it", []string{" v = DKIM1 ; p = " + p[:20] + " \t" + p[20:] + " ; "}, Pass, ""},
		{"unknown and old tags", []string{"v=DKIM1; g=nobody; n=notes; foo=bar; p=" + p}, Pass, ""},
		{"the bare key of RFC 6376", []string{"p=" + bare}, Pass, ""},
		{"all flags and lists", []string{"v=DKIM1; k=rsa; h=sha1 : sha256; s=tlsrpt:email; t=x:y; p=" + p}, Pass, ""},
		{"any service", []string{"s=*; p=" + p}, Pass, ""},
		{"another TXT record beside it", []string{"v=spf1 -all", good}, Pass, ""},
		{"another key beside it", []string{ed, "v=DKIM1; p=", good}, Pass, ""},
		{"no record", []string{}, PermError, "no key"},
		{"an empty record", []string{""}, PermError, "the key record is malformed"},
		{"not a key at all", []string{"hello"}, PermError, "the key record is malformed"},
		{"a malformed tag", []string{"v=DKIM1; t; p=" + p}, PermError, "the key record is malformed"},
		{"a tag twice", []string{"p=" + p + "; p=" + p}, PermError, "the key record is malformed"},
		{"another version", []string{"v=DKIM2; p=" + p}, PermError, "the key record has another version"},
		{"a colon for a semicolon", []string{"v=DKIM1: k=rsa; p=" + p}, PermError, "the key record has another version"},
		{"a version that is not first", []string{"k=rsa; v=DKIM1; p=" + p}, PermError, "the key record has another version"},
		{"no p=", []string{"v=DKIM1; k=rsa"}, PermError, "the key record has no key"},
		{"revoked", []string{"v=DKIM1; k=rsa; p="}, PermError, "the key is revoked"},
		{"no base64", []string{"p=!!" + p}, PermError, "the key is no base64"},
		{"cut off", []string{"p=" + p[:len(p)/2]}, PermError, "the key is no RSA key"},
		{"another kind", []string{"k=ed25519-sha256; p=" + p}, PermError, "the key is of an unknown kind"},
		{"Ed25519 in a SubjectPublicKeyInfo", []string{"k=ed25519; p=" + p}, PermError, "the key is no Ed25519 key"},
		{"an Ed25519 key", []string{ed}, PermError, "the key is of another kind than the signature"},
		{"for another hash", []string{"h=sha1; p=" + p}, PermError, "the key is not for sha256"},
		{"for another service", []string{"s=tlsrpt; p=" + p}, PermError, "the key is not for mail"},
		{"another key", []string{rsaRecord(t, big.NewInt(0).Add(public.N, big.NewInt(2)))}, Fail, "the signature does not fit the header"},
		{"768 bits", []string{rsaRecord(t, oddNumber(768))}, Fail, tooShort},
		{"16384 bits", []string{rsaRecord(t, oddNumber(16384))}, Fail, "the signature does not fit the header"},
		{"16385 bits", []string{rsaRecord(t, oddNumber(16385))}, PermError, "the key is too long"},
		{"a million bits", []string{rsaRecord(t, oddNumber(1_000_000))}, PermError, "the key is too long"},
		{"an outage", nil, TempError, "the key cannot be looked up"},
	}
	msg := craft(t, "rsa.pem", base, plainMail)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := one(t, verify(t, zone{"rsa._domainkey.example.org": tt.records}, msg))
			if r.Status != tt.want || r.Reason != tt.reason {
				t.Errorf("got %s (%s), want %s (%s)", r.Status, r.Reason, tt.want, tt.reason)
			}
			if strings.HasPrefix(tt.name, "16384") && r.KeyBits != 16384 || tt.reason == tooShort && r.KeyBits != 768 {
				t.Errorf("%d bits", r.KeyBits)
			}
			if r.Testing != (tt.name == "all flags and lists") {
				t.Errorf("testing: %v", r.Testing)
			}
		})
	}
}

// oddNumber has the shape of an RSA modulus.
func oddNumber(bits uint) *big.Int {
	n := new(big.Int).Lsh(big.NewInt(1), bits-1)
	return n.Add(n, big.NewInt(12345))
}

func rsaRecord(t *testing.T, n *big.Int) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: n, E: 65537})
	if err != nil {
		t.Fatal(err)
	}
	return "v=DKIM1; p=" + base64.StdEncoding.EncodeToString(der)
}

func TestAStrictKeyIsNotForSubdomains(t *testing.T) {
	z := zone{"rsa._domainkey.example.org": {testRecord(t, "rsa") + "; t=s"}}
	for identity, want := range map[string]Status{"": Pass, "; i=@example.org": Pass, "; i=a@Example.Org": Pass, "; i=@sub.example.org": PermError} {
		if r := one(t, verify(t, z, craft(t, "rsa.pem", base+identity, plainMail))); r.Status != want {
			t.Errorf("%q: %s (%s), want %s", identity, r.Status, r.Reason, want)
		}
	}
}
