package certs

import (
	"crypto/tls"
	"fmt"
)

// ServerConfig returns the TLS configuration of a listener: the store's
// certificates, the lowest version (tls.VersionTLS12 or higher by default: 0),
// and otherwise Go's choices, which hold no export, null, RC4 or static-RSA
// cipher.
//
// CBC suites with ECDHE stay on in TLS 1.2: mail servers of Windows 2012 with an
// RSA certificate have nothing better, and their alternative is plain text.
// Session tickets are on, with keys that crypto/tls rotates every day.
func (s *Store) ServerConfig(minVersion uint16) *tls.Config {
	if minVersion == 0 {
		minVersion = tls.VersionTLS12
	}
	return &tls.Config{MinVersion: minVersion, GetCertificate: s.GetCertificate}
}

// Version reads a version as the configuration writes it: "1.0" to "1.3"; ""
// is the default, 1.2.
func Version(s string) (uint16, error) {
	switch s {
	case "1.0":
		return tls.VersionTLS10, nil
	case "1.1":
		return tls.VersionTLS11, nil
	case "", "1.2":
		return tls.VersionTLS12, nil
	case "1.3":
		return tls.VersionTLS13, nil
	}
	return 0, fmt.Errorf("unknown TLS version %q", s)
}
