// Package spamd is the block "spamd": it has messages scored by the spamd of
// SpamAssassin, over the protocol of spamc (SPAMC/1.5).
//
//	s, err := spamd.New(spamd.Config{Address: "tcp:127.0.0.1:783"})
//	findings, err := s.Scan(ctx, in)
//
// Invariants:
//   - Only a complete answer that reads as the protocol has it counts; anything
//     else is an error, which means unknown.
//   - spamd sees the message as it would be delivered, with our Received field and
//     the envelope sender in front of it, because that is where its rules look for
//     the client.
//   - The answer is bounded, and so is the number of conversations; nobody waits
//     for a spamd that is known to be down.
//   - Bodies are streamed; what spamd says is hostile text.
package spamd
