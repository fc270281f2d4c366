// Package callout holds two blocks of recipient flows that ask another mail server:
// "verify-sender" asks the mail exchangers of the sender's domain whether the sender
// exists, "verify-recipient" the next hop whether it takes mail for the recipient.
// A callout is a session that ends after RCPT: no message is ever sent.
//
//	v, err := callout.NewSender(callout.Config{Hostname: name, Resolver: r, Domains: d})
//	findings, err := v.Check(ctx, in)
//
// Invariants:
//   - Only the answer to RCPT counts. Who cannot be reached, refuses us before it,
//     or answers 4xx has said nothing: Unknown.
//   - Where a random address of the domain is taken as well, the answer is worth
//     nothing: Clean, with a note.
//   - Nobody is asked about the null sender or about our own addresses, no callout
//     goes to this gateway itself, and, for senders, none to private addresses.
//   - Equal questions at the same moment are one session. Answers are remembered;
//     what one server has to bear is bounded in number and rate, and so is all else.
package callout
