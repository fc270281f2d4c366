// Package mail holds the nouns of Gatepost: identifiers, addresses, envelopes,
// messages, decisions, replies, outcomes and queue items. Every other package
// speaks in these words, so this one imports the standard library only and does
// no I/O.
//
// Invariants:
//   - The types are plain values. Nothing here starts a goroutine, reads a clock
//     that a test could not fake, or touches a network or a disk.
//   - Every reply that Gatepost gives in its own words to a remote peer comes
//     from the one table in replies.go; the class of its enhanced code always
//     equals the class of its code.
//   - An Address can be written to the wire as it is: its Raw form never holds
//     CR, LF, NUL or another control character.
package mail
