// Package rspamd is the block "rspamd": it has messages judged by an rspamd, over
// the HTTP of its normal worker (POST /checkv2).
//
//	s, err := rspamd.New(rspamd.Config{URL: "http://127.0.0.1:11333"})
//	defer s.Close()
//	findings, err := s.Scan(ctx, in)
//
// Invariants:
//   - Only a complete JSON answer with a score and an action that is known counts;
//     anything else is an error, which means unknown. No redirect is followed and
//     no proxy asked: the message goes to the configured server alone.
//   - Bodies are streamed, and nothing of a message is read once Scan has returned.
//   - The answer is bounded, and so is the number of requests; nobody waits for an
//     rspamd that is known to be down.
//   - What rspamd says is hostile text: it quotes from the message.
package rspamd
