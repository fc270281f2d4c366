// Package quarantine holds back messages and lets people decide about them:
// look, release, delete, train. Messages come in through Transport, which the
// queue delivers to like to any next hop, so that what was accepted is safe in
// the spool while the store is away. Digests tell recipients what is held for
// them, with signed links.
//
// Invariants:
//   - What is kept is the message as the client sent it, byte for byte, and its
//     envelope; release puts exactly these back. Edits are never part of it.
//   - An entry, a message for one recipient, is released only after the queue has
//     made the message durable, and a second time only when someone insists.
//   - Viruses are released by administrators, never by recipients.
//   - A link is good for one message, one recipient, one action and a limited time.
//     Whoever does not hold the key learns nothing from trying.
//   - Nothing that came from outside becomes a header field, a line or markup.
package quarantine
