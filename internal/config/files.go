package config

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"
)

// maxSmallFile bounds keys, certificates and passwords.
const maxSmallFile = 1 << 20

// isDirectory wants that the path is free or a directory. Whether it can be
// written to shows at the start, under the user that Gatepost runs as.
func (v *validator) isDirectory(path *Path) {
	if *path == "" {
		return
	}
	if info, err := os.Stat(string(*path)); err == nil && !info.IsDir() {
		v.report(ruleFileKind, path, fmt.Sprintf("%s is a file, not a directory", *path), "")
	}
}

// read reads a small file and reports what hinders it.
func (v *validator) read(path *Path) ([]byte, bool) {
	// To open a pipe would be to wait for its writer.
	info, err := os.Stat(string(*path))
	if err == nil && !info.IsDir() && !info.Mode().IsRegular() {
		v.report(ruleFileKind, path, fmt.Sprintf("%s is not a regular file", *path), "")
		return nil, false
	}
	data, err := readFile(string(*path), maxSmallFile)
	switch {
	case err == nil:
		return data, true
	case errors.Is(err, errIsDirectory):
		v.report(ruleFileKind, path, fmt.Sprintf("%s is a directory, not a file", *path), "")
	case errors.Is(err, fs.ErrPermission):
		v.report(ruleFileMissing, path, fmt.Sprintf("%s can't be read: %s", *path, fileError(err)), "run as the user that Gatepost runs as, and let it read the file")
	default:
		v.report(ruleFileMissing, path, fmt.Sprintf("%s can't be read: %s", *path, fileError(err)), "")
	}
	return nil, false
}

// private warns of secrets that every user of the host can read.
func (v *validator) private(path *Path) {
	if info, err := os.Stat(string(*path)); err == nil && info.Mode().Perm()&0o004 != 0 {
		v.warn(ruleWarnReadable, path, fmt.Sprintf("every user of this host can read %s", *path), fmt.Sprintf("chmod 600 %s", *path))
	}
}

// secret wants a file whose first line holds a password or token.
func (v *validator) secret(path *Path, what string) {
	if *path == "" {
		return
	}
	data, ok := v.read(path)
	if !ok {
		return
	}
	line, _, _ := bytes.Cut(data, []byte("\n"))
	if len(bytes.TrimSpace(line)) == 0 {
		v.report(ruleFileEmpty, path, fmt.Sprintf("%s has no %s in its first line", *path, what), "")
	}
	v.private(path)
}

// certificate wants both files or none, fitting each other.
func (v *validator) certificate(cert, key *Path) {
	switch {
	case *cert == "" && *key == "":
		return
	case *cert == "":
		v.report(ruleCertificatePair, key, "is set, but there is no certificate for it", "set the certificate file beside it, too")
		return
	case *key == "":
		v.report(ruleCertificatePair, cert, "is set, but there is no key for it", "set the key file beside it, too")
		return
	}
	certPEM, certOK := v.read(cert)
	keyPEM, keyOK := v.read(key)
	if !certOK || !keyOK {
		return
	}
	v.private(key)
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		v.report(ruleBadCertificate, cert, fmt.Sprintf("%s and %s can't be used: %s", *cert, *key, strings.TrimPrefix(err.Error(), "tls: ")), "")
		return
	}
	v.dates(cert, pair.Leaf)
}

func (v *validator) dates(path *Path, c *x509.Certificate) {
	now := time.Now()
	switch {
	case now.After(c.NotAfter):
		v.warn(ruleWarnExpired, path, fmt.Sprintf("the certificate in %s expired on %s", *path, c.NotAfter.Format(time.DateOnly)), "")
	case now.Before(c.NotBefore):
		v.warn(ruleWarnExpired, path, fmt.Sprintf("the certificate in %s is valid from %s on", *path, c.NotBefore.Format(time.DateOnly)), "is the clock right?")
	}
}

// authorities wants a file with at least one certificate.
func (v *validator) authorities(path *Path) {
	data, ok := v.read(path)
	if !ok {
		return
	}
	found := 0
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			v.report(ruleBadCertificate, path, fmt.Sprintf("certificate %d in %s can't be read: %s", found+1, *path, strings.TrimPrefix(err.Error(), "x509: ")), "")
			return
		}
		found++
	}
	if found == 0 {
		v.report(ruleBadCertificate, path, fmt.Sprintf("%s holds no certificate in PEM form", *path), "it begins with -----BEGIN CERTIFICATE-----")
	}
}

// signingKey wants an RSA or Ed25519 private key.
func (v *validator) signingKey(path *Path) {
	data, ok := v.read(path)
	if !ok {
		return
	}
	v.private(path)
	key, err := parseKey(data)
	if err != nil {
		v.report(ruleBadKey, path, fmt.Sprintf("%s holds no private key: %v", *path, err), "make one with: gatepost dkim new")
		return
	}
	switch k := key.(type) {
	case ed25519.PrivateKey:
	case *rsa.PrivateKey:
		switch bits := k.N.BitLen(); {
		// RFC 8301 §3.2: verifiers need not accept less than 1024 bits, nor more than 4096.
		case bits < 1024 || bits > 4096:
			v.report(ruleBadKey, path, fmt.Sprintf("the RSA key in %s has %d bits: its signatures would count for nothing", *path, bits), "take 2048")
		case bits < 2048:
			v.warn(ruleWarnWeakKey, path, fmt.Sprintf("the RSA key in %s has %d bits", *path, bits), "take 2048")
		}
	default:
		v.report(ruleBadKey, path, fmt.Sprintf("the key in %s is neither RSA nor Ed25519", *path), "make one with: gatepost dkim new")
	}
}

func parseKey(data []byte) (any, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("it is not in PEM form")
	}
	if block.Type == "RSA PRIVATE KEY" {
		return x509.ParsePKCS1PrivateKey(block.Bytes)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("its %s can't be read as one", strings.ToLower(block.Type))
	}
	return key, nil
}
