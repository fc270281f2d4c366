// Package senders is the module "senders": it says whether the recipients of a message,
// their domain or the administrators have allowed or blocked its sender. Lists is what
// they change these lists by.
//
// Invariants:
//   - The list of the recipient comes before that of the domain, and that before the one
//     of everybody; in a list an address before a domain, the longer domain before the
//     shorter one, and blocked before allowed.
//   - Who is allowed must be the one who sent it: without a pass of DMARC, DKIM or, for
//     the envelope, SPF for the sender's domain an entry that allows does nothing, unless
//     the configuration says otherwise. Anybody can write any From.
//   - What one recipient's list says concerns no other recipient.
//   - Mail of our own users is not looked at: lists are about mail that comes.
package senders
