package config

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// writeFixtures puts the keys, certificates and secrets into dir that the
// configurations under testdata name.
func writeFixtures(t *testing.T, dir string) {
	t.Helper()
	// crypto/rsa makes no key this small by itself.
	t.Setenv("GODEBUG", "rsa1024min=0")
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	other := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsa512 := must(rsa.GenerateKey(rand.Reader, 512))(t)
	rsa1024 := must(rsa.GenerateKey(rand.Reader, 1024))(t)
	now := time.Now()
	files := map[string][]byte{
		"cert.pem":      certificate(t, key, now.AddDate(-1, 0, 0), now.AddDate(1, 0, 0)),
		"expired.pem":   certificate(t, key, time.Unix(0, 0), time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)),
		"early.pem":     certificate(t, key, time.Date(2222, 2, 2, 0, 0, 0, 0, time.UTC), time.Date(2223, 2, 2, 0, 0, 0, 0, time.UTC)),
		"broken.pem":    pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("nonsense")}),
		"key.pem":       pkcs8(t, key),
		"other-key.pem": pkcs8(t, other),
		"ed25519.pem":   pkcs8(t, ed),
		"rsa1024.pem":   pkcs8(t, rsa1024),
		"rsa512.pem":    pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(rsa512)}),
		"password":      []byte("s3cret\n"),
		"empty":         nil,
		// As those in ../policy/access/testdata, of which this is one.
		"country.mmdb": must(os.ReadFile("testdata/country.mmdb"))(t),
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	open := filepath.Join(dir, "open-secret")
	if err := os.WriteFile(open, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "directory"), 0o700); err != nil {
		t.Fatal(err)
	}
}

// copyFiles copies what writeFixtures made, with its permissions.
func copyFiles(t *testing.T, from, to string) {
	t.Helper()
	for _, entry := range must(os.ReadDir(from))(t) {
		info := must(entry.Info())(t)
		if entry.IsDir() {
			if err := os.Mkdir(filepath.Join(to, entry.Name()), 0o700); err != nil {
				t.Fatal(err)
			}
			continue
		}
		data := must(os.ReadFile(filepath.Join(from, entry.Name())))(t)
		name := filepath.Join(to, entry.Name())
		err := os.WriteFile(name, data, 0o600)
		if err == nil {
			err = os.Chmod(name, info.Mode().Perm())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func pkcs8(t *testing.T, key any) []byte {
	t.Helper()
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(key))(t)})
}

func certificate(t *testing.T, key crypto.Signer, from, to time.Time) []byte {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "gw.example.com"}, NotBefore: from, NotAfter: to}
	der := must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))(t)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
