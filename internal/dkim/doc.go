// Package dkim signs messages and checks the signatures of others: DKIM (RFC
// 6376, RFC 8463) and ARC (RFC 8617), over one canonicaliser.
//
//	key, err := dkim.LoadKey("dkim-s1.pem")
//	signer, err := dkim.NewSigner("example.com", "s1", key, dkim.Options{})
//	field, err := dkim.Group{signer}.Sign(ctx, content)
//	content = content.Prepend(field)
//
//	verifier := dkim.NewVerifier(dkim.VerifierConfig{Resolver: resolver})
//	found, err := verifier.Verify(ctx, dkim.Input{Body: m.Body, Header: header})
//
// Invariants:
//   - A body passes once, in pieces, however many signatures are made or checked,
//     and is hashed once for each canonicalisation; only the header section is
//     held in memory.
//   - The result does not depend on how the content was cut into pieces.
//   - The whole body is signed: there is no l=, and a signature of others that has
//     one proves nothing about what follows (RFC 6376 §8.2).
//   - Fields that a reader would believe are signed once more than they occur, so
//     that none can be added unnoticed (RFC 6376 §8.15).
//   - Only RSA-SHA256 with keys of at least 1024 bits and Ed25519-SHA256 are
//     spoken (RFC 8301 §3).
//   - What a signature costs is bounded: their number, the size of keys, the
//     number of lookups; an outage of the DNS never looks like a bad signature.
package dkim
