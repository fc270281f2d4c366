// Package dkim signs messages (RFC 6376, RFC 8463). The canonicaliser is shared by
// signing and by whatever checks signatures.
//
//	key, err := dkim.LoadKey("dkim-s1.pem")
//	signer, err := dkim.NewSigner("example.com", "s1", key, dkim.Options{})
//	field, err := dkim.Group{signer}.Sign(ctx, content)
//	content = content.Prepend(field)
//
// Invariants:
//   - A body passes once, in pieces, however many keys sign; only the header
//     section is held in memory.
//   - The result does not depend on how the content was cut into pieces.
//   - The whole body is signed: there is no l= (RFC 6376 §8.2).
//   - Fields that a reader would believe are signed once more than they occur, so
//     that none can be added unnoticed (RFC 6376 §8.15).
//   - Only RSA-SHA256 with keys of at least 1024 bits and Ed25519-SHA256 are
//     spoken (RFC 8301 §3).
package dkim
