// Package metrics counts what Gatepost does and shows it to Prometheus. One
// *Metrics satisfies the observer interfaces of the SMTP server, the queue and
// the spool; serve.go hands it to each.
//
// Invariants:
//   - The number of time series is bounded by the configuration: labels are
//     names of listeners and transports, SMTP verbs and reply codes from a fixed
//     set, and states. Nothing that a remote peer chooses becomes a label.
//   - Counting allocates nothing once a series was used, and never waits.
//   - Metrics has a registry of its own, so two of them (in tests) do not meet.
//   - Table lists every metric of Gatepost's own; the table in
//     docs/operations.md is held in step with it by a test.
package metrics
