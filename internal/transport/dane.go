package transport

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
	"gatepost/internal/tlsrpt"
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

var errDANE = errors.New("no certificate of the chain matches a TLSA record")

// dane makes the plan for a hop from its TLSA records, RFC 7672 §2.2. A plan that
// is not mandatory means that DANE has nothing to say about the hop.
func (p *policy) dane(ctx context.Context, h hop) (plan, error) {
	// RFC 7672 §2.2.1, §2.2.2: where the way to the address is not secure, an
	// attacker could lead us to a host of his own with good TLSA records.
	if !h.secure || h.target.Name == "" {
		return plan{}, nil
	}
	records, authentic, err := p.resolver.TLSA(ctx, fmt.Sprintf("_%d._tcp.%s", h.port, h.target.Name))
	if err != nil && !dns.IsNotFound(err) {
		// RFC 7672 §2.1: who can suppress the records could otherwise downgrade us.
		return plan{by: string(TLSDANE), why: "the TLSA records of " + h.target.Name, policy: tlsrpt.Policy{Type: tlsrpt.TLSA, MXHosts: []string{h.target.Name}}},
			tlsError(err)
	}
	if err != nil || !authentic || len(records) == 0 {
		return plan{}, nil
	}
	found := plan{mandatory: true, by: string(TLSDANE), why: "DANE, by the TLSA records of " + h.target.Name,
		policy: tlsrpt.Policy{Type: tlsrpt.TLSA, Strings: recordTexts(records), MXHosts: []string{h.target.Name}}}
	usable := usableRecords(records)
	if len(usable) == 0 {
		// RFC 7672 §2.2: TLS all the same, though nothing can be checked.
		found.cfg = p.unverified(h)
		return found, nil
	}
	cfg := p.unverified(h)
	// RFC 7672 §8.1: the server may choose its certificate by the name it is asked for.
	cfg.ServerName = h.target.Name
	names := []string{h.target.Name}
	if h.domain != "" {
		names = append(names, h.domain)
	}
	cfg.VerifyConnection = func(s tls.ConnectionState) error {
		return verifyDANE(s.PeerCertificates, usable, names)
	}
	found.cfg, found.verified = cfg, true
	return found, nil
}

// recordTexts are records as a report shows them.
func recordTexts(records []dns.TLSA) []string {
	var texts []string
	for _, r := range records[:min(len(records), maxReported)] {
		texts = append(texts, fmt.Sprintf("%d %d %d %X", r.Usage, r.Selector, r.Matching, r.Data[:min(len(r.Data), sha512.Size)]))
	}
	return texts
}

// maxReported is how many records of one host a report shows.
const maxReported = 10

// usableRecords leaves out what RFC 7672 §3.1.3 tells clients not to use, and
// what we do not know.
func usableRecords(records []dns.TLSA) []dns.TLSA {
	var usable []dns.TLSA
	for _, r := range records {
		if (r.Usage == usageTA || r.Usage == usageEE) && r.Selector <= selectorKey && r.Matching <= matchSHA512 && len(r.Data) > 0 {
			usable = append(usable, r)
		}
	}
	return usable
}

// verifyDANE checks the server's chain against the records; one match is enough.
func verifyDANE(chain []*x509.Certificate, records []dns.TLSA, names []string) error {
	if len(chain) == 0 {
		return errDANE
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
		} else if !errors.Is(err, errDANE) {
			last = err
		}
	}
	if last != nil {
		return fmt.Errorf("verify DANE: %w", last)
	}
	return errDANE
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
		return errDANE
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
