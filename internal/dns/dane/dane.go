// Package dane checks the certificates of mail servers against TLSA records (RFC 6698,
// RFC 7672), for whoever speaks to them.
//
// Invariants:
//   - Only what DNSSEC vouches for counts: of a host that was not found securely nobody
//     may ask, and records that are not authentic are none.
//   - Records that cannot be had, though they may be there, are an error: who can
//     suppress them must not get a weaker session by it.
package dane

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"

	"gatepost/internal/dns"
)

// Values of TLSA records, RFC 6698 §2.1.
const (
	usageTA = 2 // DANE-TA: the record names a CA
	usageEE = 3 // DANE-EE: the record names the certificate itself

	selectorCert = 0
	selectorKey  = 1

	matchFull   = 0
	matchSHA256 = 1
	matchSHA512 = 2
)

// ErrMismatch is a chain that no record is about.
var ErrMismatch = errors.New("no certificate of the chain matches a TLSA record")

// Resolver asks for records; authentic says that DNSSEC vouches for them.
type Resolver interface {
	TLSA(ctx context.Context, name string) (records []dns.TLSA, authentic bool, err error)
}

// Lookup returns the authentic records of a host at a port; none mean that DANE has
// nothing to say about it. The host's own address must have been found securely, RFC
// 7672 §2.2.1, §2.2.2: else an attacker could lead us to a host of his own with good
// records.
func Lookup(ctx context.Context, r Resolver, host string, port int) ([]dns.TLSA, error) {
	records, authentic, err := r.TLSA(ctx, fmt.Sprintf("_%d._tcp.%s", port, host))
	if err != nil && !dns.IsNotFound(err) {
		// RFC 7672 §2.1: who can suppress the records could otherwise downgrade us.
		return nil, err
	}
	if err != nil || !authentic {
		return nil, nil
	}
	return records, nil
}

// Require makes cfg take only what the usable records of a host are about, under the
// host's name or one of the others; names are checked for DANE-TA alone.
func Require(cfg *tls.Config, usable []dns.TLSA, host string, others ...string) {
	// RFC 7672 §8.1: the server may choose its certificate by the name it is asked for.
	cfg.ServerName = host
	cfg.InsecureSkipVerify = true // VerifyConnection does it
	names := append([]string{host}, others...)
	cfg.VerifyConnection = func(s tls.ConnectionState) error {
		return Verify(s.PeerCertificates, usable, names)
	}
}

// Usable leaves out what RFC 7672 §3.1.3 tells clients not to use, and what we do not
// know. Where nothing is left there is TLS all the same, though nothing can be checked
// (RFC 7672 §2.2).
func Usable(records []dns.TLSA) []dns.TLSA {
	var usable []dns.TLSA
	for _, r := range records {
		if (r.Usage == usageTA || r.Usage == usageEE) && r.Selector <= selectorKey && r.Matching <= matchSHA512 && len(r.Data) > 0 {
			usable = append(usable, r)
		}
	}
	return usable
}

// Verify checks the server's chain against the records; one match is enough.
func Verify(chain []*x509.Certificate, records []dns.TLSA, names []string) error {
	if len(chain) == 0 {
		return ErrMismatch
	}
	var last error
	for _, r := range records {
		if r.Usage == usageEE {
			// RFC 7672 §3.1.1: name and dates of the certificate do not matter.
			if matches(r, chain[0]) {
				return nil
			}
			continue
		}
		if err := verifyAnchor(chain, r, names); err == nil {
			return nil
		} else if !errors.Is(err, ErrMismatch) {
			last = err
		}
	}
	if last != nil {
		return fmt.Errorf("verify certificate: %w", last)
	}
	return ErrMismatch
}

// verifyAnchor checks the chain up to the CA that r names. The server must send
// that CA's certificate (RFC 7672 §3.1.2); a record with the CA's full
// certificate brings it along.
func verifyAnchor(chain []*x509.Certificate, r dns.TLSA, names []string) error {
	roots, others := x509.NewCertPool(), x509.NewCertPool()
	found := false
	for _, cert := range chain[1:] {
		if matches(r, cert) {
			roots.AddCert(cert)
			found = true
		}
		others.AddCert(cert)
	}
	if r.Selector == selectorCert && r.Matching == matchFull {
		if cert, err := x509.ParseCertificate(r.Data); err == nil {
			roots.AddCert(cert)
			found = true
		}
	}
	if !found {
		return ErrMismatch
	}
	var last error
	for _, name := range names {
		if _, last = chain[0].Verify(x509.VerifyOptions{DNSName: name, Roots: roots, Intermediates: others}); last == nil {
			return nil
		}
	}
	return last
}

// matches compares a certificate with a record, RFC 6698 §2.1.2 and §2.1.3.
func matches(r dns.TLSA, cert *x509.Certificate) bool {
	data := cert.Raw
	if r.Selector == selectorKey {
		data = cert.RawSubjectPublicKeyInfo
	}
	switch r.Matching {
	case matchSHA256:
		sum := sha256.Sum256(data)
		data = sum[:]
	case matchSHA512:
		sum := sha512.Sum512(data)
		data = sum[:]
	}
	return bytes.Equal(data, r.Data)
}
