package dkim

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// maxKeyFile bounds a key file, in bytes; an RSA key of 16384 bits needs 13 kB.
const maxKeyFile = 64 << 10

// maxTXT is the length of one string of a TXT record (RFC 1035 §3.3).
const maxTXT = 255

// LoadKey reads a private key from a PEM file: PKCS #1 or PKCS #8, RSA of at
// least 1024 bits or Ed25519.
func LoadKey(file string) (crypto.Signer, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("load DKIM key: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return nil, fmt.Errorf("load DKIM key: %w", err)
	}
	key, err := ParseKey(text)
	if err != nil {
		return nil, fmt.Errorf("load DKIM key %s: %w", file, err)
	}
	return key, nil
}

// ParseKey reads a private key from PEM text; blocks of other kinds in front of
// it are passed over.
func ParseKey(text []byte) (crypto.Signer, error) {
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			return nil, errors.New("no PEM private key (RSA PRIVATE KEY or PRIVATE KEY) in it")
		}
		text = rest
		key, err := parseBlock(block)
		if err != nil {
			return nil, err
		}
		if key == nil {
			continue
		}
		if _, err := algorithmOf(key.Public()); err != nil {
			return nil, err
		}
		return key, nil
	}
}

// parseBlock returns nil for a block that is no private key.
func parseBlock(block *pem.Block) (crypto.Signer, error) {
	switch block.Type {
	case "RSA PRIVATE KEY":
		if block.Headers["DEK-Info"] != "" {
			return nil, errors.New("the key is encrypted; store it without a passphrase")
		}
		return asSigner(x509.ParsePKCS1PrivateKey(block.Bytes))
	case "PRIVATE KEY":
		return asSigner(x509.ParsePKCS8PrivateKey(block.Bytes))
	case "ENCRYPTED PRIVATE KEY":
		return nil, errors.New("the key is encrypted; store it without a passphrase")
	}
	return nil, nil
}

// asSigner is generic because the two parsers return different types.
func asSigner[K any](key K, err error) (crypto.Signer, error) {
	if err != nil {
		return nil, fmt.Errorf("parse key: %w", err)
	}
	signer, ok := any(key).(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("key of type %T: want RSA or Ed25519", key)
	}
	return signer, nil
}

// Kinds are the kinds of key that GenerateKey makes, the recommended one first.
func Kinds() []string { return []string{"rsa2048", "rsa4096", "ed25519"} }

// GenerateKey makes a private key of one of Kinds.
func GenerateKey(kind string) (crypto.Signer, error) {
	switch kind {
	case "rsa2048":
		return rsa.GenerateKey(rand.Reader, 2048)
	case "rsa4096":
		return rsa.GenerateKey(rand.Reader, 4096)
	case "ed25519":
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	}
	return nil, fmt.Errorf("generate key: unknown kind %q, want one of %s", kind, strings.Join(Kinds(), ", "))
}

// MarshalKey returns the PEM form (PKCS #8) that LoadKey reads.
func MarshalKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("marshal key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// Record is the TXT record that publishes a key.
type Record struct {
	// Name is fully qualified, without the final dot: "s1._domainkey.example.com".
	Name string
	// Strings are the strings of the record, of at most 255 bytes each; together
	// they are the value.
	Strings []string
}

// Value is the record's value as one string, as web forms of DNS hosters want it.
func (r Record) Value() string { return strings.Join(r.Strings, "") }

// String is the record as a line of a zone file.
func (r Record) String() string {
	quoted := make([]string, len(r.Strings))
	for i, s := range r.Strings {
		quoted[i] = `"` + s + `"`
	}
	return r.Name + ". IN TXT ( " + strings.Join(quoted, " ") + " )"
}

// DNSRecord returns the record that publishes a public key (RFC 6376 §3.6.1, RFC
// 8463 §4).
func DNSRecord(selector, domain string, public crypto.PublicKey) (Record, error) {
	domain = strings.ToLower(strings.TrimSuffix(domain, "."))
	if !isDNSName(domain) || !isDNSName(selector) {
		return Record{}, fmt.Errorf("make DKIM record: bad domain or selector: %q, %q", domain, selector)
	}
	if _, err := algorithmOf(public); err != nil {
		return Record{}, fmt.Errorf("make DKIM record: %w", err)
	}
	kind, data := "rsa", []byte(nil)
	if k, ok := public.(ed25519.PublicKey); ok {
		// RFC 8463 §4: the bare key, not a SubjectPublicKeyInfo.
		kind, data = "ed25519", k
	} else {
		der, err := x509.MarshalPKIXPublicKey(public)
		if err != nil {
			return Record{}, fmt.Errorf("make DKIM record: %w", err)
		}
		data = der
	}
	value := "v=DKIM1; k=" + kind + "; p=" + base64.StdEncoding.EncodeToString(data)
	r := Record{Name: selector + "._domainkey." + domain}
	for value != "" {
		n := min(len(value), maxTXT)
		r.Strings = append(r.Strings, value[:n])
		value = value[n:]
	}
	return r, nil
}

// isDNSName reports labels of letters, digits, hyphens and underscores.
func isDNSName(name string) bool {
	if len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for i := range len(label) {
			switch c := label[i]; {
			case 'a' <= c|0x20 && c|0x20 <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
			default:
				return false
			}
		}
	}
	return true
}
