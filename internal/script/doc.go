// Package script runs what administrators write where blocks are not enough:
// Starlark files with a function for each stage that they have something to say
// about.
//
//	p, err := script.Compile(script.Config{Name: "recipient.star", Source: text, Lookups: l})
//	result := p.Run(ctx, &script.Input{Stage: script.Recipient, Session: s, Envelope: env, Recipient: r})
//
// A script looks, asks and says; Result is what it said. Who runs it makes a
// Decision, an answer of a backend or the effects of a content flow of that.
//
// Invariants:
//   - A Program never changes. Thousands of sessions run it at the same time, and
//     nothing that one call made is seen by another.
//   - A call ends: steps, time, memory and look-ups are counted. The language has no
//     limit for memory of its own, so every operation whose result can be larger than
//     what it was given, or that takes longer than a step, is compiled into a call
//     that counts before it computes (rewrite.go). No goroutine is left behind.
//   - A script that fails or overruns is a finding with the result Unknown, with
//     file, line and column; what it had scored counts, what it had decided does not.
//     It cannot panic its caller.
//   - What strangers wrote reaches queries, URLs, directories and files escaped only;
//     replies and header fields get printable ASCII only; a password is never logged.
package script
