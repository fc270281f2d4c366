// Package milter is the block "milter": it shows messages to a milter, as Postfix
// and Sendmail do, and says what the milter wants done with them.
//
//	s, err := milter.New(milter.Config{Address: "unix:/run/opendkim/opendkim.sock", Hostname: "mx.example.org"})
//	findings, err := s.Scan(ctx, in)
//	prepend, cut := milter.Edits(findings, in.Header)
//
// Invariants:
//   - Only a complete conversation counts. Whatever the milter says that the
//     protocol does not know is an error, which means unknown.
//   - Reject, discard, quarantine, and changes that Gatepost does not make (another
//     body, fewer recipients) are matches, temporary failures are unknown.
//   - Edits of header fields are clean findings. Edits makes whole, safe fields of
//     them: it never lets a milter change what the message consists of, how many
//     hops it made, or what Gatepost itself says in the header section.
//   - Each message has a conversation of its own; their number is bounded, and
//     nobody waits for a milter that is known to be down.
//   - Bodies are streamed; what the milter says is hostile text.
package milter
