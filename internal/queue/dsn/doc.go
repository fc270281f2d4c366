// Package dsn writes delivery status notifications: the reports by which a
// sender learns that a message failed, is delayed, or arrived (RFC 3461, 3464,
// 6522; RFC 6533 for addresses that are not ASCII).
//
// A report is a multipart/report of exactly three parts: a text for people, the
// same facts for machines, and the headers of the original message, or all of
// it where the sender asked for that and it is small enough.
//
// Invariants:
//   - Nothing that came from outside can start a header field, a line or a part
//     of its own: remote replies, addresses, ENVID and ORCPT are reduced to
//     printable text first, and original headers that are not clean 7-bit (or,
//     under SMTPUTF8, clean UTF-8) lines are encoded.
//   - Every line of a report ends in CRLF and has at most 998 bytes before it.
//   - What the remote server said stands in Diagnostic-Code with the type smtp;
//     our own findings never do.
package dsn
