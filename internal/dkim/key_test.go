package dkim

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestGeneratedKeysAreLoadedAgain(t *testing.T) {
	for _, kind := range Kinds() {
		if kind == "rsa4096" && testing.Short() {
			continue
		}
		t.Run(kind, func(t *testing.T) {
			key, err := GenerateKey(kind)
			if err != nil {
				t.Fatal(err)
			}
			text, err := MarshalKey(key)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "key.pem")
			if err := os.WriteFile(file, text, 0o600); err != nil {
				t.Fatal(err)
			}
			loaded, err := LoadKey(file)
			if err != nil {
				t.Fatal(err)
			}
			if !key.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(loaded.Public()) {
				t.Error("another key was loaded")
			}
		})
	}
	if _, err := GenerateKey("rsa512"); err == nil || !strings.Contains(err.Error(), "rsa2048, rsa4096, ed25519") {
		t.Errorf("an unknown kind: %v", err)
	}
}

func TestLoadKeyRefuses(t *testing.T) {
	// Go itself makes no such key unless it is told to.
	t.Setenv("GODEBUG", "rsa1024min=0")
	weak, err := rsa.GenerateKey(rand.Reader, 768)
	if err != nil {
		t.Fatal(err)
	}
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	curveDER, err := x509.MarshalPKCS8PrivateKey(curve)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	tests := []struct{ name, text, want string }{
		{"an RSA key that is too short", block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(weak)), "768 bits is too short"},
		{"a key of another kind", block("PRIVATE KEY", curveDER), "want RSA or Ed25519"},
		{"a public key", block("PUBLIC KEY", []byte("x")), "no PEM private key"},
		{"an encrypted key", block("ENCRYPTED PRIVATE KEY", []byte("x")), "without a passphrase"},
		{"garbage in PEM", block("PRIVATE KEY", []byte("x")), "parse key"},
		{"an empty file", "", "no PEM private key"},
		{"text", "hello", "no PEM private key"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "key.pem")
			if err := os.WriteFile(file, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := LoadKey(file); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	if _, err := LoadKey(filepath.Join(t.TempDir(), "none.pem")); !os.IsNotExist(unwrapAll(err)) {
		t.Errorf("a missing file: %v", err)
	}
}

func unwrapAll(err error) error {
	for {
		u, ok := err.(interface{ Unwrap() error })
		if !ok || os.IsNotExist(err) {
			return err
		}
		err = u.Unwrap()
	}
}

func TestParseKeyPassesOverOtherBlocks(t *testing.T) {
	text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")})) + rfcFile(t, "ed25519.pem")
	if _, err := ParseKey([]byte(text)); err != nil {
		t.Error(err)
	}
}

func TestDNSRecord(t *testing.T) {
	r, err := DNSRecord("brisbane", "Football.Example.COM.", rfcKey(t, "ed25519.pem").Public())
	if err != nil {
		t.Fatal(err)
	}
	// RFC 8463, appendix A.2.
	want := `brisbane._domainkey.football.example.com. IN TXT ( "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=" )`
	if r.String() != want {
		t.Errorf("got %s\nwant %s", r, want)
	}
	r, err = DNSRecord("test", "football.example.com", rfcKey(t, "rsa.pem").Public())
	if err != nil {
		t.Fatal(err)
	}
	wantValue := "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB"
	if r.Value() != wantValue {
		t.Errorf("got %s\nwant %s", r.Value(), wantValue)
	}
}

func TestLongRecordsAreSplit(t *testing.T) {
	key, err := GenerateKey("rsa2048")
	if err != nil {
		t.Fatal(err)
	}
	r, err := DNSRecord("s1", "example.org", key.Public())
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Strings) != 2 || len(r.Strings[0]) != 255 || len(r.Strings[1]) > 255 {
		t.Errorf("strings %q", r.Strings)
	}
	if strings.Count(r.String(), `"`) != 4 || strings.Join(r.Strings, "") != r.Value() {
		t.Errorf("record %s", r)
	}
}

func TestDNSRecordRefusesNamesThatAreNone(t *testing.T) {
	key := rfcKey(t, "ed25519.pem").Public()
	for _, n := range [][2]string{{"", "example.org"}, {"s1", ""}, {"s 1", "example.org"}, {"s1", `example.org" x`}, {"s1", "a..b"}} {
		if r, err := DNSRecord(n[0], n[1], key); err == nil {
			t.Errorf("%q: got %s", n, r)
		}
	}
}
