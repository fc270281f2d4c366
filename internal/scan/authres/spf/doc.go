// Package spf tells whether a domain permits a client to send mail in its name:
// the Sender Policy Framework, RFC 7208.
//
//	c := spf.New(spf.Config{Resolver: resolver})
//	result := c.Check(ctx, spf.Query{Client: ip, Sender: sender, Helo: helo})
//
// Invariants:
//   - What a record makes us do is bounded: terms that look something up, names
//     without an answer, mail exchangers, host names of the client, the size of
//     the record, and the time of all of it (RFC 7208 §4.6.4).
//   - A record is parsed as a whole before any of it counts, so that a mistake in
//     it is found whoever the client is (RFC 7208 §4.6).
//   - An outage of the DNS is TempError, never Fail and never None.
//   - No text of a record or a client reaches Result other than as printable ASCII.
//   - The explanation of exp= is not fetched: it is the words of a stranger, and
//     nobody here would show them.
package spf
