// Package sender holds two blocks of recipient flows about the envelope sender:
// "sender-domain" looks whether his domain exists and takes mail, and
// "own-domain-spoof" whether a stranger uses one of ours.
//
// Invariants:
//   - Neither has anything to say about the null sender, or about clients that may
//     relay.
//   - A domain has no mail host only where the name service says so for certain; an
//     outage is Unknown.
//   - The number of lookups is bounded, and so is their time.
package sender
