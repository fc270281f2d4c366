package dkim

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"path/filepath"
	"strings"
	"testing"

	"gatepost/internal/message"
)

// testZone publishes the keys of RFC 8463 as selectors rsa and ed25519 of
// example.org.
func testZone(t testing.TB) zone {
	t.Helper()
	z := make(zone)
	for _, selector := range []string{"rsa", "ed25519"} {
		z[selector+"._domainkey.example.org"] = []string{testRecord(t, selector)}
	}
	return z
}

func testRecord(t testing.TB, selector string) string {
	t.Helper()
	r, err := DNSRecord(selector, "example.org", rfcKey(t, selector+".pem").Public())
	if err != nil {
		t.Fatal(err)
	}
	return r.Value()
}

// craft signs msg with tags as they are given, in which "{bh}" stands for the hash
// of the body; b= is appended. It is for signatures that the signer never makes.
func craft(t testing.TB, keyFile, tags, msg string) string {
	t.Helper()
	key, err := LoadKey(filepath.Join("testdata/rfc8463", keyFile))
	if err != nil {
		t.Fatal(err)
	}
	signer, err := NewSigner("example.org", "s", key, Options{})
	if err != nil {
		t.Fatal(err)
	}
	probe := &signature{limit: wholeBody}
	list, _ := parseTags(strings.ReplaceAll(strings.ReplaceAll(tags, "{bh}", "AAAA"), crlf, ""))
	if list != nil {
		probe.readCovered(list, Simple)
	}
	header := message.ParseHeader([]byte(msg[:strings.Index(msg, "\r\n\r\n")+4]))
	bodies := &bodyHashes{ctx: context.Background()}
	bodies.want(probe.body, probe.limit)
	if err := bodies.read(body{strings.NewReader(msg)}, header.Size); err != nil {
		t.Fatal(err)
	}
	sum, _ := bodies.sum(probe.body, probe.limit)
	tags = strings.ReplaceAll(tags, "{bh}", base64.StdEncoding.EncodeToString(sum))
	field := "DKIM-Signature: " + tags + "; b="
	h := sha256.New()
	indexFields(header).hashFields(h, probe.header, probe.names, nowhere)
	hashUnsigned(h, probe.header, field)
	value, err := signer.signHash(h.Sum(nil))
	if err != nil {
		t.Fatal(err)
	}
	return field + base64.StdEncoding.EncodeToString(value) + crlf + msg
}

func one(t testing.TB, v *Verification) Result {
	t.Helper()
	if len(v.Signatures) != 1 {
		t.Fatalf("%d results", len(v.Signatures))
	}
	return v.Signatures[0]
}
