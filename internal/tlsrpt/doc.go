// Package tlsrpt collects how sessions with mail exchangers began and tells their
// domains (RFC 8460): which policy was applied, how often it worked, and how it failed.
//
//	c, err := tlsrpt.Open(tlsrpt.Config{Dir: dir, Submit: submit, Resolver: resolver, …})
//	c.Note(tlsrpt.Session{Domain: "example.org", Policy: tlsrpt.NoPolicy()})
//	c.Run(ctx)
//
// Invariants:
//   - Note never waits, and never fails. What is remembered is bounded: domains of a day,
//     policies of a domain, kinds of failures of a policy.
//   - What was noted survives a restart, but for the last minutes before a crash.
//   - A day is reported once to each address, after it is over (UTC), to those who ask
//     for it in the DNS at that time. What cannot be sent is tried again for a day.
//   - A report holds counts, policies, hosts and errors. Nothing of any message.
package tlsrpt
