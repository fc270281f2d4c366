package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// The files of the self-signed pair in the data directory.
const (
	selfSignedCert = "selfsigned-cert.pem"
	selfSignedKey  = "selfsigned-key.pem"
)

// selfSignedYears is how long the certificate is valid. Nobody verifies it, so
// that replacing it often would gain nothing and break those who pinned it.
const selfSignedYears = 10

// SelfSigned returns the self-signed pair in dir, and makes it if it is not
// there: ECDSA P-256, for hostname, valid for 10 years, both files with mode
// 0600. A pair that exists is kept, also under another hostname, because peers
// may have pinned it.
func SelfSigned(dir, hostname string) (Pair, error) {
	pair := Pair{CertFile: filepath.Join(dir, selfSignedCert), KeyFile: filepath.Join(dir, selfSignedKey)}
	_, err := tls.LoadX509KeyPair(pair.CertFile, pair.KeyFile)
	if err == nil {
		return pair, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return Pair{}, fmt.Errorf("load self-signed certificate (remove %s and %s to have new ones made): %w", pair.CertFile, pair.KeyFile, err)
	}
	certPEM, keyPEM, err := generate(hostname, time.Now())
	if err != nil {
		return Pair{}, fmt.Errorf("make self-signed certificate: %w", err)
	}
	// The key goes first: a certificate without its key would be an error at the
	// next start, a key without its certificate is replaced.
	if err := writeFile(pair.KeyFile, keyPEM); err != nil {
		return Pair{}, fmt.Errorf("make self-signed certificate: %w", err)
	}
	if err := writeFile(pair.CertFile, certPEM); err != nil {
		return Pair{}, fmt.Errorf("make self-signed certificate: %w", err)
	}
	return pair, nil
}

func generate(hostname string, now time.Time) (certPEM, keyPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: commonName(hostname)},
		DNSNames:     []string{hostname},
		// A peer whose clock is behind should not find it not yet valid.
		NotBefore:             now.Add(-24 * time.Hour),
		NotAfter:              now.AddDate(selfSignedYears, 0, 0),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), nil
}

// commonName is the host name, or nothing where it is longer than a common name
// may be (RFC 5280 Appendix A.1: 64 characters).
func commonName(hostname string) string {
	if len(hostname) > 64 {
		return ""
	}
	return hostname
}

// writeFile writes a file of its own and moves it to its name, so that nobody
// ever sees half of it.
func writeFile(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
