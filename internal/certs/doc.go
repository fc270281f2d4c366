// Package certs holds the certificates that the listeners show: loaded from PEM
// files, chosen by the name that the client asks for, exchanged while sessions
// go on. Where none is configured it makes a self-signed one, which is enough
// for opportunistic encryption between mail servers.
//
//	store, err := certs.Load(certs.Pair{CertFile: "cert.pem", KeyFile: "key.pem"})
//	config := store.ServerConfig(tls.VersionTLS12)
//
// Invariants:
//   - A reload takes all pairs or none: a broken new file leaves the old
//     certificates in use and is told by the error and by Health.
//   - Handshakes read an immutable snapshot; a reload never drops a session.
//   - What this package writes has mode 0600 from its first byte,
//     and a half written pair is never seen under its final name.
package certs
