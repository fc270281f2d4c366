package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// warnBefore is how long before its end a certificate becomes a reason to warn.
const warnBefore = 14 * 24 * time.Hour

// Pair names a certificate chain and its private key, both PEM files.
type Pair struct{ CertFile, KeyFile string }

// Store holds certificates for listeners. Its methods may be called from any
// goroutine.
type Store struct {
	current atomic.Pointer[snapshot]

	mu    sync.Mutex // guards pairs and fault; serialises reloads
	pairs []Pair
	fault error // of the last reload
}

// snapshot is one consistent set of certificates; it never changes.
type snapshot struct {
	all    []*tls.Certificate            // in the order of the pairs; the first is the default
	byName map[string][]*tls.Certificate // by host name in lower case, or "*.example.com"
}

// Load reads the pairs. The first one is shown to clients that name no host or
// one that no certificate is for.
func Load(pairs ...Pair) (*Store, error) {
	snap, err := read(pairs)
	if err != nil {
		return nil, err
	}
	s := &Store{pairs: pairs}
	s.current.Store(snap)
	return s, nil
}

// Reload reads the files again, or, where pairs are given, those instead. After
// an error everything stays as it was.
func (s *Store) Reload(pairs ...Pair) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(pairs) == 0 {
		pairs = s.pairs
	}
	snap, err := read(pairs)
	s.fault = err
	if err != nil {
		return err
	}
	s.pairs = pairs
	s.current.Store(snap)
	return nil
}

// read loads every pair and reports everything that is wrong with any of them.
func read(pairs []Pair) (*snapshot, error) {
	if len(pairs) == 0 {
		return nil, errors.New("load certificates: none is given")
	}
	snap := &snapshot{byName: map[string][]*tls.Certificate{}}
	var errs []error
	for _, p := range pairs {
		cert, err := tls.LoadX509KeyPair(p.CertFile, p.KeyFile)
		if err != nil {
			errs = append(errs, fmt.Errorf("load certificate %s with key %s: %w", p.CertFile, p.KeyFile, err))
			continue
		}
		snap.add(&cert)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return snap, nil
}

func (snap *snapshot) add(cert *tls.Certificate) {
	snap.all = append(snap.all, cert)
	names := cert.Leaf.DNSNames
	if len(names) == 0 && cert.Leaf.Subject.CommonName != "" {
		names = []string{cert.Leaf.Subject.CommonName}
	}
	for _, name := range names {
		name = strings.ToLower(name)
		snap.byName[name] = append(snap.byName[name], cert)
	}
}

// GetCertificate chooses for one handshake: a certificate for the very name,
// then one for its wildcard, then the default; among several for one name (an
// RSA and an ECDSA one, say) the first that the client supports. It has the
// form that tls.Config.GetCertificate wants and never fails.
func (s *Store) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	snap := s.current.Load()
	name := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
	if list := snap.byName[name]; len(list) > 0 {
		return supported(hello, list), nil
	}
	if _, parent, ok := strings.Cut(name, "."); ok {
		if list := snap.byName["*."+parent]; len(list) > 0 {
			return supported(hello, list), nil
		}
	}
	// RFC 8446 §9.3 lets a server refuse an unknown name; for mail an unverified
	// session is worth more than none.
	return supported(hello, snap.all[:1]), nil
}

func supported(hello *tls.ClientHelloInfo, list []*tls.Certificate) *tls.Certificate {
	for _, cert := range list {
		if len(list) == 1 || hello.SupportsCertificate(cert) == nil {
			return cert
		}
	}
	return list[0]
}

// Certificate describes one certificate, for metrics and the status page.
type Certificate struct {
	Names    []string  `json:"names"`
	File     string    `json:"file"`
	Issuer   string    `json:"issuer"`
	NotAfter time.Time `json:"not_after"`
	// SelfSigned says that nobody but us vouches for it.
	SelfSigned bool `json:"self_signed,omitempty"`
}

// Certificates lists what is in use, in the order of the pairs.
func (s *Store) Certificates() []Certificate {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Certificate
	for i, cert := range s.current.Load().all {
		leaf := cert.Leaf
		list = append(list, Certificate{
			Names: leaf.DNSNames, File: s.pairs[i].CertFile, Issuer: leaf.Issuer.String(), NotAfter: leaf.NotAfter,
			SelfSigned: leaf.CheckSignatureFrom(leaf) == nil || selfIssued(leaf),
		})
	}
	return list
}

// selfIssued finds a self-signed certificate that may not sign others, which
// CheckSignatureFrom refuses to look at.
func selfIssued(leaf *x509.Certificate) bool {
	return string(leaf.RawIssuer) == string(leaf.RawSubject) &&
		leaf.CheckSignature(leaf.SignatureAlgorithm, leaf.RawTBSCertificate, leaf.Signature) == nil
}

// Health returns nil, or what an administrator should look after: a reload that
// did not work, certificates that have expired, are not valid yet, or end
// within 14 days.
func (s *Store) Health() error {
	s.mu.Lock()
	fault := s.fault
	s.mu.Unlock()
	errs := []error{fault}
	now := time.Now()
	for _, c := range s.Certificates() {
		switch left := c.NotAfter.Sub(now); {
		case left <= 0:
			errs = append(errs, fmt.Errorf("certificate %s expired on %s", c.File, c.NotAfter.Format(time.DateOnly)))
		case left < warnBefore:
			errs = append(errs, fmt.Errorf("certificate %s expires on %s", c.File, c.NotAfter.Format(time.DateOnly)))
		}
	}
	return errors.Join(errs...)
}
