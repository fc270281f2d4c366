// Package admin is the door for administrators and monitoring: a JSON API on a
// unix socket that only the owner of the data directory can open, and on a TCP
// address /healthz, /metrics and the pages behind the links of digests.
//
// One file per resource: health.go, metrics.go, queue.go (lists), change.go
// (what changes queue items), pause.go, process.go (status and reload). The
// command line and, later, the web pages are built on the same handlers.
//
// Invariants:
//   - The TCP side serves /healthz, /metrics and the signed links of digests and
//     nothing else; never profiles, never a queue or the quarantine itself.
//   - No operation that changes items runs on an empty selector.
//   - Requests are bounded (headers, body, time, connections) and decoded
//     strictly; every error is {"error": "…"} with a fitting status.
//   - The socket is never open to others, not for a moment, whatever the umask.
package admin
