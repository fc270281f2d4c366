package dkim

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// maxRSABits bounds what checking one signature costs: some milliseconds.
const maxRSABits = 16384

// maxKeys bounds how many keys of one name are tried.
const maxKeys = 4

// publicKey is a key record that can be used.
type publicKey struct {
	algorithm string // the a= that it fits
	key       crypto.PublicKey
	bits      int
	testing   bool // t=y
	strict    bool // t=s
	fault     *fault
}

// published is what stands in the DNS under one name: keys, or why there is none.
type published struct {
	keys  []*publicKey
	fault *fault
}

// lookUpKeys gets the keys of a name. Where there are several records, all keys
// are tried (RFC 6376 §6.1.2): another TXT record under the same name, as
// wildcards bring them, does no harm.
func lookUpKeys(ctx context.Context, r Resolver, name string) published {
	texts, err := r.TXT(ctx, name)
	if err != nil {
		if notFound, ok := errors.AsType[interface {
			error
			NotFound() bool
		}](err); ok && notFound.NotFound() {
			return published{fault: bad("no key")}
		}
		return published{fault: &fault{TempError, "the key cannot be looked up"}}
	}
	p := published{fault: bad("no key")}
	for i, text := range texts {
		key, wrong := parseKeyRecord(text)
		switch {
		case wrong == nil && len(p.keys) < maxKeys:
			p.keys = append(p.keys, key)
		case wrong != nil && (i == 0 || strings.HasPrefix(text, "v=DKIM1")):
			p.fault = wrong
		}
	}
	return p
}

// parseKeyRecord reads a key record (RFC 6376 §3.6.1).
func parseKeyRecord(text string) (*publicKey, *fault) {
	tags, wrong := parseTags(text)
	if wrong != nil {
		return nil, bad("the key record is malformed")
	}
	if version, ok := tags["v"]; ok && (version != "DKIM1" || !strings.HasPrefix(trimSpace(text), "v")) {
		return nil, bad("the key record has another version")
	}
	if hashes, ok := tags["h"]; ok && !slices.Contains(listItems(hashes), "sha256") {
		return nil, bad("the key is not for sha256")
	}
	if services, ok := tags["s"]; ok && !slices.ContainsFunc(listItems(services), isMailService) {
		return nil, bad("the key is not for mail")
	}
	k := &publicKey{}
	flags := listItems(tags["t"])
	k.testing, k.strict = slices.Contains(flags, "y"), slices.Contains(flags, "s")
	data, ok := tags["p"]
	switch {
	case !ok:
		return nil, bad("the key record has no key")
	case data == "":
		return nil, bad("the key is revoked")
	}
	kind, given := tags["k"]
	if !given {
		kind = "rsa"
	}
	return k, k.parse(kind, data)
}

func isMailService(s string) bool { return s == "*" || s == "email" }

// parse reads p= for a kind of key.
func (k *publicKey) parse(kind, text string) *fault {
	data, ok := decodeBase64(text)
	if !ok {
		return bad("the key is no base64")
	}
	switch kind {
	case "rsa":
		return k.parseRSA(data)
	case "ed25519":
		// RFC 8463 §4: the bare key.
		if len(data) != ed25519.PublicKeySize {
			return bad("the key is no Ed25519 key")
		}
		k.algorithm, k.bits, k.key = "ed25519-sha256", 256, ed25519.PublicKey(data)
		return nil
	}
	return bad("the key is of an unknown kind")
}

// parseRSA takes a SubjectPublicKeyInfo, as everybody publishes it, and the bare
// RSAPublicKey that RFC 6376 §3.6.1 speaks of.
func (k *publicKey) parseRSA(der []byte) *fault {
	if len(der) > maxRSABits/8+1024 {
		return bad("the key is too long")
	}
	parsed, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		parsed, err = x509.ParsePKCS1PublicKey(der)
	}
	key, ok := parsed.(*rsa.PublicKey)
	if err != nil || !ok {
		return bad("the key is no RSA key")
	}
	k.algorithm, k.key, k.bits = "rsa-sha256", key, key.N.BitLen()
	switch {
	case k.bits > maxRSABits:
		return bad("the key is too long")
	case k.bits < minRSABits:
		// RFC 8301 §3.2: not valid, whatever the mathematics say. The record stays
		// usable so that the result can name the size.
		k.fault = &fault{Fail, fmt.Sprintf("the key of %d bits is too short", k.bits)}
	}
	return nil
}

// effort is about what checking a signature with the key costs, in units of an RSA
// key of 1024 bits with a usual exponent.
func (k *publicKey) effort() int {
	n := max(1, k.bits/1024)
	if key, ok := k.key.(*rsa.PublicKey); ok && key.E > 65537 {
		return 3 * n * n
	}
	return n * n
}

// verifies reports whether value is the key's signature of a SHA-256 hash.
func (k *publicKey) verifies(sum, value []byte) bool {
	switch key := k.key.(type) {
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(key, crypto.SHA256, sum, value) == nil
	case ed25519.PublicKey:
		return ed25519.Verify(key, sum, value)
	}
	return false
}
