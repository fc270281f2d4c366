// Package authres is the module that tells who stands behind a message: SPF for
// the envelope, DKIM signatures, the ARC chain of those who passed it on, and
// DMARC for the author that a reader sees. Field makes the header field
// Authentication-Results of what it found.
//
// Invariants:
//   - The lookups of all four run side by side and end within Config.Timeout;
//     what could not be looked up is Unknown, and never a failure.
//   - Without the client's address (own users, mail fetched from a mailbox, a
//     private network in between) there is no SPF, and DMARC can pass but not fail.
//   - What counts, counts once: where DMARC has judged, the score is DMARC's.
//   - A DKIM signature that fails is as none (RFC 6376 §6.1): it never counts
//     against a message.
//   - Field writes only printable ASCII of what others said, and quotes it.
package authres
