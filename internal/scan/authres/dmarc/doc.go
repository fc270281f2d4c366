// Package dmarc tells whether the domain that a reader sees as the author's
// stands behind a message, and what it asks for if not: DMARC, RFC 7489.
//
//	authors, err := dmarc.Authors(header)
//	published := dmarc.NewFinder(resolver).Find(ctx, authors)
//	result := dmarc.Judge(published, evidence, sample)
//
// Invariants:
//   - Every domain that some reader may show as the author's is looked at, in all
//     From fields, and the strictest outcome counts (RFC 7489 §6.6.1).
//   - An outage of the DNS never makes a message fail.
//   - Records are read as their owners meant them: what is unknown or malformed in
//     them is skipped (RFC 7489 §6.3), and the version alone makes a record one.
//   - Judge is pure: the same evidence gives the same result.
package dmarc
